// scene.js - what is being painted: settings, regions with their masks, and what can be undone.
//
// Everybody listens to it ('settings', 'regions', 'active', 'mask', 'size', 'loaded'); it knows no element of the page.
// Settings are kept only where somebody chose them: what is missing is Tessera's default.
import { cutOut, drawBox, flood, areas, invert, isEmpty, pour, putBack, resize } from './masks.js';
import { Undo } from './undo.js';
import { randomId } from './dom.js';

export const MOST_REGIONS = 256;
const COLOURS = ['#e4572e', '#2e86de', '#2a9d5c', '#b5179e', '#d98e04', '#6c5ce7', '#009aa6', '#c2185b', '#7a8f00', '#8d6e63'];

/** A value of a setting; null for the default. A picture, {name, data}, brings its bytes along. */
function assign(settings, key, value) {
  delete settings[`${key}_data`];
  if (value === null || value === '') delete settings[key];
  else if (typeof value === 'object') [settings[key], settings[`${key}_data`]] = [value.name, value.data];
  else settings[key] = value;
}

export class Scene extends EventTarget {
  constructor() {
    super();
    this.settings = {}; // key: value, as the option table names them; width and height are always there
    this.model = '';
    this.regions = []; // {id, name, colour, hidden, settings: {prompt, ...}, mask}
    this.activeId = null;
    this.width = 192;
    this.height = 128;
    this.seedMode = 'random';
    this.undo = new Undo(() => this.tell('undo'));
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  get active() {
    return this.regions.find((region) => region.id === this.activeId) || null;
  }

  region(id) {
    return this.regions.find((region) => region.id === id) || null;
  }

  label(region) {
    return region.name || `Region ${this.regions.indexOf(region) + 1}`;
  }

  set(key, value) {
    assign(this.settings, key, value);
    this.tell('settings', key);
  }

  setModel(name) {
    this.model = name;
    this.tell('settings', 'model');
  }

  setRegion(region, key, value) {
    assign(region.settings, key, value);
    this.tell(key === 'feather' || key === 'strength' ? 'mask' : 'region', region);
  }

  rename(region, name) {
    region.name = name;
    this.tell('region', region);
  }

  recolour(region, colour) {
    region.colour = colour;
    this.tell('mask', region);
    this.tell('region', region);
  }

  setHidden(region, hidden) {
    region.hidden = hidden;
    this.tell('regions');
  }

  activate(id) {
    if (this.activeId === id) return;
    this.activeId = id;
    this.tell('active');
  }

  nextColour() {
    const used = new Set(this.regions.map((region) => region.colour));
    return COLOURS.find((colour) => !used.has(colour)) || COLOURS[this.regions.length % COLOURS.length];
  }

  emptyMask() {
    return new Uint8Array(this.width * this.height);
  }

  // --- regions, each change one step of undo -------------------------------------------------------------------------

  /** Adds a region and makes it the active one; null when there are as many as a scene may have. */
  add(given) {
    if (this.regions.length >= MOST_REGIONS) return null;
    const region = { id: randomId(), name: '', colour: this.nextColour(), hidden: false, settings: {}, mask: this.emptyMask(), ...given };
    this.changeList('Add region', [...this.regions, region], region.id);
    return region;
  }

  duplicate(region) {
    if (this.regions.length >= MOST_REGIONS) return;
    const copy = { ...region, id: randomId(), colour: this.nextColour(), settings: { ...region.settings }, mask: region.mask.slice() };
    const at = this.regions.indexOf(region) + 1;
    this.changeList('Duplicate region', [...this.regions.slice(0, at), copy, ...this.regions.slice(at)], copy.id);
  }

  remove(region) {
    const at = this.regions.indexOf(region);
    const rest = this.regions.filter((other) => other !== region);
    const near = rest[Math.min(at, rest.length - 1)];
    this.changeList('Delete region', rest, near ? near.id : null);
  }

  /** Moves a region to place `to` of the list. */
  move(region, to) {
    const rest = this.regions.filter((other) => other !== region);
    rest.splice(Math.max(0, Math.min(rest.length, to)), 0, region);
    if (rest.some((other, i) => other !== this.regions[i])) this.changeList('Move region', rest, this.activeId);
  }

  changeList(label, list, activeId) {
    const before = [this.regions, this.activeId];
    const after = [list, activeId];
    const apply = ([regions, active]) => {
      this.regions = regions;
      this.activeId = active;
      this.tell('regions');
    };
    apply(after);
    const bytes = list.length !== before[0].length ? this.width * this.height : 0;
    this.undo.push({ label, bytes, undo: () => apply(before), redo: () => apply(after) });
  }

  // --- masks -----------------------------------------------------------------------------------------------------------

  /** Notes that `rect` of a region's mask was `before` (whole mask) and is now as it is. */
  noteChange(label, region, before, rect) {
    if (!rect) return;
    const old = cutOut(before, this.width, rect);
    const now = cutOut(region.mask, this.width, rect);
    if (old.every((value, i) => value === now[i])) return;
    const apply = (piece) => {
      putBack(region.mask, this.width, rect, piece);
      this.tell('mask', region);
    };
    this.undo.push({ label, bytes: 2 * old.length, undo: () => apply(old), redo: () => apply(now) });
    this.tell('mask', region);
  }

  changeMask(label, region, change) {
    const before = region.mask.slice();
    const rect = change(region.mask) || { x: 0, y: 0, w: this.width, h: this.height };
    this.noteChange(label, region, before, rect);
  }

  box(region, x0, y0, x1, y1, erase) {
    this.changeMask(erase ? 'Erase box' : 'Box', region, (mask) => drawBox(mask, this.width, this.height, x0, y0, x1, y1, erase));
  }

  /** Fills the area around a pixel up to the paint of any shown region; erasing takes away the painted area there. */
  fill(region, x, y, erase) {
    const masks = erase ? [region.mask] : [...this.regions.filter((other) => !other.hidden && other !== region).map((other) => other.mask), region.mask];
    const kinds = areas(masks, this.width * this.height);
    const at = y * this.width + x;
    if ((region.mask[at] >= 128) !== erase) return false;
    const filled = flood(kinds, this.width, this.height, x, y);
    this.changeMask(erase ? 'Erase area' : 'Fill', region, (mask) => pour(mask, this.width, this.height, filled, erase));
    return true;
  }

  invertMask(region) {
    this.changeMask('Invert mask', region, (mask) => { invert(mask); });
  }

  clearMask(region) {
    this.changeMask('Clear mask', region, (mask) => { mask.fill(0); });
  }

  setMask(region, mask, label) {
    this.changeMask(label, region, (old) => { old.set(mask); });
  }

  /** Another size; masks are scaled to it. Undone as one step. */
  resize(width, height) {
    if (width === this.width && height === this.height) return;
    const before = { width: this.width, height: this.height, masks: this.regions.map((region) => region.mask), regions: this.regions };
    const after = { width, height, regions: this.regions,
      masks: before.masks.map((mask) => resize(mask, this.width, this.height, width, height)) };
    const apply = (state) => {
      this.width = state.width;
      this.height = state.height;
      state.regions.forEach((region, i) => { region.mask = state.masks[i]; });
      this.tell('size');
    };
    apply(after);
    this.undo.push({ label: 'Change size', bytes: before.masks.length * (width * height + before.width * before.height),
      undo: () => apply(before), redo: () => apply(after) });
  }

  // --- whole scenes ----------------------------------------------------------------------------------------------------

  /** A copy of everything, masks shared: for the store and for undo. */
  snapshot() {
    return {
      width: this.width, height: this.height, model: this.model, seedMode: this.seedMode, activeId: this.activeId,
      settings: { ...this.settings },
      regions: this.regions.map((region) => ({ ...region, settings: { ...region.settings } })),
    };
  }

  /** Takes a snapshot's place. With a label it is one step of undo, else the past is forgotten. */
  load(state, label) {
    const before = { ...this.snapshot(), regions: this.regions };
    const after = { ...state, regions: state.regions.map((region) => ({ hidden: false, name: '', colour: '', settings: {}, id: randomId(), ...region })) };
    after.regions.forEach((region, i) => { region.colour ||= COLOURS[i % COLOURS.length]; });
    const apply = (what) => {
      this.width = what.width;
      this.height = what.height;
      this.model = what.model || this.model;
      this.seedMode = what.seedMode || this.seedMode;
      this.settings = { ...what.settings };
      this.regions = what.regions;
      this.activeId = what.regions.some((region) => region.id === what.activeId) ? what.activeId : (what.regions[0] || { id: null }).id;
      this.tell('loaded');
    };
    apply(after);
    const bytes = (before.regions.length + after.regions.length) * this.width * this.height;
    if (label) this.undo.push({ label, bytes, undo: () => apply(before), redo: () => apply(after) });
    else this.undo.clear();
  }

  isPainted(region) {
    return !isEmpty(region.mask);
  }
}
