/**
 * The model in a worker, so that the page never freezes. Messages: {id, do: "load"|"predict", ...} in,
 * {id, value} or {id, sentence} or {progress} out.
 */
import { readBitmap, readPhoto, UnreadablePhoto } from "./photo_reader.js";
import { resizeLikeTraining } from "./resize.js";
import { fetchKept } from "./files.js";
import * as ort from "./ort.mjs";

let session = null, facts = null;

/** Open the model; its two large files are kept for the next visit. */
async function load(files) {
  facts = files.facts;
  const loaded = { runtime: 0, model: 0 };
  const note = (name) => (share) => {
    loaded[name] = share;
    postMessage({ progress: (loaded.runtime * files.runtime.bytes + loaded.model * files.model.bytes) / (files.runtime.bytes + files.model.bytes) });
  };
  const [runtime, model] = await Promise.all([
    fetchKept(files.runtime, note("runtime")),
    fetchKept(files.model, note("model")),
  ]);
  ort.env.wasm.numThreads = 1; // more would need headers that free hosts don't send
  ort.env.wasm.wasmBinary = runtime;
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(new Uint8Array(model), { graphOptimizationLevel: "all" });
  await run(new Uint8Array(facts.size * facts.size * 3)); // the first run is slow: not the visitor's
  return session.outputNames;
}

async function run(pixels) {
  const input = new ort.Tensor("uint8", pixels, [1, facts.size, facts.size, 3]);
  const outputs = await session.run({ pixels: input });
  return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
}

/** What the model says of one photo, and the upright photo's size. */
async function predict({ photo, name }) {
  const bitmap = await readPhoto(photo, facts.maxPixels, name);
  const { width, height } = bitmap;
  let pixels;
  try {
    pixels = resizeLikeTraining(readBitmap(bitmap), width, height, facts.size, facts.method, facts.tallFirst);
  } finally {
    bitmap.close();
  }
  return { ...(await run(pixels)), width, height };
}

const verbs = { load, predict };
let last = Promise.resolve();

onmessage = ({ data }) => {
  // One after another: two sessions at once would only share the core.
  last = last.then(async () => {
    try {
      postMessage({ id: data.id, value: await verbs[data.do](data.with) });
    } catch (error) {
      const known = error instanceof UnreadablePhoto;
      postMessage({ id: data.id, sentence: known ? error.message : null, detail: String(error?.message ?? error) });
    }
  });
};
