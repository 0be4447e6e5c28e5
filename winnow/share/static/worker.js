/**
 * What runs beside the page, so that it never freezes: one worker reads photos, one runs the model, and the next
 * photo is read while this one is thought about. Messages: {id, do: "load"|"read"|"run"|"check", with} in; {id, value}
 * or {id, sentence, detail} or {progress} out.
 */
import { altersPixels, readBitmap, readPhoto, smallCopy, UnreadablePhoto } from "./photo_reader.js";
import { resizeLikeTraining } from "./resize.js";
import { fetchKept } from "./files.js";

const LARGE = 1024 * 1024; // bytes: the app shows smaller files as they are

let session = null, ort = null, shape = null;

/** Open the model; its two large files are kept for the next visit. */
async function load({ facts, runtime, model, script = "./ort.mjs" }) {
  const got = new Map([[runtime, 0], [model, 0]]);
  const fetchNoted = (file) => fetchKept(file, (share) => {
    got.set(file, share * file.bytes);
    postMessage({ progress: (got.get(runtime) + got.get(model)) / (runtime.bytes + model.bytes) });
  });
  const [module, wasm, graph] = await Promise.all([import(script), fetchNoted(runtime), fetchNoted(model)]);
  ort = module;
  ort.env.wasm.numThreads = 1; // more would need headers that free hosts don't send
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  shape = [1, facts.size, facts.size, 3];
  session = await ort.InferenceSession.create(new Uint8Array(graph));
}

/** A photo as the model is shown it, its size upright, and a small copy of a large one or of one that was turned. */
async function read({ photo, name, facts }) {
  const { bitmap, turned } = await readPhoto(photo, facts.maxPixels, name);
  const { width, height } = bitmap;
  try {
    const pixels = resizeLikeTraining(readBitmap(bitmap), width, height, facts.size, facts.method, facts.tallFirst);
    const preview = turned || photo.size > LARGE ? await smallCopy(bitmap) : null;
    return { pixels, width, height, preview, turned };
  } finally {
    bitmap.close();
  }
}

/** What the model says, by the name of each output. */
async function run(pixels) {
  const outputs = await session.run({ pixels: new ort.Tensor("uint8", pixels, shape) });
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
}

const verbs = { load, read, run, check: altersPixels };
let last = Promise.resolve();

onmessage = ({ data }) => {
  // One after another: two at once would need the memory of two and be no sooner done.
  last = last.then(async () => {
    try {
      postMessage({ id: data.id, value: await verbs[data.do](data.with) });
    } catch (error) {
      const sentence = error instanceof UnreadablePhoto ? error.message : null;
      postMessage({ id: data.id, sentence, detail: String(error?.message ?? error) });
    }
  });
};
