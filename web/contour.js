// contour.js - the outline of a mask as an SVG path: marching squares at half coverage, lines joined into rings.

const LEVEL = 127.5;
const MOST_LINES = 60000; // a noisy mask has no outline worth drawing

// For each of the 16 cells (corner bits: 1 top left, 2 top right, 4 bottom right, 8 bottom left) the sides that a line
// goes from and to, the inside on its right. Sides: 0 top, 1 right, 2 bottom, 3 left.
const LINES = [
  [], [[0, 3]], [[1, 0]], [[1, 3]], [[2, 1]], [[0, 3], [2, 1]], [[2, 0]], [[2, 3]],
  [[3, 2]], [[0, 2]], [[1, 0], [3, 2]], [[1, 2]], [[3, 1]], [[0, 1]], [[3, 0]], [],
];

/** The `d` of a path in pixels of the mask; '' when nothing is painted or the outline would be too long. */
export function outline(mask, width, height) {
  const stride = width + 2; // corners are pixel middles, with a border of nothing around the picture
  const next = new Int32Array(2 * stride * (height + 2)).fill(-1);
  const value = (i, j) => (i < 1 || j < 1 || i > width || j > height ? 0 : mask[(j - 1) * width + i - 1]);
  // Side numbers: each grid point owns the edge to its right (even) and the one below it (odd).
  const edge = (i, j, side) => 2 * ((j + (side === 2)) * stride + i + (side === 1)) + (side & 1);
  const starts = [];
  for (let j = 0; j <= height; j++) {
    for (let i = 0; i <= width; i++) {
      const kind = (value(i, j) > LEVEL) | (value(i + 1, j) > LEVEL) << 1 | (value(i + 1, j + 1) > LEVEL) << 2 |
        (value(i, j + 1) > LEVEL) << 3;
      for (const [from, to] of LINES[kind]) {
        const start = edge(i, j, from);
        next[start] = edge(i, j, to);
        starts.push(start);
      }
    }
    if (starts.length > MOST_LINES) return '';
  }
  const point = (id) => {
    const i = (id >> 1) % stride;
    const j = Math.floor((id >> 1) / stride);
    const a = value(i, j);
    const b = id & 1 ? value(i, j + 1) : value(i + 1, j);
    const share = (LEVEL - a) / (b - a);
    const x = Math.min(width, Math.max(0, i - 0.5 + (id & 1 ? 0 : share)));
    const y = Math.min(height, Math.max(0, j - 0.5 + (id & 1 ? share : 0)));
    return [+x.toFixed(2), +y.toFixed(2)];
  };
  const parts = [];
  for (const start of starts) {
    if (next[start] < 0) continue;
    const ring = [];
    for (let at = start; next[at] >= 0;) {
      const after = next[at];
      next[at] = -1;
      ring.push(point(at));
      at = after;
    }
    parts.push(`M${withoutMiddles(ring).map((p) => p.join(' ')).join('L')}Z`);
  }
  return parts.join('');
}

/** Leaves out points on a straight line between their neighbours. */
function withoutMiddles(ring) {
  return ring.filter((p, i) => {
    const a = ring[(i + ring.length - 1) % ring.length];
    const b = ring[(i + 1) % ring.length];
    return Math.abs((p[0] - a[0]) * (b[1] - p[1]) - (p[1] - a[1]) * (b[0] - p[0])) > 1e-6;
  });
}
