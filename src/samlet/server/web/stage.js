// What happens on the picture: hovering, clicking, boxes, brush strokes and the cross of the keyboard become prompts.

import { boxOf } from "./geometry.js";
import { complain, say } from "./notices.js";
import { paintBox, paintBrush, paintCross, paintFound, paintMasks, paintPreview, paintPrompt } from "./painting.js";
import { listenToPointers } from "./pointer.js";

const SMALLEST_BOX = 3; // picture pixels

export class Stage {
  tool = "select";
  sign = "add";
  #view;
  #objects;
  #cutting;
  #previews;
  #finding;
  #brushSize;
  #preview = null; // {outline}
  #rubber = null; // the box under way
  #stroke = null; // the brush stroke under way
  #brushAt = null;
  #cross = null; // where the keyboard is, in picture pixels
  #corner = null; // the first corner of a box set with the keyboard
  #pick;

  constructor(element, { view, objects, cutting, previews, finding, brushSize, pick }) {
    Object.assign(this, { element });
    this.#view = view;
    this.#objects = objects;
    this.#cutting = cutting;
    this.#previews = previews;
    this.#finding = finding;
    this.#brushSize = brushSize;
    this.#pick = pick;
    view.paintWith("masks", (context) => this.#paintMasks(context));
    view.paintWith("overlay", (context) => this.#paintOverlay(context));
    listenToPointers(element, view, {
      tool: () => (this.#finding.isOn && this.tool !== "move" ? "select" : this.tool),
      click: (point, how) => this.press(point, how.negative),
      dragStart: (point, event, negative) => this.#dragStart(point, negative),
      dragMove: (point) => this.#dragMove(point),
      dragEnd: (point, event) => this.#dragEnd(point, event.altKey),
      dragCancel: () => this.cancelDrag(),
      hover: (point, event) => this.#hover(point, event),
    });
    element.addEventListener("blur", () => { this.#cross = null; this.#corner = null; view.repaint("overlay"); });
  }

  /** Another picture: nothing half-done stays. */
  begin() {
    this.#cross = this.#corner = this.#brushAt = null;
    this.cancelDrag();
    this.#previews.clear();
  }

  showPreview(preview) {
    this.#preview = preview;
    this.#view.repaint("overlay");
  }

  /** A click, or Enter at the cross. */
  press(point, negative) {
    if (!this.#view.isInside(point)) return;
    this.#previews.clear();
    if (this.#finding.isOn) {
      this.#pick(this.#finding.at(point));
      return;
    }
    const takesAway = negative || this.sign === "remove";
    if (takesAway && !this.#objects.active?.answer) {
      complain(new Error("There is nothing to take away from yet; click on an object first."));
      return;
    }
    this.#cutting.addPoint(point[0], point[1], takesAway ? 0 : 1);
  }

  cancelDrag() {
    this.#rubber = this.#stroke = null;
    this.#view.repaint("overlay");
  }

  /** Stop what is half-done; tells whether there was anything. */
  cancel() {
    const something = this.#corner !== null || this.#rubber !== null || this.#stroke !== null;
    this.#corner = null;
    this.cancelDrag();
    this.#previews.clear();
    return something;
  }

  /** What the keyboard does on the picture. */
  get keys() {
    return {
      move: (dx, dy, step) => this.#moveCross(dx, dy, step),
      press: ({ negative }) => {
        if (!this.#cross) this.#moveCross(0, 0, 0);
        else if (this.tool === "brush" && !this.#finding.isOn) this.#dab(negative);
        else this.press(this.#cross, negative);
      },
      corner: () => this.#setCorner(),
    };
  }

  #moveCross(dx, dy, step) {
    if (!this.#view.bitmap) return;
    const [height, width] = this.#view.hw;
    const by = step === null ? 1 : step / this.#view.scale;
    const [x, y] = this.#cross ?? [width / 2, height / 2];
    this.#cross = [
      Math.min(width - 0.5, Math.max(0.5, x + dx * by)),
      Math.min(height - 0.5, Math.max(0.5, y + dy * by)),
    ];
    this.#view.reveal(this.#cross);
    this.#hover(this.#cross, { shiftKey: false });
    say(`Cross at ${this.#cross.map(Math.round).join(", ")} of ${width} by ${height}.`);
  }

  #setCorner() {
    if (!this.#cross) this.#moveCross(0, 0, 0);
    if (!this.#corner) {
      this.#corner = this.#cross;
      say("First corner of the box set; move the cross and press B again.");
    } else {
      const box = boxOf(this.#corner, this.#cross, this.#view.hw);
      this.#corner = null;
      this.#finishBox(box, false);
    }
    this.#view.repaint("overlay");
  }

  #dab(negative) {
    this.#dragStart(this.#cross, negative);
    this.#dragEnd(this.#cross, false);
  }

  #dragStart(point, negative) {
    this.#previews.clear();
    if (this.tool === "brush" && !this.#finding.isOn) {
      const add = !(negative || this.sign === "remove");
      this.#stroke = { add, radius: this.#brushSize() / this.#view.scale / 2, points: [point] };
      this.#brushAt = point;
    } else if (!this.#finding.isOn) {
      this.#rubber = { from: point, to: point };
    }
    this.#view.repaint("overlay");
  }

  #dragMove(point) {
    if (this.#stroke) {
      this.#stroke.points.push(point);
      this.#brushAt = point;
    } else if (this.#rubber) {
      this.#rubber.to = point;
      const box = boxOf(this.#rubber.from, point, this.#view.hw);
      if (isLargeEnough(box)) this.#previews.ask(this.#cutting.promptWith({ box }), this.#view.hw);
    }
    this.#view.repaint("overlay");
  }

  #dragEnd(point, replace) {
    const [stroke, rubber] = [this.#stroke, this.#rubber];
    this.#stroke = this.#rubber = null;
    this.#previews.clear();
    if (stroke?.add === false && !this.#objects.active?.answer) {
      complain(new Error("There is nothing to take away from yet; click on an object first."));
    } else if (stroke) this.#cutting.stroke(stroke);
    if (rubber) this.#finishBox(boxOf(rubber.from, point, this.#view.hw), replace);
    this.#view.repaint("overlay");
  }

  #finishBox(box, replace) {
    if (isLargeEnough(box)) this.#cutting.setBox(box, replace);
    else say("That box is too small; draw it right round the object.");
  }

  #hover(point, event) {
    this.#brushAt = point;
    const isInside = point !== null && this.#view.isInside(point);
    if (this.#finding.isOn) {
      const hovered = isInside ? this.#finding.at(point) : null;
      if (hovered !== this.#finding.hovered) {
        this.#finding.hovered = hovered;
        this.#view.repaint("masks");
      }
    } else if (this.tool === "select" && isInside && !this.#corner && event.pointerType !== "touch") {
      const label = event.shiftKey || this.sign === "remove" ? 0 : 1;
      // Taking away from nothing gives nothing to see.
      if (label || this.#objects.active?.answer) {
        this.#previews.ask(this.#cutting.promptWith({ point: { x: point[0], y: point[1], label } }), this.#view.hw);
      }
    } else {
      this.#previews.clear();
    }
    this.#view.repaint("overlay");
  }

  #paintMasks(context) {
    if (this.#finding.isOn) paintFound(context, this.#view, this.#finding.found, this.#finding.hovered);
    else paintMasks(context, this.#view, this.#objects);
  }

  #paintOverlay(context) {
    const active = this.#objects.active;
    const colour = active?.colour ?? "#2f7cf6";
    if (this.#preview) paintPreview(context, this.#view, { ...this.#preview, colour });
    if (active?.visible && !this.#finding.isOn) paintPrompt(context, this.#view, active);
    if (this.#rubber) paintBox(context, this.#view, boxOf(this.#rubber.from, this.#rubber.to, this.#view.hw), colour);
    if (this.#corner) paintBox(context, this.#view, boxOf(this.#corner, this.#cross, this.#view.hw), colour);
    if (this.tool === "brush" && this.#brushAt && !this.#finding.isOn) {
      const radius = this.#brushSize() / this.#view.scale / 2;
      const add = this.sign === "add";
      paintBrush(context, this.#view, { add, points: [], ...this.#stroke, at: this.#brushAt, radius });
    }
    if (this.#cross) paintCross(context, this.#view, this.#cross);
  }
}

function isLargeEnough([x0, y0, x1, y1]) {
  return x1 - x0 >= SMALLEST_BOX && y1 - y0 >= SMALLEST_BOX;
}
