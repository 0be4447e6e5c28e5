/**
 * A file that somebody chose, as pixels: checked before it is decoded, upright, on white where it is transparent.
 *
 * A browser shows half of a broken photo without a word, and dies of a bomb. So the file's own structure is
 * read first; what `winnow.images.open_image` refuses is refused here, with the same sentences.
 */
import { turnUpright } from "./upright.js";
import { crc32 } from "./zip.js";

const MIN_SIDE = 4; // tracking pixels and spacers are smaller
const MIN_ZEROS = 512; // bytes: a shorter run of zeros may be honest JPEG data
const MAX_BYTES = 200e6;

/** A file that is no usable photo; the message is a sentence for the visitor. */
export class UnreadablePhoto extends Error {}

/** @typedef {{kind: string, width: number, height: number}} Header   Sizes are 0 where only the decoder knows. */

const starts = (b, ...bytes) => bytes.every((value, i) => b[i] === value);
const text = (b, from, to) => String.fromCharCode(...b.subarray(from, to));
const big = (b, i) => b[i] * 2 ** 24 + (b[i + 1] << 16) + (b[i + 2] << 8) + b[i + 3];
const little = (b, i) => b[i] + (b[i + 1] << 8) + (b[i + 2] << 16) + b[i + 3] * 2 ** 24;
const CUT_OFF = "is damaged or cut off: fetch or copy it again.";
const NO_PHOTO = "is not an image: use a JPEG, PNG, WebP or HEIC photo.";

/**
 * What the bytes are. Throws `UnreadablePhoto`.
 * @param {Uint8Array} b @returns {Header}
 */
export function readHeader(b, name = "This file") {
  const no = (sentence) => new UnreadablePhoto(`${name} ${sentence}`);
  if (!b.length) throw no("is empty: fetch or copy it again.");
  if (starts(b, 0xff, 0xd8, 0xff)) return walkJpeg(b, no);
  if (starts(b, 0x89, 0x50, 0x4e, 0x47)) return walkPng(b, no);
  const head = text(b, 0, 16);
  if (head.startsWith("GIF8")) return { kind: "GIF", width: b[6] | (b[7] << 8), height: b[8] | (b[9] << 8) };
  if (head.startsWith("RIFF") && head.startsWith("WEBP", 8)) return walkWebp(b, no);
  if (head.startsWith("BM") && b.length > 30) {
    return { kind: "BMP", width: Math.abs(little(b, 18) | 0), height: Math.abs(little(b, 22) | 0) };
  }
  if (head.startsWith("ftyp", 4)) {
    const brand = head.slice(8, 12);
    if (brand.startsWith("avi")) return { kind: "AVIF", width: 0, height: 0 };
    if (/^(hei|hev|mif|msf)/.test(brand)) return { kind: "HEIC", width: 0, height: 0 };
    throw no("is a video: choose a photo, or a picture taken from it.");
  }
  if (starts(b, 0x49, 0x49, 0x2a, 0) || starts(b, 0x4d, 0x4d, 0, 0x2a)) return { kind: "TIFF", width: 0, height: 0 };
  if (head.startsWith("PK")) throw no("is a zip archive: unpack it and choose the photos inside.");
  if (head.startsWith("%PDF")) throw no("is a PDF: save the picture as a JPEG or PNG first.");
  if (/^\s*(<\?xml|<svg|<!doctype svg)/i.test(text(b, 0, 256))) throw no("is a drawing (SVG), not a photo: save it as a PNG first.");
  throw no(NO_PHOTO);
}

/** Follow a JPEG's segments to its end: `no` makes the error. */
function walkJpeg(b, no) {
  let i = 2, width = 0, height = 0, progressive = false;
  const flat = [];
  while (i < b.length) {
    if (b[i] !== 0xff) throw no(CUT_OFF);
    const marker = b[i + 1];
    if (marker === 0xff) { i += 1; continue; }
    if (marker === 0xd9) break;
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) { i += 2; continue; }
    const end = i + 2 + (b[i + 2] << 8) + b[i + 3];
    if (!(end <= b.length)) throw no(CUT_OFF);
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      progressive = marker === 0xc2;
      height = (b[i + 5] << 8) | b[i + 6];
      width = (b[i + 7] << 8) | b[i + 8];
    }
    if (marker === 0xc4) flat.push(...zerosMeanFlat(b.subarray(i + 4, end)));
    i = end;
    if (marker !== 0xda) continue;
    const stop = endOfScan(b, i);
    if (stop < 0) throw no(CUT_OFF);
    if (!progressive && !(flat.length && flat.every(Boolean)) && hasHole(b, i, stop)) {
      throw no("has a hole of zeros inside: fetch or copy it again.");
    }
    i = stop;
  }
  if (i >= b.length || !width || !height) throw no(CUT_OFF);
  return { kind: "JPEG", width, height };
}

/** Where the next marker after the compressed pixels at `i` stands, or -1. */
function endOfScan(b, i) {
  for (;;) {
    i = b.indexOf(0xff, i);
    if (i < 0 || i + 1 >= b.length) return -1;
    const next = b[i + 1];
    if (next !== 0 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7)) return i;
    i += next === 0xff ? 1 : 2;
  }
}

