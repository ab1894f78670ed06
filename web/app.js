// app.js - starts the page: builds its parts, tells them of each other, and carries out what people ask for.
import { api, inputUrl } from './api.js';
import { Cards } from './cards.js';
import { byId, download, drawIcons, later } from './dom.js';
import { messagesOf, showFaults } from './faults.js';
import { Jobs, imagesOf } from './jobs.js';
import { clientId, loadScene, recall, remember, saveScene } from './keep.js';
import { listen } from './keys.js';
import { announce, confirmed, notice } from './notices.js';
import { loadOptions } from './options.js';
import { Overlay } from './overlay.js';
import { pixelsOf } from './pictures.js';
import { recallEntry, recallFile } from './recall.js';
import { Scene } from './scene.js';
import { SettingsPanel } from './settings.js';
import { Sheet } from './sheet.js';
import { Stage } from './stage.js';
import { Strip } from './strip.js';
import { startTheme } from './theme.js';
import { startTools } from './tools.js';
import { jobOf, maskOfFile } from './workflow.js';

const SAVED_AFTER = 350;

const scene = new Scene();
const jobs = new Jobs(clientId());
const sheet = new Sheet();
const view = { opacity: 0.5, regions: true, feather: true, ...recall('view', {}) };
const overlay = new Overlay(scene, view);
const tools = startTools(view, () => { overlay.refresh(); remember('view', view); });
const stage = new Stage(scene, overlay, tools, announce);
tools.changed = () => stage.showRing();

let options = null;
let cards = null;
let settings = null;

/** Lays a finished picture under the regions, and lets them step back. */
function look(image) {
  overlay.setCalm(true);
  sheet.show(image);
}

// --- generate ------------------------------------------------------------------------------------------------------------

function complaints() {
  const out = [];
  const taking = scene.regions.filter((region) => !region.hidden && scene.isPainted(region));
  taking.forEach((region, i) => { if (!(region.settings.prompt || '').trim()) out.push(`region ${i + 1}: prompt: Say what to paint here.`); });
  if (!taking.length && !(scene.settings.prompt || '').trim()) out.push('prompt: Say what to paint.');
  return { out, taking };
}

async function generate(front) {
  cards.clearFaults();
  settings.clearFaults();
  const { out, taking } = complaints();
  if (out.length) {
    showFaults(out, taking, cards, settings, notice);
    return;
  }
  byId('generate').disabled = true;
  try {
    const job = await jobOf(scene, settings.nextSeed());
    const answer = await jobs.submit(job, { regions: taking.map((region) => region.id) }, front);
    announce('Sent to the queue.');
    if (Object.keys(answer.node_errors || {}).length) notice(messagesOf(answer).join('; '), 'error');
  } catch (error) {
    const messages = messagesOf(error.body);
    showFaults(messages.length ? messages : [error.message], taking, cards, settings, notice);
  } finally {
    byId('generate').disabled = false;
  }
}

function stop() {
  const row = jobs.running.find((each) => jobs.isMine(each)) || jobs.running[0] || jobs.pending[0];
  if (row) jobs.cancel(row[1]).catch((error) => notice(error.message, 'error'));
}

function showProgress() {
  const row = jobs.running.find((each) => jobs.isMine(each)) || jobs.running[0];
  byId('go-progress').hidden = !row;
  byId('stop').hidden = !jobs.running.length && !jobs.pending.length;
  const state = row && jobs.progress.get(row[1]);
  const bar = byId('progress');
  if (!state || !state.max) {
    bar.removeAttribute('value');
    byId('progress-words').textContent = row ? 'Starting' : '';
  } else {
    bar.value = 100 * state.value / state.max;
    const left = state.left === null ? '' : ` · ${timeWords(state.left)} left`;
    byId('progress-words').textContent = `Step ${state.value} of ${state.max}${left}`;
    const quarter = Math.floor(4 * state.value / state.max);
    if (quarter !== state.spoken && quarter) announce(`${quarter * 25} percent`);
    state.spoken = quarter;
  }
  byId('status-words').textContent = row ? (state && state.max ? `Painting, step ${state.value} of ${state.max}` : 'Painting') : 'Ready';
  document.title = row && state && state.max ? `${Math.round(100 * state.value / state.max)} % · Tessera` : 'Tessera';
}

