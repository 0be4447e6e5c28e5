// The card: one photo, what it is called, what speaks against that, and everything one can do about it.
import { chip, count, fileName, icon, make, percent } from "./cleaner_dom.js";

/** The photo under the cursor, large. */
export class Card {
  /**
   * @param {import("./cleaner_store.js").Store} store
   * @param {{act: (action: string, label?: string) => void, zoom: () => void, pickLabel: () => void,
   *   classes: () => string[], show: (path: string) => void}} can
   */
  constructor(store, can) {
    Object.assign(this, { store, can });
    /** @type {Map<string, any>} */
    this.details = new Map();
    this.element = make("section", { class: "wc-card", "aria-label": "The current photo" });
    this.path = "";
  }

  /** @param {Row|undefined} row */
  show(row) {
    if (!row) {
      this.path = "";
      this.element.replaceChildren(make("p", { class: "wc-empty" }, this.store.total ? "Loading…" : "No photo here."));
      return;
    }
    const changed = this.path !== row.path;
    this.path = row.path;
    if (changed && !this.details.has(row.path)) this.store.send({ type: "detail", path: row.path });
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    const scrolled = changed ? 0 : this.element.querySelector(".wc-facts")?.scrollTop ?? 0;
    const facts = this.facts(row);
    this.element.replaceChildren(this.photo(row), facts);
    facts.scrollTop = scrolled;
    if (focused) this.element.querySelector(`[data-does="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  /** Whether a picture is on the card: the photo itself or a neighbour. @param {string} path */
  shows(path) {
    return path === this.path || Boolean(this.details.get(this.path)?.neighbours.some((near) => near.path === path));
  }

  /** @param {any} detail */
  takeDetail(detail) {
    if (this.details.size > 200) this.details.clear();
    this.details.set(detail.path, detail);
  }

  /** @param {Row} row */
  photo(row) {
    const fault = this.store.faults.get(row.path);
    if (fault) return make("div", { class: "wc-photo wc-fault" }, icon("warn"), make("p", {}, fault));
    const url = this.store.picture(row.path, "preview") ?? this.store.pictures.thumb.get(row.path);
    if (this.shown?.url === url && this.shown?.path === row.path) return this.shown.element;
    const image = url && make("img", { src: url, alt: `Photo ${fileName(row.path)}`, draggable: "false", decoding: "sync" });
    const element = make(
      "button",
      { class: "wc-photo", type: "button", "data-does": "zoom", "aria-label": "Show the photo in full size", onclick: this.can.zoom },
      image,
      make("span", { class: "wc-zoom", "aria-hidden": "true" }, icon("zoom")),
    );
    this.shown = { url, path: row.path, element };
    return element;
  }

  /** @param {Row} row */
  facts(row) {
    return make(
      "div",
      { class: "wc-facts" },
      this.headline(row),
      this.bars(row),
      this.reasons(row),
      this.actions(row),
      this.labels(row),
      this.neighbours(row),
      make("p", { class: "wc-path", title: row.path }, row.path, this.details.get(row.path)?.split && ` · ${this.details.get(row.path).split}`),
    );
  }

  /** @param {Row} row */
  headline(row) {
    if (row.kind === "feedback") return this.visitorsLine(row);
    const given = make("b", {}, row.label || "nothing");
    const looks = row.suggested ? [", looks like ", make("b", { class: "wc-suggested" }, row.suggested)] : [];
    return make("h3", { class: "wc-headline" }, "Labelled ", given, ...looks, chip(row.decision));
  }

  /** A photo that an app's visitor corrected, in no class yet. @param {Row} row */
  visitorsLine(row) {
    const app = row.label ? ["The app said ", make("b", {}, row.label), ", a"] : ["A"];
    return make("h3", { class: "wc-headline" }, ...app, " visitor says ", make("b", { class: "wc-suggested" }, row.suggested), chip(row.decision));
  }

  /** Given against suggested. @param {Row} row */
  bars(row) {
    if (row.confidence === null || !row.suggested) return null;
    const given = row.given ?? null;
    return make(
      "dl",
      { class: "wc-bars" },
      ...(given === null ? [] : bar(row.label, given, "wc-bar-given")),
      ...bar(row.suggested, row.confidence, "wc-bar-suggested"),
    );
  }

  /** @param {Row} row */
  reasons(row) {
    const detail = this.details.get(row.path);
    const reasons = detail?.reasons.length ? detail.reasons.map(({ reason }) => reason) : [row.reason];
    const said = [...new Set(reasons.filter(Boolean))];
    if (!said.length) return null;
    return make("ul", { class: "wc-reasons" }, ...said.map((text) => make("li", {}, ...emphasised(text))));
  }

  /** @param {Row} row */
  actions(row) {
    const { accept } = row;
    const suggestion =
      accept &&
      this.button(
        accept.action === "remove" ? "Accept: remove" : `Accept: ${accept.label}`,
        "⏎", "wc-primary", "accept", () => this.can.act("accept"), "keep",
      );
    return make(
      "div",
      { class: "wc-actions" },
      suggestion,
      row.label && this.button(row.kind === "feedback" ? `Add as ${row.label}` : `Keep ${row.label}`, "K", "", "keep", () => this.can.act("keep"), "keep"),
      this.button("Remove", "X", "wc-danger", "remove", () => this.can.act("remove"), "remove"),
    );
  }

  button(text, key, style, does, onclick, sign) {
    const hint = make("kbd", { "aria-hidden": "true" }, key);
    return make("button", { type: "button", class: `wc-button ${style}`, "data-does": does, onclick }, icon(sign), text, hint);
  }

  /** Every label by number. @param {Row} row */
  labels(row) {
    const classes = this.can.classes();
    const now = row.decision?.kind === "relabel" ? row.decision.after : row.kind === "feedback" ? null : row.label;
    const buttons = classes.slice(0, 10).map((label, i) =>
      make(
        "button",
        {
          type: "button",
          class: "wc-label",
          "data-does": `label ${label}`,
          "aria-pressed": String(label === now),
          onclick: () => this.can.act("relabel", label),
        },
        make("kbd", { "aria-hidden": "true" }, (i + 1) % 10),
        label,
      ),
    );
    if (classes.length > 10) {
      const more = `All ${classes.length} labels…`;
      buttons.push(
        make("button", { type: "button", class: "wc-label", "data-does": "labels", onclick: this.can.pickLabel },
          make("kbd", { "aria-hidden": "true" }, "L"), more),
      );
    }
    return make("div", { class: "wc-labels", role: "group", "aria-label": "Give it a label" }, ...buttons);
  }

  /** @param {Row} row */
  neighbours(row) {
    const near = this.details.get(row.path)?.neighbours ?? [];
    if (!near.length) return null;
    this.store.wishMore(near.map(({ path }) => path));
    const different = near.filter(({ label }) => label !== row.label).length;
    const tiles = near.map(({ path, label }) => {
      const url = this.store.pictures.thumb.get(path);
      const other = label !== row.label ? " wc-other" : "";
      return make(
        "li",
        {},
        make(
          "button",
          { type: "button", class: `wc-near${other}`, "data-does": `near ${path}`, title: path, onclick: () => this.can.show(path),
            "aria-label": `${fileName(path)}, labelled ${label}: show it in full size` },
          make("span", { class: "wc-thumb" }, url && make("img", { src: url, alt: "", draggable: "false", decoding: "sync" })),
          make("span", { class: "wc-near-label" }, label),
        ),
      );
    });
    const title = `Nearest photos: ${different} of ${count(near.length, "has another label", "have another label")}`;
    return make("div", { class: "wc-neighbours" }, make("h4", {}, title), make("ul", {}, ...tiles));
  }
}

/** Reasons name classes *like this*. @param {string} text */
function emphasised(text) {
  return text.split(/\*([^*]+)\*/).map((part, i) => (i % 2 ? make("em", {}, part) : part));
}

/** @param {string} name @param {number} share @param {string} style */
function bar(name, share, style) {
  const fill = make("span", { class: `wc-fill ${style}` });
  fill.style.setProperty("--share", String(share));
  return [
    make("dt", {}, name),
    make("dd", {}, make("span", { class: "wc-track", "aria-hidden": "true" }, fill), make("span", { class: "wc-share" }, percent(share))),
  ];
}
