// An object followed from frame to frame, by the rules of samlet/sequence.py: the last mask's box and logits prompt the
// next frame, and the answer has to be like the object in score, colours and size. Else it is lost, and looked for.

const [MARGIN, SEARCH, LEAST_SCORE, LEAST_COLOURS, MOST_GROWTH, MEMORY] = [0.1, 0.5, 0.3, 0.5, 2, 0.8];
const BINS = 8;

export class Following {
  #hw;
  #box;
  #area;
  #colours;
  #motion = [0, 0];
  isLost = false;

  /** Begin with a mask: {bitmap, size}, and the frame's RGBA bytes of the same size. */
  constructor({ bitmap, size }, rgba) {
    this.#hw = size;
    ({ area: this.#area, box: this.#box } = extent(bitmap, size));
    this.#colours = histogram(rgba, bitmap, size);
  }

  /** What to ask in the next frame, one after the other until an answer fits: [{box, lean}]. */
  prompts() {
    const near = { box: this.#nextBox(MARGIN), lean: true };
    const far = { box: this.#nextBox(SEARCH), lean: false };
    return this.isLost ? [far] : [near, far]; // the last logits say nothing about where a lost thing is now
  }

  /** Tell whether an answer {bitmap, size, score} is the object; then it is remembered. */
  accepts({ bitmap, size, score }, rgba) {
    const { area, box } = extent(bitmap, size);
    if (!area || score < LEAST_SCORE) return false;
    if (Math.max(area, this.#area) / Math.min(area, this.#area) > MOST_GROWTH) return false;
    const colours = histogram(rgba, bitmap, size);
    if (likeness(colours, this.#colours) < LEAST_COLOURS) return false;
    const moved = [0, 1].map((axis) => (box[axis] + box[axis + 2] - this.#box[axis] - this.#box[axis + 2]) / 2);
    this.#motion = this.isLost ? [0, 0] : moved;
    this.#colours = this.#colours.map((share, i) => MEMORY * share + (1 - MEMORY) * colours[i]);
    Object.assign(this, { isLost: false });
    this.#box = box;
    this.#area = area;
    return true;
  }

  lose() {
    this.isLost = true;
    this.#motion = [0, 0];
  }

  #nextBox(margin) {
    const [x0, y0, x1, y1] = this.#box.map((value, i) => value + this.#motion[i % 2]);
    const [dx, dy] = [margin * (x1 - x0), margin * (y1 - y0)];
    const [height, width] = this.#hw;
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
