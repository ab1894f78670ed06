// dom.js - small helpers to build elements. Text only ever goes in as text nodes: no markup is parsed anywhere.
import { iconShapes } from './icons.js';

const SVG = 'http://www.w3.org/2000/svg';

/** The element of an id; throws when index.html lacks it, so that a typing error shows at once. */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element;
}

/** h('button', {class: 'a', onclick: f, 'aria-label': 'x'}, 'text', child...). null and false are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An icon by name, hidden from screen readers: the button around it has the words. */
export function icon(name) {
  const drawing = svg('svg', { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true', focusable: 'false' });
  for (const shape of iconShapes(name)) drawing.append(svg('path', { d: shape }));
  return drawing;
}

/** A button with an icon only. The label is read out and shown as a tip. */
export function iconButton(name, label, onclick, attributes) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...attributes },
    icon(name));
}

/** Puts icons in the places that index.html marks with data-icon. */
export function drawIcons(root) {
  for (const place of root.querySelectorAll('[data-icon]')) place.prepend(icon(place.dataset.icon));
}

/** Calls f once, `delay` ms after the last call; .now() calls it at once if it is due. */
export function later(f, delay) {
  let timer = 0;
  const call = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { timer = 0; f(); }, delay);
  };
  call.now = () => {
    if (!timer) return;
    clearTimeout(timer);
    timer = 0;
    f();
  };
  return call;
}

/** Calls f at most once a frame. */
export function eachFrame(f) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; f(); });
  };
}

/** A text area as high as its text, within what the style sheet allows. */
export function growWithText(area) {
  const grow = () => {
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener('input', grow);
  requestAnimationFrame(grow);
  return grow;
}

export function download(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A random identifier. crypto.randomUUID is missing on plain http from another machine, getRandomValues is not. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A seed that people can read out: 32 bits. */
export function randomSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}
