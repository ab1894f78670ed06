// picture_field.js - a field for a picture file, with a small view of it: one that the scene takes along, or one that the server
// keeps in its input folder.
import { api, inputUrl } from './api.js';
import { h, iconButton } from './dom.js';
import { toBase64 } from './png.js';

const MOST_BYTES = 4 << 20; // what a scene keeps of a file

async function takeAlong(file) {
  if (file.size > MOST_BYTES) throw new Error('This file is larger than 4 MiB; save it smaller or as JPEG.');
  return { name: file.name || 'picture.png', data: toBase64(new Uint8Array(await file.arrayBuffer())) };
}

/** Of several pictures, as a scene from elsewhere may have, none is shown. */
function dataUrl(data) {
  return data && !data.includes(';') ? `data:image/png;base64,${data}` : '';
}

/** As field() of fields.js. Of row.kind 'picture', change({name, data}) with the bytes as base64; of 'input', change(name) of
 * the file in the input folder; change(null) when it is left out. */
export function picture(row, words, change) {
  const input = h('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp', class: 'sr-only', tabindex: -1, 'aria-hidden': 'true' });
  const view = h('img', { class: 'small-picture', alt: '', hidden: true });
  const name = h('span', { class: 'file-name' });
  const choose = h('button', { type: 'button', class: 'quiet', title: row.help, onclick: () => input.click() }, 'Choose…');
  const clear = iconButton('trash', `Leave out the ${words.toLowerCase()}`, () => { fault(''); change(null); });
  const error = h('p', { class: 'field-error', role: 'alert', hidden: true });
  const element = h('div', { class: 'field wide', 'data-key': row.key }, h('span', { class: 'label' }, words),
    h('div', { class: 'joined' }, view, choose, name, clear), input, error);
  let shown = '';

  function fault(text) {
    error.textContent = text || '';
    error.hidden = !text;
  }

  async function take(file) {
    fault('');
    try {
      change(await (row.kind === 'input' ? api.upload(file) : takeAlong(file)));
    } catch (error) {
      fault(error.message);
    }
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
    const url = row.kind === 'input' ? (value ? inputUrl(value) : '') : dataUrl(data);
    name.textContent = value || '';
    clear.hidden = !value && !data;
    choose.setAttribute('aria-label', value ? `${words}: ${value}. Choose another` : `Choose the ${words.toLowerCase()}`);
    view.hidden = !url;
    if (url && url !== shown) view.src = url;
    shown = url;
  };
  show('', {});
  return { element, input, show, fault };
}
