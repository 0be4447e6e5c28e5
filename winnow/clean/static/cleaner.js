// The cleaner's window: menus, keys, and what holds list, card and dialogs together.
import { count, followTheme, icon, make } from "./cleaner_dom.js";
import { Store } from "./cleaner_store.js";
import { VirtualList } from "./cleaner_list.js";
import { Card } from "./cleaner_card.js";
import { openAcceptAll, openApply, openDialog, openHelp, openHistory, openLabels, openPhoto } from "./cleaner_dialogs.js";

const POLL = 4000; // milliseconds between looks at what other people decided
const AHEAD = 30; // rows that are fetched before the keys get there
const SELECT_ALL = 2000; // photos that Ctrl+A takes at most
const UNDO_PATIENCE = 6000; // milliseconds in which a second U takes back what somebody else chose
const SPLITS = { train: "Train", valid: "Valid", test: "Test", none: "No side yet" };
const KINDS = {
  label: "Wrong label",
  duplicate: "Copies",
  conflict: "Copies with two labels",
  leak: "Copies across the split",
  off_topic: "Off topic",
  quality: "Poor pictures",
  unreadable: "Can't be opened",
  feedback: "Visitors' corrections",
};
let windows = 0;

class Cleaner {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.store = new Store(model);
    this.list = new VirtualList(this.store, {
      id: `wc-${++windows}`,
      onPick: (position, event) => this.pick(position, event),
      onMark: (position) => this.toggleMark(position),
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
    this.menus = {
      target: this.menu("target", "Clean"),
      label: this.menu("label", "Class"),
      split: this.menu("split", "Split"),
      kind: this.menu("kind", "Suspected"),
    };
    this.modes = { queue: this.modeButton("queue", "Queue"), grid: this.modeButton("grid", "Grid") };
    this.applyButton = make("button", { type: "button", class: "wc-button wc-primary", onclick: () => this.openApply() });
    const tools = make(
      "div",
      { class: "wc-tools" },
      this.tool("undo", "Undo (U)", () => this.undo()),
      this.tool("all", "Accept suggestions above a threshold (T)", () => openAcceptAll(this.root, this.store)),
      this.tool("history", "History (H)", () => openHistory(this.root, this.store)),
      this.tool("help", "Keys and help (?)", () => openHelp(this.root)),
      this.applyButton,
    );
    const modes = make("div", { class: "wc-modes", role: "group", "aria-label": "Arrangement" }, ...Object.values(this.modes));
    const menus = make("div", { class: "wc-menus" }, ...Object.values(this.menus).map(({ field }) => field));
    this.meter = make("progress", { class: "wc-meter", "aria-label": "Photos looked at", max: "1", value: "0" });
    this.said = make("p", { class: "wc-said" });
    this.advice = make("p", { class: "wc-advice", hidden: true });
    this.tabs = make("div", { class: "wc-tabs", role: "group", "aria-label": "Photos of one label" });
    this.body = make("div", { class: "wc-body" }, this.list.element, this.card.element);
    this.bulk = make("div", { class: "wc-bulk", role: "group", "aria-label": "Selected photos", hidden: true });
    this.status = make("p", { class: "wc-status", role: "status", "aria-live": "polite" });
    this.root.append(
      make("header", { class: "wc-bar" }, menus, modes, tools),
      make("div", { class: "wc-progress" }, this.meter, this.said, this.advice),
      this.tabs,
      this.body,
      this.bulk,
      make("footer", { class: "wc-foot" }, this.status, make("span", { class: "wc-hint" }, "Press ", make("kbd", {}, "?"), " for keys")),
    );
  }

  /** @param {string} name a trait @param {string} title */
  menu(name, title) {
    const select = /** @type {HTMLSelectElement} */ (make("select", { "aria-label": title, "data-menu": name }));
    select.addEventListener("change", () => this.set(name, select.value));
    return { select, field: make("label", { class: "wc-field" }, make("span", {}, title), select) };
  }

  /** Set a trait in the kernel. @param {string} name @param {string} value */
  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  modeButton(mode, text) {
    return make("button", { type: "button", class: "wc-mode", "data-mode": mode, onclick: () => this.setMode(mode), "aria-label": text }, icon(mode), make("span", {}, text));
  }

  tool(name, title, onclick) {
    return make("button", { type: "button", class: "wc-tool", title, "aria-label": title, "data-tool": name, onclick }, icon(name));
  }

  // -- hearing ---------------------------------------------------------------------------------

  listen() {
    const { store, model } = this;
    const on = (name, hear) => store.addEventListener(name, hear);
    on("view", () => this.showView());
    on("rows", () => {
      this.markLoaded();
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
      ["change:progress change:estimate change:busy change:sorry", () => this.drawProgress()],
      ["change:classes change:counts change:splits change:kinds change:targets change:target change:label change:split change:kind", () => this.drawMenus()],
      ["change:mode", () => this.drawMode()],
    ];
    for (const [names, hear] of this.traits) names.split(" ").forEach((name) => model.on(name, hear));
    // JupyterLab looks for this mark on the focused element itself; without it X would also cut the cell
    this.root.addEventListener("focusin", ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true"));
    this.root.addEventListener("keydown", (event) => this.press(event));
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
    this.drawMenus();
    this.drawProgress();
    this.drawMode();
    this.showView();
  }

  drawMenus() {
    const { model } = this;
    const counts = model.get("counts");
    const named = (names, words) => names.map((name) => [name, words[name] ?? name]);
    const counted = model.get("classes").map((name) => [name, `${name} (${(counts[name] ?? 0).toLocaleString("en")})`]);
    fill(this.menus.target.select, [["", "Class folders"], ...named(model.get("targets"), {})], model.get("target"));
    fill(this.menus.label.select, [["", "All classes"], ...counted], model.get("label"));
    fill(this.menus.split.select, [["", "All"], ...named(model.get("splits"), SPLITS)], model.get("split"));
    fill(this.menus.kind.select, [["", "Anything"], ...named(model.get("kinds"), KINDS)], model.get("kind"));
    this.drawTabs();
    this.menus.target.field.hidden = !model.get("targets").length;
    this.menus.split.field.hidden = model.get("splits").length < 2;
    this.menus.kind.field.hidden = model.get("kinds").length < 2;
  }

  /** In the grid each class is one click away. */
  drawTabs() {
    const { model } = this;
    const counts = model.get("counts");
    const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
    const tab = (name, text, n) =>
      make("button", { type: "button", class: "wc-tab", "aria-pressed": String(model.get("label") === name), onclick: () => this.set("label", name) },
        text, make("span", { class: "wc-count" }, n.toLocaleString("en")));
    const focused = this.tabs.contains(document.activeElement) ? [...this.tabs.children].indexOf(document.activeElement) : -1;
    this.tabs.replaceChildren(tab("", "All", total), ...model.get("classes").map((name) => tab(name, name, counts[name] ?? 0)));
    this.tabs.children[focused]?.focus();
  }

  drawMode() {
    const mode = this.model.get("mode");
    for (const [name, button] of Object.entries(this.modes)) button.setAttribute("aria-pressed", String(name === mode));
    this.root.dataset.mode = mode;
    this.list.setGrid(mode === "grid");
  }

  drawProgress() {
    const progress = this.model.get("progress");
    if (progress.total === undefined) return;
    const { keep, relabel, remove } = progress.pending;
    this.meter.max = Math.max(1, progress.total);
    this.meter.value = progress.looked;
    const looked = `${progress.looked.toLocaleString("en")} of ${count(progress.total, "photo")} looked at`;
    const { wrong, advice, stop } = this.model.get("estimate");
    const parts = [this.model.get("sorry") || looked, wrong, this.model.get("busy")];
    this.said.textContent = parts.filter(Boolean).join(" · ");
    this.advice.hidden = !advice;
    this.advice.textContent = advice ?? "";
    this.advice.classList.toggle("wc-stop", Boolean(stop));
    const waiting = keep + relabel + remove;
    this.applyButton.textContent = waiting ? `Apply ${waiting.toLocaleString("en")}` : "Apply";
    this.applyButton.disabled = !waiting;
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
    this.drawBulk();
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
    this.set("mode", mode);
  }

  /** Show the class after (or before, -1) this one; "all" lies between the last and the first. @param {1|-1} step */
  turnClass(step) {
    const names = ["", ...this.model.get("classes")];
    const at = names.indexOf(this.model.get("label")) + step;
    this.set("label", names[(at + names.length) % names.length]);
  }

  moveTo(position, { extend = false } = {}) {
    const from = this.list.cursor;
    this.list.moveTo(position);
    this.store.row(this.list.cursor + AHEAD);
    if (extend) this.mark(from, this.list.cursor);
    this.showCard();
  }

  /** @param {number} position @param {MouseEvent} event */
  pick(position, event) {
    if (event.shiftKey) this.mark(this.list.cursor, position);
    else if (event.ctrlKey || event.metaKey) return this.toggleMark(position);
    const again = position === this.list.cursor && this.model.get("mode") === "grid" && event.detail > 1;
    this.moveTo(position);
    if (again) this.openPhoto();
  }

  /** Select a stretch of the list; what is still on its way is selected when it comes. */
  mark(from, to) {
    this.marking = [Math.min(from, to), Math.max(from, to)];
    this.markLoaded();
  }

  markLoaded() {
    if (!this.marking) return;
    const [first, last] = this.marking;
    let missing = false;
    for (let position = first; position <= last; position++) {
      const row = this.store.row(position);
      if (row) this.list.marked.add(row.path);
      else missing = true;
    }
    if (!missing) this.marking = null;
    this.list.redraw();
    this.drawBulk();
  }

  toggleMark(position) {
    const row = this.store.row(position);
    if (!row) return;
    if (!this.list.marked.delete(row.path)) this.list.marked.add(row.path);
    this.list.moveTo(position);
    this.list.redraw();
    this.drawBulk();
  }

  clearMarks() {
    this.marking = null;
    this.list.marked.clear();
    this.list.redraw();
    this.drawBulk();
  }

  /** What can be done to several photos at once. */
  drawBulk() {
    const n = this.list.marked.size;
    this.bulk.hidden = !n;
    if (!n) return;
    const button = (text, onclick, style = "") => make("button", { type: "button", class: `wc-button ${style}`, onclick }, text);
    this.bulk.replaceChildren(
      make("strong", {}, `${count(n, "photo")} selected`),
      button("Accept suggestions", () => this.act("accept"), "wc-primary"),
      button("Keep", () => this.act("keep")),
      button("Label…", () => this.openLabels()),
      button("Remove", () => this.act("remove"), "wc-danger"),
      button("Clear", () => this.clearMarks()),
    );
  }

  /**
   * Decide on the selected photos, or on the current one and go on to the next.
   * @param {"accept"|"keep"|"remove"|"relabel"} action @param {string} [label]
   */
  act(action, label) {
    const several = this.list.marked.size > 0;
    if (this.marking || (!several && !this.current)) return this.say("Still loading: once more in a moment.");
    const rows = several ? [...this.list.marked].map((path) => this.store.known(path)) : [this.current];
    const choices = rows.filter(Boolean).map((row) => choiceFor(row, action, label)).filter(Boolean);
    if (!choices.length) return this.say("There is no suggestion to accept: keep it, give it a label, or remove it.");
    this.store.decide(choices);
    this.drawOnTheWay();
    this.say(choices.length > 1 ? `${count(choices.length, "photo")} decided.` : sayChoice(choices[0]));
    if (several) {
      this.clearMarks();
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

  // -- keys ------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.defaultPrevented || this.root.querySelector("dialog[open]")) return;
    const target = /** @type {HTMLElement} */ (event.target);
    if (target.matches("input, select, textarea")) return;
    if (target.matches("button") && (event.key === "Enter" || event.key === " ")) return;
    const done = this.chord(event) || this.stroke(event);
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** With Ctrl or Cmd. */
  chord(event) {
    if (!(event.ctrlKey || event.metaKey)) return false;
    const doing = { z: () => this.undo(), a: () => this.mark(0, Math.min(this.store.total, SELECT_ALL) - 1) }[event.key.toLowerCase()];
    doing?.();
    return Boolean(doing);
  }

  stroke(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const { cursor, columns, pageLength } = this.list;
    const extend = { extend: event.shiftKey };
    const label = /^[0-9]$/.test(event.key) && this.model.get("classes")[(Number(event.key) + 9) % 10];
    if (label) {
      this.act("relabel", label);
      return true;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const doing = {
      ArrowDown: () => this.moveTo(cursor + columns, extend),
      ArrowUp: () => this.moveTo(cursor - columns, extend),
      ArrowRight: () => this.moveTo(cursor + 1, extend),
      ArrowLeft: () => this.moveTo(cursor - 1, extend),
      PageDown: () => this.moveTo(cursor + pageLength, extend),
      PageUp: () => this.moveTo(cursor - pageLength, extend),
      Home: () => this.moveTo(0, extend),
      End: () => this.moveTo(this.store.total - 1, extend),
      Enter: () => this.act("accept"),
      a: () => this.act("accept"),
      k: () => this.act("keep"),
      x: () => this.act("remove"),
      Delete: () => this.act("remove"),
      u: () => this.undo(),
      n: () => this.seek(1),
      p: () => this.seek(-1),
      l: () => this.openLabels(),
      " ": () => this.toggleMark(cursor),
      f: () => this.openPhoto(),
      g: () => this.setMode(this.model.get("mode") === "grid" ? "queue" : "grid"),
      h: () => openHistory(this.root, this.store),
      t: () => openAcceptAll(this.root, this.store),
      s: () => !this.applyButton.disabled && this.openApply(),
      Escape: () => this.clearMarks(),
      "[": () => this.turnClass(-1),
      "]": () => this.turnClass(1),
      "?": () => openHelp(this.root),
    }[key];
    doing?.();
    return Boolean(doing);
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

/** @param {HTMLSelectElement} select @param {[string, string][]} options @param {string} value */
function fill(select, options, value) {
  select.replaceChildren(...options.map(([name, text]) => new Option(text, name, false, name === value)));
}

/** anywidget's entry. */
function render({ model, el }) {
  const root = make("section", { class: "winnow-cleaner", "aria-label": "Label cleaner" });
  el.append(root);
  const cleaner = new Cleaner(model, root);
  return () => cleaner.close();
}

export default { render };
