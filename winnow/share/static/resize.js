/**
 * Pillow's antialiased bilinear resize in plain script, equal to the pixel.
 *
 * A canvas shrinks photos its own way (each browser another), and a model that was trained on Pillow's pixels
 * answers differently on those. This is `Image.resize((w, h), BILINEAR)` of Pillow for 8-bit pixels: a triangle
 * filter as wide as the scale, weights in fixed point, first across, then down, rounded to whole bytes in between.
 *
 * A photo is read in bands of a few megapixels (`Reader`), so a 100-megapixel photo needs no gigabyte.
 *
 * @typedef {(left: number, top: number, width: number, height: number) => Uint8Array|Uint8ClampedArray} Reader
 *          Part of the picture as RGBA, row by row.
 * @typedef {{first: Int32Array, count: Int32Array, weights: Int32Array, stride: number}} Filter
 * @typedef {"squish"|"crop"|"pad"} Method
 */

const PRECISION_BITS = 32 - 8 - 2;
const BAND_PIXELS = 1 << 20;
const HALF = 1 << (PRECISION_BITS - 1);

/**
 * The weights by which `from` pixels become `to` pixels along one side.
 * @param {number} from @param {number} to @returns {Filter}
 */
export function makeFilter(from, to) {
  const scale = from / to;
  const widened = Math.max(scale, 1);
  const support = widened;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to), count = new Int32Array(to), weights = new Int32Array(to * stride);
  const exact = new Float64Array(stride);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const low = Math.max(Math.trunc(center - support + 0.5), 0);
    const high = Math.min(Math.trunc(center + support + 0.5), from);
    let sum = 0;
    for (let k = 0; k < high - low; k++) {
      exact[k] = Math.max(0, 1 - Math.abs((k + low - center + 0.5) * (1 / widened)));
      sum += exact[k];
    }
    for (let k = 0; k < high - low; k++) {
      const weight = sum === 0 ? exact[k] : exact[k] / sum;
      weights[i * stride + k] = Math.trunc(0.5 + weight * (1 << PRECISION_BITS));
    }
    first[i] = low;
    count[i] = high - low;
  }
  return { first, count, weights, stride };
}

/** RGBA rows squeezed to the filter's width (`null`: as wide as before), written to `out` from `place` as RGB. */
function resizeAcross(data, /** @type {Filter|null} */ filter, fromWidth, width, out, place) {
  if (!filter) return dropAlpha(data, out, place);
  const { first, count, weights, stride } = filter;
  for (let row = 0; row < data.length; row += fromWidth * 4) {
    for (let x = 0; x < width; x++) {
      let r = HALF, g = HALF, b = HALF;
      let p = row + first[x] * 4;
      const end = x * stride + count[x];
      for (let k = x * stride; k < end; k++, p += 4) {
        const w = weights[k];
        r += data[p] * w;
        g += data[p + 1] * w;
        b += data[p + 2] * w;
      }
      // The weights are positive and sum to one, give or take a rounding: never below 0, hardly above 255.
      out[place++] = Math.min(r >> PRECISION_BITS, 255);
      out[place++] = Math.min(g >> PRECISION_BITS, 255);
      out[place++] = Math.min(b >> PRECISION_BITS, 255);
    }
  }
}

function dropAlpha(data, out, place) {
  for (let p = 0; p < data.length; p += 4) {
    out[place++] = data[p];
    out[place++] = data[p + 1];
    out[place++] = data[p + 2];
  }
}

/** Rows of `line` bytes squeezed to the filter's height; row 0 of `data` is row `top` of the whole. */
function resizeDown(data, /** @type {Filter|null} */ filter, line, height, top) {
  if (!filter) return data;
  const { first, count, weights, stride } = filter;
  const out = new Uint8Array(line * height);
  const sums = new Int32Array(line);
  for (let y = 0; y < height; y++) {
    sums.fill(HALF);
    for (let k = 0; k < count[y]; k++) {
      const w = weights[y * stride + k];
      let p = (first[y] + k - top) * line;
      for (let x = 0; x < line; x++) sums[x] += data[p++] * w;
    }
    const o = y * line;
    for (let x = 0; x < line; x++) out[o + x] = Math.min(sums[x] >> PRECISION_BITS, 255);
  }
  return out;
}

