// Where the object of a first frame is in a later one, by the rules of samlet/placing.py: its own pixels are looked for on
// a sketch of at most 128 cells a side. A sketch or a mask of cells is read row by row; a place is {scale, shift, centre}.

const SIDE = 128; // cells of a sketch's longer side
const CELLS = 128; // compared at once; more say little more
const [REACH, STRIDE] = [16, 2]; // how far a frame is looked through around the last place, in cells
const LEANING = 0.1; // of the way to where an answer is
const [SCALES, LEAST, MOST] = [[1, 0.98, 1.02], 1 / 3, 3];
const [INSIDE, INSIDE_TO_SCALE] = [0.25, 0.75]; // least share inside the frame of what is compared
const [SHIFT_PRICE, SCALE_PRICE] = [0.02, 0.5]; // in levels of colour: nothing moves without a reason

export class Placing {
  #first;
  #last;
  #points;
  #colours;
  place;

  /** Begin with the first frame's RGBA bytes, its size [height, width], and the mask's cells in its sketch. */
  constructor(rgba, size, cells) {
    this.#first = this.#last = sketch(rgba, size);
    const [height, width] = this.#first.hw;
    const wide = positions(widened(cells, height, width), width);
    const every = Math.ceil(wide.length / CELLS);
    this.#points = wide.filter((_, i) => i % every === 0);
    this.#colours = read(this.#first, this.#points);
    this.place = { scale: 1, shift: [0, 0], centre: centreOf(cells, width) };
  }

  /** Find it in the next frame; it stays where it was if too little of it is inside. */
  follow(rgba, size) {
    const now = sketch(rgba, size);
    const near = read(this.#last, this.#points.map((point) => placed(this.place, point)));
    this.#best(now, near, steps(REACH, STRIDE), [1], nearest); // roughly, by the last frame
    this.#best(now, this.#colours, steps(2, 1), SCALES); // exactly, by the first one
    this.#best(now, this.#colours, steps(0.5, 0.25), [1]);
    this.#last = now;
    return this.place;
  }

  /** Let the next search begin a little nearer, or all the way, to where the object was found. */
  lean([x, y], wholly) {
    const share = wholly ? 1 : LEANING;
    this.place = moved(this.place, share * x, share * y);
  }

  #best(now, colours, shifts, scales, readPoint = readOne) {
    const old = this.place;
    let [best, least] = [old, Infinity];
    for (const factor of scales) {
      const from = { ...old, scale: Math.min(MOST, Math.max(LEAST, old.scale * factor)) };
      const points = this.#points.map((point) => placed(from, point));
      const fewest = (factor === 1 ? INSIDE : INSIDE_TO_SCALE) * points.length;
      for (const y of shifts) {
        for (const x of shifts) {
          const { apart, count } = difference(now, points, x, y, colours, readPoint);
          if (count < fewest) continue;
          const price = SHIFT_PRICE * (Math.abs(x) + Math.abs(y)) + (factor === 1 ? 0 : SCALE_PRICE);
          const cost = apart / Math.max(1, count) + price;
          if (cost < least) [best, least] = [moved(from, x, y), cost];
        }
      }
    }
    this.place = best;
  }
}

/** A place some cells further. */
export function moved(place, x, y) {
  return { ...place, shift: [place.shift[0] + x, place.shift[1] + y] };
}

/** Where a point [x, y] of the first frame's sketch is now. */
export function placed({ scale, shift, centre }, [x, y]) {
  return [scale * (x - centre[0]) + centre[0] + shift[0], scale * (y - centre[1]) + centre[1] + shift[1]];
}

/** The size of a sketch; a frame is never enlarged. */
export function sketchSize(size) {
  const scale = Math.min(1, SIDE / Math.max(...size));
  return size.map((side) => Math.max(1, Math.floor(side * scale + 0.5)));
}

/** Which cells of a sketch lie in a bitmap (index x * height + y) by half at least; else those with most of it. */
export function shrunkMask(bitmap, [height, width]) {
  const [rows, columns] = sketchSize([height, width]);
  const shares = new Float64Array(rows * columns);
  eachCell([height, width], (row, column, top, down, left, right) => {
    let sum = 0;
    for (let x = left; x < right; x++) for (let y = top; y < down; y++) sum += bitmap[x * height + y];
    shares[row * columns + column] = sum / ((down - top) * (right - left));
  });
  const least = Math.min(0.5, Math.max(shares.reduce((a, b) => Math.max(a, b), 0), 1e-9));
  return Uint8Array.from(shares, (share) => share >= least);
}

