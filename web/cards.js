// cards.js - the list of regions: one card each, with its prompt, its own settings folded away, and what can be done to it.
import { byId, download, growWithText, h, icon, iconButton } from './dom.js';
import { field } from './fields.js';
import { belongs } from './options.js';
import { encodeMask, toBase64 } from './png.js';
import { maskOfFile } from './workflow.js';
import { reveal } from './settings.js';
import { announce, notice } from './notices.js';

export class Cards {
  constructor(scene, options) {
    this.scene = scene;
    this.options = options;
    this.list = byId('regions');
    this.cards = new Map(); // region id: {element, fields, ...}
    this.within = false;
    byId('add-region').addEventListener('click', () => {
      const region = scene.add();
      if (region) this.cards.get(region.id).prompt.focus();
    });
    for (const type of ['regions', 'loaded']) scene.addEventListener(type, () => this.show(type === 'loaded'));
    scene.addEventListener('active', () => { this.mark(); this.reveal(); });
    scene.addEventListener('settings', (event) => { if (event.detail === 'history') this.mark(); });
    for (const type of ['region', 'mask']) scene.addEventListener(type, (event) => this.update(event.detail));
    this.show(true);
  }

  show(fresh) {
    const focused = document.activeElement;
    if (fresh) this.cards.clear();
    const known = new Set(this.scene.regions.map((region) => region.id));
    for (const id of this.cards.keys()) if (!known.has(id)) this.cards.delete(id);
    for (const region of this.scene.regions) if (!this.cards.has(region.id)) this.cards.set(region.id, this.make(region));
    const elements = this.scene.regions.map((region) => this.cards.get(region.id).element);
    if (elements.length !== this.list.children.length || elements.some((element, i) => element !== this.list.children[i])) {
      this.list.replaceChildren(...elements);
      if (focused && this.list.contains(focused)) focused.focus();
    }
    byId('no-regions').hidden = this.scene.regions.length > 0;
    for (const region of this.scene.regions) this.update(region);
    this.mark();
  }

  mark() {
    const history = this.scene.settings.history || 'keep';
    for (const [id, card] of this.cards) {
      const active = id === this.scene.activeId;
      card.element.classList.toggle('active', active);
      card.pick.setAttribute('aria-pressed', String(active));
      const region = this.scene.region(id);
      for (const { row, made } of card.fields) made.element.hidden = !belongs(row, history, region.settings);
    }
  }

  reveal() {
    if (this.scene.active && !this.within) this.cards.get(this.scene.activeId)?.element.scrollIntoView({ block: 'nearest' });
  }

  /** Shows what a region holds now. */
  update(region) {
    const card = region && this.cards.get(region.id);
    if (!card) return;
    const number = this.scene.regions.indexOf(region) + 1;
    const label = this.scene.label(region);
    card.number.textContent = String(number);
    card.pick.style.setProperty('--region', region.colour);
    card.pick.setAttribute('aria-label', `Paint on ${label}`);
    card.element.setAttribute('aria-label', label);
    card.prompt.setAttribute('aria-label', `Prompt of ${label}`);
    card.name.placeholder = `Region ${number}`;
    if (document.activeElement !== card.name) card.name.value = region.name;
    if (document.activeElement !== card.prompt) card.prompt.value = region.settings.prompt || '';
    card.colour.value = region.colour;
    card.element.classList.toggle('is-hidden', region.hidden);
    card.eye.replaceChildren(icon(region.hidden ? 'eye-off' : 'eye'));
    card.eye.setAttribute('aria-pressed', String(!region.hidden));
    const painted = this.scene.isPainted(region);
    card.note.hidden = painted && !region.hidden;
    card.note.textContent = region.hidden ? 'Hidden: not part of the picture.' : 'Nothing painted yet.';
    const own = card.fields.filter(({ row }) => region.settings[row.key] !== undefined);
    card.summary.textContent = own.length ? `Settings · ${own.length} of its own` : 'Settings';
    const history = this.scene.settings.history || 'keep';
    for (const { row, made } of card.fields) {
      made.show(region.settings[row.key], region.settings);
      made.element.hidden = !belongs(row, history, region.settings);
    }
  }

