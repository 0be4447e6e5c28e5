/**
 * An engine whose model runs in the visitor's browser (see engine.js): no server, no upload.
 *
 * @typedef {Object} Site           model.json, as `winnow page` writes it.
 * @property {Object} facts         The export's metadata, and `maxPixels`, `tallFirst`.
 * @property {import("./engine.js").Info} info
 * @property {import("./files.js").PageFile} runtime
 * @property {import("./files.js").PageFile} model
 * @property {string} [script]      Where ONNX Runtime's script is, if not beside the worker.
 */
import { EngineGone, failed, heatOf, seenBox, shares } from "./engine.js";
import { CorrectionBox } from "./correction_box.js";
import { Helper, HelperGone } from "./helper.js";

/** What this browser lacks to run a model, as a sentence, or null. */
export function whatIsMissing() {
  const has = (name) => typeof globalThis[name] !== "undefined";
  if (!has("WebAssembly") || !WebAssembly.validate(SIMD_PROBE)) {
    return "This browser can't run the model (it lacks WebAssembly SIMD): update it, or use a newer Chrome, Firefox, Edge or Safari.";
  }
  if (!has("Worker") || !has("OffscreenCanvas") || !has("DecompressionStream") || !has("createImageBitmap")) {
    return "This browser is too old to run the model: update it, or use a newer Chrome, Firefox, Edge or Safari.";
  }
  return null;
}

// The smallest module with one SIMD instruction: () => i8x16.splat(i32.const 0), popcnt of it.
const SIMD_PROBE = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** @implements {import("./engine.js").Engine} */
export class BrowserEngine {
  /**
   * @param {Site} site
   * @param {{onprogress?: (share: number) => void, oncorrections?: (count: number) => void, startWorker?: () => Worker}} [options]
   */
  constructor(site, { onprogress = () => {}, oncorrections = () => {}, startWorker = startOwnWorker } = {}) {
    Object.assign(this, { site, info: site.info, oncorrections });
    this.box = new CorrectionBox(site.facts.digest);
    this.answers = new Map();
    this.next = 0;
    this.reader = new Helper(startWorker());
    this.thinker = new Helper(startWorker(), onprogress);
    this.altersPixels = this.reader.ask("check");
    const { facts, runtime, model, script } = site;
    this.ready = this.thinker.ask("load", { facts, runtime, model, script }).catch((error) => {
      throw new EngineGone(`The model can't be opened in this browser (${error.message}): check the connection and load the page again.`);
    });
    this.ready.catch(() => {}); // each photo tells it
    this.box.count().then((count) => this.oncorrections(count));
  }

  /** @param {Blob} photo @param {import("./engine.js").PredictOptions} [options] */
  async predict(photo, { name = "This photo", onprogress = () => {}, onpreview = () => {}, signal } = {}) {
    const id = `photo-${++this.next}`;
    onprogress(1, "thinking");
    try {
      const { facts } = this.site;
      const { pixels, width, height, preview, turned } = await this.reader.ask("read", { photo, name, facts });
      if (preview) onpreview(preview, turned);
      await this.ready;
      if (signal?.aborted) return failed(id, "Cancelled.");
      const answer = this.answer(id, { ...(await this.thinker.ask("run", pixels)), width, height });
      this.answers.set(id, answer);
      return answer;
    } catch (error) {
      if (error instanceof EngineGone) throw error;
      if (error instanceof HelperGone) throw new EngineGone("The model stopped in this browser: load the page again.");
      return failed(id, error.sentence ?? `${name} was too much for this browser (${error.message}): try a smaller copy.`);
    }
  }

  answer(id, raw) {
    const { targets, cells, method, unlike } = this.site.facts;
    let start = 0;
    const [main, ...others] = targets.map((target) => {
      const probabilities = shares(raw.logits.subarray(start, (start += target.labels.length)), target);
      return { label: probabilities[0].label, probabilities };
    });
    const index = targets[0].labels.indexOf(main.label);
    const likeness = raw.likeness && unlike ? Array.from(raw.likeness) : null;
    const order = likeness ? likeness.map((_, i) => i).sort((a, b) => likeness[b] - likeness[a]) : [];
    return {
      ...failed(id, null),
      ...main,
      targets: Object.fromEntries(others.map((answer, i) => [targets[i + 1].name, answer])),
      unlike: likeness ? likeness[order[0]] < unlike.threshold : false,
      nearest: order.slice(0, 3).map((i) => targets[0].labels[i]),
      heatmap: raw.cells && cells
        ? {
            rows: cells[0],
            cols: cells[1],
            values: heatOf(raw.cells, cells[0], cells[1], targets[0].labels.length, index),
            box: seenBox(raw.width, raw.height, method),
          }
        : null,
    };
  }

  /** Keep a correction in this browser, to be handed over as a zip. */
  async correct(id, label, photo) {
    const done = await this.box.add(photo, label, this.answers.get(id));
    this.oncorrections(await this.box.count());
    return done;
  }

  corrections() {
    return this.box.zip();
  }

  close() {
    this.reader.end("the page was closed");
    this.thinker.end("the page was closed");
  }
}

const startOwnWorker = () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
