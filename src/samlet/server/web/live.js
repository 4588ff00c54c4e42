// The live camera. One worker encodes frames at a small size, another answers prompts on the last frame: where the pointer
// is, or wherever the object goes that was clicked on. No frame leaves this browser.

import { Following, extent } from "./following.js";
import { boxOf, shrunk } from "./geometry.js";
import { pathOf, trace } from "./outlines.js";
import { paintBox, paintMasks, paintPreview } from "./painting.js";
import { listenToPointers } from "./pointer.js";
import { Previews } from "./previews.js";
import { WorkerClient } from "./worker-client.js";

const LIVE_SIDE = 256; // of a frame in the network; a third of the time of a whole picture
const SHOWN = 640; // pixels of a frame's longer side on the screen, and of its mask
const SMALLEST_BOX = 8; // pixels of the frame
const COLOUR = "#2f7cf6";
const REMEMBERED = 20; // frames over which the rate is measured

export class Live {
  #stage;
  #view;
  #report;
  #video = null;
  #workers = null; // {encoder, decoder, card}
  #turn = 0; // counts, so that a loop ends when another one begins
  #facing = "environment";
  #frame = null; // what is on the screen: {rgba, hw}
  #following = null;
  #wanted = null; // the prompt that begins to follow something
  #mask = null; // {outline} of what is followed
  #preview = null;
  #previews;
  #pointer = null; // where the mouse is, in pixels of the frame
  #rubber = null;
  #times = [];

