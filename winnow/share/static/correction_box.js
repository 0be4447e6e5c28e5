/**
 * Corrections that wait in the visitor's browser until they are saved as a zip, which the owner imports
 * (`FeedbackBox.import_zip`): a file a photo named by its SHA-256, and corrections.json beside them.
 *
 * @typedef {Object} Correction
 * @property {string} sha256 @property {string} label @property {Object} answer @property {string} digest
 * @property {string} at @property {Uint8Array} photo
 */
import { makeZip } from "./zip.js";

const MAX_SIDE = 1024; // pixels: enough to learn from, little enough to send
const MAX_KEPT = 500;

export class CorrectionBox {
  /** @param {string} digest SHA-256 of the export that answered */
  constructor(digest) {
    this.digest = digest;
    /** @type {Map<string, Correction>} used alone where storage is switched off */
    this.kept = new Map();
    this.store = openStore(digest).catch(() => null);
    this.filled = this.fill();
  }

  async fill() {
    const store = await this.store;
    const rows = store ? await ask(store, "readonly", (s) => s.getAll()).catch(() => []) : [];
    for (const row of rows) this.kept.set(row.sha256, row);
  }

  /** @param {Blob} photo @param {string} label @param {import("./engine.js").Answer} answer */
  async add(photo, label, answer) {
    await this.filled;
    const data = await redraw(photo);
    const sha256 = await hexDigest(data);
    if (this.kept.size >= MAX_KEPT && !this.kept.has(sha256)) {
      return { kept: false, message: `${MAX_KEPT} corrections are waiting: save them and send them to the owner first.` };
    }
    const said = answer && { label: answer.label, probabilities: answer.probabilities, unlike: answer.unlike };
    const row = { sha256, label, answer: said ?? null, digest: this.digest, at: new Date().toISOString(), photo: data };
    this.kept.set(sha256, row);
    const store = await this.store;
    const stored = store && (await ask(store, "readwrite", (s) => s.put(row)).then(() => true, () => false));
    const until = stored ? "in this browser" : "until this page is closed (this browser's storage is switched off)";
    return { kept: true, message: `Thank you. The correction is kept ${until}: save it below, and send the file to the owner.` };
  }

  async count() {
    await this.filled;
    return this.kept.size;
  }

  /** Forget all, once they are with the owner. */
  async clear() {
    this.kept.clear();
    const store = await this.store;
    if (store) await ask(store, "readwrite", (s) => s.clear());
  }

  /** Every correction as a zip. */
  async zip() {
    await this.filled;
    const rows = [...this.kept.values()];
    const photos = rows.map((row) => ({ name: `${row.sha256}.jpg`, data: row.photo, at: new Date(row.at) }));
    const list = rows.map(({ photo, ...row }) => ({ ...row, file: `${row.sha256}.jpg` }));
    const json = new TextEncoder().encode(JSON.stringify({ format: 1, corrections: list }, null, 1));
    return makeZip([{ name: "corrections.json", data: json }, ...photos]);
  }
}

/** The photo upright and without its metadata (place, camera), as a JPEG of at most `MAX_SIDE`. */
async function redraw(/** @type {Blob} */ photo) {
  const bitmap = await createImageBitmap(photo);
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.round(bitmap.width * scale), Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new Uint8Array(await blob.arrayBuffer());
}

async function hexDigest(/** @type {Uint8Array} */ data) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The database of one model's corrections. */
async function openStore(digest) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open(`winnow-corrections-${digest.slice(0, 12)}`, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("corrections", { keyPath: "sha256" });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

function ask(database, mode, question) {
  return new Promise((resolve, reject) => {
    const request = question(database.transaction("corrections", mode).objectStore("corrections"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
