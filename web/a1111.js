// a1111.js - the `parameters` text that Stable Diffusion web UI and others write into pictures.

// Their names of samplers, in ComfyUI's words. What is not here is tried in lower case, else left out.
const SAMPLERS = {
  'euler a': 'euler_ancestral', euler: 'euler', lms: 'lms', heun: 'heun', dpm2: 'dpm_2', 'dpm2 a': 'dpm_2_ancestral',
  'dpm++ 2s a': 'dpmpp_2s_ancestral', 'dpm++ 2m': 'dpmpp_2m', 'dpm++ sde': 'dpmpp_sde', 'dpm++ 2m sde': 'dpmpp_2m_sde',
  'dpm++ 2m sde heun': 'dpmpp_2m_sde_heun', 'dpm++ 3m sde': 'dpmpp_3m_sde', 'dpm fast': 'dpm_fast', 'dpm adaptive': 'dpm_adaptive',
  ddim: 'ddim', unipc: 'uni_pc', lcm: 'lcm', ddpm: 'ddpm',
};
const SCHEDULERS = {
  automatic: 'normal', normal: 'normal', uniform: 'normal', karras: 'karras', exponential: 'exponential', 'sgm uniform': 'sgm_uniform',
  simple: 'simple', beta: 'beta', 'kl optimal': 'kl_optimal', 'ddim': 'ddim_uniform',
};

/** {prompt, negative, values: {Steps: '20', ...}} or null when the text has no line of settings. */
export function parseParameters(text) {
  const lines = text.split('\n');
  let at = lines.length - 1;
  while (at >= 0 && !/\bSteps: \d+/.test(lines[at])) at--;
  if (at < 0) return null;
  const values = {};
  for (const [, key, quoted, plain] of lines.slice(at).join(', ').matchAll(/([A-Z][\w +]*): (?:"((?:\\.|[^"\\])*)"|([^,]*))(?:,|$)/g)) {
    values[key.trim()] = quoted === undefined ? plain.trim() : quoted;
  }
  const above = lines.slice(0, at).join('\n');
  const cut = /(?:^|\n)Negative prompt: ?/.exec(above);
  const prompt = (cut ? above.slice(0, cut.index) : above).trim();
  return { prompt, negative: cut ? above.slice(cut.index + cut[0].length).trim() : '', values };
}

/** As a Tessera scene; only names that `lists` has are taken. */
export function sceneOfParameters(text, lists, notes) {
  const parsed = parseParameters(text);
  if (!parsed) return null;
  const { values } = parsed;
  const scene = { prompt: parsed.prompt.split('\n').filter((line) => !/^Region \d+: /.test(line)).join('\n'), negative: parsed.negative, embedding_names: 'a1111' };
  const number = (key, name) => { if (values[name] !== undefined && Number.isFinite(Number(values[name]))) scene[key] = Number(values[name]); };
  number('steps', 'Steps');
  number('cfg', 'CFG scale');
  number('clip_skip', 'Clip skip');
  if (/^\d+$/.test(values.Seed || '')) scene.seed = values.Seed;
  const size = /^(\d+)x(\d+)$/.exec(values.Size || '');
  if (size) [scene.width, scene.height] = [Number(size[1]), Number(size[2])];
  let sampler = (values.Sampler || '').toLowerCase();
  let scheduler = (values['Schedule type'] || '').toLowerCase();
  for (const tail of [' karras', ' exponential']) {
    if (sampler.endsWith(tail)) [sampler, scheduler] = [sampler.slice(0, -tail.length), tail.trim()];
  }
  const named = (key, list, word) => {
    if (!word) return;
    if (list.includes(word)) scene[key] = word;
    else notes.push(`${key} ${word} is not known here`);
  };
  named('sampler', lists.sampler, SAMPLERS[sampler] || sampler.replaceAll(' ', '_'));
  named('scheduler', lists.scheduler, SCHEDULERS[scheduler] || scheduler.replaceAll(' ', '_'));
  if (Object.keys(values).some((key) => key.startsWith('RP '))) notes.push('its regions are not in the picture; paint them again');
  return scene;
}
