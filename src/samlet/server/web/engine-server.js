// The page's engine under `samlet serve`: the server encodes, and decodes until the page can do that itself.

import * as api from "./api.js";
import { shrunk } from "./geometry.js";
import { bitmapOf, maskFromRle } from "./masks.js";
import { trace } from "./outlines.js";
import { loadRuntime, threadsToUse } from "./runtime.js";
import { WorkerClient } from "./worker-client.js";

export class ServerEngine {
  #picture = null; // {id, model, width, height}
  #local = null; // {client, model} with the decoder in this browser
  #localHolds = null; // id of the picture whose embedding the worker has
  #onLocal;

  /** `onLocal(ready)` tells whether masks are made in this browser from now on. */
  constructor(onLocal) {
    this.#onLocal = onLocal;
  }

  models() {
    return api.models();
  }

  get previewsAreCheap() {
    return this.#isLocal();
  }

  /** Encode a picture on the server; gives {width, height, milliseconds}. */
  async open(file, _bitmap, model) {
    await this.close();
    const picture = await api.embed(file, model);
    this.#picture = picture;
    // In the background: clicks go to the server until the decoder is here.
    this.#bringHome(picture).catch((error) => {
      console.info(`samlet: masks are made on the server (${error.message})`);
      this.#dropLocal();
    });
    return picture;
  }

  /** What a live camera needs: {card, runtime, files: {encoder, decoder}}; no frame goes to the server. */
  async live(model) {
    const runtime = await loadRuntime();
    if (!runtime) {
      throw new Error("Live masks need onnxruntime-web on the server; run python -m samlet.server.web_runtime there.");
    }
    const card = (await api.models())[model]?.canvas;
    const [encoder, decoder] = await Promise.all(["encoder", "decoder"].map((role) => api.networkFiles(model, role)));
    if (!card || !encoder || !decoder) throw new Error(`${model} cannot run in a browser; choose another model.`);
    return { card, runtime, files: { encoder, decoder } };
  }

  async close() {
    const picture = this.#picture;
    this.#picture = null;
    this.#localHolds = null;
    this.#onLocal(false);
    if (picture) await api.forget(picture.id);
  }

  /** One mask: {mask, score, milliseconds, where}. */
  async segment(prompt, token) {
    const started = performance.now();
    if (this.#isLocal()) {
      try {
        const answer = await this.#local.client.call("segment", { prompt, token });
        return { ...answer, milliseconds: performance.now() - started, where: "browser" };
      } catch (error) {
        console.warn(`samlet: the decoder in this browser failed (${error.message}); the server takes over`);
        this.#dropLocal();
      }
    }
    const { masks } = await api.segment(this.#picture.id, { ...wire(prompt), multimask: token > 0 });
    const chosen = masks[token > 0 ? token - 1 : 0];
    const milliseconds = performance.now() - started;
    return { mask: maskFromRle(chosen.rle), score: chosen.score, milliseconds, where: "server" };
  }

  /** The outline of the mask that a prompt would give: {loops, size, milliseconds}. */
  async preview(prompt, longest) {
    if (this.#isLocal()) {
      try {
        return await this.#local.client.call("preview", { prompt, longest });
      } catch {
        this.#dropLocal();
      }
    }
    const { mask, milliseconds } = await this.segment(prompt, 0);
    return { loops: trace(bitmapOf(mask), mask.size), size: mask.size, milliseconds };
  }

  /** All objects: {masks: [{mask, score}], milliseconds}. */
  async everything(progress, signal) {
    const started = performance.now();
    const { masks } = await api.everything(this.#picture.id, progress, signal);
    return { masks: masks.map(readMask), milliseconds: performance.now() - started };
  }

  /** What words name: {masks: [{mask, score, label}], milliseconds}. */
  async text(find) {
    const started = performance.now();
    const { masks } = await api.text(this.#picture.id, find);
    return { masks: masks.map(readMask), milliseconds: performance.now() - started };
  }

  #isLocal() {
    return this.#picture !== null && this.#localHolds === this.#picture.id;
  }

  async #bringHome(picture) {
    if (this.#local?.model !== picture.model) {
      this.#dropLocal();
      const runtime = await loadRuntime();
      if (!runtime) throw new Error("onnxruntime-web is not installed there");
      const files = await api.networkFiles(picture.model, "decoder");
      if (!files) throw new Error(`${picture.model} has no decoder for browsers`);
      const client = new WorkerClient();
      this.#local = { client, model: picture.model };
      await client.call("open", { runtime, threads: threadsToUse(), files: { decoder: files } });
    }
    const { client } = this.#local;
    const embedding = await api.embedding(picture.id);
    await client.call("hold", embedding, [embedding.data.buffer]);
    // The first runs are slow, since the runtime compiles: they should not be a visitor's.
    const centre = { points: [{ x: picture.width / 2, y: picture.height / 2, label: 1 }], box: null };
    for (let i = 0; i < 3; i++) await client.call("preview", { prompt: centre, longest: shrunk([64, 64], 64)[0] });
    if (this.#picture !== picture) return;
    this.#localHolds = picture.id;
    this.#onLocal(true);
  }

  #dropLocal() {
    this.#local?.client.close();
    this.#local = null;
    this.#localHolds = null;
    this.#onLocal(false);
  }
}

function wire({ points, box }) {
  const clicks = points.length
    ? { points: points.map(({ x, y }) => [x, y]), labels: points.map(({ label }) => label) }
    : {};
  return box ? { ...clicks, boxes: [box] } : clicks;
}

function readMask({ rle, score, label }) {
  return { mask: maskFromRle(rle), score, label };
}
