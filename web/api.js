// api.js - the server: ComfyUI's requests and its WebSocket. Knows no scene and no element.

export class ServerError extends Error {
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ServerError(0, 'The server does not answer. Is tessera serve running?', null);
  }
  if (response.ok) return response;
  let body = null;
  const text = await response.text();
  try { body = JSON.parse(text); } catch { /* not JSON: the text is the message */ }
  const message = (body && body.error && (body.error.message || body.error)) || text.slice(0, 300) || `The server answered ${response.status}.`;
  throw new ServerError(response.status, String(message), body);
}

const getJson = async (path) => (await request(path)).json();
const post = (path, body) => request(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

export const api = {
  options: () => getJson('tessera/options'),
  nodes: async (name) => (await getJson(`object_info/${encodeURIComponent(name)}`))[name] || null,
  files: (folder) => getJson(`models/${folder}`),
  submit: async (job) => (await post('prompt', job)).json(),
  queue: () => getJson('queue'),
  history: (count) => getJson(`history?max_items=${count}`),
  historyOf: async (id) => (await getJson(`history/${encodeURIComponent(id)}`))[id] || null,
  cancelPending: (ids) => post('queue', { delete: ids }),
  interrupt: (id) => post('interrupt', { prompt_id: id }),
  forget: (id) => post('history', { delete: [id] }),
  /** Stores a picture in the input folder; its name there. */
  upload: async (file) => {
    const body = new FormData();
    body.append('image', file, file.name || 'picture.png');
    const { name, subfolder } = await (await request('upload/image', { method: 'POST', body })).json();
    return subfolder ? `${subfolder}/${name}` : name;
  },
  exists: (url) => fetch(url, { method: 'HEAD' }).then((response) => response.ok, () => false),
  bytes: async (url) => new Uint8Array(await (await request(url)).arrayBuffer()),
  text: async (url) => (await request(url)).text(),
};

export function viewUrl(image, preview) {
  const query = new URLSearchParams({ filename: image.filename, subfolder: image.subfolder || '', type: image.type || 'output' });
  if (preview) query.set('preview', preview);
  return `view?${query}`;
}

/** A picture of the input folder, by the name that a scene or a workflow gives it. */
export function inputUrl(name) {
  const plain = name.replace(/ \[\w+\]$/, '');
  const at = plain.lastIndexOf('/');
  return viewUrl({ filename: plain.slice(at + 1), subfolder: at < 0 ? '' : plain.slice(0, at), type: 'input' });
}

/** The choices of an input in /object_info's old form ([[...], {}]) or new one (["COMBO", {options}]). */
export function choicesOf(node, input) {
  const row = node && ((node.input.required || {})[input] || (node.input.optional || {})[input]);
  if (!row) return [];
  return Array.isArray(row[0]) ? row[0] : (row[1] && row[1].options) || [];
}

/** A WebSocket that comes back by itself. Events: 'up', 'down', 'message' {type, data}, 'preview' {blob, about}. */
export class Socket extends EventTarget {
  constructor(clientId) {
    super();
    this.clientId = clientId;
    this.wait = 500;
  }

  open() {
    const url = new URL(`ws?clientId=${encodeURIComponent(this.clientId)}`, document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      this.wait = 500;
      socket.send(JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } }));
      this.dispatchEvent(new CustomEvent('up'));
    };
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = () => {
      this.dispatchEvent(new CustomEvent('down'));
      setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(10000, this.wait * 2);
    };
  }

  receive(data) {
    if (typeof data === 'string') {
      let message;
      try { message = JSON.parse(data); } catch { return; }
      this.dispatchEvent(new CustomEvent('message', { detail: message }));
      return;
    }
    const preview = readPreview(data);
    if (preview) this.dispatchEvent(new CustomEvent('preview', { detail: preview }));
  }
}

/** ComfyUI's binary frames 1 (format, picture) and 4 (length, JSON, picture); null for anything else. */
export function readPreview(buffer) {
  if (buffer.byteLength < 8) return null;
  const view = new DataView(buffer);
  const kind = view.getUint32(0);
  const second = view.getUint32(4);
  if (kind === 1) return { blob: new Blob([buffer.slice(8)], { type: second === 2 ? 'image/png' : 'image/jpeg' }), about: {} };
  if (kind !== 4 || second > buffer.byteLength - 8) return null;
  try {
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, second)));
    return { blob: new Blob([buffer.slice(8 + second)], { type: about.image_type || 'image/jpeg' }), about };
  } catch {
    return null;
  }
}