/** Whether there is a run of `MIN_ZEROS` zeros: every such run holds a place that half of it divides. */
function hasHole(b, from, to) {
  for (let p = from; p < to; p += MIN_ZEROS / 2) {
    if (b[p]) continue;
    let low = p, high = p;
    while (low > from && b[low - 1] === 0) low--;
    while (high < to && b[high] === 0) high++;
    if (high - low >= MIN_ZEROS) return true;
  }
  return false;
}

/** For each AC table among these Huffman tables: does its all-zeros code mean "end of block"? */
function zerosMeanFlat(tables) {
  const found = [];
  for (let i = 0; i + 17 <= tables.length; ) {
    if (tables[i] >> 4 === 1) found.push(tables[i + 17] === 0);
    i += 17 + tables.subarray(i + 1, i + 17).reduce((sum, n) => sum + n, 0);
  }
  return found;
}

/** Follow a PNG's chunks, checksums included, to its end. */
function walkPng(b, no) {
  const header = { kind: "PNG", width: big(b, 16), height: big(b, 20) };
  for (let i = 8; i + 12 <= b.length; ) {
    const end = i + 12 + big(b, i);
    if (end > b.length || crc32(b.subarray(i + 4, end - 4)) !== big(b, end - 4)) break;
    if (text(b, i + 4, i + 8) === "IEND") return header;
    i = end;
  }
  throw no(CUT_OFF);
}

function walkWebp(b, no) {
  if (little(b, 4) + 8 > b.length || b.length < 30) throw no(CUT_OFF);
  const kind = text(b, 12, 16);
  const three = (i) => b[i] | (b[i + 1] << 8) | (b[i + 2] << 16);
  if (kind === "VP8X") return { kind: "WebP", width: three(24) + 1, height: three(27) + 1 };
  if (kind === "VP8L") return { kind: "WebP", width: (three(21) & 0x3fff) + 1, height: ((little(b, 21) >>> 14) & 0x3fff) + 1 };
  return { kind: "WebP", width: (b[26] | (b[27] << 8)) & 0x3fff, height: (b[28] | (b[29] << 8)) & 0x3fff };
}

function checkSize({ width, height }, maxPixels, name) {
  if (width * height > maxPixels) {
    throw new UnreadablePhoto(`${name} has ${width}×${height} pixels, too many to be a photo: shrink it first.`);
  }
  if (Math.min(width, height) < MIN_SIDE) {
    throw new UnreadablePhoto(`${name} has only ${width}×${height} pixels: use a larger copy of this image.`);
  }
}

/**
 * The photo as a bitmap, upright, and whether that took more than the browser does. Throws `UnreadablePhoto`; close
 * the bitmap when done.
 * @param {Blob} photo @param {number} maxPixels @returns {Promise<{bitmap: ImageBitmap, turned: boolean}>}
 */
export async function readPhoto(photo, maxPixels, name = "This file") {
  if (photo.size > MAX_BYTES) {
    throw new UnreadablePhoto(`${name} has ${Math.round(photo.size / 1e6)} MB, too many to be a photo: shrink it first.`);
  }
  const bytes = await photo.arrayBuffer().catch(() => {
    throw new UnreadablePhoto(`${name} can't be read: check that the file is still there.`);
  });
  const header = readHeader(new Uint8Array(bytes), name);
  if (header.width) checkSize(header, maxPixels, name);
  const bitmap = await decode(new Blob([bytes], { type: `image/${header.kind.toLowerCase()}` }), header.kind, name);
  try {
    checkSize(bitmap, maxPixels, name);
  } catch (error) {
    bitmap.close();
    throw error;
  }
  return turnUpright(bitmap, new Uint8Array(bytes));
}

async function decode(blob, kind, name) {
  try {
    // Colours as they are in the file: the training didn't convert them either.
    return await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    const foreign = { HEIC: "HEIC photos", TIFF: "TIFF files", AVIF: "AVIF files" }[kind];
    throw new UnreadablePhoto(
      foreign ? `${name}: this browser can't read ${foreign}; save it as a JPEG first.` : `${name} ${CUT_OFF}`,
    );
  }
}

/** A small JPEG to show, so that the page needn't decode a large photo a second time. */
export function smallCopy(/** @type {ImageBitmap} */ bitmap, side = 640) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
}

/**
 * Whether this browser alters the pixels that a page reads, as some do against fingerprinting: then answers
 * come from slightly other pixels than the photo's.
 */
export function altersPixels() {
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  const wanted = context.createImageData(16, 16);
  wanted.data.forEach((_, i) => { wanted.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256; });
  context.putImageData(wanted, 0, 0);
  return context.getImageData(0, 0, 16, 16).data.some((value, i) => value !== wanted.data[i]);
}

/**
 * Part of a bitmap as RGBA, black beyond its edges: a `Reader` of resize.js.
 * @param {ImageBitmap} bitmap @returns {import("./resize.js").Reader}
 */
export function readBitmap(bitmap) {
  const canvas = new OffscreenCanvas(1, 1);
  let context = null;
  return (left, top, width, height) => {
    if (canvas.width !== width || canvas.height !== height || !context) {
      [canvas.width, canvas.height] = [width, height];
      context = canvas.getContext("2d", { willReadFrequently: true });
    }
    context.fillStyle = "black";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "white";
    context.fillRect(-left, -top, bitmap.width, bitmap.height);
    context.drawImage(bitmap, -left, -top);
    return context.getImageData(0, 0, width, height).data;
  };
}
