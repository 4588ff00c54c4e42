// Masks as run lengths. A mask is {size: [height, width], runs: Uint32Array}, read column by column and beginning with
// background, which is COCO's order; a bitmap is a Uint8Array in the same order, index x * height + y.

/** Decode {size, counts}, whose counts are plain run lengths or COCO's compressed string. */
export function maskFromRle({ size, counts }) {
  return { size, runs: typeof counts === "string" ? unpack(counts) : Uint32Array.from(counts) };
}

/** Code a bitmap. */
export function maskFromBitmap(bitmap, size) {
  const runs = [];
  let inside = 0;
  let start = 0;
  for (let i = 0; i < bitmap.length; i++) {
    if (bitmap[i] !== inside) {
      runs.push(i - start);
      start = i;
      inside = bitmap[i];
    }
  }
  runs.push(bitmap.length - start);
  return { size, runs: Uint32Array.from(runs) };
}

/** Decode a mask into zeros and ones. */
export function bitmapOf({ size: [height, width], runs }) {
  const bitmap = new Uint8Array(height * width);
  let at = 0;
  runs.forEach((length, index) => {
    if (index % 2) bitmap.fill(1, at, at + length);
    at += length;
  });
  return bitmap;
}

/** Give the two numbers that people ask for first: pixels inside, and the box [x0, y0, x1, y1], ends exclusive. */
export function measure({ size: [height], runs }) {
  let [area, at] = [0, 0];
  let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
  runs.forEach((length, index) => {
    if (index % 2 && length) {
      const last = at + length - 1;
      area += length;
      x0 = Math.min(x0, Math.floor(at / height));
      x1 = Math.floor(last / height) + 1;
      const oneColumn = x1 - 1 === Math.floor(at / height);
      y0 = Math.min(y0, oneColumn ? at % height : 0);
      y1 = Math.max(y1, oneColumn ? (last % height) + 1 : height);
    }
    at += length;
  });
  return { area, box: area ? [x0, y0, x1, y1] : [0, 0, 0, 0] };
}

/** Tell whether a pixel lies in a mask. */
export function covers({ size: [height, width], runs }, x, y) {
  if (x < 0 || y < 0 || x >= width || y >= height) return false;
  let rest = x * height + y;
  for (let index = 0; index < runs.length; index++) {
    if (rest < runs[index]) return index % 2 === 1;
    rest -= runs[index];
  }
  return false;
}

/** Join masks of one size: what is in any of them. */
export function union(masks) {
  const joined = bitmapOf(masks[0]);
  for (const { runs } of masks.slice(1)) {
    let at = 0;
    runs.forEach((length, index) => {
      if (index % 2) joined.fill(1, at, at + length);
      at += length;
    });
  }
  return maskFromBitmap(joined, masks[0].size);
}

/** What is in all of some masks of one size. */
export function intersection(masks) {
  const common = bitmapOf(masks[0]);
  for (const mask of masks.slice(1)) bitmapOf(mask).forEach((inside, at) => { common[at] &= inside; });
  return maskFromBitmap(common, masks[0].size);
}

/** What is in the first mask and in none of the others. */
export function minus(first, others) {
  const left = bitmapOf(first);
  for (const mask of others) bitmapOf(mask).forEach((inside, at) => { left[at] &= 1 - inside; });
  return maskFromBitmap(left, first.size);
}

/**
 * Enlarge a grid of logits to a bitmap: two taps a side, pixel centres at one half, inside where above 0.
 * Only the first `covered` cells [h, w] (possibly fractional) belong to the picture.
 */
export function enlarge(logits, [rows, columns], covered, [height, width]) {
  const down = taps(height, covered[0], rows);
  const across = taps(width, covered[1], columns);
  const bitmap = new Uint8Array(height * width);
  const column = new Float32Array(rows);
  for (let x = 0; x < width; x++) {
    const left = across.lower[x];
    const right = Math.min(left + 1, columns - 1);
    const part = across.part[x];
    for (let row = 0; row < rows; row++) {
      const a = logits[row * columns + left];
      column[row] = a + (logits[row * columns + right] - a) * part;
    }
    const base = x * height;
    for (let y = 0; y < height; y++) {
      const top = down.lower[y];
      const a = column[top];
      if (a + (column[Math.min(top + 1, rows - 1)] - a) * down.part[y] > 0) bitmap[base + y] = 1;
    }
  }
  return bitmap;
}

function taps(size, region, cells) {
  const lower = new Uint32Array(size);
  const part = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    const where = Math.min(cells - 1, Math.max(0, ((i + 0.5) * region) / size - 0.5));
    lower[i] = Math.floor(where);
    part[i] = where - lower[i];
  }
  return { lower, part };
}

/** Compress run lengths into COCO's string, as pycocotools does: five bits a character, lowest first. */
export function pack(runs) {
  const text = [];
  for (let i = 0; i < runs.length; i++) {
    let rest = i > 2 ? runs[i] - runs[i - 2] : runs[i];
    for (let more = true; more;) {
      const low = rest & 31;
      rest >>= 5;
      more = low & 16 ? rest !== -1 : rest !== 0;
      text.push(String.fromCharCode(low + (more ? 32 : 0) + 48));
    }
  }
  return text.join("");
}

function unpack(text) {
  const runs = [];
  for (let at = 0; at < text.length;) {
    let [value, shift, code] = [0, 0, 0];
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return Uint32Array.from(runs);
}
