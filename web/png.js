// png.js - PNG files: masks written as 8-bit grey, and the texts that programs leave in pictures read back.
//
// What is read comes from anywhere: every length is checked, texts are limited in number and size, also what they unpack to.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const MOST_TEXTS = 64;
const MOST_BYTES = 64 << 20;

const CRC = new Uint32Array(256).map((_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

function crc32(bytes) {
  let c = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) c = CRC[(c ^ bytes[i]) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

async function packed(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpacked(bytes, limit) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
  const parts = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > limit) {
      reader.cancel();
      throw new Error('a text in this picture unpacks to more than 64 MiB');
    }
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

function chunk(type, data) {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/** A mask as a grey PNG file, the same bytes for the same mask. */
export async function encodeMask(mask, width, height) {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head[8] = 8; // bits; colour type, compression, filter and interlace are 0
  const rows = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) rows.set(mask.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  const parts = [new Uint8Array(SIGNATURE), chunk('IHDR', head), chunk('IDAT', await packed(rows)), chunk('IEND', new Uint8Array(0))];
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export function toBase64(bytes) {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const latin1 = (bytes) => {
  let text = '';
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return text;
};
const utf8 = (bytes) => new TextDecoder('utf-8', { fatal: false }).decode(bytes);

/** Key and text of one text chunk, or null when it is none or broken. */
async function textOf(type, data, room) {
  const end = data.indexOf(0);
  if (end < 1 || end > 79) return null;
  const key = latin1(data.subarray(0, end));
  if (type === 'tEXt') return [key, latin1(data.subarray(end + 1))];
  if (type === 'zTXt') return data[end + 1] === 0 ? [key, latin1(await unpacked(data.subarray(end + 2), room))] : null;
  const language = data.indexOf(0, end + 3);
  const title = language < 0 ? -1 : data.indexOf(0, language + 1);
  if (title < 0) return null;
  const body = data.subarray(title + 1);
  if (data[end + 1] === 0) return [key, utf8(body)];
  return data[end + 2] === 0 ? [key, utf8(await unpacked(body, room))] : null;
}

export function isPng(bytes) {
  return bytes.length > 8 && SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/** {key: text} of a PNG file. A damaged chunk ends the reading; what came before it counts. */
export async function readTexts(bytes) {
  const texts = {};
  if (!isPng(bytes)) return texts;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let room = MOST_BYTES;
  let count = 0;
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    if (length > bytes.length - at - 12) break;
    const type = latin1(bytes.subarray(at + 4, at + 8));
    if (type === 'IEND') break;
    if (type === 'tEXt' || type === 'zTXt' || type === 'iTXt') {
      const body = bytes.subarray(at + 8, at + 8 + length);
      if (crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) break;
      if (++count > MOST_TEXTS) break;
      const text = await textOf(type, body, room).catch((error) => { throw new Error(`text ${count}: ${error.message}`); });
      if (text) {
        room -= text[1].length;
        if (room < 0) break;
        texts[text[0]] = text[1];
      }
    }
    at += 12 + length;
  }
  return texts;
}
