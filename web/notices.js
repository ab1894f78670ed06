// notices.js - short messages: shown for a while and read out.
import { byId, h, iconButton } from './dom.js';

const SHOWN_FOR = 6000;

/** kind: 'info' or 'error'. Errors stay until they are closed. */
export function notice(text, kind = 'info') {
  const list = byId('notices');
  for (const old of list.children) if (old.dataset.text === text) old.remove();
  const item = h('div', { class: `notice ${kind}`, 'data-text': text, role: kind === 'error' ? 'alert' : 'status' }, h('span', {}, text));
  item.append(iconButton('close', 'Close message', () => item.remove()));
  list.append(item);
  while (list.children.length > 4) list.firstChild.remove();
  if (kind !== 'error') setTimeout(() => item.remove(), SHOWN_FOR);
}

/** Read out only; for things that are seen anyway. */
export function announce(text) {
  byId('spoken').textContent = text;
}

/** Asks before something is lost. Resolves to true or false. */
export function confirmed(question, action) {
  const dialog = byId('ask');
  byId('ask-text').textContent = question;
  byId('ask-yes').textContent = action;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
