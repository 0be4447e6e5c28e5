/**
 * The page's large files: fetched once, with progress, kept for the next visit, unpacked when they are used.
 *
 * @typedef {{path: string, mark: string, bytes: number, data?: ArrayBuffer}} PageFile   `mark` changes with the
 *          contents; `data` where they are here already.
 */

export const KEPT = "winnow-files";

/** The key under which a file is kept: its contents' mark makes an old one miss. */
export const keptAs = (/** @type {PageFile} */ file) => `${file.path}?${file.mark}`;

async function openKept() {
  try {
    return await caches.open(KEPT);
  } catch {
    return null; // storage is switched off: fetched again each time
  }
}

/**
 * The bytes of a file, unpacked; so it is kept, because unpacking takes longer than reading. Progress is 0 to 1.
 * @param {PageFile} file @param {(share: number) => void} [onprogress] @returns {Promise<ArrayBuffer>}
 */
export async function fetchKept(file, onprogress = () => {}) {
  if (file.data) return unpack(file.data);
  const kept = await openKept();
  const found = await kept?.match(keptAs(file));
  if (found) return unpack(await found.arrayBuffer());
  const bytes = await unpack(await download(file, onprogress));
  await kept?.put(keptAs(file), new Response(bytes)).catch(() => {}); // a full disk is no reason to stop
  return bytes;
}

async function download(file, onprogress) {
  const response = await fetch(file.path);
  if (!response.ok) throw new Error(`${file.path} is missing on this host (${response.status})`);
  const chunks = [];
  let got = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    got += value.length;
    onprogress(Math.min(got / file.bytes, 1));
  }
  return new Blob(chunks).arrayBuffer();
}

/** Gunzipped, unless the host did so on the way. */
async function unpack(/** @type {ArrayBuffer} */ bytes) {
  const head = new Uint8Array(bytes, 0, 2);
  if (head[0] !== 0x1f || head[1] !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
