// stage.js - the sheet that is painted on: where it lies, zoom, the pointer, and a cross for those who paint by keyboard.
//
// It turns pointer events into strokes of the chosen tool on the active region's mask.
import { drawLine, joinRects } from './masks.js';
import { byId } from './dom.js';

const ZOOM_LEAST = 0.1;
const ZOOM_MOST = 40;

export class Stage {
  constructor(scene, overlay, tools, say) {
    this.scene = scene;
    this.overlay = overlay;
    this.tools = tools; // {tool, size, hardness}
    this.say = say;
    this.element = byId('stage');
    this.sheet = byId('sheet');
    this.ring = byId('ring');
    this.frame = byId('frame');
    this.pointers = new Map(); // id: {x, y} in the stage
    this.stroke = null;
    this.cross = null; // {x, y, from} in pixels of the picture
    this.zoom = 1;
    this.fitted = true;
    this.listen();
    new ResizeObserver(() => this.relayout()).observe(this.element);
    for (const type of ['size', 'loaded']) scene.addEventListener(type, () => { this.fitted = true; this.endStroke(); this.relayout(); });
  }

  // --- where the sheet lies ----------------------------------------------------------------------------------------------

  relayout() {
    const { width, height } = this.scene;
    const room = this.element.getBoundingClientRect();
    if (this.fitted) {
      const margin = room.width < 700 ? 12 : 28;
      this.zoom = Math.max(ZOOM_LEAST, Math.min((room.width - 2 * margin) / width, (room.height - 2 * margin) / height, 8));
      this.left = (room.width - width * this.zoom) / 2;
      this.top = (room.height - height * this.zoom) / 2;
    }
    this.left = Math.min(room.width - 40, Math.max(40 - width * this.zoom, this.left));
    this.top = Math.min(room.height - 40, Math.max(40 - height * this.zoom, this.top));
    const style = this.sheet.style;
    style.width = `${width * this.zoom}px`;
    style.height = `${height * this.zoom}px`;
    style.transform = `translate(${this.left}px, ${this.top}px)`;
    byId('zoom-value').textContent = `${Math.round(this.zoom * 100)} %`;
    this.showCross();
    this.showRing();
  }

  fit() {
    this.fitted = true;
    this.relayout();
  }

  /** Zooms by a factor about a point of the stage, its middle when none is given. */
  zoomBy(factor, at) {
    const room = this.element.getBoundingClientRect();
    const point = at || { x: room.width / 2, y: room.height / 2 };
    const zoom = Math.min(ZOOM_MOST, Math.max(ZOOM_LEAST, this.zoom * factor));
    this.left = point.x - (point.x - this.left) * zoom / this.zoom;
    this.top = point.y - (point.y - this.top) * zoom / this.zoom;
    this.zoom = zoom;
    this.fitted = false;
    this.relayout();
  }

  moveBy(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
    this.relayout();
  }

  inStage(event) {
    const room = this.element.getBoundingClientRect();
    return { x: event.clientX - room.left, y: event.clientY - room.top };
  }

  inPicture(point) {
    return { x: (point.x - this.left) / this.zoom, y: (point.y - this.top) / this.zoom };
  }

  // --- pointers ------------------------------------------------------------------------------------------------------------

