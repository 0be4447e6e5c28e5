const RAMP = [[68, 1, 84, 0], [59, 82, 139, 60], [33, 145, 140, 105], [94, 201, 98, 140], [253, 231, 37, 165]];

/** Draw `heat` (see engine.js) over a photo shown at width × height, smoothly, with no heat see-through. */
export function drawHeat(canvas, heat, width, height) {
  canvas.width = width;
  canvas.height = height;
  const small = document.createElement("canvas");
  small.width = heat.cols;
  small.height = heat.rows;
  const pen = small.getContext("2d");
  const pixels = pen.createImageData(heat.cols, heat.rows);
  heat.values.forEach((value, i) => pixels.data.set(heatColour(value), i * 4));
  pen.putImageData(pixels, 0, 0);
  const target = canvas.getContext("2d");
  target.imageSmoothingEnabled = true;
  target.imageSmoothingQuality = "high";
  const [left, top, w, h] = heat.box;
  target.drawImage(small, left * width, top * height, w * width, h * height);
}

/** Viridis with rising opacity, for a value from 0 to 1: [red, green, blue, alpha], 0 to 255. */
export function heatColour(value) {
  const place = Math.min(Math.max(value, 0), 1) * (RAMP.length - 1);
  const below = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[below].map((v, i) => Math.round(v + (RAMP[below + 1][i] - v) * (place - below)));
}
