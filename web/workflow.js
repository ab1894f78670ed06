// workflow.js - a scene as a job: Tessera's scene JSON inside ComfyUI's API workflow, and back.
import { encodeMask, fromBase64, toBase64 } from './png.js';
import { fromPixels, resize } from './masks.js';
import { pixelsOf } from './pictures.js';
import { api, inputUrl } from './api.js';
import { idle } from './idle.js';

export const SCENE_NODE = 'TesseraScene';
export const PAGE_KEY = 'tessera_page'; // beside the workflow in a picture: what only the page knows
const OUTSIDE = new Set(['tessera_scene', 'regions', 'model', 'width', 'height', 'seed', 'batch', 'color_image_data',
  'color_image', 'output', 'threads', 'preview', 'preview_method', 'show', 'quality', 'save_latent', 'dry_run']);
const PLACES = new Set(['name', 'color_bytes', 'box', 'mask', 'color', 'mask_channel', 'invert', 'mask_data']);

/** Without what has no effect here, which a scene may not have: the settings of a mask that was left out, for example. */
function effective(settings, ofRegion) {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => !idle(key, settings, ofRegion)));
}

/** Tessera's scene (docs/scene.md) of the regions that take part: shown, and painted somewhere. */
export async function sceneJson(scene) {
  const regions = [];
  for (const region of scene.regions) {
    if (region.hidden || !scene.isPainted(region)) continue;
    const file = await encodeMask(region.mask, scene.width, scene.height);
    regions.push({ ...(region.name ? { name: region.name } : {}), ...effective(region.settings, true), mask_data: toBase64(file) });
  }
  return { ...effective(scene.settings, false), width: scene.width, height: scene.height, regions };
}

/** What the scene's JSON does not say: colours, and regions that were hidden or empty. In the order of the list. */
async function pageState(scene) {
  const regions = [];
  for (const region of scene.regions) {
    const takesPart = !region.hidden && scene.isPainted(region);
    regions.push(takesPart ? { colour: region.colour } : {
      colour: region.colour, hidden: region.hidden, name: region.name, settings: region.settings,
      mask_data: toBase64(await encodeMask(region.mask, scene.width, scene.height)), aside: true,
    });
  }
  return { version: 1, regions };
}

/** The body of POST /prompt, without client_id. */
export async function jobOf(scene, seed) {
  const inner = await sceneJson(scene);
  const prompt = {
    1: { class_type: SCENE_NODE, inputs: { ckpt_name: scene.model, scene: JSON.stringify(inner), seed: safeNumber(seed) }, _meta: { title: 'Tessera scene' } },
    2: { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'tessera' }, _meta: { title: 'Save Image' } },
  };
  return { prompt, extra_data: { extra_pnginfo: { [PAGE_KEY]: await pageState(scene) } } };
}

/** JSON numbers are exact up to 2^53; larger seeds go as text, which the server takes as well. */
function safeNumber(seed) {
  return /^\d{1,15}$/.test(seed) ? Number(seed) : seed;
}

/** The node of an API workflow that paints a scene, or null. */
export function sceneNode(prompt) {
  return Object.values(prompt || {}).find((node) => node && node.class_type === SCENE_NODE && node.inputs && typeof node.inputs.scene === 'string') || null;
}

/** X:Y:WIDTH:HEIGHT, each in pixels or percent, as a mask; null when it cannot be read. */
function boxMask(text, width, height) {
  const parts = String(text).split(':');
  if (parts.length !== 4) return null;
  const [x, y, w, h] = parts.map((part, i) => {
    const size = i % 2 ? height : width;
    return part.endsWith('%') ? Math.floor(parseFloat(part) / 100 * size + 0.5) : Math.round(parseFloat(part));
  });
  if (![x, y, w, h].every(Number.isFinite)) return null;
  const mask = new Uint8Array(width * height);
  for (let row = Math.max(0, y); row < Math.min(height, y + h); row++) {
    mask.fill(255, row * width + Math.min(width, Math.max(0, x)), row * width + Math.max(0, Math.min(width, x + w)));
  }
  return mask;
}

function colourMask(pixels, colour, width, height) {
  const mask = new Uint8Array(width * height);
  if (!pixels || pixels.width !== width || pixels.height !== height) return mask;
  const wanted = parseInt(String(colour).replace('#', ''), 16);
  for (let i = 0; i < mask.length; i++) {
    if ((pixels.rgba[4 * i] << 16 | pixels.rgba[4 * i + 1] << 8 | pixels.rgba[4 * i + 2]) === wanted) mask[i] = 255;
  }
  return mask;
}

