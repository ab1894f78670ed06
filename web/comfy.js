// comfy.js - a ComfyUI workflow in API format, read as a scene as far as a scene can say it: base, sampler, regions.
//
// What is not understood is told in `notes`, never guessed.

const SAMPLER_NODES = ['RegionalSampler', 'RegionalSamplerAdvanced', 'TwoSamplersForMask', 'TwoAdvancedSamplersForMask', 'KSampler', 'KSamplerAdvanced'];
const MOST_HOPS = 64;

class Graph {
  constructor(prompt) {
    this.prompt = prompt;
  }

  /** The node that an input is linked to and its slot, or null. */
  source(node, input) {
    const link = node && node.inputs && node.inputs[input];
    if (!Array.isArray(link) || link.length !== 2) return null;
    const from = this.prompt[link[0]];
    return from && from.inputs ? { node: from, slot: link[1] } : null;
  }

  value(node, input) {
    const given = node && node.inputs && node.inputs[input];
    if (!Array.isArray(given)) return given;
    const from = this.source(node, input);
    if (!from) return undefined;
    return Object.values(from.node.inputs).find((other) => !Array.isArray(other)); // a primitive
  }

  first(type) {
    return Object.values(this.prompt).find((node) => node && node.class_type === type && node.inputs) || null;
  }

  /** The text behind a conditioning. */
  text(at, hops = 0) {
    if (!at || hops > MOST_HOPS) return '';
    const { node, slot } = at;
    const { inputs } = node;
    if (/BasicPipe/.test(node.class_type)) {
      const pipe = this.pipe(at, hops + 1);
      return slot === 4 ? pipe.negative : pipe.positive;
    }
    if (inputs.text !== undefined) return String(this.value(node, 'text') || '');
    const names = Object.keys(inputs).filter((name) => name.startsWith('conditioning'));
    return names.map((name) => this.text(this.source(node, name), hops + 1)).filter(Boolean).join(', ');
  }

  /** {positive, negative} of a basic pipe. */
  pipe(at, hops = 0) {
    if (!at || hops > MOST_HOPS) return { positive: '', negative: '' };
    const { node } = at;
    const base = this.source(node, 'basic_pipe') ? this.pipe(this.source(node, 'basic_pipe'), hops + 1) : { positive: '', negative: '' };
    const own = (name) => (this.source(node, name) ? this.text(this.source(node, name), hops + 1) : base[name]);
    return { positive: own('positive'), negative: own('negative') };
  }

  /** Settings of a sampler provider node. */
  provider(at) {
    if (!at) return {};
    const pipe = this.pipe(this.source(at.node, 'basic_pipe'));
    return { prompt: pipe.positive, negative: pipe.negative, cfg: this.value(at.node, 'cfg'), sampler: this.value(at.node, 'sampler_name'),
      scheduler: this.value(at.node, 'scheduler'), sigma_factor: this.value(at.node, 'sigma_factor') };
  }
}

/** Where a mask comes from: {file, channel, invert}, {box}, or {} when it cannot be read. */
function maskPlace(graph, at, hops = 0) {
  if (!at || hops > MOST_HOPS) return {};
  const { node } = at;
  const file = (from, channel) => (from && from.node.class_type === 'LoadImage' ? { file: graph.value(from.node, 'image'), channel } : {});
  switch (node.class_type) {
    case 'LoadImageMask': return { file: graph.value(node, 'image'), channel: graph.value(node, 'channel') };
    case 'LoadImage': return at.slot === 1 ? file(at, 'alpha') : {};
    case 'ImageToMask': return file(graph.source(node, 'image'), graph.value(node, 'channel'));
    case 'SolidMask': return { box: '0:0:100%:100%', strength: Number(graph.value(node, 'value')) };
    case 'InvertMask': {
      const inner = maskPlace(graph, graph.source(node, 'mask'), hops + 1);
      return inner.file || inner.box ? { ...inner, invert: !inner.invert } : {};
    }
    default: return {};
  }
}

