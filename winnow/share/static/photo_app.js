import { hasCamera, takePhoto } from "./camera.js";
import { Card } from "./card.js";
import { download, h } from "./dom.js";
import { EngineGone, failed } from "./engine.js";
import { Pace } from "./pace.js";
import { resultsCsv, resultsTable } from "./results.js";

const AT_ONCE = 3; // one photo is answered while the next is made ready and a third waits, so that nobody waits for it
const NEAR = "600px"; // pictures this close to the window are loaded
const ACCEPT = "image/*,.heic,.heif,.hif,.avif,.webp";

/**
 * Build the app inside `root`. It knows nothing of kernels: `engine` (engine.js) answers.
 * @param {HTMLElement} root @param {import("./engine.js").Engine} engine
 * @param {{title?: string, headingLevel?: 1|2}} options
 * @returns {{add: (files: Iterable<File>) => void, warn: (text: string) => void, close: () => void}}
 */
export function createApp(root, engine, options = {}) {
  const app = new PhotoApp(root, engine, options);
  return { add: (files) => app.add(files), warn: (text) => app.warn(text), close: () => app.close() };
}

class PhotoApp {
  constructor(root, engine, { title = "What is on this photo?", headingLevel = 1 }) {
    Object.assign(this, { root, engine, cards: [], queue: [], running: 0, closed: new AbortController(), pace: new Pace() });
    this.near = new IntersectionObserver((seen) => seen.forEach((entry) => entry.isIntersecting && this.come(entry.target)), { rootMargin: NEAR });
    root.classList.add("winnow-app");
    this.status = h("p.sr-only", { role: "status" });
    this.notice = h("p.notice", { role: "alert" });
    this.notice.hidden = true;
    this.list = h("ol.cards", { "aria-label": "Photos and answers" });
    this.tools = this.buildTools();
    this.table = h("div.table", { tabindex: "0", role: "region", "aria-label": "Table of all answers" });
    this.table.hidden = true;
    root.replaceChildren(
      h("header", {}, h(`h${headingLevel}.title`, {}, title), h("p.knows", {}, engine.info.knows)),
      this.buildIntake(), this.notice, this.status, this.tools, this.table, this.list, this.buildFooter(),
    );
    this.listen();
  }

  buildIntake() {
    const input = h("input", { type: "file", multiple: true, accept: ACCEPT, hidden: true });
    input.addEventListener("change", () => { this.add(input.files); input.value = ""; });
    const choose = h("button.primary", { type: "button" }, "Choose photos"); // opens with Enter and Space, an input only with one
    choose.addEventListener("click", () => input.click());
    const camera = h("button", { type: "button" }, "Use camera");
    camera.addEventListener("click", () => takePhoto(this.root, (text) => this.warn(text)).then((f) => f && this.add([f])));
    this.drop = h(
      "section.intake", { "aria-label": "Add photos" },
      input, h("div.row", {}, choose, hasCamera() ? camera : null),
      h("p.hint", {}, "or drop photos here, or paste one"),
      this.buildExamples(),
    );
    return this.drop;
  }

  buildExamples() {
    const { examples } = this.engine.info;
    if (!examples?.length) return null;
    const buttons = examples.map(({ name, url }) => {
      const button = h("button.example", { type: "button", "aria-label": `Try the example ${name}` }, h("img", { src: url, alt: "" }));
      button.addEventListener("click", async () => {
        const blob = await (await fetch(url)).blob();
        this.add([new File([blob], name, { type: blob.type })]);
      });
      return button;
    });
    return h("div.examples", { role: "group", "aria-label": "Examples to try" }, h("span", {}, "Or try one:"), buttons);
  }

  buildTools() {
    const csv = h("button", { type: "button" }, "Download CSV");
    csv.addEventListener("click", () => this.downloadCsv());
    const table = h("button", { type: "button", "aria-pressed": "false" }, "Table");
    table.addEventListener("click", () => {
      this.table.hidden = !this.table.hidden;
      table.setAttribute("aria-pressed", String(!this.table.hidden));
      this.refreshTable();
    });
    const clear = h("button", { type: "button" }, "Clear all");
    clear.addEventListener("click", () => [...this.cards].forEach((card) => this.remove(card)));
    this.count = h("p.count", {});
    const tools = h("div.row.tools", { role: "group", "aria-label": "All photos" }, this.count, table, csv, clear);
    tools.hidden = true;
    return tools;
  }

