// The outline of a mask as closed loops, walked along the edges between pixels. A loop is a flat array x0, y0, x1, y1, ...
// in picture pixels; holes are loops too, and the even-odd rule leaves them empty.

const TOP_EDGE_SEEN = 2; // marks, in the bitmap's own bytes, the upper edges that a loop has passed

/**
 * Trace a bitmap (index x * height + y). Each loop goes through the middles of the pixels' edges, so that slanted
 * borders look slanted, and yet every pixel's centre lies on its own side. The bitmap is used up.
 */
export function trace(bitmap, [height, width]) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && bitmap[x * height + y] !== 0;
  const loops = [];
  for (let x = 0, at = 0; x < width; x++) {
    for (let y = 0; y < height; y++, at++) {
      if (bitmap[at] === 1 && (y === 0 || bitmap[at - 1] === 0)) loops.push(follow(bitmap, inside, height, x, y));
    }
  }
  return loops;
}

// From the upper edge of a pixel clockwise, with the mask on the right. Pixels that touch at a corner only are apart.
function follow(bitmap, inside, height, startX, startY) {
  const loop = [];
  let [x, y, dx, dy] = [startX, startY, 1, 0]; // a corner of the grid, and where the walk goes from it
  do {
    if (dx === 1) bitmap[x * height + y] |= TOP_EDGE_SEEN;
    addPoint(loop, x + dx / 2, y + dy / 2);
    x += dx;
    y += dy;
    const right = inside(x + (dx - dy - 1) / 2, y + (dx + dy - 1) / 2);
    const left = inside(x + (dx + dy - 1) / 2, y + (dy - dx - 1) / 2);
    if (!right) [dx, dy] = [-dy, dx];
    else if (left) [dx, dy] = [dy, -dx];
  } while (x !== startX || y !== startY || dx !== 1 || dy !== 0);
  return loop;
}

// A point on the line through the two before it replaces the last one.
function addPoint(loop, x, y) {
  const n = loop.length;
  if (n >= 4) {
    const [ax, ay, bx, by] = [loop[n - 4], loop[n - 3], loop[n - 2], loop[n - 1]];
    if ((bx - ax) * (y - by) === (by - ay) * (x - bx)) {
      loop[n - 2] = x;
      loop[n - 1] = y;
      return;
    }
  }
  loop.push(x, y);
}

/** Drop points that lie within `tolerance` pixels of the line without them (Douglas and Peucker's way). */
export function simplify(loop, tolerance) {
  const count = loop.length / 2;
  if (count < 5) return loop;
  const keep = new Uint8Array(count);
  const far = farthest(loop, 0, 0, 1, count); // a closed line needs two fixed points: the first, and the one far from it
  keep[0] = keep[far.index] = 1;
  const open = [[0, far.index], [far.index, count]];
  while (open.length) {
    const [from, to] = open.pop();
    const { index, distance } = farthest(loop, from, to % count, from + 1, to);
    if (distance > tolerance) {
      keep[index] = 1;
      open.push([from, index], [index, to]);
    }
  }
  return Array.from(loop).filter((_, i) => keep[i >> 1]);
}

function farthest(loop, a, b, first, end) {
  const [ax, ay] = [loop[2 * a], loop[2 * a + 1]];
  const [dx, dy] = [loop[2 * b] - ax, loop[2 * b + 1] - ay];
  const length = Math.hypot(dx, dy);
  let found = { index: first, distance: -1 };
  for (let i = first; i < end; i++) {
    const [px, py] = [loop[2 * i] - ax, loop[2 * i + 1] - ay];
    const distance = length ? Math.abs(px * dy - py * dx) / length : Math.hypot(px, py);
    if (distance > found.distance) found = { index: i, distance };
  }
  return found;
}

/** Make loops into a path to draw, `scale` picture pixels to a unit. */
export function pathOf(loops, scale = [1, 1]) {
  const path = new Path2D();
  for (const loop of loops) {
    for (let i = 0; i < loop.length; i += 2) {
      const [x, y] = [loop[i] * scale[0], loop[i + 1] * scale[1]];
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
    }
    path.closePath();
  }
  return path;
}
