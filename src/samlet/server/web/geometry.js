// How picture pixels map to model pixels; the only module of the page in which coordinates change.
// A point is [x, y]; the centre of the top-left pixel is (0.5, 0.5). Sizes are [height, width].

/** Scale the longest side to `side`; the canvas is padded to a square (`pad` "square") or to multiples of `pad`. */
export function fitFrame(imageHw, side, pad) {
  const scale = side / Math.max(...imageHw);
  // Never less than a pixel, whatever the shape of the picture.
  const scaledHw = imageHw.map((length) => Math.max(1, Math.floor(length * scale + 0.5)));
  const canvasHw = pad === "square"
    ? [side, side]
    : scaledHw.map((length) => Math.ceil(length / Number(pad)) * Number(pad));
  return { image_hw: imageHw, scaled_hw: scaledHw, canvas_hw: canvasHw };
}

/** Map [x, y] from picture pixels to the network's canvas. */
export function toCanvas(frame, [x, y]) {
  return [(x * frame.scaled_hw[1]) / frame.image_hw[1], (y * frame.scaled_hw[0]) / frame.image_hw[0]];
}

/** Map a box [x0, y0, x1, y1] from the network's canvas to picture pixels, clipped to the picture. */
export function toPictureBox(frame, box) {
  return box.map((value, axis) => {
    const along = axis % 2 ? 0 : 1; // x is measured along the width, which stands second in sizes
    const length = frame.image_hw[along];
    return Math.min(length, Math.max(0, (value * length) / frame.scaled_hw[along]));
  });
}

/** The part of a grid of logits, in cells, that the picture covers; the rest is padding. */
export function coveredCells(frame, gridHw) {
  return gridHw.map((cells, axis) => (cells * frame.scaled_hw[axis]) / frame.canvas_hw[axis]);
}

/** The size of a picture shrunk so that its longer side is at most `longest`; never enlarged. */
export function shrunk([height, width], longest) {
  const scale = Math.min(1, longest / Math.max(height, width));
  return [Math.max(1, Math.round(height * scale)), Math.max(1, Math.round(width * scale))];
}

/** Put two corners into the order x0, y0, x1, y1, inside a picture. */
export function boxOf([ax, ay], [bx, by], [height, width]) {
  const inside = (value, most) => Math.min(most, Math.max(0, value));
  return [
    inside(Math.min(ax, bx), width), inside(Math.min(ay, by), height),
    inside(Math.max(ax, bx), width), inside(Math.max(ay, by), height),
  ];
}
