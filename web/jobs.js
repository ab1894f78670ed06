// jobs.js - what the server is doing: the queue, progress and previews of this page's jobs, the history.
//
// It asks /queue whenever the server says that the queue changed, and on every new connection; so a page that was
// reloaded knows the running job again. Events: 'queue', 'progress', 'preview', 'done', 'failed', 'stopped', 'history', 'link'.
import { api, Socket } from './api.js';
import { later } from './dom.js';
import { recall, remember } from './keep.js';
import { sceneNode } from './workflow.js';

const HISTORY_SHOWN = 200;
const KNOWN_JOBS = 50;

export class Jobs extends EventTarget {
  constructor(clientId) {
    super();
    this.clientId = clientId;
    this.running = []; // rows of /queue: [number, id, prompt, extra_data, outputs]
    this.pending = [];
    this.history = [];
    this.progress = new Map(); // job id: {value, max, left, preview}
    this.about = recall('jobs', {}); // job id: {regions: [ids]}, of jobs sent from here
    this.connected = false;
    this.socket = new Socket(clientId);
    this.refresh = later(() => this.askQueue(), 30);
    this.refreshHistory = later(() => this.askHistory(), 60);
    this.socket.addEventListener('up', () => this.link(true));
    this.socket.addEventListener('down', () => this.link(false));
    this.socket.addEventListener('message', (event) => this.hear(event.detail));
    this.socket.addEventListener('preview', (event) => this.seePreview(event.detail));
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  start() {
    this.socket.open();
    return Promise.all([this.askQueue(), this.askHistory()]);
  }

  link(up) {
    this.connected = up;
    this.tell('link');
    if (up) {
      this.refresh();
      this.refreshHistory();
    }
  }

  async askQueue() {
    try {
      const queue = await api.queue();
      this.running = queue.queue_running;
      this.pending = queue.queue_pending.sort((a, b) => a[0] - b[0]);
      const known = new Set([...this.running, ...this.pending].map((row) => row[1]));
      for (const [id, state] of this.progress) if (!known.has(id)) this.drop(id, state);
      this.tell('queue');
    } catch { /* the link's state says so already */ }
  }

  drop(id, state) {
    if (state.preview) URL.revokeObjectURL(state.preview);
    this.progress.delete(id);
  }

  async askHistory() {
    try {
      const entries = Object.entries(await api.history(HISTORY_SHOWN));
      this.history = entries.map(([id, entry]) => ({ id, ...entry })).sort((a, b) => endOf(b) - endOf(a) || b.prompt[0] - a.prompt[0]);
      this.tell('history');
    } catch { /* as above */ }
  }

  get busy() {
    return this.running.length > 0;
  }

  isMine(row) {
    return row[3] && row[3].client_id === this.clientId;
  }

  state(id) {
    if (!this.progress.has(id)) this.progress.set(id, { value: 0, max: 0, left: null, preview: null, times: [] });
    return this.progress.get(id);
  }

  async submit(job, about, front) {
    const answer = await api.submit({ ...job, client_id: this.clientId, ...(front ? { front: true } : {}) });
    this.about[answer.prompt_id] = about;
    const ids = Object.keys(this.about);
    for (const old of ids.slice(0, Math.max(0, ids.length - KNOWN_JOBS))) delete this.about[old];
    remember('jobs', this.about);
    await this.askQueue();
    return answer;
  }

  /** Stops a running job, takes a waiting one out of the queue. */
  async cancel(id) {
    if (this.running.some((row) => row[1] === id)) await api.interrupt(id);
    else await api.cancelPending([id]);
    this.refresh();
    this.refreshHistory();
  }

  hear({ type, data }) {
    if (!data) return;
    const id = data.prompt_id;
    if (type === 'status') this.refresh();
    else if (type === 'execution_start') {
      this.state(id);
      this.refresh();
    } else if (type === 'progress') this.step(id, data);
    else if (type === 'execution_error') this.tell('failed', data);
    else if (type === 'execution_interrupted') this.tell('stopped', data);
    else if (type === 'executing' && data.node === null) this.ended(id);
    if (type === 'execution_error' || type === 'execution_interrupted') {
      this.refresh();
      this.refreshHistory();
    }
  }

  step(id, { value, max }) {
    const state = this.state(id);
    const now = performance.now();
    state.times = value <= state.value ? [[now, value]] : [...state.times.slice(-8), [now, value]];
    const [first, last] = [state.times[0], state.times[state.times.length - 1]];
    state.left = last[1] > first[1] ? (last[0] - first[0]) / (last[1] - first[1]) * (max - value) / 1000 : null;
    state.value = value;
    state.max = max;
    this.tell('progress', id);
  }

  seePreview({ blob, about }) {
    const mine = this.running.find((row) => this.isMine(row));
    const id = about.prompt_id || (mine && mine[1]);
    if (!id) return;
    const state = this.state(id);
    if (state.preview) URL.revokeObjectURL(state.preview);
    state.preview = URL.createObjectURL(blob);
    this.tell('preview', { id, blob });
  }

  async ended(id) {
    this.refresh();
    try {
      const entry = await api.historyOf(id);
      if (entry && entry.status && entry.status.status_str === 'success') this.tell('done', { id, ...entry });
    } catch { /* the history is asked for below */ }
    this.refreshHistory();
  }
}

/** When a finished job ended, in milliseconds; 0 when its messages do not say. */
function endOf(entry) {
  const messages = (entry.status && entry.status.messages) || [];
  return messages.reduce((latest, [, data]) => Math.max(latest, (data && data.timestamp) || 0), 0);
}

export function imagesOf(entry) {
  return Object.values(entry.outputs || {}).flatMap((output) => output.images || []).filter((image) => image.type === 'output');
}

/** What a job paints, in a few words: from its scene, else the first text of its workflow. */
export function describe(prompt) {
  const node = sceneNode(prompt);
  if (node) {
    try {
      const scene = JSON.parse(node.inputs.scene);
      return { text: scene.prompt || (scene.regions || []).map((region) => region.prompt).join(', '), regions: (scene.regions || []).length,
        width: scene.width, height: scene.height, seed: String(node.inputs.seed), steps: scene.steps, sampler: scene.sampler, scene };
    } catch { /* as any other workflow */ }
  }
  const texts = Object.values(prompt || {}).map((other) => other && other.inputs && other.inputs.text).filter((text) => typeof text === 'string' && text);
  return { text: texts[0] || 'A workflow', regions: 0 };
}

export function errorOf(entry) {
  for (const [event, data] of (entry.status && entry.status.messages) || []) {
    if (event === 'execution_error') return data.exception_message || 'failed';
    if (event === 'execution_interrupted') return 'stopped';
  }
  return '';
}
