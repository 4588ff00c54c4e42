// From a visitor's prompts to masks: asks the engine, one request after the other, and keeps the objects up to date.

import { brushed } from "./brush.js";
import { bitmapOf, measure } from "./masks.js";
import { Answer } from "./objects.js";
import { pathOf, trace } from "./outlines.js";

const TOKENS = 4; // the network's plain answer, and its three candidates

export class Cutting {
  #engine;
  #objects;
  #size = null;
  #queue = Promise.resolve();
  #report;

  /** `report(answer | error)` hears of every answer. */
  constructor(engine, objects, report) {
    this.#engine = engine;
    this.#objects = objects;
    this.#report = report;
  }

  /** Begin with a picture of `size` [height, width]; clicks wait until it is `opened`. */
  begin(size, opened) {
    this.#size = size;
    this.#queue = Promise.resolve(opened).catch(() => {}); // whoever opens it tells what went wrong
  }

  addPoint(x, y, label) {
    const { points } = this.#promptable() ?? { points: [] };
    this.#prompt({ points: [...points, { x, y, label }] });
  }

  /** A box makes an object of its own, unless the active one is empty or `replace` is wanted. */
  setBox(box, replace = false) {
    const active = this.#promptable();
    if (active && (replace || !active.answer)) this.#prompt({ box });
    else this.#create({ box });
  }

  /** Take back the last point or the box of the active object, as a step. */
  dropLast() {
    const active = this.#promptable();
    if (!active || (!active.points.length && !active.box)) return;
    const points = active.points.slice(0, -1);
    const box = active.points.length ? active.box : null;
    if (points.length || box) this.#prompt({ points, box });
    else this.#objects.remove(active.id);
  }

  stroke(stroke) {
    const active = this.#objects.active ?? this.#objects.make();
    const previous = active.answer;
    const answer = new Answer(previous?.shown ?? null);
    const strokes = [...active.strokes, stroke];
    if (this.#objects.active) this.#objects.change(active.id, { strokes, answer });
    else this.#objects.add({ ...active, strokes, answer });
    // In the queue, because the answer to an earlier click may still be on its way.
    this.#later(answer, async () => {
      const before = previous?.shown;
      this.#fill(answer, before?.decoded ?? null, strokes, before?.score ?? null);
    });
  }

  /** Let the active object try the network's next candidate; gives its number, 0 for the plain answer. */
  nextCandidate() {
    const active = this.#promptable();
    if (!active || (!active.points.length && !active.box)) return null;
    const token = (active.token + 1) % TOKENS;
    this.#prompt({ token });
    return token;
  }

  /** Add what was found in another way, such as by everything mode: [{mask, score, name?, colour?}]. */
  take(found) {
    const made = found.map(({ mask, score, ...fields }) => {
      const answer = new Answer();
      this.#fill(answer, mask, [], score);
      return this.#objects.make({ ...fields, answer });
    });
    if (made.length) this.#objects.add(...made);
  }

  /** Make one object of others, such as by joining them; those are hidden. */
  makeOf(mask, ids) {
    const answer = new Answer();
    this.#fill(answer, mask, [], null);
    this.#objects.addMadeOf(this.#objects.make({ answer }), ids);
  }

  /** What the prompt would be with one more point or another box, for a preview. */
  promptWith({ point = null, box = null }) {
    const active = this.#promptable();
    if (box) return { points: active?.answer ? [] : active?.points ?? [], box };
    return { points: [...(active?.points ?? []), point], box: active?.box ?? null };
  }

  // What was found or painted, not prompted, is finished: a click beside it starts something new.
  #promptable() {
    const active = this.#objects.active;
    return active && (active.points.length || active.box || !active.answer) ? active : null;
  }

  #create(fields) {
    const answer = new Answer();
    const made = this.#objects.make({ ...fields, answer });
    this.#objects.add(made);
    this.#ask(made, answer);
  }

  #prompt(fields) {
    const active = this.#promptable();
    if (!active) {
      this.#create(fields);
      return;
    }
    const answer = new Answer(active.answer?.shown ?? null);
    this.#objects.change(active.id, { ...fields, answer });
    this.#ask(this.#objects.active, answer);
  }

  #ask({ points, box, token, strokes }, answer) {
    this.#later(answer, async () => {
      const got = await this.#engine.segment({ points, box }, token);
      this.#fill(answer, got.mask, strokes, got.score);
      this.#report({ ...got, area: answer.area });
    });
  }

  #later(answer, work) {
    const size = this.#size;
    this.#queue = this.#queue.then(async () => {
      if (size !== this.#size) return; // another picture has come meanwhile
      try {
        await work();
        this.#objects.refresh();
      } catch (error) {
        if (size !== this.#size) return;
        this.#objects.retract(answer);
        this.#report({ error });
      }
    });
  }

  #fill(answer, decoded, strokes, score) {
    answer.mask = brushed(decoded, strokes, this.#size);
    answer.decoded = decoded;
    answer.score = score;
    answer.outline = pathOf(trace(bitmapOf(answer.mask), answer.mask.size));
    Object.assign(answer, measure(answer.mask));
    answer.before = null;
  }

  /** Resolves when nothing is on its way any more. */
  settled() {
    return this.#queue;
  }
}
