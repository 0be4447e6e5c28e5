/**
 * A zip of files that are compressed already: stored, not deflated (PKWARE's APPNOTE, version 2.0 entries).
 *
 * @typedef {{name: string, data: Uint8Array, at?: Date}} Entry
 */

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** The CRC-32 that zip and PNG use. @param {Uint8Array} data */
export function crc32(data) {
  let crc = 0xffffffff;
  for (let i = 0; i < data.length; i++) crc = CRC_TABLE[(crc ^ data[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Numbers as little-endian bytes: `[value, bytes]` pairs. */
function pack(pairs) {
  const out = new Uint8Array(pairs.reduce((sum, [, bytes]) => sum + bytes, 0));
  let place = 0;
  for (let [value, bytes] of pairs) {
    for (; bytes > 0; bytes--, value = Math.floor(value / 256)) out[place++] = value & 255;
  }
  return out;
}

/** @param {Date} at @returns {[number, number]} DOS time and date */
function dosTime(at) {
  const time = (at.getHours() << 11) | (at.getMinutes() << 5) | (at.getSeconds() >> 1);
  return [time, (Math.max(at.getFullYear() - 1980, 0) << 9) | ((at.getMonth() + 1) << 5) | at.getDate()];
}

/** @param {Entry[]} entries @returns {Blob} */
export function makeZip(entries) {
  const parts = [], index = [];
  let place = 0;
  for (const { name, data, at = new Date() } of entries) {
    const bytes = new TextEncoder().encode(name);
    const [time, date] = dosTime(at);
    const size = data.length;
    // Version 2.0, names in UTF-8 (flag 11), stored.
    const common = [[20, 2], [0x800, 2], [0, 2], [time, 2], [date, 2], [crc32(data), 4], [size, 4], [size, 4], [bytes.length, 2], [0, 2]];
    parts.push(pack([[0x04034b50, 4], ...common]), bytes, data);
    index.push(pack([[0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [place, 4]]), bytes);
    place += 30 + bytes.length + size;
  }
  const length = index.reduce((sum, part) => sum + part.length, 0);
  const end = pack([[0x06054b50, 4], [0, 2], [0, 2], [entries.length, 2], [entries.length, 2], [length, 4], [place, 4], [0, 2]]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
