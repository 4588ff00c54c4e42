// Small edits on (picture, mask), computed here: another colour, and a picture without an object. A picture is RGBA bytes
// row by row, a mask a bitmap (index x * height + y), both of `size` [height, width]; the result is a new picture.

const LUMA = [0.299, 0.587, 0.114];
const SMOOTHED = 8; // times that a level of the filling is averaged with its neighbours
const RIM = 3; // pixels round a mask that hold some of the object's colours

/** Give what is inside another colour [r, g, b] at its own brightness, as samlet.edit.recolour does. */
export function recolour(rgba, bitmap, [height, width], colour) {
  const result = rgba.slice();
  const brightness = (r, g, b) => LUMA[0] * r + LUMA[1] * g + LUMA[2] * b;
  const away = colour.map((part) => part - brightness(...colour));
  const [least, most] = [Math.min(...away), Math.max(...away)];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      if (!bitmap[x * height + y]) continue;
      const grey = brightness(rgba[at], rgba[at + 1], rgba[at + 2]);
      // As much of the colour as fits between black and white at this brightness.
      const share = Math.min(1, most > 0 ? (255 - grey) / most : 1, least < 0 ? grey / -least : 1);
      for (let k = 0; k < 3; k++) result[at + k] = Math.round(grey + share * away[k]);
    }
  }
  return result;
}

/**
 * Take out what is inside and let the colours of its surroundings run into the hole. Nothing is made up: no line and no
 * texture is carried on, as OpenCV's inpainting in `samlet edit` tries to.
 */
export function erase(rgba, bitmap, size) {
  const [height, width] = size;
  const known = Float32Array.from(wider(bitmap, size, RIM), (isHole) => 1 - isHole);
  if (!known.includes(1)) throw new Error("The objects fill the whole picture; nothing would be left to fill from.");
  const colours = new Float32Array(3 * width * height);
  for (let i = 0; i < known.length; i++) {
    for (let k = 0; k < 3; k++) colours[3 * i + k] = known[i] * rgba[4 * i + k];
  }
  fill({ colours, known, height, width });
  const result = rgba.slice();
  for (let i = 0; i < known.length; i++) {
    if (known[i]) continue;
    for (let k = 0; k < 3; k++) result[4 * i + k] = Math.round(colours[3 * i + k]);
    result[4 * i + 3] = 255;
  }
  return result;
}

// Where nothing is known, take a picture of half the size, filled in the same way, and smooth its blocks.
function fill({ colours, known, height, width }) {
  const holes = [];
  known.forEach((share, i) => { if (!share) holes.push(i); });
  if (!holes.length) return;
  const half = halved({ colours, known, height, width });
  fill(half);
  for (const i of holes) {
    const at = 3 * ((Math.floor(i / width) >> 1) * half.width + ((i % width) >> 1));
    for (let k = 0; k < 3; k++) colours[3 * i + k] = half.colours[at + k];
  }
  const backwards = holes.slice().reverse();
  for (let turn = 0; turn < SMOOTHED; turn++) {
    for (const i of turn % 2 ? backwards : holes) average(colours, i, height, width);
  }
}

// A pixel becomes the mean of its neighbours.
function average(colours, i, height, width) {
  const x = i % width;
  const left = x > 0 ? i - 1 : i + 1; // at a border, what is inside counts twice
  const right = x < width - 1 ? i + 1 : i - 1;
  const above = i >= width ? i - width : i + width;
  const below = i < (height - 1) * width ? i + width : i - width;
  for (let k = 0; k < 3; k++) {
    let [sum, count] = [0, 0];
    if (width > 1) [sum, count] = [colours[3 * left + k] + colours[3 * right + k], 2];
    if (height > 1) [sum, count] = [sum + colours[3 * above + k] + colours[3 * below + k], count + 2];
    if (count) colours[3 * i + k] = sum / count;
  }
}

function halved({ colours, known, height, width }) {
  const half = { height: (height + 1) >> 1, width: (width + 1) >> 1 };
  half.colours = new Float32Array(3 * half.height * half.width);
  half.known = new Float32Array(half.height * half.width);
  const counts = new Float32Array(half.known.length);
  for (let i = 0; i < known.length; i++) {
    if (!known[i]) continue;
    const to = (Math.floor(i / width) >> 1) * half.width + ((i % width) >> 1);
    counts[to]++;
    half.known[to] = 1;
    for (let k = 0; k < 3; k++) half.colours[3 * to + k] += colours[3 * i + k];
  }
  for (let i = 0; i < counts.length; i++) {
    for (let k = 0; k < 3; k++) half.colours[3 * i + k] /= counts[i] || 1;
  }
  return half;
}

// The bitmap widened by some pixels, row by row.
function wider(bitmap, [height, width], pixels) {
  const wide = new Uint8Array(height * width);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (!bitmap[x * height + y]) continue;
      wide[y * width + x] = 1;
      const isInner = x > 0 && y > 0 && x < width - 1 && y < height - 1 && bitmap[(x - 1) * height + y]
        && bitmap[(x + 1) * height + y] && bitmap[x * height + y - 1] && bitmap[x * height + y + 1];
      if (!isInner) disc(wide, height, width, x, y, pixels);
    }
  }
  return wide;
}

function disc(wide, height, width, x, y, radius) {
  for (let j = Math.max(0, y - radius); j <= Math.min(height - 1, y + radius); j++) {
    for (let i = Math.max(0, x - radius); i <= Math.min(width - 1, x + radius); i++) {
      if ((i - x) ** 2 + (j - y) ** 2 <= radius ** 2) wide[j * width + i] = 1;
    }
  }
}