function timeWords(seconds) {
  if (seconds < 1) return 'under a second';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

function failed(data) {
  const about = jobs.about[data.prompt_id];
  const taking = about ? about.regions.map((id) => scene.region(id)) : [];
  showFaults([data.exception_message || 'The job failed.'], taking, cards, settings, notice);
}

function listenToJobs() {
  for (const type of ['queue', 'progress']) jobs.addEventListener(type, showProgress);
  jobs.addEventListener('preview', ({ detail }) => { 
    if (!jobs.running.some((row) => row[1] === detail.id && jobs.isMine(row))) return;
    if (!stage.stroke) overlay.setCalm(true);
    sheet.showBlob(detail.blob);
  });
  jobs.addEventListener('done', ({ detail }) => {
    const image = imagesOf(detail)[0];
    if (image) look(image);
    announce('The picture is ready.');
  });
  jobs.addEventListener('failed', ({ detail }) => failed(detail));
  jobs.addEventListener('stopped', () => notice('Stopped.'));
  jobs.addEventListener('link', () => {
    byId('link').dataset.up = String(jobs.connected);
    byId('link-words').textContent = jobs.connected ? 'Connected' : 'No connection, trying again';
  });
}

// --- open and save -----------------------------------------------------------------------------------------------------------

function take(state, notes, label) {
  if (!state) return false;
  if (!options.models.includes(state.model)) {
    if (state.model) notes.push(`the model ${state.model} is not here`);
    state.model = scene.model;
  }
  scene.load(state, label);
  if (notes.length) notice(`Opened, but ${notes.join('; ')}.`);
  return true;
}

async function openFile(file) {
  const notes = [];
  try {
    const state = await recallFile(file, { fallback: scene, lists: options.lists, notes });
    if (take(state, notes, 'Open file')) {
      if (file.type.startsWith('image/')) sheet.showBlob(file);
      announce(`${file.name} opened.`);
    } else if (file.type.startsWith('image/')) looseFile(file);
    else notice(`${file.name} holds no scene and no workflow that can be read.`, 'error');
  } catch (error) {
    notice(`${file.name}: ${error.message}`, 'error');
  }
}

const START_DENOISE = 0.6; // of a picture to start from, where nothing else is said: at 1 nothing of it would be seen

async function startFrom(file) {
  try {
    scene.set('init_image', await api.upload(file));
  } catch (error) {
    notice(error.message, 'error');
  }
}

/** Lays the picture that painting starts from under the regions, and gives the sheet its size. */
async function showStart() {
  const name = scene.settings.init_image;
  if (!name) return;
  try {
    const blob = new Blob([await api.bytes(inputUrl(name))]);
    const { width, height } = await pixelsOf(blob);
    const side = (pixels) => Math.min(4096, Math.max(64, Math.floor(pixels / 8) * 8));
    if (name !== scene.settings.init_image) return;
    scene.resize(side(width), side(height));
    if (scene.settings.denoise === undefined) scene.set('denoise', START_DENOISE);
    sheet.showBlob(blob);
  } catch (error) {
    notice(error.message, 'error');
  }
}

/** A picture without metadata: a mask, one to start from, or something to paint over. */
function looseFile(file) {
  const dialog = byId('loose');
  byId('loose-mask').textContent = scene.active ? `The mask of ${scene.label(scene.active)}` : 'The mask of a new region';
  dialog.returnValue = '';
  dialog.showModal();
  dialog.addEventListener('close', async () => {
    if (dialog.returnValue === 'under') sheet.showBlob(file);
    if (dialog.returnValue === 'start') await startFrom(file);
    if (dialog.returnValue !== 'mask') return;
    try {
      const mask = await maskOfFile(file, scene.width, scene.height);
      const region = scene.active || scene.add();
      scene.setMask(region, mask, 'Import mask');
    } catch (error) {
      notice(error.message, 'error');
    }
  }, { once: true });
}

async function reopen(entry, image) {
  const notes = [];
  try {
    if (!take(await recallEntry(entry, scene, notes), notes, 'Open picture')) notice('This picture holds no scene that can be read.', 'error');
    else if (image) look(image);
  } catch (error) {
    notice(error.message, 'error');
  }
}

async function saveWorkflow() {
  const job = await jobOf(scene, scene.settings.seed || '0');
  download('tessera-workflow.json', new Blob([JSON.stringify(job.prompt, null, 2)], { type: 'application/json' }));
}

async function newScene() {
  if (scene.regions.length && !await confirmed('Start a new scene? The present one can be had back with Undo.', 'Start anew')) return;
  scene.load({ width: scene.width, height: scene.height, model: scene.model, settings: {}, regions: [], seedMode: scene.seedMode }, 'New scene');
  sheet.clear();
}

function listenToDrops() {
  let depth = 0;
  const files = (event) => event.dataTransfer && event.dataTransfer.types.includes('Files');
  const cover = (on) => document.body.classList.toggle('dropping', on);
  document.addEventListener('dragenter', (event) => { if (files(event)) cover(++depth > 0); });
  document.addEventListener('dragleave', (event) => { if (files(event) && --depth <= 0) { depth = 0; cover(false); } });
  document.addEventListener('dragover', (event) => { if (files(event)) event.preventDefault(); });
  document.addEventListener('drop', (event) => {
    depth = 0;
    cover(false);
    if (!files(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
  });
  document.addEventListener('paste', (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith('image/'));
    if (file) openFile(file);
  });
  byId('file').addEventListener('change', (event) => {
    if (event.target.files[0]) openFile(event.target.files[0]);
    event.target.value = '';
  });
}

// --- buttons and keys ----------------------------------------------------------------------------------------------------------

function undo() {
  const label = scene.undo.undo();
  if (label) announce(`Undone: ${label}`);
}

function redo() {
  const label = scene.undo.redo();
  if (label) announce(`Done again: ${label}`);
}

function addRegion() {
  const region = scene.add();
  if (region) cards.cards.get(region.id).prompt.focus();
}

function listenToPeople() {
  const click = (id, act) => byId(id).addEventListener('click', act);
  click('generate', (event) => generate(event.shiftKey));
  click('stop', stop);
  click('undo', undo);
  click('redo', redo);
  click('zoom-in', () => stage.zoomBy(1.25));
  click('zoom-out', () => stage.zoomBy(0.8));
  click('zoom-fit', () => stage.fit());
  click('clear-picture', () => sheet.clear());
  click('open-file', () => byId('file').click());
  click('save-workflow', saveWorkflow);
  click('new-scene', newScene);
  click('help', () => byId('keys').showModal());
  scene.addEventListener('undo', () => {
    byId('undo').disabled = !scene.undo.canUndo;
    byId('redo').disabled = !scene.undo.canRedo;
  });
  const pick = (n) => { const region = scene.regions[n]; if (region) { scene.activate(region.id); announce(`${scene.label(region)} chosen`); } };
  const tool = (name, key, words) => ({ keys: [key], shown: [key.toUpperCase()], words, act: () => tools.choose(name) });
  document.addEventListener('keydown', (event) => { // out of a text field, back to the sheet
    if (event.key === 'Escape' && event.target.closest('input, textarea') && !document.querySelector('dialog[open]')) byId('stage').focus();
  });
  listen([
    { keys: ['ctrl+Enter'], shown: ['Ctrl+Enter'], words: 'Generate', act: () => generate(false), typing: true },
    { keys: ['ctrl+shift+Enter'], shown: ['Ctrl+Shift+Enter'], words: 'Generate, first in line', act: () => generate(true), typing: true },
    tool('brush', 'b', 'Brush'), tool('eraser', 'e', 'Eraser'), tool('box', 'r', 'Box'), tool('fill', 'f', 'Fill an enclosed area'), tool('hand', 'm', 'Move the sheet'),
    { keys: ['['], shown: ['['], words: 'Smaller brush', act: () => tools.resize(0.85) },
    { keys: [']'], shown: [']'], words: 'Larger brush', act: () => tools.resize(1 / 0.85) },
    { keys: ['ctrl+z'], shown: ['Ctrl+Z'], words: 'Undo', act: (event) => (event.shiftKey ? redo() : undo()) },
    { keys: ['ctrl+y'], shown: ['Ctrl+Y'], words: 'Redo', act: redo },
    { keys: ['n'], shown: ['N'], words: 'New region', act: addRegion },
    ...[...'123456789'].map((digit, i) => ({ keys: [digit], shown: ['1', '…', '9'], words: i ? '' : 'Choose region 1 to 9', act: () => pick(i) })),
    { keys: ['v'], shown: ['V'], words: 'Show or hide the regions', act: () => byId('show-regions').click() },
    { keys: ['s'], shown: ['S', 'Esc'], words: 'Go to the sheet (Esc: out of a text field)', act: () => byId('stage').focus() },
    { keys: ['p'], shown: ['P'], words: 'Go to the prompt of the region, or of the picture', act: () => (scene.active ? cards.cards.get(scene.activeId).prompt : byId('base-prompt')).focus() },
    { keys: ['+', '='], shown: ['+', '−'], words: 'Zoom in and out', act: () => stage.zoomBy(1.25) },
    { keys: ['-'], shown: [], words: '', act: () => stage.zoomBy(0.8) },
    { keys: ['0'], shown: ['0'], words: 'Fit the sheet', act: () => stage.fit() },
    { keys: ['ctrl+o'], shown: ['Ctrl+O'], words: 'Open a picture or a workflow', act: () => byId('file').click(), typing: true },
    { keys: ['?'], shown: ['?'], words: 'This list', act: () => byId('keys').showModal() },
  ]);
}

// --- start -----------------------------------------------------------------------------------------------------------------------

function listenToScene() {
  const save = later(() => saveScene(scene.snapshot()).catch(() => {}), SAVED_AFTER);
  for (const type of ['settings', 'regions', 'active', 'region', 'mask', 'size', 'loaded']) scene.addEventListener(type, save);
  window.addEventListener('pagehide', () => save.now());
  document.addEventListener('visibilitychange', () => { if (document.hidden) save.now(); });
  const words = () => {
    byId('size-words').textContent = `${scene.width} × ${scene.height}`;
    sheet.size(scene.width, scene.height);
    byId('hint').hidden = scene.regions.length > 0 || sheet.shown;
  };
  for (const type of ['regions', 'size', 'loaded']) scene.addEventListener(type, words);
  sheet.changed = words;
  scene.addEventListener('settings', ({ detail }) => { if (detail === 'init_image') showStart(); });
}

async function start() {
  drawIcons(document);
  startTheme();
  options = await loadOptions();
  scene.model = options.models[0] || '';
  // The model that ships with Tessera paints small pictures; others are at home at 512.
  if (!/^tessera-demo/.test(scene.model)) [scene.width, scene.height] = [512, 512];
  cards = new Cards(scene, options);
  settings = new SettingsPanel(scene, options);
  new Strip(jobs, { reopen, show: look });
  listenToScene();
  listenToJobs();
  listenToDrops();
  listenToPeople();
  const kept = await loadScene();
  if (kept) scene.load({ ...kept, model: options.models.includes(kept.model) ? kept.model : scene.model });
  else scene.tell('loaded');
  sheet.restore();
  await jobs.start();
  document.documentElement.dataset.ready = 'true';
}

start().catch((error) => notice(`The page could not start: ${error.message}`, 'error'));
