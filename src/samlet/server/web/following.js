// An object followed from frame to frame, by the rules of samlet/sequence.py: the first frame's pixels are looked for, and
// the first mask's box and logits, moved there, prompt the frame. The answer has to be like the object in score, colours,
// size and shape. Else it is lost, and looked for.

import { carried, centreOf, moved, Placing, shrunkMask, sketchSize } from "./placing.js";

const [MARGIN, SEARCH, LEAST_SCORE, LEAST_COLOURS, MOST_GROWTH, LEAST_AGREEMENT, MEMORY] = [0, 0.5, 0.3, 0.5, 2, 0.5, 0.8];
const BINS = 8;

export class Following {
  #hw;
  #cellsHw;
  #placing;
  #first; // {cells, area, place}
  #last;
  #hint; // {logits: {data, grid}, covered} of the first answer
  #colours;
  #moved = null; // the first mask's cells, where they are in the frame at hand
  isLost = false;

  /** Begin with an answer {bitmap, size, logits, covered}, and the frame's RGBA bytes of the same size. */
  constructor({ bitmap, size, logits, covered }, rgba) {
    this.#hw = size;
    this.#cellsHw = sketchSize(size);
    const cells = shrunkMask(bitmap, size);
    this.#placing = new Placing(rgba, size, cells);
    this.#first = this.#last = { cells, area: extent(bitmap, size).area, place: this.#placing.place };
    this.#hint = { logits, covered };
    this.#colours = histogram(rgba, bitmap, size);
  }

