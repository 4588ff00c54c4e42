// Masks under the pointer before it clicks. One question at a time: while it is answered, only the latest place waits.

import { pathOf } from "./outlines.js";

const LONGEST = 768; // pixels; the outline of a preview need not be finer
const REST_MS = 150; // before a server is asked, the pointer has to rest

export class Previews {
  #engine;
  #show;
  #wanted = null; // {prompt, hw}
  #busy = false;
  #timer = null;
  #round = 0;

  /** `show({outline, milliseconds} | null)` draws. */
  constructor(engine, show) {
    this.#engine = engine;
    this.#show = show;
  }

  ask(prompt, hw) {
    this.#wanted = { prompt, hw };
    clearTimeout(this.#timer);
    if (this.#engine.previewsAreCheap) this.#next();
    else this.#timer = setTimeout(() => this.#next(), REST_MS);
  }

  /** Show nothing, and nothing that is still on its way. */
  clear() {
    clearTimeout(this.#timer);
    this.#wanted = null;
    this.#round++;
    this.#show(null);
  }

  async #next() {
    if (this.#busy || !this.#wanted) return;
    const { prompt, hw } = this.#wanted;
    const round = this.#round;
    this.#wanted = null;
    this.#busy = true;
    const started = performance.now();
    try {
      const { loops, size } = await this.#engine.preview(prompt, LONGEST);
      const outline = pathOf(loops, [hw[1] / size[1], hw[0] / size[0]]);
      if (round === this.#round) this.#show({ outline, milliseconds: performance.now() - started });
    } catch {
      // A preview that fails is no loss: the click will say what is wrong.
    } finally {
      this.#busy = false;
    }
    this.#next();
  }
}
