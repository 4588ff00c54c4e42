// What a visitor takes home. Every function gives {name, blob}; nothing is sent anywhere.

import { bitmapOf, measure, pack, union } from "./masks.js";
import { simplify, trace } from "./outlines.js";

const TOLERANCE = 0.5; // pixels by which an SVG's outline may leave the mask's

/** The objects on a transparent ground, cropped to them. */
export async function cutout(bitmap, objects, stem) {
  const mask = union(objects.map(({ mask }) => mask));
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
