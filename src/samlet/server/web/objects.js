// The objects that a visitor has cut out, and the way back. States are never changed: an edit makes a new one, and
// undo goes back to an old one. A mask that is still on its way sits in an `Answer`, which old and new states share.

const MOST_STEPS = 200;
/** Ten colours that can be told apart, also by most people who see fewer; the first ones differ most. */
export const COLOURS = [
  "#2f7cf6", "#f2762e", "#19a974", "#c2418f", "#e0b100", "#00a7c4", "#8a5cf6", "#e5484d", "#7aa116", "#b0713c",
];

/** What the network said to one prompt, once it has said it. */
export class Answer {
  mask = null; // what prompt and brush together give
  decoded = null; // what the prompt alone gave
  score = null;
  outline = null; // Path2D, made when it is first drawn

  /** `before` is shown until the answer is there. */
  constructor(before = null) {
    this.before = before;
  }

  get isReady() {
    return this.mask !== null;
  }

  /** The answer itself, or what stood there before. */
  get shown() {
    return this.isReady ? this : this.before;
  }
}

export class Objects extends EventTarget {
  #past = [];
  #future = [];
  #now = { list: [], activeId: null };
  #nextId = 1;

  get list() {
    return this.#now.list;
  }

  get active() {
    return this.#now.list.find(({ id }) => id === this.#now.activeId) ?? null;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Make an object, not yet part of the state. */
  make(fields = {}) {
    const id = this.#nextId++;
    return {
      id, name: `Object ${id}`, colour: COLOURS[(id - 1) % COLOURS.length], visible: true,
      points: [], box: null, strokes: [], token: 0, answer: null, ...fields,
    };
  }

  /** Add objects as one step; the last one becomes the active one. */
  add(...made) {
    this.#commit({ list: [...this.list, ...made], activeId: made.at(-1).id });
  }

  /** Add an object that was made of others, and hide those, as one step. */
  addMadeOf(made, ids) {
    const list = this.list.map((object) => (ids.includes(object.id) ? { ...object, visible: false } : object));
    this.#commit({ list: [...list, made], activeId: made.id });
  }

  /** Change fields of an object as one step. */
  change(id, fields) {
    const list = this.list.map((object) => (object.id === id ? { ...object, ...fields } : object));
    this.#commit({ list, activeId: id });
  }

  remove(id) {
    const at = this.list.findIndex((object) => object.id === id);
    const list = this.list.filter((object) => object.id !== id);
    const neighbour = list[Math.min(at, list.length - 1)]?.id ?? null;
    this.#commit({ list, activeId: this.#now.activeId === id ? neighbour : this.#now.activeId });
  }

  /** Choose an object, or none; not a step of its own. */
  select(id) {
    this.#now = { ...this.#now, activeId: id };
    this.#tell();
  }

  undo() {
    if (!this.canUndo) return false;
    this.#future.push(this.#now);
    this.#now = this.#past.pop();
    this.#tell();
    return true;
  }

  redo() {
    if (!this.canRedo) return false;
    this.#past.push(this.#now);
    this.#now = this.#future.pop();
    this.#tell();
    return true;
  }

  /** Take back the last step if it was the one that waited for this answer; it cannot be redone either. */
  retract(answer) {
    const waits = (state) => state?.list.some((object) => object.answer === answer) ?? false;
    if (waits(this.#now) && !waits(this.#past.at(-1)) && this.undo()) this.#future.pop();
    this.#tell();
  }

  /** Another picture: nothing of the last one stays. */
  clear() {
    this.#past = [];
    this.#future = [];
    this.#now = { list: [], activeId: null };
    this.#nextId = 1;
    this.#tell();
  }

  /** Something shown has changed without a step, such as an answer that came. */
  refresh() {
    this.#tell();
  }

  #commit(next) {
    this.#past.push(this.#now);
    if (this.#past.length > MOST_STEPS) this.#past.shift();
    this.#future = [];
    this.#now = next;
    this.#tell();
  }

  #tell() {
    this.dispatchEvent(new Event("change"));
  }
}
