// keys.js - keyboard shortcuts: one table, which the page listens to and the help dialog shows.
import { byId, h } from './dom.js';

/** rows: {keys: ['b'], shown: ['B'], words, act(event), typing: works inside text fields too}. */
export function listen(rows) {
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]')) return;
    const typing = event.target.closest('input:not([type=checkbox]):not([type=range]):not([type=color]), textarea, select');
    const name = `${event.ctrlKey || event.metaKey ? 'ctrl+' : ''}${event.shiftKey && event.key.length > 1 ? 'shift+' : ''}${event.key.length === 1 ? event.key.toLowerCase() : event.key}`;
    const row = rows.find((each) => each.keys.includes(name));
    if (!row || (typing && !row.typing) || event.altKey) return;
    event.preventDefault();
    row.act(event);
  });
  byId('shortcuts').replaceChildren(...rows.filter((row) => row.words).map((row) => h('div', {},
    h('dt', {}, row.shown.map((keys) => h('span', { class: 'combo' }, (keys === '+' ? [keys] : keys.split('+')).map((key) => h('kbd', {}, key))))), h('dd', {}, row.words))));
}
