// What stands above list and card: menus, queue or grid, tools, how far one is, and a tab for each class.
import { count, icon, make } from "./cleaner_dom.js";

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

/** Draws what the kernel's traits say, and sets them. */
export class Bar {
  /**
   * @param {any} model
   * @param {{undo: () => void, acceptAll: () => void, history: () => void, help: () => void, apply: () => void}} can
   */
  constructor(model, can) {
    this.model = model;
    this.menus = {
      target: this.menu("target", "Clean"),
      label: this.menu("label", "Class"),
      split: this.menu("split", "Split"),
      kind: this.menu("kind", "Suspected"),
    };
    this.modes = { queue: this.modeButton("queue", "Queue"), grid: this.modeButton("grid", "Grid") };
    this.applyButton = make("button", { type: "button", class: "wc-button wc-primary", onclick: can.apply });
    this.meter = make("progress", { class: "wc-meter", "aria-label": "Photos looked at", max: "1", value: "0" });
    this.said = make("p", { class: "wc-said" });
    this.advice = make("p", { class: "wc-advice", hidden: true });
    this.tabs = make("div", { class: "wc-tabs", role: "group", "aria-label": "Photos of one label" });
    const tools = make(
      "div",
      { class: "wc-tools" },
      this.tool("undo", "Undo (U)", can.undo),
      this.tool("all", "Accept suggestions above a threshold (T)", can.acceptAll),
      this.tool("history", "History (H)", can.history),
      this.tool("help", "Keys and help (?)", can.help),
      this.applyButton,
    );
    const modes = make("div", { class: "wc-modes", role: "group", "aria-label": "Arrangement" }, ...Object.values(this.modes));
    const menus = make("div", { class: "wc-menus" }, ...Object.values(this.menus).map(({ field }) => field));
    this.elements = [
      make("header", { class: "wc-bar" }, menus, modes, tools),
      make("div", { class: "wc-progress" }, this.meter, this.said, this.advice),
      this.tabs,
    ];
  }

  /** @param {string} name a trait @param {string} title */
  menu(name, title) {
    const select = /** @type {HTMLSelectElement} */ (make("select", { "aria-label": title, "data-menu": name }));
    select.addEventListener("change", () => this.set(name, select.value));
    return { select, field: make("label", { class: "wc-field" }, make("span", {}, title), select) };
  }

  modeButton(mode, text) {
    return make("button", { type: "button", class: "wc-mode", "data-mode": mode, onclick: () => this.set("mode", mode), "aria-label": text }, icon(mode), make("span", {}, text));
  }

  tool(name, title, onclick) {
    return make("button", { type: "button", class: "wc-tool", title, "aria-label": title, "data-tool": name, onclick }, icon(name));
  }

  /** Set a trait in the kernel. @param {string} name @param {string} value */
  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  drawMenus() {
    const { model } = this;
    const counts = model.get("counts");
    const named = (names, words) => names.map((name) => [name, words[name] ?? name]);
    const counted = model.get("classes").map((name) => [name, `${name} (${(counts[name] ?? 0).toLocaleString("en")})`]);
    fill(this.menus.target.select, [["", "Folders"], ...named(model.get("targets"), {})], model.get("target"));
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
}

/** @param {HTMLSelectElement} select @param {[string, string][]} options @param {string} value */
function fill(select, options, value) {
  select.replaceChildren(...options.map(([name, text]) => new Option(text, name, false, name === value)));
}