function regionsOf(graph, at, hops = 0) {
  if (!at || hops > MOST_HOPS) return [];
  const { node } = at;
  if (node.class_type === 'CombineRegionalPrompts') {
    return Object.keys(node.inputs).flatMap((name) => regionsOf(graph, graph.source(node, name), hops + 1));
  }
  if (node.class_type === 'RegionalPrompt') {
    return [{ ...graph.provider(graph.source(node, 'advanced_sampler')), place: maskPlace(graph, graph.source(node, 'mask')),
      variation_seed: graph.value(node, 'variation_seed'), variation_strength: graph.value(node, 'variation_strength'), variation_method: graph.value(node, 'variation_method') }];
  }
  if (node.class_type === 'RegionalPromptSimple' || node.class_type === 'RegionalPromptColorMask') {
    const pipe = graph.pipe(graph.source(node, 'basic_pipe'));
    const own = [pipe.positive, graph.value(node, 'wildcard_prompt')].filter(Boolean).join(', ');
    const colour = graph.source(node, 'color_mask');
    const place = node.class_type === 'RegionalPromptSimple' ? maskPlace(graph, graph.source(node, 'mask'))
      : { file: colour && graph.value(colour.node, 'image'), colour: graph.value(node, 'mask_color') };
    return [{ prompt: own, negative: pipe.negative, cfg: graph.value(node, 'cfg'), sampler: graph.value(node, 'sampler_name'), scheduler: graph.value(node, 'scheduler'), place }];
  }
  return [];
}

function defined(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined && value !== null && value !== '' && typeof value !== 'object'));
}

/** Scene JSON; each region has `place`, which the caller turns into a mask. null when no sampler is found. */
export function sceneOfGraph(prompt, notes) {
  const graph = new Graph(prompt);
  const sampler = SAMPLER_NODES.map((type) => graph.first(type)).find(Boolean);
  if (!sampler) return null;
  const value = (name) => graph.value(sampler, name);
  const base = sampler.class_type.startsWith('KSampler')
    ? { prompt: graph.text(graph.source(sampler, 'positive')), negative: graph.text(graph.source(sampler, 'negative')), cfg: value('cfg'), sampler: value('sampler_name'), scheduler: value('scheduler') }
    : graph.provider(graph.source(sampler, 'base_sampler'));
  const size = graph.first('EmptyLatentImage');
  const scene = defined({
    ...base, steps: value('steps'), seed: value('seed') ?? value('noise_seed'), width: size && graph.value(size, 'width'), height: size && graph.value(size, 'height'),
  });
  const regions = regionsOf(graph, graph.source(sampler, 'regional_prompts')).map((region) => ({ ...defined(region), place: region.place }));
  if (sampler.class_type.startsWith('Regional')) {
    Object.assign(scene, defined({ history: 'restart', overlap: value('overlap_factor'), base_only_steps: value('base_only_steps'), seed_2nd: value('seed_2nd'),
      seed_2nd_mode: value('seed_2nd_mode'), restore_latent: value('restore_latent'), additional_mode: value('additional_mode'),
      additional_sampler: value('additional_sampler'), additional_sigma_ratio: value('additional_sigma_ratio') }));
    if (!regions.length) notes.push('its regional prompts could not be followed');
  }
  if (sampler.class_type.startsWith('Two')) {
    const mask = graph.provider(graph.source(sampler, 'mask_sampler'));
    regions.push({ ...defined(mask), place: maskPlace(graph, graph.source(sampler, 'mask')) });
  }
  const model = graph.first('CheckpointLoaderSimple');
  return { ...scene, regions, model: model ? graph.value(model, 'ckpt_name') : undefined };
}

/** The UI format (nodes and links) as API format; nodes: /object_info, which knows the order of a node's values. */
export function apiOfUi(workflow, nodes) {
  const links = new Map((workflow.links || []).map((link) => (Array.isArray(link) ? [link[0], [String(link[1]), link[2]]] : [link.id, [String(link.origin_id), link.origin_slot]])));
  const prompt = {};
  for (const node of workflow.nodes || []) {
    const info = nodes[node.type];
    if (!info || node.mode === 2 || node.mode === 4) continue;
    const inputs = {};
    for (const input of node.inputs || []) if (input.link != null && links.has(input.link)) inputs[input.name] = links.get(input.link);
    const values = Array.isArray(node.widgets_values) ? [...node.widgets_values] : [];
    for (const [name, row] of Object.entries({ ...info.input.required, ...info.input.optional })) {
      const typed = Array.isArray(row[0]) || ['INT', 'FLOAT', 'STRING', 'BOOLEAN', 'COMBO'].includes(row[0]);
      if (!typed) continue;
      const given = values.shift();
      if (row[1] && row[1].control_after_generate) values.shift();
      if (!(name in inputs) && given !== undefined) inputs[name] = given;
    }
    prompt[node.id] = { class_type: node.type, inputs };
  }
  return prompt;
}
