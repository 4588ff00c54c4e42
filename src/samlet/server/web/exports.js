// What a visitor takes home. Every function gives {name, blob}; nothing is sent anywhere.

import { erase, recolour } from "./editing.js";
import { bitmapOf, measure, pack, union } from "./masks.js";
import { simplify, trace } from "./outlines.js";

const TOLERANCE = 0.5; // pixels by which an SVG's outline may leave the mask's
const BLUR = 0.02; // of the longer side, for a ground out of focus

/** The objects on a transparent ground, cropped to them; `soft` pixels of their edge fade. */
export async function cutout(bitmap, objects, stem, soft = 0) {
  const mask = union(objects.map(({ mask }) => mask));
  if (soft) return softCutout(bitmap, mask, stem, soft);
  const { box: [x0, y0, x1, y1] } = measure(mask);
  const [width, height] = [x1 - x0, y1 - y0];
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, -x0, -y0);
  const pixels = context.getImageData(0, 0, width, height);
  const inside = bitmapOf(mask);
  const tall = mask.size[0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside[(x + x0) * tall + y + y0]) pixels.data.fill(0, 4 * (y * width + x), 4 * (y * width + x) + 4);
    }
  }
  context.putImageData(pixels, 0, 0);
  return { name: `${stem}.cutout.png`, blob: await context.canvas.convertToBlob({ type: "image/png" }) };
}

async function softCutout(bitmap, mask, stem, soft) {
  const { box } = measure(mask);
  const reach = Math.ceil(2 * soft); // beyond it the blurred edge is nothing
  const [x0, y0] = box.slice(0, 2).map((low) => Math.max(0, low - reach));
  const [x1, y1] = [Math.min(bitmap.width, box[2] + reach), Math.min(bitmap.height, box[3] + reach)];
  const canvas = new OffscreenCanvas(x1 - x0, y1 - y0);
  canvas.getContext("2d").drawImage(lifted(bitmap, mask, soft), -x0, -y0);
  return { name: `${stem}.cutout.png`, blob: await canvas.convertToBlob({ type: "image/png" }) };
}

/** The picture with another ground: blurred, or of one colour ("#rrggbb"). */
export async function onGround(bitmap, objects, stem, soft, colour = null) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0); // a blur fades at the picture's own edges; this lies below
  if (colour) {
    context.fillStyle = colour;
    context.fillRect(0, 0, canvas.width, canvas.height);
  } else {
    blurred(context, BLUR * Math.max(bitmap.width, bitmap.height)).drawImage(bitmap, 0, 0);
    context.filter = "none";
  }
  context.drawImage(lifted(bitmap, union(objects.map(({ mask }) => mask)), soft), 0, 0);
  return { name: `${stem}.${colour ? "ground" : "blurred"}.png`, blob: await canvas.convertToBlob({ type: "image/png" }) };
}

/** The picture with each object in the colour it has in the list, light and shade kept. */
export async function recoloured(bitmap, objects, stem, soft) {
  const canvas = copied(bitmap);
  const context = canvas.getContext("2d");
  for (const { mask, colour } of objects) {
    const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const whole = new Uint8Array(mask.size[0] * mask.size[1]).fill(1); // the mask's edge may be soft
    context.drawImage(lifted(edited(canvas, (data) => recolour(data, whole, mask.size, wanted)), mask, soft), 0, 0);
  }
  return { name: `${stem}.recoloured.png`, blob: await canvas.convertToBlob({ type: "image/png" }) };
}

/** The picture without the objects; the colours round them run into the holes. */
export async function erased(bitmap, objects, stem) {
  const mask = union(objects.map(({ mask: one }) => one));
  const canvas = edited(copied(bitmap), (data) => erase(data, bitmapOf(mask), mask.size));
  return { name: `${stem}.erased.png`, blob: await canvas.convertToBlob({ type: "image/png" }) };
}

function copied(bitmap) {
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  return canvas;
}

