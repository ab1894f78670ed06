// recall.js - from a file or a finished job back to a scene: Tessera's, ComfyUI's and A1111's metadata, scene and workflow files.
import { api, inputUrl } from './api.js';
import { sceneOfParameters } from './a1111.js';
import { apiOfUi, sceneOfGraph } from './comfy.js';
import { isPng, readTexts, toBase64 } from './png.js';
import { PAGE_KEY, sceneFromJson, sceneNode } from './workflow.js';

const MOST_BYTES = 64 << 20;

const parse = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isApi = (value) => isObject(value) && Object.values(value).some((node) => isObject(node) && typeof node.class_type === 'string');

/** A snapshot for Scene.load of a job that TesseraScene painted, or of another workflow; null when neither fits. */
export async function recallJob(prompt, page, fallback, notes) {
  const node = sceneNode(prompt);
  if (!node) return recallGraph(prompt, fallback, notes);
  const json = parse(node.inputs.scene);
  if (!isObject(json)) return null;
  const seed = node.inputs.seed !== undefined && !Array.isArray(node.inputs.seed) ? { seed: node.inputs.seed } : {};
  return { ...await sceneFromJson({ ...json, ...seed }, page, fallback, notes), model: node.inputs.ckpt_name };
}

async function recallGraph(prompt, fallback, notes) {
  const scene = sceneOfGraph(prompt, notes);
  if (!scene) return null;
  const regions = [];
  for (const { place, ...region } of scene.regions) regions.push({ ...region, ...await placed(place) });
  return { ...await sceneFromJson({ ...scene, regions }, null, fallback, notes), model: scene.model };
}

/** A place of comfy.js in the words of a scene; mask files are fetched from the server's input folder. */
async function placed({ file, channel, colour, box, invert, strength }) {
  if (box) return { box, ...(invert ? { invert: true } : {}), ...(strength < 1 ? { strength } : {}) };
  if (!file || typeof file !== 'string') return {};
  try {
    const bytes = await api.bytes(inputUrl(file));
    if (colour) return { color: colour, color_bytes: toBase64(bytes) };
    return { mask_data: toBase64(bytes), mask_channel: channel || 'luma', ...(invert ? { invert: true } : {}) };
  } catch {
    return {};
  }
}

/** The scene behind a picture's texts; null when they say nothing. */
async function recallTexts(texts, context) {
  const { fallback, lists, notes } = context;
  const prompt = parse(texts.prompt);
  const page = parse(texts[PAGE_KEY]);
  if (isApi(prompt) && sceneNode(prompt)) return recallJob(prompt, page, fallback, notes);
  const own = parse(texts.tessera);
  if (isObject(own)) return sceneFromJson(own, page, fallback, notes);
  const found = isApi(prompt) ? await recallJob(prompt, null, fallback, notes) : null;
  if (found) return found;
  const ui = parse(texts.workflow);
  const drawn = isObject(ui) && Array.isArray(ui.nodes) ? await recallUi(ui, context) : null;
  if (drawn) return drawn;
  const named = texts.parameters ? sceneOfParameters(texts.parameters, lists, notes) : null;
  return named ? sceneFromJson(named, null, fallback, notes) : null;
}

async function recallUi(ui, { fallback, notes }) {
  const drawn = { ...ui, nodes: ui.nodes.filter(isObject), links: (Array.isArray(ui.links) ? ui.links : []).filter(Boolean) };
  const types = [...new Set(drawn.nodes.map((node) => String(node.type)))].slice(0, 200);
  const nodes = {};
  await Promise.all(types.map(async (type) => { nodes[type] = await api.nodes(type).catch(() => null); }));
  return recallJob(apiOfUi(drawn, nodes), null, fallback, notes);
}

/** A snapshot for Scene.load from a file; null when nothing is in it. context: {fallback: {width, height}, lists, notes}. */
export async function recallFile(file, context) {
  if (file.size > MOST_BYTES) throw new Error('this file is larger than 64 MiB');
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (isPng(bytes)) return recallTexts(await readTexts(bytes), context);
  const json = bytes[0] === 0x7b || file.name.endsWith('.json') ? parse(new TextDecoder().decode(bytes)) : null;
  if (!isObject(json)) return null;
  if (Array.isArray(json.nodes)) return recallUi(json, context);
  if (isApi(json)) return recallJob(json, null, context.fallback, context.notes);
  return sceneFromJson(json, null, context.fallback, context.notes);
}

/** The same of a row of the history: what the job was, and what the page noted beside it. */
export function recallEntry(entry, fallback, notes) {
  const [, , prompt, extra] = entry.prompt;
  return recallJob(prompt, ((extra || {}).extra_pnginfo || {})[PAGE_KEY] || null, fallback, notes);
}
