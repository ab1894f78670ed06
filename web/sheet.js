// sheet.js - the picture under the regions: a preview, a result, or one that somebody dropped in.
import { viewUrl } from './api.js';
import { byId } from './dom.js';
import { recall, remember } from './keep.js';

export class Sheet {
  constructor() {
    this.canvas = byId('picture');
    this.context = this.canvas.getContext('2d');
    this.shown = false;
    this.turn = 0; // pictures are decoded out of order; only the newest is drawn
    this.changed = () => {};
  }

  /** Keeps a blank sheet in the picture's shape. */
  size(width, height) {
    if (this.shown) return;
    this.canvas.width = width;
    this.canvas.height = height;
  }

  async showBlob(blob) {
    const turn = ++this.turn;
    const bitmap = await createImageBitmap(blob).catch(() => null);
    if (bitmap && turn === this.turn) this.draw(bitmap);
    if (bitmap) bitmap.close();
  }

  draw(bitmap) {
    this.canvas.width = bitmap.width;
    this.canvas.height = bitmap.height;
    this.context.drawImage(bitmap, 0, 0);
    this.setShown(true);
  }

  setShown(shown) {
    this.shown = shown;
    byId('clear-picture').hidden = !shown;
    this.changed();
  }

  /** A finished picture of the server; remembered for the next visit. */
  async show(image) {
    remember('shown', image);
    try {
      const response = await fetch(viewUrl(image));
      if (response.ok) await this.showBlob(await response.blob());
    } catch { /* the link's state says that the server is away */ }
  }

  restore() {
    const image = recall('shown', null);
    if (image) this.show(image);
  }

  clear() {
    this.turn++;
    remember('shown', null);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.setShown(false);
  }
}
