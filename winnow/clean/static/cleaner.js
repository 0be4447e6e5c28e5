// The cleaner's window: what holds bar, list, card, keys and dialogs together.
import { count, followTheme, make } from "./cleaner_dom.js";
import { Store } from "./cleaner_store.js";
import { VirtualList } from "./cleaner_list.js";
import { Bar } from "./cleaner_bar.js";
import { Card } from "./cleaner_card.js";
import { Marks } from "./cleaner_marks.js";
import { press } from "./cleaner_keys.js";
import { openAcceptAll, openApply, openHelp, openHistory, openLabels, openPhoto } from "./cleaner_dialogs.js";

const POLL = 4000; // milliseconds between looks at what other people decided
const AHEAD = 30; // rows that are fetched before the keys get there
const UNDO_PATIENCE = 6000; // milliseconds in which a second U takes back what somebody else chose
let windows = 0;

class Cleaner {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.store = new Store(model);
    this.list = new VirtualList(this.store, {
      id: `wc-${++windows}`,
      onPick: (position, event) => this.pick(position, event),
      onMark: (position) => this.marks.toggle(position),
    });
    this.card = new Card(this.store, {
      act: (action, label) => this.act(action, label),
      zoom: () => this.openPhoto(),
      pickLabel: () => this.openLabels(),
      classes: () => this.model.get("classes"),
      show: (path) => openPhoto(this.root, this.store, path),
    });
    this.build();
    this.listen();
    this.drawAll();
  }

  // -- building --------------------------------------------------------------------------------

  build() {
    this.bar = new Bar(this.model, {
      undo: () => this.undo(),
      acceptAll: () => openAcceptAll(this.root, this.store),
      history: () => openHistory(this.root, this.store),
      help: () => openHelp(this.root),
      apply: () => this.openApply(),
    });
    this.body = make("div", { class: "wc-body" }, this.list.element, this.card.element);
    this.marks = new Marks(this.store, this.list, { act: (action) => this.act(action), pickLabel: () => this.openLabels() });
    this.status = make("p", { class: "wc-status", role: "status", "aria-live": "polite" });
    const hint = make("span", { class: "wc-hint" }, "Press ", make("kbd", {}, "?"), " for keys");
    this.root.append(...this.bar.elements, this.body, this.marks.element, make("footer", { class: "wc-foot" }, this.status, hint));
  }

  // -- hearing ---------------------------------------------------------------------------------

  listen() {
    const { store, model } = this;
    const on = (name, hear) => store.addEventListener(name, hear);
    on("view", () => this.showView());
    on("rows", () => {
      this.marks.markLoaded();
      this.drawRows();
    });
    on("chosen", ({ detail }) => this.list.renew(detail));
    on("pictures", ({ detail }) => this.drawPictures(detail));
    on("detail", ({ detail }) => this.takeDetail(detail));
    on("decided", ({ detail }) => this.afterAnswer(detail));
    on("undo-asks", ({ detail }) => {
      this.undoAsked = Date.now();
      this.say(detail.text);
    });
    on("go", ({ detail }) => this.moveTo(detail.position));
    on("undone", ({ detail }) => this.afterUndo(detail));
    on("applied", ({ detail }) => this.say(detail.text));
    on("working", ({ detail }) => this.say(detail));
    on("refused", ({ detail }) => {
      store.takeDecided(detail);
      this.afterAnswer(detail);
    });
    this.traits = [
      ["change:progress change:estimate change:busy change:sorry", () => this.bar.drawProgress()],
      ["change:classes change:counts change:splits change:kinds change:targets change:target change:label change:split change:kind", () => this.bar.drawMenus()],
      ["change:mode", () => this.drawMode()],
    ];
    for (const [names, hear] of this.traits) names.split(" ").forEach((name) => model.on(name, hear));
    // JupyterLab looks for this mark on the focused element itself; without it X would also cut the cell
    this.root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
    this.root.addEventListener("keydown", (event) => press(this, event));
    this.unfollow = followTheme(this.root);
    this.holdTab = (event) => this.store.unsaved && event.preventDefault();
    window.addEventListener("beforeunload", this.holdTab);
    this.timer = setInterval(() => {
      if (document.visibilityState === "visible" && this.root.isConnected) store.send({ type: "poll" });
    }, POLL);
  }

  close() {
    clearInterval(this.timer);
    clearTimeout(this.late);
    window.removeEventListener("beforeunload", this.holdTab);
    this.unfollow();
    this.list.close();
    this.store.close();
  }

  // -- drawing ---------------------------------------------------------------------------------

  drawAll() {
    this.bar.drawMenus();
    this.bar.drawProgress();
    this.drawMode();
    this.showView();
  }

  drawMode() {
    const mode = this.model.get("mode");
    this.bar.drawMode();
    this.root.dataset.mode = mode;
    this.list.setGrid(mode === "grid");
  }

  /** A new list: its first open photo, or the photo that one was looking at if the list only changed its order. */
  showView() {
    const { stay, first } = this.model.get("view");
    const path = this.card.path;
    this.list.cursor = Math.min(stay && path ? this.list.cursor : first ?? 0, Math.max(0, this.store.total - 1));
    if (stay && path) this.store.send({ type: "find", path });
    this.list.redraw();
    this.list.reveal();
    this.showCard();
    this.marks.draw();
  }

  /** Rows came: those that waited for them are stale already, the others stay as they are. */
  drawRows() {
    this.list.draw();
    this.showCard();
  }

  drawPictures({ size, items }) {
    if (size === "thumb" || items.some(({ fault }) => fault)) this.list.renew(items.map(({ path }) => path));
    if (items.some(({ path }) => this.card.shows(path))) this.showCard();
  }

  takeDetail(detail) {
    this.card.takeDetail(detail);
    if (detail.path === this.card.path) this.showCard();
  }

  get current() {
    return this.store.row(this.list.cursor);
  }

  showCard() {
    this.card.show(this.current);
    const next = this.store.rows.get(this.list.cursor + 1);
    if (next && this.model.get("mode") === "queue") this.store.picture(next.path, "preview");
  }

  say(text) {
    if (text) this.status.textContent = text;
  }

  /** A kernel that is at work on a cell reads messages later: say that choices wait for it. */
  drawOnTheWay() {
    clearTimeout(this.late);
    this.late = setTimeout(() => {
      if (this.store.unsaved) this.say(`${count(this.store.unsaved, "choice")} on the way: the kernel is busy or gone.`);
    }, 1500);
  }

  afterAnswer(detail) {
    const paths = Object.keys(detail.decisions);
    this.say(detail.text);
    this.list.renew(paths);
    if (paths.includes(this.card.path)) this.showCard();
  }

  afterUndo(detail) {
    this.afterAnswer(detail);
    if (detail.position !== null) this.moveTo(detail.position);
  }

  // -- doing -----------------------------------------------------------------------------------

  setMode(mode) {
    this.bar.set("mode", mode);
  }

  /** Show the class after (or before, -1) this one; "all" lies between the last and the first. @param {1|-1} step */
  turnClass(step) {
    const names = ["", ...this.model.get("classes")];
    const at = names.indexOf(this.model.get("label")) + step;
    this.bar.set("label", names[(at + names.length) % names.length]);
  }

  moveTo(position, { extend = false } = {}) {
    const from = this.list.cursor;
    this.list.moveTo(position);
    this.store.row(this.list.cursor + AHEAD);
    if (extend) this.marks.mark(from, this.list.cursor);
    this.showCard();
  }

  /** @param {number} position @param {MouseEvent} event */
  pick(position, event) {
    if (event.shiftKey) this.marks.mark(this.list.cursor, position);
    else if (event.ctrlKey || event.metaKey) return this.marks.toggle(position);
    const again = position === this.list.cursor && this.model.get("mode") === "grid" && event.detail > 1;
    this.moveTo(position);
    if (again) this.openPhoto();
  }

  /**
   * Decide on the selected photos, or on the current one and go on to the next.
   * @param {"accept"|"keep"|"remove"|"relabel"} action @param {string} [label]
   */
  act(action, label) {
    const { paths } = this.marks;
    const several = paths.length > 0;
    if (this.marks.marking || (!several && !this.current)) return this.say("Still loading: once more in a moment.");
    const rows = several ? paths.map((path) => this.store.known(path)) : [this.current];
    const choices = rows.filter(Boolean).map((row) => choiceFor(row, action, label)).filter(Boolean);
    if (!choices.length) return this.say("There is no suggestion to accept: keep it, give it a label, or remove it.");
    this.store.decide(choices);
    this.drawOnTheWay();
    this.say(choices.length > 1 ? `${count(choices.length, "photo")} decided.` : sayChoice(choices[0]));
    if (several) {
      this.marks.clear();
      this.showCard();
    } else this.moveTo(this.list.cursor + 1);
  }

  /** Take back my last action; what somebody else chose last only when asked twice. */
  undo() {
    const anybody = Date.now() - (this.undoAsked ?? 0) < UNDO_PATIENCE;
    this.undoAsked = 0;
    this.store.send({ type: "undo", anybody });
  }

  /** Go to the next (or previous) photo without a choice. @param {1|-1} step */
  seek(step) {
    this.store.send({ type: "next", position: this.list.cursor, step });
  }

  openPhoto() {
    if (this.current) openPhoto(this.root, this.store, this.current.path);
  }

  openLabels() {
    openLabels(this.root, this.model.get("classes"), (label) => this.act("relabel", label));
  }

  openApply() {
    openApply(this.root, this.model.get("progress").pending, () => {
      this.store.send({ type: "apply" });
      this.say("Moving the files…");
    });
  }
}

/** @param {Row} row */
function choiceFor(row, action, label) {
  if (action === "accept") return row.accept && { path: row.path, ...row.accept };
  return { path: row.path, action, ...(label === undefined ? {} : { label }) };
}

function sayChoice({ action, label }) {
  return { keep: "Kept.", remove: "Removed.", relabel: `Now ${label}.` }[action];
}

/** anywidget's entry. */
function render({ model, el }) {
  const root = make("section", { class: "winnow-cleaner", "aria-label": "Label cleaner" });
  el.append(root);
  const cleaner = new Cleaner(model, root);
  return () => cleaner.close();
}

export default { render };