  make(region) {
    const { scene } = this;
    const card = { fields: [] };
    card.number = h('span', { class: 'number' });
    card.pick = h('button', { type: 'button', class: 'pick', onclick: () => scene.activate(region.id) }, card.number);
    card.name = h('input', { class: 'name', 'aria-label': 'Name of the region', maxlength: 80, autocomplete: 'off', spellcheck: 'false' });
    card.name.addEventListener('input', () => scene.rename(region, card.name.value.trim()));
    card.eye = h('button', { type: 'button', class: 'icon-button', title: 'Part of the picture', 'aria-label': 'Part of the picture',
      onclick: () => scene.setHidden(region, !region.hidden) });
    card.colour = h('input', { type: 'color', class: 'sr-only', tabindex: -1, 'aria-label': 'Colour of the region' });
    card.colour.addEventListener('input', () => scene.recolour(region, card.colour.value));
    card.prompt = h('textarea', { rows: 2, placeholder: 'What to paint here', spellcheck: 'true' });
    card.prompt.addEventListener('input', () => { this.fault(region, 'prompt', ''); scene.setRegion(region, 'prompt', card.prompt.value); });
    growWithText(card.prompt);
    card.error = h('p', { class: 'field-error', role: 'alert', hidden: true });
    card.note = h('p', { class: 'card-note', hidden: true });
    card.summary = h('summary', {}, 'Settings');
    const grid = h('div', { class: 'grid' });
    const fold = h('details', { class: 'fold' }, card.summary, grid);
    this.fill(card, region, grid);
    const grip = h('span', { class: 'grip', draggable: 'true', title: 'Drag to move', 'aria-hidden': 'true' }, icon('grip'));
    const head = h('div', { class: 'card-head' },
      grip, card.pick, card.name, card.colour, card.eye,
      iconButton('up', 'Move up', () => this.shift(region, -1)), iconButton('down', 'Move down', () => this.shift(region, 1)),
      this.menu(card, region));
    card.element = h('li', { class: 'card' }, head, card.prompt, card.error, card.note, fold);
    this.listen(card, region, grip);
    return card;
  }

  fill(card, region, grid) {
    for (const row of this.options.region) {
      const made = field(row, region.settings[row.key], this.options.lists, (value) => {
        this.scene.setRegion(region, row.key, value);
      });
      card.fields.push({ row, made });
      grid.append(made.element);
    }
  }

  shift(region, by) {
    this.scene.move(region, this.scene.regions.indexOf(region) + by);
    announce(`${this.scene.label(region)} is number ${this.scene.regions.indexOf(region) + 1} of ${this.scene.regions.length}`);
  }

  menu(card, region) {
    const { scene } = this;
    const list = h('div', { class: 'menu', popover: 'auto' });
    const opener = iconButton('more', 'More for this region', () => list.togglePopover({ source: opener }), { 'aria-haspopup': 'menu' });
    const entry = (name, words, act, kind) => h('button', { type: 'button', class: kind || null, onclick: () => { list.hidePopover(); act(); } }, icon(name), words);
    const file = h('input', { type: 'file', accept: 'image/*', class: 'sr-only', tabindex: -1, 'aria-hidden': 'true' });
    file.addEventListener('change', () => { if (file.files[0]) this.importMask(region, file.files[0]); file.value = ''; });
    list.append(
      entry('picture', 'Import mask…', () => file.click()),
      entry('save', 'Save mask as PNG', () => this.exportMask(region)),
      entry('brush', 'Repaint only here', () => this.repaintHere(region)),
      entry('invert', 'Invert mask', () => scene.invertMask(region)),
      entry('eraser', 'Clear mask', () => scene.clearMask(region)),
      entry('brush', 'Change colour…', () => card.colour.click()),
      entry('copy', 'Duplicate region', () => scene.duplicate(region)),
      entry('trash', 'Delete region', () => scene.remove(region), 'danger'),
    );
    list.addEventListener('toggle', (event) => {
      opener.setAttribute('aria-expanded', String(event.newState === 'open'));
      if (event.newState !== 'open') return;
      const at = opener.getBoundingClientRect();
      list.style.left = `${Math.max(8, at.right - list.offsetWidth)}px`;
      list.style.top = `${Math.min(at.bottom + 4, window.innerHeight - list.offsetHeight - 8)}px`;
      list.querySelector('button').focus();
    });
    list.addEventListener('keydown', (event) => {
      const items = [...list.querySelectorAll('button')];
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      items[(items.indexOf(document.activeElement) + step + items.length) % items.length].focus();
      event.preventDefault();
    });
    return h('span', {}, opener, list, file);
  }

