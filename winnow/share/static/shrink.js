import { turnUpright } from "./upright.js";

const SMALL = 300 * 1024; // bytes: sent as they are, which is quicker than making them smaller

/**
 * A photo made ready to be sent: upright and at most `maxSide` pixels a side, as a JPEG, where that saves anything
 * and this browser can read it; the file itself otherwise (a HEIC on most browsers, or no photo at all).
 * @returns {Promise<{blob: Blob, shown: boolean}>} `shown`: this browser can show the photo.
 */
export async function shrink(file, maxSide) {
  if (file.size <= SMALL) return { blob: file, shown: await canShow(file) };
  let bitmap, turned;
  try {
    bitmap = await createImageBitmap(file); // upright: EXIF's orientation is obeyed, save in a WebP
    ({ bitmap, turned } = await turnUpright(bitmap, await webpBytes(file)));
  } catch {
    return { blob: file, shown: false };
  }
  const scale = Math.min(1, maxSide / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && !turned) {
    bitmap.close();
    return { blob: file, shown: true };
  }
  const blob = await drawSmaller(bitmap, scale);
  return { blob: blob ?? file, shown: true };
}

async function drawSmaller(bitmap, scale) {
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const canvas = typeof OffscreenCanvas === "function" ? new OffscreenCanvas(width, height) : Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white"; // behind transparency, as on the server
  pen.fillRect(0, 0, width, height);
  pen.imageSmoothingEnabled = true;
  pen.imageSmoothingQuality = "medium"; // averages over all pixels; "high" only takes longer
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  if (canvas.convertToBlob) return canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
}

/** The bytes of a WebP that has an EXIF block, of another file its first ones. */
async function webpBytes(file) {
  const head = new Uint8Array(await file.slice(0, 30).arrayBuffer());
  return head[20] & 8 ? new Uint8Array(await file.arrayBuffer()) : head;
}

/** Small files are not decoded here: their first bytes tell whether an <img> will show them. */
async function canShow(file) {
  const head = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const brand = String.fromCharCode(...head.slice(4, 12));
  return !/^ftyp(hei|hev|mif|msf)/.test(brand) && !(head[0] === 0x49 && head[1] === 0x49) && !(head[0] === 0x4d && head[1] === 0x4d);
}
