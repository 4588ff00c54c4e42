// What is drawn over the picture: masks, prompts, previews. All in picture pixels; line widths are made to stay the same
// on the screen.

const [POINT_RADIUS, OUTLINE, HALO] = [7, 2, 4]; // screen pixels
const WHITE = "#ffffff";
const INK = "#14161a";

/** The masks of all objects, the active one on top. */
export function paintMasks(context, { scale }, { list, active }) {
  for (const object of list) if (object !== active) paintObject(context, scale, object, false);
  if (active) paintObject(context, scale, active, true);
}

function paintObject(context, scale, { visible, colour, answer }, isActive) {
  const outline = visible && answer?.shown?.outline;
  if (!outline) return;
  context.globalAlpha = isActive ? 0.5 : 0.38;
  context.fillStyle = colour;
  context.fill(outline, "evenodd");
  context.globalAlpha = 1;
  context.lineJoin = "round";
  if (isActive) stroke(context, outline, WHITE, HALO / scale);
  stroke(context, outline, colour, OUTLINE / scale);
}

/** Everything that was found, to choose from; the thing under the pointer stands out, and what was kept looks kept. */
export function paintFound(context, { scale }, found, hovered) {
  const faint = hovered ? 0.45 : 1;
  // Large things first, so that small ones on them can be seen.
  for (const thing of found) {
    context.globalAlpha = (thing.taken ? 0.5 : 0.16) * faint;
    context.fillStyle = thing.colour;
    context.fill(thing.outline, "evenodd");
    context.globalAlpha = 0.9 * faint;
    stroke(context, thing.outline, thing.colour, (thing.taken ? OUTLINE : 1.25) / scale);
  }
  context.globalAlpha = 1;
  if (!hovered) return;
  context.globalAlpha = 0.55;
  context.fillStyle = hovered.colour;
  context.fill(hovered.outline, "evenodd");
  context.globalAlpha = 1;
  stroke(context, hovered.outline, WHITE, HALO / scale);
  stroke(context, hovered.outline, hovered.colour, OUTLINE / scale);
}

/** The mask that a click here would give. */
export function paintPreview(context, { scale }, { outline, colour }) {
  context.globalAlpha = 0.28;
  context.fillStyle = colour;
  context.fill(outline, "evenodd");
  context.globalAlpha = 1;
  stroke(context, outline, WHITE, 2.5 / scale);
  context.setLineDash([6 / scale, 4 / scale]);
  stroke(context, outline, colour, 2 / scale);
  context.setLineDash([]);
}

/** The points and the box of an object. */
export function paintPrompt(context, { scale }, { points, box, colour }) {
  if (box) paintBox(context, { scale }, box, colour);
  for (const { x, y, label } of points) {
    const radius = POINT_RADIUS / scale;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = label ? "#12854f" : "#c92a2a";
    context.fill();
    context.strokeStyle = WHITE;
    context.lineWidth = 2 / scale;
    context.stroke();
    // Plus and minus say the same as green and red, to everybody.
    context.beginPath();
    context.moveTo(x - radius / 2, y);
    context.lineTo(x + radius / 2, y);
    if (label) {
      context.moveTo(x, y - radius / 2);
      context.lineTo(x, y + radius / 2);
    }
    context.stroke();
  }
}

export function paintBox(context, { scale }, [x0, y0, x1, y1], colour) {
  context.setLineDash([]);
  context.lineWidth = 4 / scale;
  context.strokeStyle = WHITE;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = 2 / scale;
  context.strokeStyle = colour;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

/** The brush: its size at the pointer, and the stroke under way. */
export function paintBrush(context, { scale }, { at, radius, add, points }) {
  context.strokeStyle = add ? "#19a974" : "#e5484d";
  if (points.length) {
    context.globalAlpha = 0.5;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius;
    context.beginPath();
    points.forEach(([x, y]) => context.lineTo(x, y));
    context.lineTo(...points.at(-1).map((value) => value + 1e-3)); // a dot is a stroke, too
    context.stroke();
    context.globalAlpha = 1;
  }
  context.beginPath();
  context.arc(...at, radius, 0, 2 * Math.PI);
  stroke(context, null, WHITE, 3 / scale);
  stroke(context, null, INK, 1 / scale);
}

/** The cross that the arrow keys move. */
export function paintCross(context, { scale }, [x, y]) {
  const [gap, arm] = [4 / scale, 16 / scale];
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    context.moveTo(x + dx * gap, y + dy * gap);
    context.lineTo(x + dx * arm, y + dy * arm);
  }
  context.lineCap = "butt";
  stroke(context, null, INK, 4 / scale);
  stroke(context, null, WHITE, 2 / scale);
}

function stroke(context, path, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  if (path) context.stroke(path);
  else context.stroke();
}