/** Move a map {data, grid} along with the object; what comes from beyond it has its lowest value. */
export function carried({ data, grid: [rows, columns] }, covered, hw, before, now) {
  const [across, along] = [covered[1] / hw[1], covered[0] / hw[0]];
  const lowest = data.reduce((a, b) => Math.min(a, b), Infinity);
  const result = new Float32Array(rows * columns);
  const image = { data, hw: [rows, columns], depth: 1 };
  const one = new Float64Array(1);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const from = placed(before, back(now, [(column + 0.5) / across, (row + 0.5) / along]));
      const [x, y] = [from[0] * across, from[1] * along];
      const isInside = x >= 0 && y >= 0 && x < columns && y < rows;
      if (isInside) readOne(image, x, y, one, 0);
      result[row * columns + column] = isInside ? one[0] : lowest;
    }
  }
  return result;
}

/** The middle [x, y] of the cells of a mask. */
export function centreOf(cells, width) {
  let [count, x, y] = [0, 0, 0];
  cells.forEach((inside, at) => {
    if (!inside) return;
    count++;
    x += at % width;
    y += Math.floor(at / width);
  });
  return [x / count + 0.5, y / count + 0.5];
}

function back({ scale, shift, centre }, [x, y]) {
  return [(x - centre[0] - shift[0]) / scale + centre[0], (y - centre[1] - shift[1]) / scale + centre[1]];
}

function sketch(rgba, size) {
  const hw = sketchSize(size);
  const data = new Float64Array(3 * hw[0] * hw[1]);
  eachCell(size, (row, column, top, down, left, right) => {
    const sum = [0, 0, 0];
    for (let y = top; y < down; y++) {
      for (let x = left, at = 4 * (y * size[1] + left); x < right; x++, at += 4) {
        for (let k = 0; k < 3; k++) sum[k] += rgba[at + k];
      }
    }
    const area = (down - top) * (right - left);
    for (let k = 0; k < 3; k++) data[3 * (row * hw[1] + column) + k] = sum[k] / area;
  });
  return { data, hw, depth: 3 };
}

function eachCell(size, visit) {
  const [rows, columns] = sketchSize(size);
  const edge = (i, length, count) => Math.floor((i * length) / count);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      visit(row, column, edge(row, size[0], rows), edge(row + 1, size[0], rows), edge(column, size[1], columns),
        edge(column + 1, size[1], columns));
    }
  }
}

function positions(cells, width) {
  const found = [];
  cells.forEach((inside, at) => { if (inside) found.push([(at % width) + 0.5, Math.floor(at / width) + 0.5]); });
  return found;
}

// What is plain inside is known by its edge: the neighbouring cells come along.
function widened(cells, height, width) {
  return cells.map((_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)];
    for (let j = Math.max(0, y - 1); j <= Math.min(height - 1, y + 1); j++) {
      for (let i = Math.max(0, x - 1); i <= Math.min(width - 1, x + 1); i++) if (cells[j * width + i]) return 1;
    }
    return 0;
  });
}

function steps(reach, stride) {
  const found = [];
  for (let value = -reach; value <= reach; value += stride) found.push(value);
  return found;
}

function read(image, points) {
  const values = new Float64Array(3 * points.length);
  points.forEach(([x, y], i) => readOne(image, x, y, values, 3 * i));
  return values;
}

// Between the middles of four cells; beyond the border as at the border.
function readOne({ data, hw: [height, width], depth }, px, py, into, at) {
  const x = Math.min(width - 1, Math.max(0, px - 0.5));
  const y = Math.min(height - 1, Math.max(0, py - 0.5));
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, down] = [Math.min(left + 1, width - 1), Math.min(top + 1, height - 1)];
  const [across, along] = [x - left, y - top];
  for (let k = 0; k < depth; k++) {
    const cell = (row, column) => data[depth * (row * width + column) + k];
    const above = cell(top, left) * (1 - across) + cell(top, right) * across;
    const below = cell(down, left) * (1 - across) + cell(down, right) * across;
    into[at + k] = above * (1 - along) + below * along;
  }
}

// The cell in which a point lies: quicker and rougher.
function nearest({ data, hw: [height, width], depth }, x, y, into, at) {
  const row = Math.min(height - 1, Math.max(0, Math.trunc(y)));
  const column = Math.min(width - 1, Math.max(0, Math.trunc(x)));
  for (let k = 0; k < depth; k++) into[at + k] = data[depth * (row * width + column) + k];
}

const seen = new Float64Array(3);

function difference(now, points, dx, dy, colours, readPoint) {
  const [height, width] = now.hw;
  let [apart, count] = [0, 0];
  for (let i = 0; i < points.length; i++) {
    const [x, y] = [points[i][0] + dx, points[i][1] + dy];
    if (x < 0 || y < 0 || x >= width || y >= height) continue;
    count++;
    readPoint(now, x, y, seen, 0);
    for (let k = 0; k < 3; k++) apart += Math.abs(seen[k] - colours[3 * i + k]) / 3;
  }
  return { apart, count };
}
