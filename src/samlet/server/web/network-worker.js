// Runs the networks with onnxruntime-web, off the page's own thread. Each function below answers one kind of call.

import { coveredCells, fitFrame, shrunk, toCanvas, toPictureBox } from "./geometry.js";
import { enlarge, maskFromBitmap } from "./masks.js";
import { trace } from "./outlines.js";
import { networkInput } from "./resize.js";

const LOGITS_PER_CELL = 4; // a side; SAM's low-res masks have four times the embedding's grid
const [PADDING, BOX_LOW, BOX_HIGH] = [-1, 2, 3];

let ort = null;
const networks = {};
let held = null; // the embedding of the one picture on the page

const calls = {
  /** Load the runtime and the networks {role: {graph, weights, location}}. */
  async open({ runtime, threads, files }) {
    ort = await import(runtime);
    ort.env.wasm.wasmPaths = runtime.slice(0, runtime.lastIndexOf("/") + 1);
    ort.env.wasm.numThreads = threads;
    for (const [role, { graph, weights, location }] of Object.entries(files)) {
      const externalData = location ? [{ path: location, data: new Uint8Array(weights) }] : [];
      networks[role] = await ort.InferenceSession.create(new Uint8Array(graph), {
        executionProviders: ["wasm"],
        externalData,
      });
    }
  },

  /** Keep an embedding that the server made. */
  hold({ data, shape, frame }) {
    held = { tensor: new ort.Tensor("float32", data, shape), shape, frame };
  },

  /** Encode a picture here: RGBA pixels, and the manifest's numbers. */
  async embed(picture) {
    const started = performance.now();
    const { tensor, frame } = await encode(picture);
    held = { tensor, shape: tensor.dims, frame };
    return { milliseconds: performance.now() - started };
  },

  /** The same for another worker, whose `hold` takes it. */
  async encode(picture) {
    const started = performance.now();
    const { tensor, frame } = await encode(picture);
    return { data: tensor.data, shape: tensor.dims, frame, milliseconds: performance.now() - started };
  },

  drop() {
    held = null;
  },

  /** A mask at the picture's own size, as run lengths. */
  async segment({ prompt, token }) {
    const started = performance.now();
    const { logits, score, grid } = await decode(prompt, token);
    const size = held.frame.image_hw;
    const mask = maskFromBitmap(enlarge(logits, grid, coveredCells(held.frame, grid), size), size);
    return { mask, score, milliseconds: performance.now() - started };
  },

  /** The outline of a mask, traced on a picture of at most `longest` pixels a side. */
  async preview({ prompt, longest }) {
    const started = performance.now();
    const { logits, score, grid } = await decode(prompt, 0);
    const size = shrunk(held.frame.image_hw, longest);
    const loops = trace(enlarge(logits, grid, coveredCells(held.frame, grid), size), size);
    return { loops, size, score, milliseconds: performance.now() - started };
  },

  /** A mask to follow, as a bitmap on a picture of at most `longest` pixels a side, and its logits; they may be a hint. */
  async track({ prompt, longest, hint }) {
    const { logits, score, grid } = await decode(prompt, 0, hint);
    const size = shrunk(held.frame.image_hw, longest);
    const covered = coveredCells(held.frame, grid);
    const bitmap = enlarge(logits, grid, covered, size);
    return { bitmap, size, score, covered, logits: { data: Float32Array.from(logits), grid } };
  },

  /** Boxes of objects from the object head, best first: [{box, score}] in picture pixels. */
  async objects() {
    const network = networks.objects;
    const { boxes, scores } = await network.run({ [network.inputNames[0]]: held.tensor });
    return Array.from(scores.data, (score, i) => ({
      box: toPictureBox(held.frame, Array.from(boxes.data.subarray(4 * i, 4 * i + 4))),
      score,
    })).sort((a, b) => b.score - a.score);
  },
};

async function encode({ rgba, hw, card }) {
  const frame = fitFrame(hw, card.side, card.pad);
  const input = networkInput(rgba, frame, card.mean, card.std);
  const { encoder } = networks;
  const image = new ort.Tensor("float32", input, [1, 3, ...frame.canvas_hw]);
  const answer = await encoder.run({ [encoder.inputNames[0]]: image });
  return { tensor: answer[encoder.outputNames[0]], frame };
}

async function decode({ points, box }, token, before = null) {
  if (!held) throw new Error("there is no picture any more");
  const coords = points.flatMap(({ x, y }) => toCanvas(held.frame, [x, y]));
  const labels = points.map(({ label }) => label);
  if (box) {
    coords.push(...toCanvas(held.frame, box.slice(0, 2)), ...toCanvas(held.frame, box.slice(2)));
    labels.push(BOX_LOW, BOX_HIGH);
  } else {
    coords.push(0, 0); // SAM wants a padding point where there is no box
    labels.push(PADDING);
  }
  const grid = [LOGITS_PER_CELL * held.shape[2], LOGITS_PER_CELL * held.shape[3]];
  const leans = before !== null && before.grid[0] === grid[0] && before.grid[1] === grid[1];
  const float = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);
  const all = {
    image_embeddings: held.tensor,
    point_coords: float(coords, [1, labels.length, 2]),
    point_labels: float(labels, [1, labels.length]),
    mask_input: new ort.Tensor("float32", leans ? before.data : new Float32Array(grid[0] * grid[1]), [1, 1, ...grid]),
    has_mask_input: float([leans ? 1 : 0], [1]),
  };
  const feeds = Object.fromEntries(networks.decoder.inputNames.map((name) => [name, all[name]]));
  const { low_res_masks: masks, iou_predictions: scores } = await networks.decoder.run(feeds);
  const cells = masks.dims[2] * masks.dims[3];
  return {
    logits: masks.data.subarray(token * cells, (token + 1) * cells),
    score: scores.data[token],
    grid: masks.dims.slice(2),
  };
}

// One call at a time, in order: the runtime is not to be entered twice.
let last = Promise.resolve();
self.onmessage = ({ data: { id, name, argument } }) => {
  last = last.then(async () => {
    try {
      const result = await calls[name](argument);
      const large = result?.data ?? result?.bitmap; // moves instead of being copied
      self.postMessage({ id, result }, large ? [large.buffer] : []);
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
