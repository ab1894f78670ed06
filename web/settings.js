// settings.js - the base of the picture: prompts, size, seed, and the settings that the option table lists.
import { byId, growWithText, h, randomSeed } from './dom.js';
import { field } from './fields.js';
import { belongs } from './options.js';

const SIZES = [[128, 128], [192, 128], [128, 192], [256, 128], [256, 256], [512, 512], [768, 512], [512, 768], [768, 768], [1024, 1024]];

const GROUPS = { Regions: 'How regions mix', Compute: 'Computing' };

export class SettingsPanel {
  constructor(scene, options) {
    this.scene = scene;
    this.options = options;
    this.fields = new Map();
    this.rows = new Map();
    this.texts();
    this.sizes();
    this.seed();
    this.models();
    this.build(byId('main-settings'), options.main);
    for (const [name, rows] of options.groups) this.group(name, rows);
    scene.addEventListener('settings', (event) => this.show(event.detail));
    for (const type of ['loaded', 'size']) scene.addEventListener(type, () => this.show());
    this.show();
  }

  texts() {
    this.grow = [];
    for (const key of ['prompt', 'negative']) {
      const area = byId(`base-${key}`);
      this.grow.push(growWithText(area));
      area.addEventListener('input', () => { this.fault(key, ''); this.scene.set(key, area.value); });
    }
  }

  build(parent, rows) {
    for (const row of rows) {
      const made = field(row, this.scene.settings[row.key], this.options.lists, (value) => this.scene.set(row.key, value));
      this.fields.set(row.key, made);
      this.rows.set(row.key, row);
      parent.append(made.element);
    }
  }

  group(name, rows) {
    const grid = h('div', { class: 'grid' });
    byId('more-settings').append(h('details', { class: 'fold' }, h('summary', {}, GROUPS[name] || name), grid));
    this.build(grid, rows);
  }

  models() {
    const select = byId('model');
    select.replaceChildren(...this.options.models.map((name) => h('option', { value: name }, name)));
    if (!this.options.models.length) select.append(h('option', { value: '' }, 'No model found'));
    select.addEventListener('change', () => this.scene.setModel(select.value));
  }

  sizes() {
    const [width, height, preset] = [byId('width'), byId('height'), byId('preset')];
    preset.append(...SIZES.map(([w, h0]) => h('option', { value: `${w}x${h0}` }, `${w} × ${h0}`)));
    const take = () => {
      const size = [Number(width.value), Number(height.value)];
      const good = size.every((side) => Number.isInteger(side) && side >= 64 && side <= 4096 && side % 8 === 0);
      this.fault('width', good ? '' : 'Both sides: 64 to 4096, a multiple of 8.');
      if (good) this.scene.resize(size[0], size[1]);
    };
    width.addEventListener('change', take);
    height.addEventListener('change', take);
    preset.addEventListener('change', () => {
      if (preset.value) [width.value, height.value] = preset.value.split('x');
      take();
    });
    byId('swap').addEventListener('click', () => {
      [width.value, height.value] = [height.value, width.value];
      take();
    });
  }

  seed() {
    const input = byId('seed');
    input.addEventListener('input', () => {
      const good = /^\d{1,20}$/.test(input.value.trim());
      this.fault('seed', good ? '' : 'A whole number, please.');
      if (good) this.scene.set('seed', input.value.trim());
    });
    byId('seed-mode').addEventListener('change', (event) => {
      this.scene.seedMode = event.target.value;
      this.scene.tell('settings', 'seed');
    });
    byId('dice').addEventListener('click', () => this.scene.set('seed', randomSeed()));
  }

  /** The seed of the next job, by the mode; the field then holds it, so that the picture can be painted again. */
  nextSeed() {
    const { scene } = this;
    let seed = /^\d+$/.test(scene.settings.seed || '') ? scene.settings.seed : '0';
    if (scene.seedMode === 'random') seed = randomSeed();
    else if (scene.seedMode === 'increment' && this.used === seed) seed = String((BigInt(seed) + 1n) % (1n << 64n));
    this.used = seed;
    scene.set('seed', seed);
    return seed;
  }

  show(key) {
    const { scene } = this;
    const { settings } = scene;
    if (!key) {
      for (const text of ['prompt', 'negative']) byId(`base-${text}`).value = settings[text] || '';
      for (const grow of this.grow) grow();
    }
    const set = (id, value) => { if (document.activeElement !== byId(id)) byId(id).value = value; };
    set('width', scene.width);
    set('height', scene.height);
    const preset = `${scene.width}x${scene.height}`;
    byId('preset').value = SIZES.some((size) => size.join('x') === preset) ? preset : '';
    set('seed', settings.seed || '0');
    byId('seed-mode').value = scene.seedMode;
    byId('model').value = scene.model;
    const history = settings.history || 'keep';
    for (const [name, made] of this.fields) {
      made.show(settings[name], settings);
      made.element.hidden = !belongs(this.rows.get(name), history, settings);
    }
  }

  /** Shows an error at a setting; false when there is no such setting here. */
  fault(key, text) {
    const made = this.fields.get(key);
    if (made) {
      made.fault(text);
      if (text) reveal(made.element);
      return true;
    }
    const place = document.querySelector(`[data-fault~="${CSS.escape(key)}"]`);
    if (!place) return false;
    place.textContent = text;
    place.hidden = !text;
    if (text) reveal(place);
    return true;
  }

  clearFaults() {
    for (const made of this.fields.values()) made.fault('');
    for (const place of document.querySelectorAll('[data-fault]')) {
      place.textContent = '';
      place.hidden = true;
    }
  }
}

/** Opens what hides an element and scrolls to it. */
export function reveal(element) {
  for (let at = element.parentElement; at; at = at.parentElement) if (at.tagName === 'DETAILS') at.open = true;
  element.scrollIntoView({ block: 'nearest' });
}
