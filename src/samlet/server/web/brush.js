// Touching a mask up by hand. A stroke is {add, radius, points: [[x, y], ...]}, in picture pixels; strokes are kept and
// drawn again over every new answer, so that a further click does not undo them.

import { bitmapOf, maskFromBitmap } from "./masks.js";

/** Draw strokes over a mask (null: an empty one of that size). */
export function brushed(mask, strokes, size) {
  if (!strokes.length) return mask ?? { size, runs: Uint32Array.of(size[0] * size[1]) };
  const bitmap = mask ? bitmapOf(mask) : new Uint8Array(size[0] * size[1]);
  for (const stroke of strokes) draw(bitmap, size, stroke);
  return maskFromBitmap(bitmap, size);
}

function draw(bitmap, size, { add, radius, points }) {
  for (let i = 0; i < points.length; i++) {
    capsule(bitmap, size, points[Math.max(0, i - 1)], points[i], radius, add ? 1 : 0);
  }
}

// All pixels whose centre is at most `radius` from the line between two points.
function capsule(bitmap, [height, width], [ax, ay], [bx, by], radius, value) {
  const [dx, dy] = [bx - ax, by - ay];
  const squared = dx * dx + dy * dy;
  const firstX = Math.max(0, Math.floor(Math.min(ax, bx) - radius));
  const lastX = Math.min(width - 1, Math.ceil(Math.max(ax, bx) + radius));
  const firstY = Math.max(0, Math.floor(Math.min(ay, by) - radius));
  const lastY = Math.min(height - 1, Math.ceil(Math.max(ay, by) + radius));
  for (let x = firstX; x <= lastX; x++) {
    for (let y = firstY; y <= lastY; y++) {
      const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
      const along = squared ? Math.min(1, Math.max(0, (px * dx + py * dy) / squared)) : 0;
      if (Math.hypot(px - along * dx, py - along * dy) <= radius) bitmap[x * height + y] = value;
    }
  }
}