/**
 * `Image.resize((width, height), BILINEAR)` of a picture of `from` pixels; RGB comes out (alpha is not looked at).
 * Since version 13 Pillow takes tall pictures down first; `tallFirst` says whether the training's Pillow did.
 * @param {Reader} read @param {{width: number, height: number}} from @returns {Uint8Array}
 */
export function resizeExact(read, from, width, height, tallFirst = true, band = BAND_PIXELS) {
  const across = from.width === width ? null : makeFilter(from.width, width);
  const down = from.height === height ? null : makeFilter(from.height, height);
  // Pillow's own rule: more than twice as many rows go as columns do.
  const rows = from.height - height, columns = from.width - width;
  return tallFirst && rows > 0 && rows > columns * 2
    ? resizeTall(read, from, width, height, across, down, band)
    : resizeWide(read, from, width, height, across, down, band);
}

/** Across, band of rows by band of rows, then down. */
function resizeWide(read, from, width, height, across, down, band) {
  const top = down ? down.first[0] : 0;
  const bottom = down ? down.first[height - 1] + down.count[height - 1] : from.height;
  const squeezed = new Uint8Array((bottom - top) * width * 3);
  const step = Math.max(1, Math.floor(band / from.width));
  for (let y = top; y < bottom; y += step) {
    const data = read(0, y, from.width, Math.min(step, bottom - y));
    resizeAcross(data, across, from.width, width, squeezed, (y - top) * width * 3);
  }
  return resizeDown(squeezed, down, width * 3, height, top);
}

/** Down, band of columns by band of columns, then across. */
function resizeTall(read, from, width, height, across, down, band) {
  const squeezed = new Uint8Array(from.width * height * 4);
  const step = Math.max(1, Math.floor(band / from.height));
  for (let x = 0; x < from.width; x += step) {
    const columns = Math.min(step, from.width - x);
    const part = resizeDown(read(x, 0, columns, from.height), down, columns * 4, height, 0);
    for (let y = 0; y < height; y++) {
      squeezed.set(part.subarray(y * columns * 4, (y + 1) * columns * 4), (y * from.width + x) * 4);
    }
  }
  const out = new Uint8Array(width * height * 3);
  resizeAcross(squeezed, across, from.width, width, out, 0);
  return out;
}

/**
 * The part of a photo that fastai's `Resize` looks at: `left`, `top` may be negative when `pad` adds black around it.
 * @param {number} width @param {number} height @param {number} size @param {Method} method
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function cutFor(width, height, size, method) {
  if (method === "squish") return { left: 0, top: 0, width, height };
  const across = width / size, down = height / size;
  const m = (method === "pad" ? across > down : across < down) ? across : down;
  const side = Math.trunc(m * size);
  return { left: Math.trunc(0.5 * (width - side)), top: Math.trunc(0.5 * (height - side)), width: side, height: side };
}

/**
 * A photo as the model was shown it: `size` × `size`, RGB, equal to `winnow.images.resize`.
 * `read` is asked for parts beyond the photo's edge where it is padded, and gives black there.
 * @param {Reader} read @param {number} width @param {number} height @param {number} size @param {Method} method
 */
export function resizeLikeTraining(read, width, height, size, method, tallFirst = true) {
  const box = cutFor(width, height, size, method);
  const readBox = (left, top, w, h) => read(box.left + left, box.top + top, w, h);
  return resizeExact(readBox, box, size, size, tallFirst);
}

/** A `Reader` of RGBA pixels in memory. @returns {Reader} */
export function readPixels(data, width, height) {
  return (left, top, w, h) => {
    if (left === 0 && top === 0 && w === width && h === height) return data;
    const out = new Uint8Array(w * h * 4);
    const from = Math.max(left, 0), to = Math.min(left + w, width);
    for (let y = Math.max(top, 0); y < Math.min(top + h, height); y++) {
      const line = data.subarray((y * width + from) * 4, (y * width + to) * 4);
      out.set(line, ((y - top) * w + from - left) * 4);
    }
    return out;
  };
}
