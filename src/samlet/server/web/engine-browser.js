// The page's engine in a static export: encoder and decoder run in this browser, and nothing leaves it.

import { measure } from "./masks.js";
import { loadRuntime, threadsToUse } from "./runtime.js";
import { WorkerClient } from "./worker-client.js";

const FOLDER = new URL("./", document.baseURI);
const MANIFEST_VERSION = 1;
const FRESH = { cache: "no-cache" }; // asked again, so that a new export is not mixed with an old one
const [MOST_OBJECTS, SAME_BOX, SAME_MASK, LOWEST_SCORE] = [60, 0.7, 0.8, 0.3];

export class BrowserEngine {
  #client = null;
  #manifest = null;
  #opened = null; // promise: files and runtime are loaded once
  #open = false;
  #onLocal;
  #onLoad;

  /** `onLoad(done, total)` reports bytes of the model while they arrive. */
  constructor(onLocal, onLoad) {
    this.#onLocal = onLocal;
    this.#onLoad = onLoad;
  }

  async models() {
    const manifest = await this.#readManifest();
    return {
      [manifest.model]: {
        display_name: manifest.model, licence: manifest.weights_licence, default: true,
        object_head: Boolean(manifest.objects), text: false,
      },
    };
  }

  get previewsAreCheap() {
    return this.#open;
  }

  async open(_file, bitmap) {
    this.#opened ??= this.#load();
    await this.#opened;
    const rgba = pixelsOf(bitmap);
    const hw = [bitmap.height, bitmap.width];
    const card = this.#manifest;
    const { milliseconds } = await this.#client.call("embed", { rgba, hw, card }, [rgba.buffer]);
    this.#open = true;
    this.#onLocal(true);
    return { width: bitmap.width, height: bitmap.height, milliseconds };
  }

  /** What a live camera needs: {card, runtime, files: {encoder, decoder}}. */
  async live() {
    const card = await this.#readManifest();
    const { runtime, files: { encoder, decoder } } = await this.#fetch(["encoder", "decoder"]);
    return { card, runtime, files: { encoder, decoder } };
  }

  async close() {
    if (!this.#open) return;
    this.#open = false;
    await this.#client.call("drop");
  }

  async segment(prompt, token) {
    return { ...(await this.#client.call("segment", { prompt, token })), where: "browser" };
  }

  preview(prompt, longest) {
    return this.#client.call("preview", { prompt, longest });
  }

  /** Boxes of the object head become prompts; of what overlaps almost wholly the better stays. */
  async everything(progress, signal) {
    const started = performance.now();
    const boxes = distinct(await this.#client.call("objects"), SAME_BOX).slice(0, MOST_OBJECTS);
    const found = [];
    for (const [index, { box }] of boxes.entries()) {
      signal.throwIfAborted();
      const { mask, score } = await this.segment({ points: [], box }, 0);
      const { area, box: extent } = measure(mask);
      if (area && score >= LOWEST_SCORE) found.push({ mask, score, box: extent });
      progress(index + 1, boxes.length);
    }
    const masks = distinct(found.sort((a, b) => b.score - a.score), SAME_MASK);
    return { masks, milliseconds: performance.now() - started };
  }

  async text() {
    throw new Error("Finding by words needs samlet serve with a model that reads; click or draw a box instead.");
  }

  async #readManifest() {
    if (this.#manifest) return this.#manifest;
    const response = await fetch(new URL("manifest.json", FOLDER), FRESH).catch(() => null);
    if (!response?.ok) throw new Error("There is no model beside this page; export it again.");
    const manifest = await response.json();
    if (manifest.format !== "samlet-web" || manifest.version !== MANIFEST_VERSION) {
      throw new Error("The model beside this page is of another version; export the page again.");
    }
    this.#manifest = manifest;
    return manifest;
  }

  async #load() {
    const { runtime, files } = await this.#fetch(["encoder", "decoder", "objects"]);
    this.#client = new WorkerClient();
    await this.#client.call("open", { runtime, threads: threadsToUse(), files });
  }

  async #fetch(wanted) {
    const manifest = await this.#readManifest();
    const runtime = await loadRuntime();
    if (!runtime) throw new Error("The folder runtime beside this page is missing; export the page again.");
    const roles = wanted.filter((role) => manifest[role]);
    const names = roles.flatMap((role) => [manifest[role].graph, manifest[role].weights]);
    const total = names.reduce((sum, name) => sum + manifest.files[name].size, 0);
    let done = 0;
    const bytes = async (name) => {
      const data = await download(new URL(name, FOLDER), (more) => this.#onLoad(done += more, total));
      if (data.byteLength !== manifest.files[name].size) throw new Error("The model came incomplete; load the page again.");
      return data;
    };
    const files = {};
    for (const role of roles) {
      const { graph, weights } = manifest[role];
      files[role] = { graph: await bytes(graph), weights: await bytes(weights), location: weights };
    }
    return { runtime, files };
  }
}

async function download(url, progress) {
  const response = await fetch(url, FRESH).catch(() => null);
  if (!response?.ok) throw new Error("A file of the model is missing; export the page again.");
  const parts = [];
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    progress(part.value.length);
  }
  return new Blob(parts).arrayBuffer();
}

function pixelsOf(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff"; // what is transparent stands on white, as samlet reads it
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height).data;
}

/** Of things that overlap by more than `most`, keep the first. */
function distinct(things, most) {
  const kept = [];
  for (const thing of things) {
    if (kept.length >= 4 * MOST_OBJECTS) break;
    if (kept.every(({ box }) => overlap(box, thing.box) <= most)) kept.push(thing);
  }
  return kept;
}

function overlap(a, b) {
  const wide = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const tall = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (wide <= 0 || tall <= 0) return 0;
  const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
  return (wide * tall) / (area(a) + area(b) - wide * tall);
}
