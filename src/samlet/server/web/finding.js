// Everything mode: all masks of a picture at once, to choose from with the pointer.

import { bitmapOf, covers, measure } from "./masks.js";
import { COLOURS } from "./objects.js";
import { pathOf, trace } from "./outlines.js";

export class Finding {
  found = []; // large ones first, as they are drawn
  hovered = null;

  get isOn() {
    return this.found.length > 0;
  }

  begin(masks) {
    this.hovered = null;
    this.found = masks
      .map(({ mask, score }) => ({ mask, score, taken: false, ...measure(mask) }))
      .filter(({ area }) => area > 0)
      .sort((a, b) => b.area - a.area)
      .map((thing, index) => ({
        ...thing,
        colour: COLOURS[index % COLOURS.length],
        outline: pathOf(trace(bitmapOf(thing.mask), thing.mask.size)),
      }));
  }

  end() {
    this.found = [];
    this.hovered = null;
  }

  /** The smallest thing at a place: what lies on another thing is met first. */
  at([x, y]) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    return this.found.findLast(({ box: [x0, y0, x1, y1], mask }) => (
      column >= x0 && column < x1 && row >= y0 && row < y1 && covers(mask, column, row)
    )) ?? null;
  }
}
