/**
 * What answers: the one interface between the photo app and whatever holds the model.
 *
 * A kernel under Voila (widget.js) and ONNX Runtime Web in the visitor's browser (engine_browser.js) are
 * engines. The app (photo_app.js) knows nothing of either. These modules are joined into one text for
 * anywidget, so each keeps to `import { a, b } from "./x.js";` on one line, `export function|const|class`,
 * and names that no other module uses at its top level.
 *
 * @typedef {Object} Info           What the app may say before the first photo.
 * @property {string[]} labels      The classes of the main question, in the model's order.
 * @property {Record<string, string[]>} targets  Further questions by name, each with its classes ({} if none).
 * @property {string} knows         A sentence: what the model was trained on, when, how well it does.
 * @property {string} privacy       A sentence: where photos go and what is kept.
 * @property {string} digest        First 12 hex digits of the SHA-256 of the export.pkl that answers.
 * @property {string} version       Version of Winnow that made the export.
 * @property {boolean} feedback     Whether `correct` keeps anything.
 * @property {boolean} heatmap      Whether answers carry a heat map.
 * @property {{name: string, url: string}[]} examples  Photos to try; `url` is same-origin or a data: URL.
 *
 * @typedef {Object} Share          One bar of the chart.
 * @property {string} label
 * @property {number} p             0 to 1.
 *
 * @typedef {Object} TargetAnswer
 * @property {string} label
 * @property {Share[]} probabilities  Highest first.
 *
 * @typedef {Object} Heat           What decided, coarse: the app draws it smoothly over the photo.
 * @property {number} rows
 * @property {number} cols
 * @property {number[]} values      rows*cols numbers, 0 (nothing) to 1 (most), row by row.
 * @property {[number, number, number, number]} box  The part of the upright photo that the model saw:
 *                                  left, top, width, height as fractions (beyond 0..1 where it was padded).
 *
 * @typedef {Object} Answer
 * @property {string} id            Names this answer for `correct`.
 * @property {string|null} error    A sentence for the visitor; then nothing below is set.
 * @property {string} label         The likeliest class ("" with an error).
 * @property {Share[]} probabilities  All classes, highest first, calibrated.
 * @property {Record<string, TargetAnswer>} targets
 * @property {boolean} unlike       True: unlike the training photos, so "none of these".
 * @property {string[]} nearest     Up to three classes it resembles most, nearest first.
 * @property {Heat|null} heatmap
 * @property {string|null} preview  A data: URL where the browser can't show the file itself (HEIC).
 *
 * @typedef {Object} PredictOptions
 * @property {string} [name]        The file's name, for messages only.
 * @property {(share: number, stage: "sending"|"thinking") => void} [onprogress]
 * @property {(small: Blob, instead?: boolean) => void} [onpreview]  A small copy that the browser can show, as soon as
 *                                  there is one; `instead`: the file itself would lie on its side.
 * @property {AbortSignal} [signal]
 *
 * @typedef {Object} Engine
 * @property {Info} info
 * @property {(photo: Blob, options?: PredictOptions) => Promise<Answer>} predict
 *           Resolves for a bad photo too (`error` says why); rejects only with EngineGone.
 * @property {(id: string, label: string, photo: Blob) => Promise<{kept: boolean, message: string}>} correct
 *           The visitor says that `label` is right and agrees that this photo is kept.
 * @property {() => Promise<Blob>} [corrections]  A zip of what was kept, where the visitor holds the box.
 * @property {() => void} [close]
 */

/** The engine can't answer any more (the kernel ended, the model didn't load). `message` is for the visitor. */
export class EngineGone extends Error {}

/** An answer that is only an error sentence. @returns {Answer} */
export function failed(id, sentence) {
  return {
    id, error: sentence, label: "", probabilities: [], targets: {},
    unlike: false, nearest: [], heatmap: null, preview: null,
  };
}

/**
 * Calibrated shares of one target, highest first: softmax(logits / temperature + log(prior)).
 * `target` is an entry of the export's metadata: {labels, temperature, prior} (prior: one factor a class).
 * @returns {Share[]}
 */
export function shares(logits, target) {
  const z = target.labels.map((_, i) => logits[i] / target.temperature + Math.log(target.prior[i]));
  const top = Math.max(...z);
  const e = z.map((v) => Math.exp(v - top));
  const sum = e.reduce((a, b) => a + b, 0);
  return target.labels.map((label, i) => ({ label, p: e[i] / sum })).sort((a, b) => b.p - a.p);
}

/**
 * The heat of one class: how far each cell's logit for it stands above the classes' mean there, its lowest
 * cell at 0 and its highest at 1. `cells` is rows*cols*classes logits, row by row. Same as prediction.py.
 * @returns {number[]}
 */
export function heatOf(cells, rows, cols, classes, index) {
  const raw = [];
  for (let c = 0; c < rows * cols; c += 1) {
    let mean = 0;
    for (let k = 0; k < classes; k += 1) mean += cells[c * classes + k] / classes;
    raw.push(cells[c * classes + index] - mean);
  }
  const low = Math.min(...raw);
  const span = Math.max(...raw) - low || 1;
  return raw.map((v) => (v - low) / span);
}

/**
 * Which part of the upright photo (width × height) the model saw, as fractions, for each resize method.
 * @param {"squish"|"crop"|"pad"} method @returns {[number, number, number, number]}
 */
export function seenBox(width, height, method) {
  if (method === "squish") return [0, 0, 1, 1];
  const side = method === "crop" ? Math.min(width, height) : Math.max(width, height);
  const [w, h] = [side / width, side / height];
  return [(1 - w) / 2, (1 - h) / 2, w, h];
}
