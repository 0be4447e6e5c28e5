/**
 * WebP photos that are stored lying down. Browsers turn a JPEG as its EXIF block says; some (Chromium) leave a WebP
 * lying, and Pillow, which the training used, doesn't. Used by photo_reader.js and shrink.js.
 */

const ORIENTATION = 0x0112;
// Two pixels side by side, to be shown one above the other.
const LYING = "UklGRlIAAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TBEAAAAvAQAAAAfQ//73v/+BiOh/AABFWElGGgAAAE1NACoAAAAIAAEBEgADAAAAAQAGAAAAAAAA";
// Where orientation 2 to 8 puts a pixel: [a, b, c, d, moved by the width, moved by the height] of the upright photo.
const TURNS = [
  [-1, 0, 0, 1, 1, 0], [-1, 0, 0, -1, 1, 1], [1, 0, 0, -1, 0, 1], [0, 1, 1, 0, 0, 0], [0, 1, -1, 0, 1, 0], [0, -1, -1, 0, 1, 1], [0, -1, 1, 0, 0, 1],
];

let turnsItself = null;

/** Whether this browser turns a WebP as its EXIF block says. @returns {Promise<boolean>} */
function browserTurnsWebp() {
  const bytes = Uint8Array.from(atob(LYING), (c) => c.charCodeAt(0));
  turnsItself ??= createImageBitmap(new Blob([bytes], { type: "image/webp" })).then((bitmap) => bitmap.width === 1, () => true);
  return turnsItself;
}

/** The EXIF orientation of a WebP file, 1 to 8; 1 for every other file. @param {Uint8Array} b */
export function webpOrientation(b) {
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  const word = (i) => (i + 4 <= b.length ? view.getUint32(i) : 0);
  const isWebp = word(0) === 0x52494646 && word(8) === 0x57454250;
  if (!isWebp || word(12) !== 0x56503858 || !(b[20] & 8)) return 1; // "RIFF", "WEBP", "VP8X", its flag for EXIF
  for (let i = 12; i + 8 <= b.length; ) {
    const length = view.getUint32(i + 4, true);
    if (word(i) === 0x45584946) return exifOrientation(b.subarray(i + 8, i + 8 + length)); // "EXIF"
    i += 8 + length + (length % 2);
  }
  return 1;
}

function exifOrientation(b) {
  const start = b[0] === 0x45 && b[4] === 0 ? 6 : 0; // some write "Exif" and two zeros before it
  const view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  try {
    const little = view.getUint16(start) === 0x4949;
    const entries = start + view.getUint32(start + 4, little);
    for (let k = 0; k < view.getUint16(entries, little); k += 1) {
      const entry = entries + 2 + k * 12;
      const value = view.getUint16(entry + 8, little);
      if (view.getUint16(entry, little) === ORIENTATION) return value >= 1 && value <= 8 ? value : 1;
    }
  } catch { /* a damaged block turns nothing */ }
  return 1;
}

/**
 * `bitmap`, or a turned copy of it (then `bitmap` is closed), so that the photo in `bytes` stands upright.
 * @param {ImageBitmap} bitmap @param {Uint8Array} bytes @returns {Promise<{bitmap: ImageBitmap, turned: boolean}>}
 */
export async function turnUpright(bitmap, bytes) {
  const orientation = webpOrientation(bytes);
  if (orientation === 1 || (await browserTurnsWebp())) return { bitmap, turned: false };
  const [a, b, c, d, right, down] = TURNS[orientation - 2];
  const [width, height] = orientation > 4 ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.setTransform(a, b, c, d, right * width, down * height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { bitmap: canvas.transferToImageBitmap(), turned: true };
}
