// fields.js - a form field from a row of the option table: its kind, range, default and words come from the server.
import { h, iconButton, randomSeed } from './dom.js';
import { picture } from './picture_field.js';

let count = 0;

const WORDS = {
  cfg: 'Guidance (cfg)', control: 'Control network', control_image: 'Control picture', init_image: 'Picture to start from', mask: 'Repaint only (mask)', lora: 'Adapters (LoRA)', vae_tile: 'VAE tile', clip_skip: 'Clip skip', seed_2nd: 'Second seed', seed_2nd_mode: 'Second seed mode',
};

export function wordsFor(key) {
  return WORDS[key] || key.charAt(0).toUpperCase() + key.slice(1).replaceAll('_', ' ');
}

function optionList(values, chosen, inherited) {
  const list = values.map((value) => h('option', { value }, value));
  if (inherited !== null) list.unshift(h('option', { value: '' }, inherited));
  if (chosen && !values.includes(chosen)) list.push(h('option', { value: chosen }, `${chosen} (not here)`));
  return list;
}

/** The choices of a row, or null when it is typed. lists: {sampler: [...], scheduler: [...], model: [...]} from /object_info. */
function choicesFor(row, lists) {
  if (row.kind === 'choice') return row.choices;
  if (['sampler', 'scheduler', 'model', 'control'].includes(row.kind)) return [...(row.choices || []), ...(lists[row.kind] || [])];
  return null;
}

function control(row, value, lists, id) {
  const inherited = row.default !== '' ? null : row.kind === 'control' ? 'None' : 'As the base';
  const choices = choicesFor(row, lists);
  if (choices) {
    const select = h('select', { id }, optionList(choices, value, inherited));
    select.value = value ?? row.default;
    return select;
  }
  if (row.kind === 'flag') {
    const box = h('input', { id, type: 'checkbox' });
    box.checked = String(value ?? row.default) === 'true';
    return box;
  }
  if (row.kind === 'text' && row.key === 'negative') {
    return h('textarea', { id, rows: 2, value: value ?? '', placeholder: inherited && row.inherits ? 'As the base' : 'What to keep out' });
  }
  const whole = row.kind === 'int';
  const number = (whole || row.kind === 'float') && !row.list;
  return h('input', {
    id, type: number ? 'number' : 'text', value: value ?? row.default, placeholder: row.kind === 'adapters' ? 'name:0.8' : row.default === '' ? (row.inherits ? 'As the base' : '') : row.default,
    inputmode: row.kind === 'seed' ? 'numeric' : number || row.kind === 'float' ? 'decimal' : null, autocomplete: 'off', spellcheck: 'false',
    min: number ? row.minimum : null, max: number ? row.maximum : null,
    step: whole ? 1 : number ? (row.maximum <= 1 ? 0.05 : 0.5) : null,
  });
}

/** What a person typed as a value of the scene; undefined when it is not valid. null goes back to the default. */
export function readValue(row, text) {
  if (text === '') return null;
  if (row.kind === 'flag') return text === 'true';
  if (row.list && text.includes(';')) {
    const values = text.split(';').map((item) => readValue({ ...row, list: false }, item.trim()));
    return values.some((value) => value === undefined || value === null) ? undefined : values.join(';');
  }
  if (row.kind === 'int' || row.kind === 'float') {
    const value = Number(text);
    const fits = Number.isFinite(value) && value >= row.minimum && value <= row.maximum && (row.kind === 'float' || Number.isInteger(value));
    return fits ? value : undefined;
  }
  if (row.kind === 'seed') return /^\d{1,20}$/.test(text) ? text : undefined;
  return text;
}

function complaint(row) {
  if (row.kind === 'seed') return 'A whole number, please.';
  return `A ${row.kind === 'int' ? 'whole ' : ''}number from ${row.minimum} to ${row.maximum}, please.`;
}

/** A list to pick an adapter from, which joins the text as NAME:1. */
function picker(input, names, take) {
  const select = h('select', { class: 'add', 'aria-label': 'Add an adapter', title: 'Add an adapter' }, h('option', { value: '' }, names.length ? 'Add…' : 'None here'),
    names.map((name) => h('option', { value: name }, name)));
  select.disabled = !names.length;
  select.addEventListener('change', () => {
    if (select.value) input.value = [input.value.trim(), `${select.value}:1`].filter(Boolean).join(';');
    select.value = '';
    take();
  });
  return select;
}

/** {element, show(value, settings), fault(text)}. change(value) is called with valid values only; of a picture with
 * {name, data}, its bytes as base64, or the name that it has in the input folder. */
export function field(row, value, lists, change) {
  if (row.kind === 'picture' || row.kind === 'input') return picture(row, wordsFor(row.key), change);
  const id = `field-${++count}`;
  const input = control(row, value, lists, id);
  const error = h('p', { class: 'field-error', id: `${id}-error`, hidden: true });
  const help = row.comfyui ? `${row.help} (ComfyUI: ${row.comfyui})` : row.help;
  const label = h('label', { for: id, title: help }, wordsFor(row.key));
  const holder = h('div', { class: row.kind === 'flag' ? 'field flag' : 'field', 'data-key': row.key });
  const fault = (text) => {
    error.textContent = text || '';
    error.hidden = !text;
    input.toggleAttribute('aria-invalid', Boolean(text));
    if (text) input.setAttribute('aria-invalid', 'true');
    if (text) input.setAttribute('aria-describedby', error.id);
    else input.removeAttribute('aria-describedby');
  };
  const take = () => {
    const read = readValue(row, row.kind === 'flag' ? String(input.checked) : input.value.trim());
    fault(read === undefined ? complaint(row) : '');
    if (read !== undefined) change(read);
  };
  input.title = help;
  input.addEventListener(input.type === 'number' || input.tagName === 'TEXTAREA' || input.type === 'text' ? 'input' : 'change', take);
  const show = (next) => {
    if (document.activeElement === input && input.type !== 'checkbox') return;
    if (row.kind === 'flag') input.checked = String(next ?? row.default) === 'true';
    else input.value = next ?? row.default;
    fault('');
  };
  const line = row.kind === 'seed'
    ? h('div', { class: 'joined' }, input, iconButton('dice', `Throw a new ${wordsFor(row.key).toLowerCase()}`, () => { input.value = randomSeed(); take(); }))
    : row.kind === 'adapters' ? h('div', { class: 'joined' }, input, picker(input, lists.adapters, take)) : input;
  holder.append(label, line, error);
  if (row.kind === 'flag') holder.replaceChildren(input, label, error);
  return { element: holder, input, show, fault };
}