  listen() {
    const stage = this.element;
    stage.addEventListener('pointerdown', (event) => this.down(event));
    stage.addEventListener('pointermove', (event) => this.move(event));
    for (const type of ['pointerup', 'pointercancel']) stage.addEventListener(type, (event) => this.up(event));
    stage.addEventListener('pointerleave', () => { this.hover = null; this.showRing(); });
    stage.addEventListener('contextmenu', (event) => event.preventDefault());
    stage.addEventListener('wheel', (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey || !event.shiftKey) this.zoomBy(Math.exp(-event.deltaY * 0.0015), this.inStage(event));
      else this.moveBy(-event.deltaY, 0);
    }, { passive: false });
    stage.addEventListener('keydown', (event) => this.key(event));
    stage.addEventListener('blur', () => { this.cross = null; this.showCross(); });
  }

  down(event) {
    this.element.setPointerCapture(event.pointerId);
    this.element.focus({ preventScroll: true });
    this.cross = null;
    this.showCross();
    this.pointers.set(event.pointerId, this.inStage(event));
    if (this.pointers.size > 1) { // two fingers move and zoom; what the first one began is taken back
      this.endStroke(true);
      return;
    }
    if (event.button === 1 || this.tools.tool === 'hand' || this.tools.spaceHeld) this.panning = true;
    else if (event.button === 0 || event.button === 2 || event.button === 5) this.begin(event);
    event.preventDefault();
  }

  move(event) {
    const point = this.inStage(event);
    this.hover = event.pointerType === 'touch' ? null : point;
    const old = this.pointers.get(event.pointerId);
    if (old) {
      if (this.pointers.size > 1) this.pinch(event.pointerId, old, point);
      else if (this.panning) this.moveBy(point.x - old.x, point.y - old.y);
      else if (this.stroke) this.draw(event);
      this.pointers.set(event.pointerId, point);
    }
    this.showRing();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) this.panning = false;
    if (this.stroke && this.stroke.pointer === event.pointerId) this.endStroke(event.type === 'pointercancel');
  }

  pinch(id, old, point) {
    const other = [...this.pointers].find(([key]) => key !== id)[1];
    const before = Math.hypot(old.x - other.x, old.y - other.y);
    const after = Math.hypot(point.x - other.x, point.y - other.y);
    this.moveBy((point.x - old.x) / 2, (point.y - old.y) / 2);
    if (before > 10) this.zoomBy(after / before, { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 });
  }

  // --- strokes -------------------------------------------------------------------------------------------------------------

  /** The region to paint on; the first stroke on an empty scene makes one. */
  target() {
    let region = this.scene.active;
    if (!region) region = this.scene.add();
    if (region && region.hidden) {
      this.say('This region is hidden. Show it to paint on it.');
      return null;
    }
    return region;
  }

  begin(event) {
    const region = this.target();
    if (!region) return;
    const erase = this.tools.tool === 'eraser' || event.altKey || event.button === 2 || event.button === 5;
    const at = this.inPicture(this.inStage(event));
    if (this.tools.tool === 'fill') {
      this.pour(region, at, erase);
      return;
    }
    this.stroke = { region, erase, pointer: event.pointerId, start: at, last: null, rect: null, before: region.mask.slice() };
    if (this.tools.tool === 'box') this.stroke.end = at;
    else this.draw(event);
  }

  pour(region, at, erase) {
    const x = Math.floor(at.x);
    const y = Math.floor(at.y);
    if (x < 0 || y < 0 || x >= this.scene.width || y >= this.scene.height) return;
    if (!this.scene.fill(region, x, y, erase)) this.say(erase ? 'Nothing is painted here.' : 'This place is painted already.');
  }

  radius(event) {
    const pressed = event.pointerType === 'pen' && event.pressure > 0 ? 0.25 + 0.75 * event.pressure : 1;
    return Math.max(0.5, this.tools.size / 2 * pressed);
  }

  draw(event) {
    const { stroke, scene } = this;
    if (this.tools.tool === 'box') {
      stroke.end = this.inPicture(this.inStage(event));
      this.showFrame(stroke.start, stroke.end);
      return;
    }
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    let touched = null;
    for (const part of events.length ? events : [event]) {
      const point = { ...this.inPicture(this.inStage(part)), radius: this.radius(part) };
      const rect = drawLine(stroke.region.mask, scene.width, scene.height, stroke.last || point, point, this.tools.hardness, stroke.erase);
      touched = joinRects(touched, rect);
      stroke.last = point;
    }
    stroke.rect = joinRects(stroke.rect, touched);
    if (touched) this.overlay.brushed(stroke.region, touched);
  }

  endStroke(undone) {
    const { stroke, scene } = this;
    this.stroke = null;
    this.frame.hidden = true;
    if (!stroke) return;
    if (undone) {
      stroke.region.mask.set(stroke.before);
      scene.tell('mask', stroke.region);
    } else if (stroke.end) {
      scene.box(stroke.region, stroke.start.x, stroke.start.y, stroke.end.x, stroke.end.y, stroke.erase);
    } else {
      scene.noteChange(stroke.erase ? 'Erase' : 'Brush', stroke.region, stroke.before, stroke.rect);
    }
  }

  // --- by keyboard ---------------------------------------------------------------------------------------------------------

  key(event) {
    const step = event.shiftKey ? 16 : 2;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.ctrlKey || event.metaKey) return;
    if (moves[event.key]) {
      const { width, height } = this.scene;
      const cross = this.cross || { x: width / 2, y: height / 2, from: null };
      const old = { ...cross };
      cross.x = Math.min(width, Math.max(0, cross.x + moves[event.key][0]));
      cross.y = Math.min(height, Math.max(0, cross.y + moves[event.key][1]));
      this.cross = cross;
      if (cross.from && this.tools.tool !== 'box') this.keyStroke(old, cross);
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.press();
    } else if (event.key === 'Escape' && this.cross) {
      this.cross = null;
    } else return;
    event.preventDefault();
    this.showCross();
  }

  /** Enter or Space: puts the brush down or lifts it, sets a corner of the box, or fills. */
  press() {
    const region = this.target();
    if (!region) return;
    this.cross ||= { x: this.scene.width / 2, y: this.scene.height / 2, from: null };
    const { cross } = this;
    const erase = this.tools.tool === 'eraser';
    if (this.tools.tool === 'fill') {
      this.pour(region, { x: Math.min(cross.x, this.scene.width - 1), y: Math.min(cross.y, this.scene.height - 1) }, erase);
    } else if (!cross.from) {
      cross.from = { x: cross.x, y: cross.y };
      if (this.tools.tool !== 'box') this.keyStroke(cross, cross);
      this.say(this.tools.tool === 'box' ? 'First corner set. Move, then press Enter.' : 'Brush down.');
    } else {
      if (this.tools.tool === 'box') this.scene.box(region, cross.from.x, cross.from.y, cross.x, cross.y, false);
      cross.from = null;
      this.say(this.tools.tool === 'box' ? 'Box painted.' : 'Brush up.');
    }
  }

  keyStroke(from, to) {
    const region = this.target();
    if (!region) return;
    const radius = this.tools.size / 2;
    const erase = this.tools.tool === 'eraser';
    this.scene.changeMask(erase ? 'Erase' : 'Brush', region, (mask) => drawLine(mask, this.scene.width, this.scene.height,
      { ...from, radius }, { ...to, radius }, this.tools.hardness, erase));
  }

  // --- what follows the pointer ----------------------------------------------------------------------------------------------

  showRing() {
    const { ring, hover } = this;
    const painting = this.tools.tool === 'brush' || this.tools.tool === 'eraser';
    ring.hidden = !hover || !painting || this.panning;
    this.element.dataset.tool = this.panning ? 'grab' : this.tools.spaceHeld ? 'hand' : this.tools.tool;
    if (ring.hidden) return;
    const side = Math.max(3, this.tools.size * this.zoom);
    ring.style.width = ring.style.height = `${side}px`;
    ring.style.transform = `translate(${hover.x - side / 2}px, ${hover.y - side / 2}px)`;
  }

  showFrame(a, b) {
    const { frame, scene } = this;
    const edge = (value, most) => Math.min(most, Math.max(0, Math.round(value)));
    const [x0, x1] = [edge(Math.min(a.x, b.x), scene.width), edge(Math.max(a.x, b.x), scene.width)];
    const [y0, y1] = [edge(Math.min(a.y, b.y), scene.height), edge(Math.max(a.y, b.y), scene.height)];
    frame.hidden = false;
    frame.dataset.size = `${x1 - x0} × ${y1 - y0}`;
    frame.style.left = `${x0 * this.zoom}px`;
    frame.style.top = `${y0 * this.zoom}px`;
    frame.style.width = `${(x1 - x0) * this.zoom}px`;
    frame.style.height = `${(y1 - y0) * this.zoom}px`;
  }

  showCross() {
    const mark = byId('cross');
    mark.hidden = !this.cross;
    if (!this.cross) {
      if (!this.stroke) this.frame.hidden = true;
      return;
    }
    mark.classList.toggle('down', Boolean(this.cross.from));
    mark.style.left = `${this.cross.x * this.zoom}px`;
    mark.style.top = `${this.cross.y * this.zoom}px`;
    if (this.cross.from && this.tools.tool === 'box') this.showFrame(this.cross.from, this.cross);
    else this.frame.hidden = true;
  }
}
