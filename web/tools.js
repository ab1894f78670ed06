// tools.js - the chosen tool, the brush, and how regions are shown.
import { byId } from './dom.js';
import { recall, remember } from './keep.js';

const LEAST = 1;
const MOST = 512;
const toSize = (slide) => Math.round(LEAST * (MOST / LEAST) ** (slide / 100));
const toSlide = (size) => Math.round(100 * Math.log(size / LEAST) / Math.log(MOST / LEAST));

/** {tool, size, hardness, spaceHeld, choose(name), resize(factor), changed()}; view is changed in place. */
export function startTools(view, viewChanged) {
  const tools = { tool: 'brush', size: 28, hardness: 1, spaceHeld: false, changed: () => {}, ...recall('brush', {}) };
  const buttons = [...byId('tool-list').querySelectorAll('[role=radio]')];

  const keep = () => {
    remember('brush', { tool: tools.tool, size: tools.size, hardness: tools.hardness });
    tools.changed();
  };
  const show = () => {
    for (const button of buttons) {
      const chosen = button.dataset.tool === tools.tool;
      button.setAttribute('aria-checked', String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    byId('brush-size').value = toSlide(tools.size);
    byId('brush-size-value').textContent = `${tools.size} px`;
    byId('brush-soft').value = Math.round(100 * (1 - tools.hardness));
    byId('brush-soft-value').textContent = `${Math.round(100 * (1 - tools.hardness))} %`;
    byId('opacity').value = Math.round(100 * view.opacity);
    byId('opacity-value').textContent = `${Math.round(100 * view.opacity)} %`;
    byId('show-regions').checked = view.regions;
    byId('show-feather').checked = view.feather;
  };

  tools.choose = (name) => {
    tools.tool = name;
    show();
    keep();
  };
  tools.resize = (factor) => {
    const size = Math.round(tools.size * factor);
    tools.size = Math.min(MOST, Math.max(LEAST, size === tools.size ? size + (factor > 1 ? 1 : -1) : size));
    show();
    keep();
  };

  for (const button of buttons) button.addEventListener('click', () => tools.choose(button.dataset.tool));
  byId('tool-list').addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = buttons[(buttons.findIndex((button) => button.dataset.tool === tools.tool) + step + buttons.length) % buttons.length];
    tools.choose(next.dataset.tool);
    next.focus();
  });
  byId('brush-size').addEventListener('input', (event) => { tools.size = toSize(Number(event.target.value)); show(); keep(); });
  byId('brush-soft').addEventListener('input', (event) => { tools.hardness = 1 - Number(event.target.value) / 100; show(); keep(); });
  byId('opacity').addEventListener('input', (event) => { view.opacity = Number(event.target.value) / 100; show(); viewChanged(); });
  byId('show-regions').addEventListener('change', (event) => { view.regions = event.target.checked; viewChanged(); });
  byId('show-feather').addEventListener('change', (event) => { view.feather = event.target.checked; viewChanged(); });

  const space = (held) => (event) => {
    const busy = event.target.closest && event.target.closest('input, textarea, select, button, summary, dialog');
    if (event.key !== ' ' || (busy && held)) return;
    if (event.target.id === 'stage') return; // there Space paints
    tools.spaceHeld = held;
    if (held) event.preventDefault();
    tools.changed();
  };
  document.addEventListener('keydown', space(true));
  document.addEventListener('keyup', space(false));
  show();
  return tools;
}