const CHANNELS = { red: (p) => p[0], green: (p) => p[1], blue: (p) => p[2], alpha: (p) => 255 - p[3], luma: (p) => Math.round((p[0] + p[1] + p[2]) / 3) };

/** One channel of a picture as a mask of the given size. */
export function channelMask(pixels, channel, width, height) {
  const take = CHANNELS[channel] || CHANNELS.luma;
  const mask = new Uint8Array(pixels.width * pixels.height);
  for (let i = 0; i < mask.length; i++) mask[i] = take(pixels.rgba.subarray(4 * i, 4 * i + 4));
  return pixels.width === width && pixels.height === height ? mask : resize(mask, pixels.width, pixels.height, width, height);
}

/** The mask of a picture file somebody gives: its transparency or brightness, scaled to the scene. */
export async function maskOfFile(blob, width, height) {
  const pixels = await pixelsOf(blob);
  const mask = fromPixels(pixels.rgba);
  return pixels.width === width && pixels.height === height ? mask : resize(mask, pixels.width, pixels.height, width, height);
}

async function placeOf(region, colours, width, height, notes, label) {
  let mask = null;
  if (region.mask_data) {
    const pixels = await pixelsOf(new Blob([fromBase64(region.mask_data)]));
    mask = channelMask(pixels, region.mask_channel, width, height);
  } else if (region.box) mask = boxMask(region.box, width, height);
  else if (region.color) {
    const own = region.color_bytes ? await pixelsOf(new Blob([fromBase64(region.color_bytes)])) : colours;
    mask = colourMask(own, region.color, width, height);
  }
  if (!mask) {
    notes.push(`${label}: its mask is not in the file; paint it again`);
    return new Uint8Array(width * height);
  }
  if (region.invert === true || region.invert === 'true') for (let i = 0; i < mask.length; i++) mask[i] = 255 - mask[i];
  return mask;
}

/** Without some keys, and with lists as the text that a person would type. */
function without(object, keys) {
  const texts = Object.entries(object).map(([key, value]) => [key, Array.isArray(value) ? value.join(';') : value]);
  return Object.fromEntries(texts.filter(([key, value]) => !keys.has(key) && value !== null && typeof value !== 'object'));
}

/** Leaves out files that this server does not have: a scene of the command names those of another machine. */
async function checkFiles(settings, notes) {
  for (const key of ['init_image', 'init_latent', 'mask']) {
    const name = settings[key];
    const here = settings[`${key}_data`] || (key === 'init_image' && name && !/^\/|\\|\.\./.test(name) && await api.exists(inputUrl(name)));
    if (!name || here) continue;
    notes.push(`${key} is a file of the machine that painted this; it is left out`);
    delete settings[key];
  }
}

/** A snapshot for Scene.load from scene JSON; `page` is what pageState wrote, or null. notes gathers what was lost. */
export async function sceneFromJson(json, page, fallback, notes) {
  const colours = json.color_image_data ? await pixelsOf(new Blob([fromBase64(json.color_image_data)])) : null;
  const width = Number(json.width) || fallback.width;
  const height = Number(json.height) || fallback.height;
  checkSize(width, height);
  const settings = without(json, OUTSIDE);
  await checkFiles(settings, notes);
  if (json.seed !== undefined) settings.seed = String(json.seed);
  const painted = [];
  for (const [i, region] of (Array.isArray(json.regions) ? json.regions : []).slice(0, 256).entries()) {
    const label = region.name || `Region ${i + 1}`;
    painted.push({ name: String(region.name || ''), settings: without(region, PLACES), mask: await placeOf(region, colours, width, height, notes, label) });
  }
  const regions = page && page.version === 1 && Array.isArray(page.regions) ? await merge(painted, page.regions, width, height) : painted;
  return { width, height, settings, regions, seedMode: 'fixed' };
}

async function merge(painted, listed, width, height) {
  const out = [];
  for (const row of listed.slice(0, 256)) {
    const colour = /^#[0-9a-f]{6}$/i.test(row.colour) ? row.colour : '';
    if (!row.aside) {
      const region = painted.shift();
      if (region) out.push({ ...region, colour });
      continue;
    }
    const pixels = await pixelsOf(new Blob([fromBase64(row.mask_data)]));
    out.push({ colour, hidden: row.hidden === true, name: String(row.name || ''), settings: without(row.settings || {}, PLACES),
      mask: channelMask(pixels, 'luma', width, height) });
  }
  return [...out, ...painted];
}

export function checkSize(width, height) {
  const good = (side) => Number.isInteger(side) && side >= 8 && side <= 8192;
  if (!good(width) || !good(height) || width * height > 1 << 25) throw new Error(`a picture of ${width} x ${height} is not possible here`);
}
