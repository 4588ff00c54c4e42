// A picture becomes the network's input, as samlet does it: Pillow's antialiased bilinear filter, then mean and
// standard deviation, then zeros in the padding. The browser's own scaling differs from one browser to the next.

/** Make (3, H, W) float32 planes of the canvas from RGBA bytes. */
export function networkInput(rgba, frame, mean, std) {
  const [height, width] = frame.scaled_hw;
  const [canvasHeight, canvasWidth] = frame.canvas_hw;
  const small = resize(rgba, frame.image_hw, frame.scaled_hw);
  const planes = new Float32Array(3 * canvasHeight * canvasWidth);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < height; y++) {
      const to = (channel * canvasHeight + y) * canvasWidth;
      const from = y * width * 3 + channel;
      for (let x = 0; x < width; x++) planes[to + x] = (small[from + 3 * x] - mean[channel]) / std[channel];
    }
  }
  return planes;
}

/** Resize RGBA bytes to RGB bytes; widths first and rounded in between, as Pillow does. */
export function resize(rgba, [height, width], [newHeight, newWidth]) {
  const across = filterTaps(width, newWidth);
  const middle = new Uint8ClampedArray(height * newWidth * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < newWidth; x++) {
      const { first, weights } = across[x];
      let [r, g, b] = [0, 0, 0];
      for (let k = 0, at = 4 * (y * width + first); k < weights.length; k++, at += 4) {
        r += rgba[at] * weights[k];
        g += rgba[at + 1] * weights[k];
        b += rgba[at + 2] * weights[k];
      }
      const to = 3 * (y * newWidth + x);
      middle[to] = r; // a clamped array rounds to the nearest
      middle[to + 1] = g;
      middle[to + 2] = b;
    }
  }
  const down = filterTaps(height, newHeight);
  const row = 3 * newWidth;
  const result = new Uint8ClampedArray(newHeight * row);
  for (let y = 0; y < newHeight; y++) {
    const { first, weights } = down[y];
    for (let i = 0; i < row; i++) {
      let sum = 0;
      for (let k = 0, at = first * row + i; k < weights.length; k++, at += row) sum += middle[at] * weights[k];
      result[y * row + i] = sum;
    }
  }
  return result;
}

// For each new pixel: the first old one that counts, and the weights of a triangle as wide as the step between them.
function filterTaps(size, newSize) {
  const scale = size / newSize;
  const reach = Math.max(1, scale);
  return Array.from({ length: newSize }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(size, Math.floor(centre + reach + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs((first + k + 0.5 - centre) / reach)));
    const total = raw.reduce((a, b) => a + b, 0);
    return { first, weights: raw.map((weight) => weight / total) };
  });
}
