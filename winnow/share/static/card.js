import { barChart } from "./chart.js";
import { correctionForm } from "./correction.js";
import { freshId, h, percent } from "./dom.js";
import { drawHeat } from "./heat.js";

const LIGHT = 1024 * 1024; // bytes: decoding a larger file for show alone would slow its answer down

/** One photo's card: its state while it is on its way, then its answer or its error. */
export class Card {
  /** @param {File} file @param {import("./engine.js").Engine} engine @param {(card: Card) => void} onremove */
  constructor(file, engine, onremove) {
    this.file = file;
    this.engine = engine;
    this.answer = null;
    this.url = null;
    this.small = file.size <= LIGHT ? file : null; // what there is to show
    this.isNear = false;
    this.image = h("img", { alt: "", decoding: "async", hidden: true });
    this.image.addEventListener("load", () => { this.image.hidden = false; });
    this.image.addEventListener("error", () => { this.image.hidden = true; });
    this.picture = h("div.picture", {}, this.image);
    this.frame = h("div.frame", {}, this.picture);
    this.state = h("p.state", {}, "Waiting");
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `Progress of ${file.name}` });
    this.body = h("div.body", {}, h("p.name", { title: file.name }, file.name), this.state, this.bar);
    const remove = h("button.remove", { type: "button", "aria-label": `Remove ${file.name}` }, "×");
    remove.addEventListener("click", () => onremove(this));
    this.node = h("li.card", { "data-state": "waiting", "aria-busy": "true" }, this.frame, this.body, remove);
  }

  /** Show `blob` once the card is near the window; what comes first stays, but for what comes `instead`. */
  preview(blob, instead = false) {
    if (instead) this.forget();
    this.small = instead ? blob : this.small ?? blob;
    if (this.isNear) this.come();
  }

  /** The card is near the window: load its picture. */
  come() {
    this.isNear = true;
    if (this.url || !this.small) return;
    this.url = URL.createObjectURL(this.small);
    if (!this.image.src) this.image.src = this.url;
  }

  progress(share, stage) {
    this.node.dataset.state = stage;
    this.state.textContent = stage === "thinking" ? "Looking at it…" : "Sending…";
    this.bar.value = share;
  }

  show(answer) {
    this.answer = answer;
    this.node.removeAttribute("aria-busy");
    this.node.dataset.state = answer.error ? "failed" : "answered";
    this.state.remove();
    this.bar.remove();
    if (answer.preview) this.image.src = answer.preview;
    else this.preview(this.file);
    this.body.append(...(answer.error ? [h("p.error", {}, answer.error)] : this.parts(answer)));
  }

  parts(answer) {
    const { info } = this.engine;
    return [
      verdict(answer, info.labels.length),
      answer.unlike ? null : barChart(answer.probabilities, "How likely each answer is"),
      ...(answer.unlike ? [] : Object.entries(answer.targets).map(([name, target]) => targetPart(name, target))),
      answer.heatmap ? this.heatToggle(answer) : null,
      info.feedback ? correctionForm(answer, info, (label) => this.engine.correct(answer.id, label, this.file)) : null,
    ].filter(Boolean);
  }

  heatToggle(answer) {
    const canvas = h("canvas.heat", { role: "img", "aria-label": `Where the photo looks most like ${answer.label}` });
    canvas.hidden = true;
    const button = h("button.quiet", { type: "button", "aria-pressed": "false" }, "Show what decided");
    button.addEventListener("click", () => {
      const on = canvas.hidden;
      canvas.hidden = !on;
      button.setAttribute("aria-pressed", String(on));
      const { clientWidth, clientHeight } = this.image;
      if (on) drawHeat(canvas, answer.heatmap, clientWidth || 160, clientHeight || 160);
    });
    this.picture.append(canvas);
    const legend = h("span.note.legend", { hidden: true }, `Yellow: looks most like ${answer.label}`);
    button.addEventListener("click", () => { legend.hidden = canvas.hidden; });
    return h("div.row", {}, button, legend);
  }

  forget() {
    if (!this.url) return;
    URL.revokeObjectURL(this.url);
    this.url = null;
    this.image.removeAttribute("src");
  }

  close() {
    this.forget();
    this.node.remove();
  }
}

function verdict(answer, classes) {
  const sure = percent(answer.probabilities[0].p);
  if (!answer.unlike) return h("p.verdict", {}, h("strong", {}, answer.label), " ", h("span.sure", {}, sure));
  const named = answer.nearest.slice(0, Math.max(1, classes - 1)); // to name all classes would say nothing
  const nearest = named.length ? named.join(", ") : answer.label;
  return h(
    "div.verdict.unlike", {}, h("strong", {}, "None of these"),
    h("p.note", {}, `This photo is unlike those that the model learnt from. It comes nearest to: ${nearest}.`),
    h("details.more", {}, h("summary", {}, "What it would say all the same"), barChart(answer.probabilities, "How likely each answer would be")),
  );
}

function targetPart(name, target) {
  const id = freshId("target");
  return h(
    "section.target", { "aria-labelledby": id },
    h("h3", { id }, name, ": ", h("strong", {}, target.label)), barChart(target.probabilities, `How likely each ${name} is`),
  );
}
