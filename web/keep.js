// keep.js - what outlives a reload: the scene with its masks in IndexedDB, small things in localStorage.
//
// Where a browser refuses storage (private windows), the page works and forgets.
import { randomId } from './dom.js';

const DATABASE = 'tessera';
const STORE = 'scenes';

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function transact(mode, act) {
  return open().then((database) => new Promise((resolve, reject) => {
    const transaction = database.transaction(STORE, mode);
    const request = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => { database.close(); resolve(request.result); };
    transaction.onerror = () => { database.close(); reject(transaction.error); };
    transaction.onabort = transaction.onerror;
  }));
}

export async function saveScene(snapshot) {
  await transact('readwrite', (store) => store.put(snapshot, 'current'));
}

/** The scene of the last visit, or null. */
export async function loadScene() {
  try {
    const state = await transact('readonly', (store) => store.get('current'));
    const size = state ? state.width * state.height : 0;
    return state && state.regions.every((region) => region.mask instanceof Uint8Array && region.mask.length === size) ? state : null;
  } catch {
    return null;
  }
}

/** A remembered value (anything JSON holds) or `otherwise`. */
export function recall(name, otherwise) {
  try {
    const text = localStorage.getItem(`tessera.${name}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`tessera.${name}`, JSON.stringify(value));
  } catch { /* nothing is kept then */ }
}

/** The tab's own identifier. It outlives a reload, so that the server's events of a running job find the page again; two
 * tabs must not share one, since the newer socket of a client takes the place of the older. */
export function clientId() {
  try {
    // Taken out while the page lives: a copy of the tab copies what lies here.
    const known = sessionStorage.getItem('tessera.client');
    sessionStorage.removeItem('tessera.client');
    const id = known || randomId();
    window.addEventListener('pagehide', () => sessionStorage.setItem('tessera.client', id));
    return id;
  } catch {
    return randomId();
  }
}
