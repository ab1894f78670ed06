// masks.js - arithmetic on masks. A mask is a Uint8Array of width x height, 255 inside. Nothing here knows the page.

export const INSIDE = 128; // from here on a pixel counts as painted

const clamp = (value, low, high) => (value < low ? low : value > high ? high : value);

/** A rectangle in whole pixels, cut to the picture; null when nothing is left. */
export function clipRect(x0, y0, x1, y1, width, height) {
  const rect = {
    x: clamp(Math.floor(x0), 0, width), y: clamp(Math.floor(y0), 0, height), w: 0, h: 0,
  };
  rect.w = clamp(Math.ceil(x1), 0, width) - rect.x;
  rect.h = clamp(Math.ceil(y1), 0, height) - rect.y;
  return rect.w > 0 && rect.h > 0 ? rect : null;
}

export function joinRects(a, b) {
  if (!a || !b) return a || b;
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  return { x, y, w: Math.max(a.x + a.w, b.x + b.w) - x, h: Math.max(a.y + a.h, b.y + b.h) - y };
}

export function cutOut(mask, width, rect) {
  const out = new Uint8Array(rect.w * rect.h);
  for (let y = 0; y < rect.h; y++) {
    const from = (rect.y + y) * width + rect.x;
    out.set(mask.subarray(from, from + rect.w), y * rect.w);
  }
  return out;
}

export function putBack(mask, width, rect, piece) {
  for (let y = 0; y < rect.h; y++) mask.set(piece.subarray(y * rect.w, (y + 1) * rect.w), (rect.y + y) * width + rect.x);
}

/** How much of a pixel a brush covers whose edge is `radius` away from its middle line; hardness 1 is a sharp edge. */
function coverage(distance, radius, hardness) {
  const ramp = Math.max(1, radius * (1 - hardness));
  const value = clamp((radius + 0.5 - distance) / ramp, 0, 1);
  return ramp > 1 ? value * value * (3 - 2 * value) : value;
}

/** Draws a thick line from a to b, each {x, y, radius}. Returns the rectangle it touched, or null. */
export function drawLine(mask, width, height, a, b, hardness, erase) {
  const reach = Math.max(a.radius, b.radius) + 1;
  const rect = clipRect(Math.min(a.x, b.x) - reach, Math.min(a.y, b.y) - reach, Math.max(a.x, b.x) + reach,
    Math.max(a.y, b.y) + reach, width, height);
  if (!rect) return null;
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const square = dx * dx + dy * dy;
  for (let y = rect.y; y < rect.y + rect.h; y++) {
    for (let x = rect.x; x < rect.x + rect.w; x++) {
      const px = x + 0.5 - a.x;
      const py = y + 0.5 - a.y;
      const along = square > 0 ? clamp((px * dx + py * dy) / square, 0, 1) : 0;
      const value = coverage(Math.hypot(px - along * dx, py - along * dy), a.radius + along * (b.radius - a.radius), hardness);
      if (value <= 0) continue;
      const at = y * width + x;
      const level = Math.round(value * 255);
      if (erase) mask[at] = Math.min(mask[at], 255 - level);
      else mask[at] = Math.max(mask[at], level);
    }
  }
  return rect;
}

/** Fills or empties a box of whole pixels. */
export function drawBox(mask, width, height, x0, y0, x1, y1, erase) {
  const rect = clipRect(Math.round(Math.min(x0, x1)), Math.round(Math.min(y0, y1)), Math.round(Math.max(x0, x1)),
    Math.round(Math.max(y0, y1)), width, height);
  if (!rect) return null;
  for (let y = rect.y; y < rect.y + rect.h; y++) mask.fill(erase ? 0 : 255, y * width + rect.x, y * width + rect.x + rect.w);
  return rect;
}

/** What a bucket may flow over: pixels of one kind have one number. `masks` are all shown regions' masks, top last. */
export function areas(masks, size) {
  const kinds = new Uint16Array(size);
  masks.forEach((mask, index) => {
    for (let i = 0; i < size; i++) if (mask[i] >= INSIDE) kinds[i] = index + 1;
  });
  return kinds;
}

/** The connected pixels of the same kind as (x, y): a Uint8Array of 0 and 1. Works in rows, without recursion. */
export function flood(kinds, width, height, x, y) {
  const filled = new Uint8Array(width * height);
  const kind = kinds[y * width + x];
  const todo = [x, y];
  while (todo.length) {
    const row = todo.pop();
    let left = todo.pop();
    const base = row * width;
    if (filled[base + left] || kinds[base + left] !== kind) continue;
    let right = left;
    while (left > 0 && kinds[base + left - 1] === kind) left--;
    while (right < width - 1 && kinds[base + right + 1] === kind) right++;
    filled.fill(1, base + left, base + right + 1);
    for (const next of [row - 1, row + 1]) {
      if (next < 0 || next >= height) continue;
      for (let i = left; i <= right; i++) {
        const at = next * width + i;
        if (kinds[at] === kind && !filled[at] && (i === left || kinds[at - 1] !== kind)) todo.push(i, next);
      }
    }
  }
  return filled;
}

/** Sets the filled pixels, and closes the half-covered seam between them and the outline that held them. */
export function pour(mask, width, height, filled, erase) {
  let touched = null;
  const before = mask.slice();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const near = filled[at] || (before[at] > 0 && ((x > 0 && filled[at - 1]) || (x < width - 1 && filled[at + 1]) ||
        (y > 0 && filled[at - width]) || (y < height - 1 && filled[at + width])));
      if (!near) continue;
      if (erase && !filled[at]) continue;
      mask[at] = erase ? 0 : 255;
      touched = joinRects(touched, { x, y, w: 1, h: 1 });
    }
  }
  return touched;
}

