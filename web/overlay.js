// overlay.js - regions drawn over the picture: a tint for each mask, an outline, a numbered tag.
import { feather, measure } from './masks.js';
import { outline } from './contour.js';
import { byId, eachFrame, later, svg } from './dom.js';

const ACTIVE = 1;
const OTHERS = 0.72; // of the chosen opacity, so that the active region stands out
const CALM = 0.22; // of it, while a picture is looked at rather than painted over

export class Overlay {
  constructor(scene, view) {
    this.scene = scene;
    this.view = view; // {opacity 0..1, regions shown, feather shown}
    this.calm = false;
    this.canvas = byId('overlay');
    this.context = this.canvas.getContext('2d');
    this.lines = byId('outlines');
    this.tags = byId('tags');
    this.layers = new Map(); // region id: {canvas, context, key, mask, path, place}
    this.draw = eachFrame(() => this.compose());
    this.settle = later(() => this.refine(), 60);
    for (const type of ['regions', 'active', 'region']) scene.addEventListener(type, () => this.refresh());
    for (const type of ['size', 'loaded']) scene.addEventListener(type, () => { this.layers.clear(); this.refresh(); });
    scene.addEventListener('mask', (event) => { this.touch(event.detail); this.setCalm(false); this.refresh(); });
    scene.addEventListener('active', () => this.setCalm(false));
  }

  /** A calm overlay lets the picture through; work on regions brings their colours back. */
  setCalm(calm) {
    if (this.calm === calm) return;
    this.calm = calm;
    this.draw();
  }

  refresh() {
    this.draw();
    this.settle();
  }

  /** A region's mask is another one now. */
  touch(region) {
    const layer = this.layers.get(region.id);
    if (!layer) return;
    layer.key = 'stale';
    layer.path = null;
  }

  /** Part of a region's mask changed under the brush: that part is drawn crisp at once, soft edges follow later. */
  brushed(region, rect) {
    const layer = this.layer(region);
    this.calm = false;
    this.tint(layer, region, region.mask, rect);
    layer.key = 'stale';
    layer.path = null;
    this.draw();
  }

  layer(region) {
    let layer = this.layers.get(region.id);
    if (!layer) {
      const canvas = document.createElement('canvas');
      canvas.width = this.scene.width;
      canvas.height = this.scene.height;
      layer = { canvas, context: canvas.getContext('2d'), key: '', path: null, place: null, mask: null };
      this.layers.set(region.id, layer);
    }
    return layer;
  }

  tint(layer, region, mask, rect) {
    const { width } = this.scene;
    const image = layer.context.createImageData(rect.w, rect.h);
    const colour = parseInt(region.colour.slice(1), 16);
    const [red, green, blue] = [colour >> 16, colour >> 8 & 255, colour & 255];
    const strength = region.settings.strength === undefined ? 1 : Number(region.settings.strength);
    for (let y = 0, to = 0; y < rect.h; y++) {
      for (let x = 0, at = (rect.y + y) * width + rect.x; x < rect.w; x++, at++, to += 4) {
        image.data[to] = red;
        image.data[to + 1] = green;
        image.data[to + 2] = blue;
        image.data[to + 3] = mask[at] * strength;
      }
    }
    layer.context.putImageData(image, rect.x, rect.y);
  }

  /** A region's layer. Drawing a frame takes it as it is (soft: false); a moment later it is brought up to date. */
  prepare(region, soft) {
    const layer = this.layer(region);
    const radius = this.view.feather && soft ? Number(region.settings.feather || 0) : 0;
    const key = `${region.colour} ${radius} ${region.settings.strength}`;
    if (soft ? layer.key === key : layer.key !== '') return layer;
    const { width, height } = this.scene;
    this.tint(layer, region, feather(region.mask, width, height, radius), { x: 0, y: 0, w: width, h: height });
    layer.key = soft ? key : 'crisp';
    return layer;
  }

  compose() {
    const { width, height, regions } = this.scene;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    this.context.clearRect(0, 0, width, height);
    const shown = this.view.regions;
    this.lines.style.display = shown ? '' : 'none';
    this.tags.style.display = shown ? '' : 'none';
    if (!shown) return;
    for (const region of regions) {
      if (region.hidden) continue;
      const layer = this.prepare(region, false);
      this.context.globalAlpha = this.view.opacity * (this.calm ? CALM : 1) * (region.id === this.scene.activeId ? ACTIVE : OTHERS);
      this.context.drawImage(layer.canvas, 0, 0);
    }
    this.context.globalAlpha = 1;
  }

  /** Soft edges, outlines and tags: what may come a moment after the stroke. */
  refine() {
    const { width, height, regions } = this.scene;
    const known = new Set(regions.map((region) => region.id));
    for (const id of this.layers.keys()) if (!known.has(id)) this.layers.delete(id);
    this.lines.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.lines.replaceChildren();
    this.tags.replaceChildren();
    regions.forEach((region, i) => {
      if (region.hidden) return;
      const layer = this.prepare(region, true);
      if (layer.path === null) {
        layer.path = outline(region.mask, width, height);
        layer.place = measure(region.mask, width, height);
      }
      if (!layer.place) return;
      const active = region.id === this.scene.activeId;
      if (active) this.lines.append(svg('path', { d: layer.path, class: 'outline-under' }));
      const path = svg('path', { d: layer.path, class: active ? 'outline active' : 'outline' });
      path.style.stroke = region.colour;
      this.lines.append(path);
      this.tags.append(this.tag(region, i, layer.place, active));
    });
    this.draw();
  }

  tag(region, i, place, active) {
    const tag = document.createElement('span');
    tag.className = active ? 'tag active' : 'tag';
    tag.textContent = String(i + 1);
    tag.style.left = `${100 * place.cx / this.scene.width}%`;
    tag.style.top = `${100 * place.cy / this.scene.height}%`;
    tag.style.borderColor = region.colour;
    return tag;
  }
}