// A new canvas with what `edit` makes of the RGBA bytes of another.
function edited(canvas, edit) {
  const result = new OffscreenCanvas(canvas.width, canvas.height);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  result.getContext("2d", { willReadFrequently: true })
    .putImageData(new ImageData(edit(data), canvas.width, canvas.height), 0, 0);
  return result;
}

// A canvas of the picture's size with what lies in the mask, and nothing else.
function lifted(bitmap, mask, soft) {
  const [height, width] = mask.size;
  const shape = new OffscreenCanvas(width, height);
  const pen = shape.getContext("2d");
  const pixels = pen.createImageData(width, height);
  const inside = bitmapOf(mask);
  for (let x = 0, at = 0; x < width; x++) {
    for (let y = 0; y < height; y++, at++) pixels.data[4 * (y * width + x) + 3] = inside[at] * 255;
  }
  pen.putImageData(pixels, 0, 0);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  (soft ? blurred(context, soft / 2) : context).drawImage(shape, 0, 0);
  context.filter = "none";
  context.globalCompositeOperation = "source-in";
  context.drawImage(bitmap, 0, 0);
  return canvas;
}

function blurred(context, pixels) {
  if (!("filter" in context)) throw new Error("This browser cannot blur; save with a hard edge, or on a plain ground.");
  context.filter = `blur(${pixels}px)`;
  return context;
}

/** White inside, black outside, of the picture's size. */
export async function maskPicture(objects, stem) {
  const mask = union(objects.map(({ mask: one }) => one));
  const [height, width] = mask.size;
  const inside = bitmapOf(mask);
  const context = new OffscreenCanvas(width, height).getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const at = 4 * (y * width + x);
      pixels.data.fill(inside[x * height + y] * 255, at, at + 3);
      pixels.data[at + 3] = 255;
    }
  }
  context.putImageData(pixels, 0, 0);
  return { name: `${stem}.mask.png`, blob: await context.canvas.convertToBlob({ type: "image/png" }) };
}

/** A COCO data set of one picture; names become categories. */
export function coco(objects, stem, fileName) {
  const [height, width] = objects[0].mask.size;
  const names = [...new Set(objects.map(({ name }) => name))];
  const annotations = objects.map(({ name, mask, score }, index) => {
    const { area, box: [x0, y0, x1, y1] } = measure(mask);
    return {
      id: index + 1, image_id: 1, category_id: names.indexOf(name) + 1,
      segmentation: { size: mask.size, counts: pack(mask.runs) },
      bbox: [x0, y0, x1 - x0, y1 - y0], area, iscrowd: 0,
      ...(score === null ? {} : { score: Number(score.toFixed(4)) }),
    };
  });
  const data = {
    images: [{ id: 1, file_name: fileName, height, width }],
    annotations,
    categories: names.map((name, index) => ({ id: index + 1, name })),
  };
  return { name: `${stem}.coco.json`, blob: new Blob([JSON.stringify(data, null, 1)], { type: "application/json" }) };
}

/** One path an object, in picture pixels; holes are left out by the even-odd rule. */
export function svg(objects, stem) {
  const [height, width] = objects[0].mask.size;
  const paths = objects.map(({ name, colour, mask }) => {
    const loops = trace(bitmapOf(mask), mask.size).map((loop) => simplify(loop, TOLERANCE));
    const d = loops.map((loop) => `M${pairs(loop).join("L")}Z`).join("");
    return `  <path fill="${colour}" fill-rule="evenodd" d="${d}"><title>${escaped(name)}</title></path>\n`;
  });
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">\n`
    + `${paths.join("")}</svg>\n`;
  return { name: `${stem}.svg`, blob: new Blob([text], { type: "image/svg+xml" }) };
}

/** Let the browser save a file. */
export function download({ name, blob }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}

function pairs(loop) {
  const found = [];
  for (let i = 0; i < loop.length; i += 2) found.push(`${loop[i]} ${loop[i + 1]}`);
  return found;
}

function escaped(text) {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