export function invert(mask) {
  for (let i = 0; i < mask.length; i++) mask[i] = 255 - mask[i];
}

/** {x, y, w, h, count, cx, cy} of the painted pixels, or null. (cx, cy) is a painted pixel near their middle. */
export function measure(mask, width, height) {
  let count = 0;
  let sx = 0;
  let sy = 0;
  let box = null;
  for (let y = 0; y < height; y++) {
    let first = -1;
    let last = -1;
    for (let x = 0; x < width; x++) {
      if (mask[y * width + x] < INSIDE) continue;
      if (first < 0) first = x;
      last = x;
      count++;
      sx += x;
      sy += y;
    }
    if (first >= 0) box = joinRects(box, { x: first, y, w: last - first + 1, h: 1 });
  }
  if (!count) return null;
  return { ...box, count, ...nearestInside(mask, width, box, sx / count, sy / count) };
}

function nearestInside(mask, width, box, x, y) {
  let best = Infinity;
  let found = { cx: box.x, cy: box.y };
  const step = Math.max(1, Math.round(Math.max(box.w, box.h) / 64));
  if (mask[Math.round(y) * width + Math.round(x)] >= INSIDE) return { cx: x, cy: y };
  for (let j = box.y; j < box.y + box.h; j += step) {
    for (let i = box.x; i < box.x + box.w; i += step) {
      const distance = (i - x) ** 2 + (j - y) ** 2;
      if (distance < best && mask[j * width + i] >= INSIDE) {
        best = distance;
        found = { cx: i, cy: j };
      }
    }
  }
  return found;
}

export function isEmpty(mask) {
  for (let i = 0; i < mask.length; i++) if (mask[i]) return false;
  return true;
}

/** To another size: means over the area when it shrinks, linear in between when it grows. */
export function resize(mask, width, height, newWidth, newHeight) {
  const rows = resizeRows(mask, width, height, newWidth);
  const turned = turn(rows, newWidth, height);
  const columns = resizeRows(turned, height, newWidth, newHeight);
  const out = turn(columns, newHeight, newWidth);
  return Uint8Array.from(out, (value) => Math.round(value));
}

function resizeRows(values, width, height, newWidth) {
  const out = new Float32Array(newWidth * height);
  const scale = width / newWidth;
  for (let i = 0; i < newWidth; i++) {
    const middle = (i + 0.5) * scale - 0.5;
    const reach = Math.max(1, scale);
    const from = Math.ceil(middle - reach);
    const to = Math.floor(middle + reach);
    let sum = 0;
    const taps = [];
    for (let k = from; k <= to; k++) {
      const weight = Math.max(0, 1 - Math.abs(k - middle) / reach);
      if (weight > 0) taps.push([clamp(k, 0, width - 1), weight]);
      sum += Math.max(0, weight);
    }
    for (let y = 0; y < height; y++) {
      let value = 0;
      for (const [k, weight] of taps) value += values[y * width + k] * weight;
      out[y * newWidth + i] = value / sum;
    }
  }
  return out;
}

function turn(values, width, height) {
  const out = new Float32Array(values.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) out[x * height + y] = values[y * width + x];
  return out;
}

/** The soft edge as tsr_mask_feather makes it: a Gaussian of sigma radius / 2, the border's weight going on outside.
 * Three box blurs come within a hundredth of it, which is enough to look at. */
export function feather(mask, width, height, radius) {
  if (!(radius > 0)) return mask;
  const side = Math.sqrt(radius * radius + 1); // three boxes: sigma^2 = 3 (side^2 - 1) / 12
  const half = Math.max(0, (side - 1) / 2);
  let values = Float32Array.from(mask);
  for (let pass = 0; pass < 3; pass++) values = blurRows(values, width, height, half);
  values = turn(values, width, height);
  for (let pass = 0; pass < 3; pass++) values = blurRows(values, height, width, half);
  values = turn(values, height, width);
  return Uint8Array.from(values, (value) => Math.round(value));
}

/** A running mean over 2 half + 1 pixels; the fraction of `half` goes to the two outermost ones. */
function blurRows(values, width, height, half) {
  const out = new Float32Array(values.length);
  const whole = Math.floor(half);
  const part = half - whole;
  const weight = 1 / (2 * half + 1);
  for (let y = 0; y < height; y++) {
    const base = y * width;
    const at = (x) => values[base + clamp(x, 0, width - 1)];
    let sum = 0;
    for (let x = -whole; x <= whole; x++) sum += at(x);
    for (let x = 0; x < width; x++) {
      out[base + x] = (sum + part * (at(x - whole - 1) + at(x + whole + 1))) * weight;
      sum += at(x + whole + 1) - at(x - whole);
    }
  }
  return out;
}

/** A mask from RGBA pixels: transparency where there is some, else brightness. */
export function fromPixels(rgba) {
  const mask = new Uint8Array(rgba.length / 4);
  let transparent = false;
  for (let i = 3; i < rgba.length && !transparent; i += 4) transparent = rgba[i] < 255;
  for (let i = 0; i < mask.length; i++) {
    mask[i] = transparent ? rgba[4 * i + 3] : Math.round((rgba[4 * i] + rgba[4 * i + 1] + rgba[4 * i + 2]) / 3);
  }
  return mask;
}
