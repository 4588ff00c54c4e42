// The picture on the screen: three canvases on top of each other, all in one transform (scale, then shift).

const [SMALLEST, LARGEST] = [0.05, 40];
const PIXELS_SHOW_FROM = 3; // from this scale on, pixels are shown as squares

export class View extends EventTarget {
  #stage;
  #layers;
  #bitmap = null;
  #scale = 1;
  #x = 0;
  #y = 0;
  #pending = false;
  #dirty = new Set();
  #painters = {};

  /** `layers` are canvases by name: picture, masks, overlay. */
  constructor(stage, layers) {
    super();
    this.#stage = stage;
    this.#layers = layers;
    new ResizeObserver(() => this.#resized()).observe(stage);
  }

  /** Say how a layer is painted: `paint(context, view)`, in picture pixels. */
  paintWith(layer, paint) {
    this.#painters[layer] = paint;
  }

  show(bitmap) {
    this.#bitmap?.close?.();
    this.#bitmap = bitmap;
    if (bitmap) this.fit();
  }

  /** The next frame of what moves: where it lies stays, unless its size is another. */
  advance(bitmap) {
    const isAlike = this.#bitmap?.width === bitmap.width && this.#bitmap?.height === bitmap.height;
    if (!isAlike) {
      this.show(bitmap);
      return;
    }
    this.#bitmap.close?.();
    this.#bitmap = bitmap;
    this.repaint("picture", "masks", "overlay");
  }

  get bitmap() {
    return this.#bitmap;
  }

  /** Screen pixels (of CSS) a picture pixel. */
  get scale() {
    return this.#scale;
  }

  get hw() {
    return [this.#bitmap.height, this.#bitmap.width];
  }

  /** See the whole picture, with a little air around it. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.#stage;
    if (!this.#bitmap || !width || !height) return;
    const air = Math.min(24, width / 20);
    this.#scale = Math.min((width - 2 * air) / this.#bitmap.width, (height - 2 * air) / this.#bitmap.height, 8);
    this.#x = (width - this.#bitmap.width * this.#scale) / 2;
    this.#y = (height - this.#bitmap.height * this.#scale) / 2;
    this.#moved();
  }

  /** Zoom by a factor and keep what is under a point of the stage where it is. */
  zoomAt([x, y], factor) {
    const scale = Math.min(LARGEST, Math.max(SMALLEST, this.#scale * factor));
    this.#x = x - ((x - this.#x) * scale) / this.#scale;
    this.#y = y - ((y - this.#y) * scale) / this.#scale;
    this.#scale = scale;
    this.#moved();
  }

  zoomMiddle(factor) {
    this.zoomAt([this.#stage.clientWidth / 2, this.#stage.clientHeight / 2], factor);
  }

  pan(dx, dy) {
    this.#x += dx;
    this.#y += dy;
    this.#moved();
  }

  /** From a pointer event to [x, y] on the stage. */
  onStage({ clientX, clientY }) {
    const { left, top } = this.#stage.getBoundingClientRect();
    return [clientX - left - this.#stage.clientLeft, clientY - top - this.#stage.clientTop];
  }

  /** From the stage to picture pixels. */
  toPicture([x, y]) {
    return [(x - this.#x) / this.#scale, (y - this.#y) / this.#scale];
  }

  isInside([x, y]) {
    return this.#bitmap !== null && x >= 0 && y >= 0 && x < this.#bitmap.width && y < this.#bitmap.height;
  }

  /** Pan just so far that a point of the picture is in sight. */
  reveal([x, y]) {
    const [sx, sy] = [x * this.#scale + this.#x, y * this.#scale + this.#y];
    const { clientWidth: width, clientHeight: height } = this.#stage;
    const into = (value, most) => Math.min(0, most - 16 - value) || Math.max(0, 16 - value);
    if (into(sx, width) || into(sy, height)) this.pan(into(sx, width), into(sy, height));
  }

  /** Paint layers again, at the next frame. */
  repaint(...layers) {
    for (const layer of layers) this.#dirty.add(layer);
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      for (const layer of this.#dirty) this.#paint(layer);
      this.#dirty.clear();
    });
  }

  #resized() {
    const dense = window.devicePixelRatio || 1;
    for (const canvas of Object.values(this.#layers)) {
      canvas.width = Math.round(this.#stage.clientWidth * dense);
      canvas.height = Math.round(this.#stage.clientHeight * dense);
    }
    this.fit();
  }

  #moved() {
    // Where the picture lies, for whoever has to find a pixel of it on the screen.
    Object.assign(this.#stage.dataset, { scale: this.#scale, left: this.#x, top: this.#y });
    this.repaint("picture", "masks", "overlay");
    this.dispatchEvent(new Event("move"));
  }

  #paint(layer) {
    const canvas = this.#layers[layer];
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.#bitmap) return;
    const dense = window.devicePixelRatio || 1;
    context.setTransform(this.#scale * dense, 0, 0, this.#scale * dense, this.#x * dense, this.#y * dense);
    if (layer === "picture") {
      context.imageSmoothingEnabled = this.#scale < PIXELS_SHOW_FROM;
      context.imageSmoothingQuality = "high";
      context.drawImage(this.#bitmap, 0, 0);
    } else {
      this.#painters[layer]?.(context, this);
    }
  }
}
