// harness.mjs - a server with folders of its own, a browser, and small files to drop on the page.
import { spawn } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import zlib from 'node:zlib';

const TESSERA = process.env.TESSERA || 'build/release/apps/tessera';
export const PATIENCE = 120000; // milliseconds; the machine may be busy with other tests

/** A running `tessera serve`: {url, folder, stop()}. */
export async function startServer(more = []) {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-web-'));
  for (const name of ['input', 'output', 'temp', 'data']) mkdirSync(join(folder, name));
  const at = (name) => join(folder, name);
  const child = spawn(TESSERA, ['serve', '--port', '0', '--input', at('input'), '--output', at('output'), '--temp', at('temp'),
    '--data', at('data'), '--preview-seconds', '0.05', ...more], { stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: '2', GOMP_SPINCOUNT: '0' } });
  let text = '';
  const url = await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the server did not start: ${text}`)), PATIENCE);
    const hear = (part) => {
      text += part;
      const found = /http:\/\/127\.0\.0\.1:\d+/.exec(text);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[0]);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', reject);
    child.on('exit', (code) => reject(new Error(`the server ended with ${code}: ${text}`)));
  });
  const stop = async () => {
    child.removeAllListeners('exit');
    const gone = new Promise((resolve) => { child.on('exit', resolve); });
    child.kill('SIGTERM');
    await gone;
    rmSync(folder, { recursive: true, force: true });
  };
  return { url, folder, stop };
}

export async function startBrowser() {
  const { chromium } = await import('playwright-core');
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium', timeout: PATIENCE,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** Until `check` gives something true; that is returned. */
export async function until(check, words) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never came: ${words}`);
    await new Promise((resolve) => { setTimeout(resolve, 60); });
  }
}

// --- PNG files ---------------------------------------------------------------------------------------------------------------

const CRC = Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

export function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  let c = 0xffffffff;
  for (const byte of body) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  const out = Buffer.alloc(8 + body.length);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE((c ^ 0xffffffff) >>> 0, 4 + body.length);
  return out;
}

/** A grey picture; value(x, y) is 0 to 255. texts: chunks to put in. */
export function greyPng(width, height, value, texts = []) {
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head[8] = 8;
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = value(x, y);
  return Buffer.concat([Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]), chunk('IHDR', head), ...texts,
    chunk('IDAT', zlib.deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

/** A text chunk in one of the three forms. */
export function textChunk(form, key, text) {
  const name = Buffer.from(`${key}\0`, 'latin1');
  if (form === 'zTXt') return chunk('zTXt', Buffer.concat([name, Buffer.from([0]), zlib.deflateSync(Buffer.from(text, 'latin1'))]));
  if (form === 'iTXt') return chunk('iTXt', Buffer.concat([name, Buffer.from([1, 0, 0, 0]), zlib.deflateSync(Buffer.from(text, 'utf8'))]));
  return chunk('tEXt', Buffer.concat([name, Buffer.from(text, 'latin1')]));
}

/** The grey levels of a mask as the page writes it (8-bit grey, no filter). */
export function greyLevels(base64) {
  const file = Buffer.from(base64, 'base64');
  const width = file.readUInt32BE(16);
  const height = file.readUInt32BE(20);
  const parts = [];
  for (let at = 8; at < file.length; at += 12 + file.readUInt32BE(at)) {
    if (file.toString('latin1', at + 4, at + 8) === 'IDAT') parts.push(file.subarray(at + 8, at + 8 + file.readUInt32BE(at)));
  }
  const rows = zlib.inflateSync(Buffer.concat(parts));
  const levels = Buffer.alloc(width * height);
  for (let y = 0; y < height; y++) {
    if (rows[y * (width + 1)] !== 0) throw new Error('a filtered row');
    rows.copy(levels, y * width, y * (width + 1) + 1, (y + 1) * (width + 1));
  }
  return { width, height, levels, at: (x, y) => levels[y * width + x], painted: levels.filter((level) => level >= 128).length };
}
