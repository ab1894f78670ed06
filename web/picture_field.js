// picture_field.js - a field that takes a picture file along in the scene, with a small view of it.
import { h, iconButton } from './dom.js';
import { toBase64 } from './png.js';

const MOST_BYTES = 4 << 20; // what a scene keeps of a file

/** As field() of fields.js; change({name, data}) with the bytes as base64, or change(null). */
export function picture(row, words, change) {
  const input = h('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp', class: 'sr-only', tabindex: -1, 'aria-hidden': 'true' });
  const view = h('img', { class: 'small-picture', alt: '', hidden: true });
  const name = h('span', { class: 'file-name' });
  const choose = h('button', { type: 'button', class: 'quiet', title: row.help, onclick: () => input.click() }, 'Choose…');
  const clear = iconButton('trash', `Leave out the ${words.toLowerCase()}`, () => { fault(''); change(null); });
  const error = h('p', { class: 'field-error', role: 'alert', hidden: true });
  const element = h('div', { class: 'field wide', 'data-key': row.key }, h('span', { class: 'label' }, words),
    h('div', { class: 'joined' }, view, choose, name, clear), input, error);
  let shown = null;

  function fault(text) {
    error.textContent = text || '';
    error.hidden = !text;
  }

  async function take(file) {
    if (file.size > MOST_BYTES) return fault('This file is larger than 4 MiB; save it smaller or as JPEG.');
    fault('');
    return change({ name: file.name || 'picture.png', data: toBase64(new Uint8Array(await file.arrayBuffer())) });
  }
  input.addEventListener('change', () => { if (input.files[0]) take(input.files[0]); input.value = ''; });
  element.addEventListener('dragover', (event) => {
    if (!event.dataTransfer.types.includes('Files')) return;
    event.preventDefault();
    event.stopPropagation();
  });
  element.addEventListener('drop', (event) => {
    if (!event.dataTransfer.files[0]) return;
    event.preventDefault();
    event.stopPropagation();
    document.body.classList.remove('dropping');
    take(event.dataTransfer.files[0]);
  });

  /** value: the file's name, or several names with ; between them, as a scene from elsewhere may have. */
  const show = (value, settings) => {
    const data = (settings || {})[`${row.key}_data`] || '';
    name.textContent = value || '';
    clear.hidden = !value && !data;
    choose.setAttribute('aria-label', value ? `${words}: ${value}. Choose another` : `Choose the ${words.toLowerCase()}`);
    view.hidden = !data || data.includes(';');
    if (data !== shown && !view.hidden) view.src = `data:image/png;base64,${data}`;
    shown = data;
  };
  show('', {});
  return { element, input, show, fault };
}
