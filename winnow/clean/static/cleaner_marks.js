// Several photos at once: which ones are selected, and what can be done to all of them.
import { count, make } from "./cleaner_dom.js";

/** The selection, which the list shows, and the bar of buttons for it. */
export class Marks {
  /**
   * @param {import("./cleaner_store.js").Store} store @param {import("./cleaner_list.js").VirtualList} list
   * @param {{act: (action: string) => void, pickLabel: () => void}} can
   */
  constructor(store, list, can) {
    Object.assign(this, { store, list, can });
    /** @type {[number, number]|null} a stretch of the list that is still on its way */
    this.marking = null;
    this.element = make("div", { class: "wc-bulk", role: "group", "aria-label": "Selected photos", hidden: true });
  }

  /** @returns {string[]} */
  get paths() {
    return [...this.list.marked];
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
    this.show();
  }

  /** @param {number} position */
  toggle(position) {
    const row = this.store.row(position);
    if (!row) return;
    if (!this.list.marked.delete(row.path)) this.list.marked.add(row.path);
    this.list.moveTo(position);
    this.show();
  }

  clear() {
    this.marking = null;
    this.list.marked.clear();
    this.show();
  }

  show() {
    this.list.redraw();
    this.draw();
  }

  draw() {
    const n = this.list.marked.size;
    this.element.hidden = !n;
    if (!n) return;
    const button = (text, onclick, style = "") => make("button", { type: "button", class: `wc-button ${style}`, onclick }, text);
    this.element.replaceChildren(
      make("strong", {}, `${count(n, "photo")} selected`),
      button("Accept suggestions", () => this.can.act("accept"), "wc-primary"),
      button("Keep", () => this.can.act("keep")),
      button("Label…", this.can.pickLabel),
      button("Remove", () => this.can.act("remove"), "wc-danger"),
      button("Clear", () => this.clear()),
    );
  }
}
