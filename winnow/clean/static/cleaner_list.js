// The list and the grid: only what is on the screen exists, so that 100,000 rows scroll like 100.
import { chip, fileName, icon, make, percent } from "./cleaner_dom.js";

const ROW_HEIGHT = 76;
const TILE = { width: 168, height: 228 };
const OVERSCAN = 4;
const LARGEST = 15_000_000; // browsers clip taller elements (Firefox at 17.8 million pixels)

/** A listbox, one column (queue) or many (grid). */
export class VirtualList {
  /**
   * @param {import("./cleaner_store.js").Store} store
   * @param {{id: string, onPick: (position: number, event: MouseEvent) => void, onMark: (position: number) => void}} options
   */
  constructor(store, { id, onPick, onMark }) {
    Object.assign(this, { store, id, onPick, onMark });
    this.grid = false;
    this.cursor = 0;
    /** @type {Set<string>} */
    this.marked = new Set();
    this.sizer = make("div", { class: "wc-sizer", role: "presentation" });
    this.element = make(
      "div",
      {
        class: "wc-list",
        role: "listbox",
        tabindex: "0",
        "aria-label": "Photos, most suspect first",
        "aria-multiselectable": "true",
        onscroll: () => this.draw(),
        onclick: (event) => this.click(event),
      },
      this.sizer,
    );
    /** @type {Map<number, HTMLElement>} */
    this.drawn = new Map();
    /** @type {Map<string, HTMLElement>} pictures by URL, used again when a row is drawn anew: no flash */
    this.images = new Map();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.element);
  }

  get columns() {
    return this.grid ? Math.max(1, Math.floor(this.element.clientWidth / TILE.width)) : 1;
  }

  get lineHeight() {
    return this.grid ? TILE.height : ROW_HEIGHT;
  }

  get lines() {
    return Math.ceil(this.store.total / this.columns);
  }

  /** Beyond the tallest element a browser draws, scrolling is scaled. */
  get scale() {
    return Math.min(1, LARGEST / Math.max(1, this.lines * this.lineHeight));
  }

  /** @param {boolean} grid */
  setGrid(grid) {
    this.grid = grid;
    this.element.classList.toggle("wc-as-grid", grid);
    this.redraw();
    this.reveal();
  }

  /** Forget every element and draw anew. */
  redraw() {
    this.drawn.forEach((element) => element.remove());
    this.drawn.clear();
    this.draw();
  }

  /** Draw what is on the screen, drop the rest, ask for the missing thumbnails. */
  draw() {
    const { element, lineHeight, columns, scale } = this;
    if (!element.clientHeight) return;
    this.sizer.style.height = `${Math.min(LARGEST, this.lines * lineHeight)}px`;
    const top = element.scrollTop / scale;
    const first = Math.max(0, Math.floor(top / lineHeight) - OVERSCAN) * columns;
    const lastLine = Math.ceil((top + element.clientHeight) / lineHeight) + OVERSCAN;
    const last = Math.min(this.store.total, lastLine * columns);
    for (const [position, child] of this.drawn) {
      if (position >= first && position < last && !child.dataset.stale) continue;
      child.remove();
      this.drawn.delete(position);
    }
    const wanted = [];
    if (this.images.size > 400) this.images.clear();
    for (let position = first; position < last; position++) {
      const row = this.store.row(position);
      if (row) wanted.push(row.path);
      if (!this.drawn.has(position)) this.add(position, row);
      this.place(position, top, scale);
    }
    if (this.drawn.has(this.cursor)) element.setAttribute("aria-activedescendant", this.optionId(this.cursor));
    else element.removeAttribute("aria-activedescendant");
    this.store.wish(wanted);
  }

  optionId(position) {
    return `${this.id}-${position}`;
  }

  /** @param {number} position @param {Row|undefined} row */
  add(position, row) {
    const option = row ? this.option(row) : make("div", { class: "wc-row wc-waiting" });
    option.id = this.optionId(position);
    option.dataset.position = String(position);
    if (!row) option.dataset.stale = "1";
    option.setAttribute("role", "option");
    option.setAttribute("aria-posinset", String(position + 1));
    option.setAttribute("aria-setsize", String(this.store.total));
    const marked = Boolean(row && this.marked.has(row.path));
    option.setAttribute("aria-selected", String(marked));
    option.classList.toggle("wc-current", position === this.cursor);
    option.setAttribute("aria-label", row ? this.words(row) : "loading");
    this.drawn.set(position, option);
    this.sizer.append(option);
  }

  place(position, top, scale) {
    const line = Math.floor(position / this.columns);
    const shift = this.element.scrollTop - top; // nothing, unless scrolling is scaled
    const style = this.drawn.get(position).style;
    style.top = `${line * this.lineHeight + (scale < 1 ? shift : 0)}px`;
    style.height = `${this.lineHeight}px`;
    style.left = `${((position % this.columns) / this.columns) * 100}%`;
    style.width = `${100 / this.columns}%`;
  }

  /** @param {Row} row what a screen reader says */
  words(row) {
    const fromVisitor = row.kind === "feedback";
    const given = fromVisitor ? `the app said ${row.label || "nothing"}` : `labelled ${row.label}`;
    const suggestion = row.suggested ? `, ${fromVisitor ? "a visitor says" : "looks like"} ${row.suggested}` : "";
    const sure = row.suggested && row.confidence !== null ? ` ${percent(row.confidence)}` : "";
    const decided = row.decision ? `, ${chip(row.decision).textContent}` : "";
    return `${fileName(row.path)}, ${given}${suggestion}${sure}${decided}`;
  }

  /** @param {Row} row */
  option(row) {
    const fault = this.store.faults.get(row.path);
    const url = this.store.pictures.thumb.get(row.path);
    const picture = url ? this.image(url) : fault ? icon("warn") : null;
    const thumb = make("span", { class: "wc-thumb" }, picture);
    const mark = make("span", { class: "wc-mark", "aria-hidden": "true" }, icon("keep"));
    const suspicion = row.score === null ? null : make("span", { class: "wc-suspicion", "aria-hidden": "true" });
    suspicion?.style.setProperty("--share", String(row.score));
    const names = make(
      "span",
      { class: "wc-names" },
      make("span", { class: "wc-given" }, row.label || "no label"),
      row.suggested && icon("relabel"),
      row.suggested && make("span", { class: "wc-suggested" }, row.suggested),
    );
    const note = make("span", { class: "wc-note" }, fault || kindWords(row));
    const text = make("span", { class: "wc-text" }, names, chip(row.decision) ?? note, suspicion);
    return make("div", { class: "wc-row" }, thumb, mark, text);
  }

  /** @param {string} url */
  image(url) {
    if (!this.images.has(url)) this.images.set(url, make("img", { src: url, alt: "", draggable: "false", decoding: "sync" }));
    return this.images.get(url);
  }

  /** Redraw the rows of these paths. @param {Iterable<string>} paths */
  renew(paths) {
    for (const path of paths) {
      const element = this.drawn.get(this.store.places.get(path));
      if (element) element.dataset.stale = "1";
    }
    this.draw();
  }

  /** @param {MouseEvent} event */
  click(event) {
    const option = event.target.closest("[role=option]");
    if (!option) return;
    const position = Number(option.dataset.position);
    if (event.target.closest(".wc-mark")) this.onMark(position);
    else this.onPick(position, event);
  }

  /** @param {number} position */
  moveTo(position) {
    this.drawn.get(this.cursor)?.classList.remove("wc-current");
    this.cursor = Math.max(0, Math.min(this.store.total - 1, position));
    this.drawn.get(this.cursor)?.classList.add("wc-current");
    this.reveal();
  }

  /** Scroll as little as it takes to see the current row. */
  reveal() {
    const { element, lineHeight, scale } = this;
    const line = Math.floor(this.cursor / this.columns);
    const top = element.scrollTop / scale;
    if (line * lineHeight < top) element.scrollTop = line * lineHeight * scale;
    else if ((line + 1) * lineHeight > top + element.clientHeight)
      element.scrollTop = ((line + 1) * lineHeight - element.clientHeight) * scale;
    this.draw();
  }

  get pageLength() {
    return Math.max(1, Math.floor(this.element.clientHeight / this.lineHeight) - 1) * this.columns;
  }

  close() {
    this.watcher.disconnect();
  }
}

const KIND_WORDS = {
  duplicate: "a copy of another photo",
  conflict: "a copy with another label",
  leak: "a copy on both sides of the split",
  off_topic: "unlike every class",
  quality: "poor picture",
  unreadable: "can't be opened",
  feedback: "a visitor disagrees",
};

/** @param {Row} row a few words under the labels */
export function kindWords(row) {
  if (KIND_WORDS[row.kind]) return KIND_WORDS[row.kind];
  if (row.suggested && row.confidence !== null) return `${percent(row.confidence)} sure`;
  return fileName(row.path);
}