  async importMask(region, file) {
    try {
      this.scene.setMask(region, await maskOfFile(file, this.scene.width, this.scene.height), 'Import mask');
      notice(`${file.name || 'The picture'} is the mask of ${this.scene.label(region)} now.`);
    } catch (error) {
      this.fault(region, '', error.message);
    }
  }

  /** The region's mask becomes the picture's: the rest of the picture that painting starts from stays. */
  async repaintHere(region) {
    if (!this.scene.settings.init_image) {
      this.fault(region, '', 'Choose a picture to start from first, under Settings.');
      return;
    }
    const bytes = await encodeMask(region.mask, this.scene.width, this.scene.height);
    this.scene.set('mask', { name: `${this.scene.label(region)}.png`, data: toBase64(bytes) });
    notice(`Only the mask of ${this.scene.label(region)} is repainted now.`);
  }

  async exportMask(region) {
    const bytes = await encodeMask(region.mask, this.scene.width, this.scene.height);
    download(`${this.scene.label(region).replace(/[^\w-]+/g, '_')}-mask.png`, new Blob([bytes], { type: 'image/png' }));
  }

  listen(card, region, grip) {
    const { element } = card;
    const enter = () => { // from within the card: nothing may scroll away under the finger
      this.within = true;
      this.scene.activate(region.id);
      this.within = false;
    };
    element.addEventListener('focusin', enter);
    element.addEventListener('pointerdown', enter);
    grip.addEventListener('dragstart', (event) => {
      event.dataTransfer.setData('application/x-tessera-region', region.id);
      event.dataTransfer.effectAllowed = 'move';
    });
    element.addEventListener('dragover', (event) => {
      const types = event.dataTransfer.types;
      if (!types.includes('Files') && !types.includes('application/x-tessera-region')) return;
      event.preventDefault();
      event.stopPropagation();
      element.classList.add('drop');
    });
    element.addEventListener('dragleave', () => element.classList.remove('drop'));
    element.addEventListener('drop', (event) => {
      event.preventDefault();
      event.stopPropagation();
      element.classList.remove('drop');
      document.body.classList.remove('dropping');
      const moved = this.scene.region(event.dataTransfer.getData('application/x-tessera-region'));
      if (moved) this.scene.move(moved, this.scene.regions.indexOf(region));
      else if (event.dataTransfer.files[0]) this.importMask(region, event.dataTransfer.files[0]);
    });
  }

  /** Shows an error at a region, at the setting `key` of it when there is one. */
  fault(region, key, text) {
    const card = this.cards.get(region.id);
    if (!card) return;
    const place = card.fields.find(({ row }) => row.key === key);
    if (place) place.made.fault(text);
    else {
      card.error.textContent = text;
      card.error.hidden = !text;
    }
    if (text) reveal(place ? place.made.element : card.error);
  }

  clearFaults() {
    for (const card of this.cards.values()) {
      card.error.hidden = true;
      for (const { made } of card.fields) made.fault('');
    }
  }
}