  buildFooter() {
    const { privacy, digest, version } = this.engine.info;
    const model = [digest && `model ${digest}`, version && `Winnow ${version}`].filter(Boolean).join(" · ");
    return h("footer", {}, h("p", {}, privacy), h("p.model", {}, model));
  }

  listen() {
    const { signal } = this.closed;
    const on = (target, type, f) => target.addEventListener(type, f, { signal });
    on(this.root, "dragover", (e) => { e.preventDefault(); this.drop.classList.add("over"); });
    on(this.root, "dragleave", (e) => { if (!this.root.contains(e.relatedTarget)) this.drop.classList.remove("over"); });
    on(this.root, "drop", (e) => { e.preventDefault(); this.drop.classList.remove("over"); this.add(e.dataTransfer.files); });
    on(document, "paste", (e) => { if (e.clipboardData?.files.length) { e.preventDefault(); this.add(e.clipboardData.files); } });
  }

  add(files) {
    const cards = Array.from(files, (file) => new Card(file, this.engine, (c) => this.remove(c)));
    this.cards.push(...cards);
    this.queue.push(...cards);
    this.list.append(...cards.map((card) => card.node));
    for (const card of cards) this.near.observe(card.node);
    this.refresh();
    this.work();
  }

  /** A card is near the window: now its picture is worth its memory. */
  come(node) {
    this.near.unobserve(node);
    this.cards.find((card) => card.node === node)?.come();
  }

  work() {
    while (this.running < AT_ONCE && this.queue.length) {
      this.running += 1;
      this.answer(this.queue.shift()).finally(() => { this.running -= 1; this.work(); });
    }
    if (!this.running) this.pace.now(); // nothing more comes: show what there is
  }

  async answer(card) {
    const onprogress = (share, stage) => this.pace.soon(card, () => card.progress(share, stage));
    const show = (answer) => {
      card.answer = answer;
      this.pace.soon(card, () => card.show(answer));
    };
    const onpreview = (small, instead) => card.preview(small, instead);
    const { signal } = this.closed;
    try {
      show(await this.engine.predict(card.file, { name: card.file.name, onprogress, onpreview, signal }));
    } catch (error) {
      if (error instanceof EngineGone) this.warn(error.message);
      show(failed("", error instanceof EngineGone ? error.message : "This photo could not be answered: try it once more."));
    }
    this.pace.soon(this, () => this.refresh());
  }

  remove(card) {
    this.cards = this.cards.filter((c) => c !== card);
    this.queue = this.queue.filter((c) => c !== card);
    this.near.unobserve(card.node);
    card.close();
    this.refresh();
  }

  answered() {
    return this.cards.filter((c) => c.answer).map((c) => ({ name: c.file.name, answer: c.answer }));
  }

  refresh() {
    const done = this.answered();
    this.tools.hidden = this.cards.length < 2;
    this.count.textContent = done.length < this.cards.length ? `${done.length} of ${this.cards.length} answered` : `${done.length} photos`;
    this.status.textContent = this.cards.length ? this.sentence(done) : "";
    this.refreshTable();
  }

  sentence(done) {
    const last = done.at(-1);
    const latest = last ? ` ${last.name}: ${last.answer.error ?? (last.answer.unlike ? "none of these" : last.answer.label)}` : "";
    return `${done.length} of ${this.cards.length} photos answered.${latest}`;
  }

  refreshTable() {
    if (!this.table.hidden) this.table.replaceChildren(resultsTable(this.answered(), this.engine.info));
  }

  downloadCsv() {
    download(new Blob([resultsCsv(this.answered(), this.engine.info)], { type: "text/csv" }), "answers.csv");
  }

  warn(text) {
    this.notice.textContent = text;
    this.notice.hidden = false;
  }

  close() {
    this.closed.abort();
    this.near.disconnect();
    this.cards.forEach((card) => card.close());
    this.engine.close?.();
  }
}