  /** What to ask in the next frame, one after the other until an answer fits: [{box, hint, isFar}]. */
  prompts(rgba) {
    this.#placing.follow(rgba, this.#hw);
    this.#moved = this.#carried(this.#first, this.#placing.place);
    const { logits, covered } = this.#hint;
    const data = carried(logits, covered, this.#cellsHw, this.#first.place, this.#placing.place);
    const near = { box: this.#box(MARGIN), hint: { data, grid: logits.grid }, isFar: false };
    const far = { box: this.#box(SEARCH), hint: null, isFar: true };
    return this.isLost ? [far] : [near, far]; // nothing is known of where a lost thing is
  }

  /** Tell whether an answer {bitmap, size, score} is the object; then it is remembered. */
  accepts({ bitmap, size, score }, rgba, isFar) {
    const { area } = extent(bitmap, size);
    if (!area || score < LEAST_SCORE) return false;
    const colours = histogram(rgba, bitmap, size);
    if (likeness(colours, this.#colours) < LEAST_COLOURS) return false;
    const cells = shrunkMask(bitmap, size);
    if (!this.#fits(cells, area, isFar)) return false;
    this.#remember(cells, area);
    this.#colours = this.#colours.map((share, i) => MEMORY * share + (1 - MEMORY) * colours[i]);
    return true;
  }

  lose() {
    this.isLost = true;
  }

  #fits(cells, area, isFar) {
    const last = this.#last;
    if (isFar || !this.#moved.includes(1)) { // wherever it is, it has the shape it had
      const [from, to] = [centreOf(last.cells, this.#cellsHw[1]), centreOf(cells, this.#cellsHw[1])];
      const expected = this.#carried(last, moved(last.place, to[0] - from[0], to[1] - from[1]));
      // How much of it is inside the frame is not known: a part may have the size of a part.
      const whole = this.#first.area * this.#placing.place.scale ** 2;
      const grown = Math.max(ratio(area, last.area), area / whole);
      return grown <= MOST_GROWTH && overlap(cells, expected) >= LEAST_AGREEMENT;
    }
    // Of what is partly outside, the part inside is compared.
    const first = (this.#first.area * count(this.#moved)) / count(this.#first.cells);
    const grown = Math.max(ratio(area, last.area), ratio(area, first));
    return grown <= MOST_GROWTH && overlap(cells, this.#carried(last, this.#placing.place)) >= LEAST_AGREEMENT;
  }

  #remember(cells, area) {
    const { centre, shift } = this.#placing.place;
    const [x, y] = centreOf(cells, this.#cellsHw[1]);
    const here = this.#moved.includes(1)
      ? centreOf(this.#moved, this.#cellsHw[1])
      : [centre[0] + shift[0], centre[1] + shift[1]];
    this.#placing.lean([x - here[0], y - here[1]], this.isLost || overlap(this.#moved, cells) === 0);
    this.isLost = false;
    this.#last = { cells, area, place: this.#placing.place };
  }

  // The cells of a mask, where the object is now.
  #carried({ cells, place }, now) {
    const map = { data: Float64Array.from(cells), grid: this.#cellsHw };
    return Uint8Array.from(carried(map, this.#cellsHw, this.#cellsHw, place, now), (share) => share > 0.5);
  }

  #box(margin) {
    const [height, width] = this.#hw;
    // Of what has left the frame, the last place is as good as any.
    const cells = this.#moved.includes(1) ? this.#moved : this.#last.cells;
    const box = boxOfCells(cells, this.#cellsHw[1]);
    const [x0, y0, x1, y1] = box.map((value, i) => (value * this.#hw[1 - (i % 2)]) / this.#cellsHw[1 - (i % 2)]);
    const [dx, dy] = [margin * (x1 - x0), margin * (y1 - y0)];
    const low = [inside(x0 - dx, 0, width - 1), inside(y0 - dy, 0, height - 1)];
    return [...low, inside(x1 + dx, low[0] + 1, width), inside(y1 + dy, low[1] + 1, height)];
  }
}

/** Shares of 8 x 8 x 8 colours among the pixels of a bitmap (index x * height + y). */
export function histogram(rgba, bitmap, [height, width]) {
  const counts = new Float64Array(BINS ** 3);
  let total = 0;
  for (let x = 0, at = 0; x < width; x++) {
    for (let y = 0; y < height; y++, at++) {
      if (!bitmap[at]) continue;
      const from = 4 * (y * width + x);
      counts[((rgba[from] >> 5) * BINS + (rgba[from + 1] >> 5)) * BINS + (rgba[from + 2] >> 5)]++;
      total++;
    }
  }
  return counts.map((count) => count / Math.max(1, total));
}

/** Bhattacharyya's coefficient of two histograms: 0 for no colour in common to 1 for the same. */
export function likeness(a, b) {
  return a.reduce((sum, share, i) => sum + Math.sqrt(share * b[i]), 0);
}

/** Pixels inside a bitmap, and the box round them, ends exclusive. */
export function extent(bitmap, [height, width]) {
  let area = 0;
  let [x0, y0, x1, y1] = [width, height, 0, 0];
  for (let x = 0, at = 0; x < width; x++) {
    for (let y = 0; y < height; y++, at++) {
      if (!bitmap[at]) continue;
      area++;
      x0 = Math.min(x0, x);
      x1 = x + 1;
      y0 = Math.min(y0, y);
      y1 = Math.max(y1, y + 1);
    }
  }
  return { area, box: area ? [x0, y0, x1, y1] : [0, 0, 0, 0] };
}

function inside(value, least, most) {
  return Math.min(most, Math.max(least, value));
}

function boxOfCells(cells, width) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
  cells.forEach((isInside, at) => {
    if (!isInside) return;
    const [x, y] = [at % width, Math.floor(at / width)];
    [x0, y0, x1, y1] = [Math.min(x0, x), Math.min(y0, y), Math.max(x1, x + 1), Math.max(y1, y + 1)];
  });
  return [x0, y0, x1, y1];
}

function overlap(a, b) {
  const both = a.reduce((sum, value, i) => sum + (value & b[i]), 0);
  return both / Math.max(1, count(a) + count(b) - both);
}

function count(cells) {
  return cells.reduce((sum, value) => sum + value, 0);
}

function ratio(one, other) {
  return Math.max(one, other) / Math.max(1, Math.min(one, other));
}
