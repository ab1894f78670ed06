// options.js - what can be set: the server's option table and its lists of models, samplers and schedulers.
//
// The page writes no such list itself; it only says which few settings have a place of their own.
import { api, choicesOf } from './api.js';
import { hangsOn, idle } from './idle.js';
import { SCENE_NODE } from './workflow.js';

const NOT_SETTINGS = new Set(['path', 'data', 'box', 'color']);
// Prompts, size and seed have their own places; batch has none here (one picture a job), and outpainting changes the size of
// the sheet that regions are painted on.
const SCENE_ELSEWHERE = new Set(['prompt', 'negative', 'width', 'height', 'seed', 'batch', 'outpaint_left', 'outpaint_top', 'outpaint_right', 'outpaint_bottom', 'outpaint_feather']);
const REGION_ELSEWHERE = new Set(['name', 'prompt', 'mask', 'mask_channel', 'invert', 'denoise']);
// A file to the command; here one of a folder's names, or a picture whose bytes the scene takes along.
const FILES = { control: 'control', control_image: 'picture', init_image: 'input', mask: 'picture' };
const START = 'Start from a picture';
const MAIN = ['steps', 'cfg', 'sampler', 'scheduler'];
const REGION_FIRST = ['feather', 'strength', 'negative', 'cfg', 'sampler', 'scheduler', 'lora', 'model', 'start', 'end', 'seed'];

export async function loadOptions() {
  const [table, sampler, painter, adapters, control] = await Promise.all([api.options(), api.nodes('KSampler'), api.nodes(SCENE_NODE),
    api.files('loras'), api.files('controlnet')]);
  const usable = (row) => !NOT_SETTINGS.has(row.kind) && row.flags.every((flag) => flag === 'list');
  const settled = (row) => ({ ...row, kind: FILES[row.key] || row.kind, list: row.flags.includes('list') });
  const scene = table.scene.map(settled).filter((row) => usable(row) && !SCENE_ELSEWHERE.has(row.key));
  const byScene = new Set(table.scene.map((row) => row.key));
  const models = choicesOf(painter, 'ckpt_name');
  // A region's own model is a file to the command, and one of the models folder here.
  const region = table.region.map((row) => (row.key === 'model' ? { ...row, kind: 'model' } : settled(row)))
    .filter((row) => usable(row) && !REGION_ELSEWHERE.has(row.key))
    .map((row) => ({ ...row, inherits: row.default === '' && byScene.has(row.key) }));
  return {
    main: scene.filter((row) => MAIN.includes(row.key)),
    groups: grouped(scene.filter((row) => !MAIN.includes(row.key))),
    region: REGION_FIRST.map((key) => region.find((row) => row.key === key)).filter(Boolean)
      .concat(region.filter((row) => !REGION_FIRST.includes(row.key))),
    lists: { sampler: choicesOf(sampler, 'sampler_name'), scheduler: choicesOf(sampler, 'scheduler'), model: models, adapters, control },
    models,
  };
}

const inStart = (row) => row.key === 'init_image' || hangsOn(row.key) !== null;

function grouped(rows) {
  const groups = new Map([[START, ['init_image', 'denoise', 'mask'].map((key) => rows.find((row) => row.key === key)).filter(Boolean)]]);
  for (const row of rows) {
    const group = inStart(row) ? START : row.group;
    if (!(groups.get(group) || []).includes(row)) groups.set(group, [...(groups.get(group) || []), row]);
  }
  return groups;
}

/** Whether an option has a meaning beside these settings of its scope and under a history: its help begins with the one it
 * belongs to. */
export function belongs(row, history, settings) {
  if (idle(row.key, settings, row.group === 'Region')) return false;
  const only = /^(keep|restart)\b[^:.]*:/.exec(row.help);
  if (!only) return true;
  const other = only[1] === 'keep' ? 'restart:' : 'keep:';
  return only[1] === history || row.help.includes(other);
}
