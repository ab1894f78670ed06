// strip.js - the strip below the sheet: jobs that run or wait, then the pictures of the history; and the large view.
import { api, viewUrl } from './api.js';
import { byId, download, h, icon, iconButton } from './dom.js';
import { describe, errorOf, imagesOf } from './jobs.js';
import { confirmed, notice } from './notices.js';

export class Strip {
  constructor(jobs, acts) {
    this.jobs = jobs;
    this.acts = acts; // {reopen(entry, image), show(image)}
    this.queue = byId('queue');
    this.gallery = byId('gallery');
    this.tiles = new Map(); // history id: element
    this.viewing = null;
    jobs.addEventListener('queue', () => this.showQueue());
    jobs.addEventListener('history', () => this.showHistory());
    for (const type of ['progress', 'preview']) jobs.addEventListener(type, (event) => this.showProgress(event.detail.id || event.detail));
    this.viewer();
  }

  // --- jobs ------------------------------------------------------------------------------------------------------------------

  showQueue() {
    const { running, pending } = this.jobs;
    const focused = document.activeElement && document.activeElement.closest('.job');
    const tiles = [...running.map((row) => this.job(row, 0)), ...pending.map((row, i) => this.job(row, i + 1))];
    this.queue.replaceChildren(...tiles);
    if (focused) tiles.find((tile) => tile.dataset.id === focused.dataset.id)?.querySelector('button').focus();
    const waiting = pending.length;
    byId('queue-words').textContent = running.length || waiting ? `${running.length ? 'Painting' : 'Waiting'}${waiting ? ` · ${waiting} waiting` : ''}` : 'Idle';
  }

  job(row, place) {
    const id = row[1];
    const about = describe(row[2]);
    const state = this.jobs.progress.get(id);
    const picture = h('img', { alt: '', class: 'thumb', hidden: true });
    const words = h('span', { class: 'job-state' }, place ? `${place}. in line` : 'Painting');
    const bar = h('progress', { max: 100, value: 0, 'aria-label': `Progress of ${about.text}`, hidden: place > 0 });
    const cancel = iconButton('close', `Cancel ${about.text || 'job'}`, () => this.jobs.cancel(id).catch((error) => notice(error.message, 'error')));
    const tile = h('li', { class: place ? 'tile job waiting' : 'tile job', 'data-id': id, title: about.text }, picture,
      h('span', { class: 'job-text' }, about.text || 'Untitled'), words, bar, cancel);
    if (state) this.fill(tile, state);
    return tile;
  }

  fill(tile, state) {
    const picture = tile.querySelector('img');
    if (state.preview) {
      picture.src = state.preview;
      picture.hidden = false;
    }
    if (!state.max || tile.classList.contains('waiting')) return;
    tile.querySelector('progress').value = 100 * state.value / state.max;
    tile.querySelector('.job-state').textContent = `${state.value} / ${state.max}`;
  }

  showProgress(id) {
    const tile = [...this.queue.children].find((element) => element.dataset.id === id);
    const state = this.jobs.progress.get(id);
    if (tile && state) this.fill(tile, state);
  }

  // --- pictures ----------------------------------------------------------------------------------------------------------------

  showHistory() {
    const { history } = this.jobs;
    const known = new Set(history.map((entry) => entry.id));
    for (const id of this.tiles.keys()) if (!known.has(id)) this.tiles.delete(id);
    const elements = history.map((entry) => {
      if (!this.tiles.has(entry.id)) this.tiles.set(entry.id, this.picture(entry));
      return this.tiles.get(entry.id);
    }).filter(Boolean);
    const same = elements.length === this.gallery.children.length && elements.every((element, i) => element === this.gallery.children[i]);
    if (!same) this.gallery.replaceChildren(...elements);
    byId('no-pictures').hidden = elements.length > 0;
  }

  picture(entry) {
    const image = imagesOf(entry)[0];
    const about = describe(entry.prompt[2]);
    const failed = errorOf(entry);
    if (!image && !failed) return null;
    if (!image) {
      return h('li', { class: 'tile failed', title: failed }, icon(failed === 'stopped' ? 'stop' : 'warning'),
        h('span', { class: 'job-text' }, about.text), h('span', { class: 'job-state' }, failed === 'stopped' ? 'Stopped' : failed),
        iconButton('close', `Remove ${about.text} from the history`, () => this.forget(entry)));
    }
    const label = `Open picture: ${about.text || 'untitled'}`;
    return h('li', { class: 'tile' }, h('button', { type: 'button', class: 'thumb-button', 'aria-label': label, title: about.text,
      onclick: () => this.view(entry, image) }, h('img', { class: 'thumb', alt: '', loading: 'lazy', src: viewUrl(image, 'webp;80') })));
  }

  async forget(entry) {
    try {
      await api.forget(entry.id);
      this.jobs.refreshHistory();
    } catch (error) {
      notice(error.message, 'error');
    }
  }

  // --- the large view ------------------------------------------------------------------------------------------------------------

  viewer() {
    const dialog = byId('viewer');
    byId('viewer-reopen').addEventListener('click', () => { dialog.close(); this.acts.reopen(this.viewing.entry, this.viewing.image); });
    byId('viewer-show').addEventListener('click', () => { dialog.close(); this.acts.show(this.viewing.image); });
    byId('viewer-save').addEventListener('click', async () => {
      const { image } = this.viewing;
      try {
        download(image.filename, new Blob([await api.bytes(viewUrl(image))], { type: 'image/png' }));
      } catch (error) {
        notice(error.message, 'error');
      }
    });
    byId('viewer-workflow').addEventListener('click', () => {
      const { entry, image } = this.viewing;
      download(image.filename.replace(/\.\w+$/, '.json'), new Blob([JSON.stringify(entry.prompt[2], null, 2)], { type: 'application/json' }));
    });
    byId('viewer-forget').addEventListener('click', async () => {
      if (!await confirmed('Take this picture out of the history? Its file stays in the output folder.', 'Take it out')) return;
      dialog.close();
      this.forget(this.viewing.entry);
    });
    dialog.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by) this.turn(by);
    });
    byId('viewer-before').addEventListener('click', () => this.turn(-1));
    byId('viewer-after').addEventListener('click', () => this.turn(1));
    byId('viewer-close').addEventListener('click', () => dialog.close());
  }

  turn(by) {
    const shown = this.jobs.history.filter((entry) => imagesOf(entry).length);
    const at = shown.findIndex((entry) => entry.id === this.viewing.entry.id) + by;
    if (shown[at]) this.view(shown[at], imagesOf(shown[at])[0]);
  }

  view(entry, image) {
    this.viewing = { entry, image };
    const about = describe(entry.prompt[2]);
    const picture = byId('viewer-picture');
    picture.src = viewUrl(image);
    picture.alt = about.text || 'A picture';
    const scene = about.scene || {};
    const facts = [['Prompt', about.text], ['Negative', scene.negative], ['Size', about.width ? `${about.width} × ${about.height}` : ''],
      ['Seed', about.seed], ['Steps', scene.steps], ['Sampler', scene.sampler], ['File', image.filename],
      ...(scene.regions || []).map((region, i) => [region.name || `Region ${i + 1}`, region.prompt])];
    byId('viewer-facts').replaceChildren(...facts.filter(([, value]) => value !== undefined && value !== '' && value !== null)
      .flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))]));
    if (!byId('viewer').open) byId('viewer').showModal();
  }
}