  /** `report({state, rate, latency} | {error})` hears of each frame; `state` is "looking", "following" or "lost". */
  constructor(stage, view, report) {
    this.#stage = stage;
    this.#view = view;
    this.#report = report;
    this.#previews = new Previews(
      { previewsAreCheap: true, preview: (prompt) => this.#ask("preview", { prompt, longest: SHOWN }) },
      (preview) => this.#showPreview(preview),
    );
    view.paintWith("masks", (context) => this.#paintMasks(context));
    view.paintWith("overlay", (context) => this.#paintOverlay(context));
    listenToPointers(stage, view, {
      tool: () => "select",
      click: (point) => this.#begin({ points: [{ x: point[0], y: point[1], label: 1 }], box: null }),
      dragStart: (point) => { this.#rubber = { from: point, to: point }; },
      dragMove: (point) => this.#drag(point),
      dragEnd: (point) => this.#dropBox(point),
      dragCancel: () => { this.#rubber = null; },
      hover: (point, event) => this.#hover(point, event),
    });
    stage.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !this.#frame) return;
      const [height, width] = this.#frame.hw;
      this.#begin({ points: [{ x: width / 2, y: height / 2, label: 1 }], box: null });
      event.preventDefault();
    });
  }

  /** Another model was chosen: its networks are loaded at the next start. */
  forget() {
    for (const part of ["encoder", "decoder"]) this.#workers?.[part].close();
    this.#workers = null;
  }

  get isOn() {
    return this.#video !== null;
  }

  /** Open the camera, and the networks that `load()` gives; resolves when frames come. */
  async start(load) {
    const turn = ++this.#turn;
    this.letGo();
    const stream = await camera(this.#facing);
    if (turn !== this.#turn) return stopStream(stream);
    this.#video = document.createElement("video");
    Object.assign(this.#video, { muted: true, playsInline: true, srcObject: stream });
    await this.#video.play();
    this.#workers ??= await open(await load());
    if (turn === this.#turn) this.#run(turn).catch((error) => this.#report({ error }));
  }

  stop() {
    this.#turn++;
    this.letGo();
    if (this.#video) stopStream(this.#video.srcObject);
    this.#video = null;
    this.#frame = null;
    this.#view.show(null);
  }

  /** The other camera of a phone. */
  async flip(load) {
    this.#facing = this.#facing === "user" ? "environment" : "user";
    this.stop();
    await this.start(load);
  }

  /** What the camera sees now, at its full size, as a file. */
  async picture() {
    const { videoWidth: width, videoHeight: height } = this.#video;
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").drawImage(this.#video, 0, 0);
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  }

  /** Follow nothing any more. */
  letGo() {
    this.#following = this.#wanted = this.#mask = this.#rubber = null;
    this.#times = [];
    this.#previews.clear();
  }

  async #run(turn) {
    let answered = Promise.resolve();
    while (turn === this.#turn) {
      const frame = await this.#capture();
      if (!frame || turn !== this.#turn) continue;
      const { card } = this.#workers;
      const encoded = await this.#workers.encoder.call("encode", { rgba: frame.rgba.slice(), hw: frame.hw, card });
      await answered; // the next frame is encoded while this one is answered
      if (turn !== this.#turn) return;
      this.#stage.dataset.encode = encoded.milliseconds.toFixed(1);
      answered = this.#answer(frame, encoded, turn);
    }
  }

  // The newest frame of the video, small enough to show and to follow things in.
  async #capture() {
    const video = this.#video;
    await new Promise((done) => {
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(done);
      else requestAnimationFrame(done);
    });
    if (!video.videoWidth) return null;
    const hw = shrunk([video.videoHeight, video.videoWidth], SHOWN);
    const canvas = new OffscreenCanvas(hw[1], hw[0]);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0, hw[1], hw[0]);
    const { data: rgba } = context.getImageData(0, 0, hw[1], hw[0]);
    return { rgba, hw, bitmap: canvas.transferToImageBitmap(), at: performance.now() };
  }

  async #answer(frame, { data, shape, frame: place }, turn) {
    await this.#ask("hold", { data, shape, frame: place }, [data.buffer]);
    const mask = await this.#follow(frame);
    if (turn !== this.#turn) return;
    this.#frame = frame;
    this.#mask = mask;
    this.#view.advance(frame.bitmap);
    this.#note(performance.now() - frame.at);
    if (!this.#following && !this.#wanted && this.#pointer) this.#askPreview();
  }

  async #follow({ rgba, hw }) {
    if (this.#wanted) {
      const answer = await this.#ask("track", { prompt: this.#wanted, longest: Math.max(...hw), hint: null });
      this.#wanted = null;
      if (!extent(answer.bitmap, answer.size).area) return null;
      this.#following = new Following(answer, rgba);
      return outlined(answer);
    }
    if (!this.#following) return null;
    const followed = this.#following;
    for (const { box, hint, isFar } of followed.prompts(rgba)) {
      const answer = await this.#ask("track", { prompt: { points: [], box }, longest: Math.max(...hw), hint });
      if (!followed.accepts(answer, rgba, isFar)) continue;
      return followed === this.#following ? outlined(answer) : null;
    }
    followed.lose();
    return null;
  }

  #ask(name, argument, transfer) {
    return this.#workers.decoder.call(name, argument, transfer);
  }

  #begin(prompt) {
    this.#previews.clear();
    this.#following = this.#mask = null;
    this.#wanted = prompt;
    this.#view.repaint("masks");
  }

  #hover(point, event) {
    const isOver = point !== null && event.pointerType !== "touch" && this.#view.isInside(point);
    this.#pointer = isOver ? point : null;
    if (isOver && !this.#following && !this.#wanted) this.#askPreview();
    else this.#previews.clear();
  }

  #askPreview() {
    const [x, y] = this.#pointer;
    this.#previews.ask({ points: [{ x, y, label: 1 }], box: null }, this.#frame.hw);
  }

  #drag(point) {
    if (this.#rubber) this.#rubber.to = point;
    this.#view.repaint("overlay");
  }

  #dropBox(point) {
    const box = this.#rubber && boxOf(this.#rubber.from, point, this.#frame.hw);
    this.#rubber = null;
    if (box && box[2] - box[0] >= SMALLEST_BOX && box[3] - box[1] >= SMALLEST_BOX) this.#begin({ points: [], box });
    this.#view.repaint("overlay");
  }

  #showPreview(preview) {
    this.#preview = preview;
    this.#stage.dataset.preview = preview ? preview.milliseconds.toFixed(1) : "";
    this.#view.repaint("overlay");
  }

  #note(latency) {
    const now = performance.now();
    this.#times = [...this.#times.slice(1 - REMEMBERED), now];
    const span = now - this.#times[0];
    const rate = span ? (1000 * (this.#times.length - 1)) / span : 0;
    const state = this.#following ? (this.#following.isLost ? "lost" : "following") : "looking";
    const frames = Number(this.#stage.dataset.frames ?? 0) + 1;
    Object.assign(this.#stage.dataset, { frames, rate: rate.toFixed(2), latency: latency.toFixed(0), state });
    this.#report({ state, rate, latency });
  }

  #paintMasks(context) {
    if (!this.#mask) return;
    const object = { visible: true, colour: COLOUR, answer: { shown: { outline: this.#mask } } };
    paintMasks(context, this.#view, { list: [object], active: object });
  }

  #paintOverlay(context) {
    if (this.#preview) paintPreview(context, this.#view, { ...this.#preview, colour: COLOUR });
    if (this.#rubber) paintBox(context, this.#view, boxOf(this.#rubber.from, this.#rubber.to, this.#frame.hw), COLOUR);
  }
}

// Two workers with one network each: an answer does not wait until a frame is encoded.
async function open({ card, runtime, files: { encoder, decoder } }) {
  const side = card.pad === "square" ? card.side : Math.min(card.side, LIVE_SIDE);
  const spare = Math.max(1, Math.min(4, (navigator.hardwareConcurrency ?? 2) - 1));
  const workers = { encoder: new WorkerClient(), decoder: new WorkerClient(), card: { ...card, side } };
  await Promise.all([
    workers.encoder.call("open", { runtime, threads: self.crossOriginIsolated ? spare : 1, files: { encoder } }),
    workers.decoder.call("open", { runtime, threads: 1, files: { decoder } }),
  ]);
  return workers;
}

async function camera(facingMode) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("A browser gives the camera to secure pages only; open this one by https, as samlet serve --tls has it.");
  }
  const video = { facingMode, width: { ideal: 1280 }, height: { ideal: 720 } };
  return navigator.mediaDevices.getUserMedia({ video, audio: false }).catch((error) => {
    throw new Error({
      NotAllowedError: "The camera was not allowed; allow it for this page in the browser's settings.",
      NotFoundError: "There is no camera here; connect one, or open a file.",
      NotReadableError: "The camera is in use by another program; close that first.",
    }[error.name] ?? `The camera does not work here (${error.message}).`);
  });
}

function stopStream(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function outlined({ bitmap, size }) {
  return pathOf(trace(bitmap, size));
}
