// Windows on top of the cleaner: help, full size, history, accept-all with a preview, any label, apply.
import { count, decisionWords, fileName, icon, make, percent } from "./cleaner_dom.js";

export const KEYS = [
  ["→ ↓ / ← ↑", "next / previous photo (in the grid: move)"],
  ["Enter or A", "accept the suggestion"],
  ["K", "keep the label"],
  ["1 … 9, 0", "give it that label (0 is the tenth)"],
  ["L", "choose any label by typing"],
  ["X or Delete", "remove the photo"],
  ["U or Ctrl+Z", "undo, as often as you like"],
  ["N / P", "next / previous photo that nobody has decided on"],
  ["Space", "select; Shift+arrows select several, Ctrl+A the list (2,000 at most)"],
  ["F", "full size"],
  ["G", "grid or queue"],
  ["[ and ]", "previous / next class"],
  ["H", "history"],
  ["T", "accept all suggestions above a threshold"],
  ["S", "apply: move the files"],
  ["Page Up / Down, Home, End", "scroll far"],
  ["Esc", "close, or clear the selection"],
  ["?", "this help"],
];

/**
 * Open a modal window inside `root`; closes by Esc, its cross, or a click beside it.
 * @param {HTMLElement} root @param {string} title @param {string} style @param {...Node} content
 * @returns {HTMLDialogElement}
 */
export function openDialog(root, title, style, ...content) {
  const close = make("button", { type: "button", class: "wc-close", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"));
  const head = make("header", {}, make("h2", {}, title), close);
  const dialog = /** @type {HTMLDialogElement} */ (
    make("dialog", { class: `wc-dialog ${style}`, "aria-label": title }, head, make("div", { class: "wc-content" }, ...content))
  );
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (root.contains(before)) before.focus({ preventScroll: true });
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  root.append(dialog);
  dialog.showModal();
  return dialog;
}

export function openHelp(root) {
  const rows = KEYS.map(([keys, what]) => make("div", {}, make("dt", {}, keys), make("dd", {}, what)));
  const promise =
    "Every choice is written to the catalog the moment you make it. Files move only when you apply, nothing is " +
    "deleted for good, and undo brings everything back.";
  openDialog(root, "Keys", "wc-help", make("p", {}, promise), make("dl", {}, ...rows));
}

/** @param {HTMLElement} root @param {import("./cleaner_store.js").Store} store @param {string} path */
export function openPhoto(root, store, path) {
  const frame = make("div", { class: "wc-full" });
  const dialog = openDialog(root, fileName(path), "wc-photo-window", frame);
  const draw = () => {
    const fault = store.faults.get(path);
    const full = store.picture(path, "full");
    const url = full ?? store.pictures.preview.get(path) ?? store.pictures.thumb.get(path);
    if (fault) frame.replaceChildren(make("p", {}, fault));
    else if (url) frame.replaceChildren(make("img", { src: url, alt: `Photo ${fileName(path)} in full size` }));
    else frame.replaceChildren(make("p", {}, "Loading…"));
  };
  store.addEventListener("pictures", draw);
  dialog.addEventListener("close", () => store.removeEventListener("pictures", draw));
  draw();
}

const STATE_WORDS = { pending: "waits for apply", applied: "applied", undone: "undone", superseded: "replaced by a later choice" };

/** @param {HTMLElement} root @param {import("./cleaner_store.js").Store} store */
export function openHistory(root, store) {
  const body = make("tbody");
  const caption = make("p", {}, "Loading…");
  const heads = ["When", "Who", "Photo", "Choice", "State"].map((text) => make("th", { scope: "col" }, text));
  const scroller = make("div", { class: "wc-scroller", tabindex: "0", role: "region", "aria-label": "All choices" },
    make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
  const dialog = openDialog(root, "History", "wc-history", caption, scroller);
  const take = ({ detail }) => {
    caption.textContent = detail.total ? `${count(detail.total, "choice")}, newest first.` : "No choice has been made yet.";
    body.replaceChildren(...detail.rows.map(historyRow));
  };
  store.addEventListener("history", take);
  dialog.addEventListener("close", () => store.removeEventListener("history", take));
  store.send({ type: "history", limit: 500 });
}

function historyRow(decision) {
  const from = decision.kind === "relabel" ? `${decision.before} → ${decision.after}` : decisionWords(decision);
  const words = make("span", { class: `wc-chip wc-${decision.kind}` }, icon(decision.kind), from);
  const when = new Date(decision.at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  return make(
    "tr",
    { class: `wc-is-${decision.state}` },
    make("td", {}, when),
    make("td", {}, decision.by),
    make("td", { title: decision.path }, fileName(decision.path)),
    make("td", {}, words, decision.why && make("small", {}, decision.why)),
    make("td", {}, STATE_WORDS[decision.state] ?? decision.state),
  );
}

/** @param {HTMLElement} root @param {import("./cleaner_store.js").Store} store */
export function openAcceptAll(root, store) {
  const slider = /** @type {HTMLInputElement} */ (
    make("input", { type: "range", min: "50", max: "100", value: "90", step: "1", "aria-label": "Least confidence in percent" })
  );
  const shown = make("output", { class: "wc-threshold" });
  const verdict = make("p", { class: "wc-verdict", role: "status" });
  const sample = make("ul", { class: "wc-sample" });
  const go = /** @type {HTMLButtonElement} */ (make("button", { type: "button", class: "wc-button wc-primary" }, "Accept"));
  const label = make("label", { class: "wc-slider" }, "At least this sure", slider, shown);
  const intro = make("p", {}, "In the list as the menus leave it. Nothing moves before you apply, and one undo takes all of it back.");
  const dialog = openDialog(root, "Accept suggestions above a threshold", "wc-accept", intro, label, verdict, sample, go);
  const ask = () => {
    shown.textContent = `${slider.value} %`;
    go.disabled = true;
    store.send({ type: "above", threshold: Number(slider.value) / 100 });
  };
  const take = ({ detail }) => {
    if (detail.threshold !== Number(slider.value) / 100) return;
    go.disabled = !detail.count;
    go.textContent = `Accept ${count(detail.count, "suggestion")}`;
    verdict.textContent = verdictWords(detail);
    sample.replaceChildren(...detail.sample.map((choice) => sampleTile(store, choice)));
    store.wishMore(detail.sample.map(({ path }) => path));
  };
  const pictures = () =>
    sample.querySelectorAll("[data-path]").forEach((tile) => fillThumb(store, /** @type {HTMLElement} */ (tile)));
  store.addEventListener("above", take);
  store.addEventListener("pictures", pictures);
  dialog.addEventListener("close", () => {
    store.removeEventListener("above", take);
    store.removeEventListener("pictures", pictures);
  });
  slider.addEventListener("input", ask);
  go.addEventListener("click", () => {
    store.send({ type: "accept", threshold: Number(slider.value) / 100 });
    store.tell("working", "Accepting…");
    dialog.close();
  });
  ask();
  slider.focus();
}

function verdictWords({ count: n, sample, surest }) {
  if (n > sample.length) return `The first ${sample.length} of ${n.toLocaleString("en")}:`;
  if (n) return count(n, "suggestion");
  return surest ? `No open suggestion is that sure; the surest is ${percent(surest)}.` : "There is no open suggestion in this list.";
}

function sampleTile(store, choice) {
  const thumb = make("span", { class: "wc-thumb", "data-path": choice.path });
  fillThumb(store, thumb);
  return make("li", {}, thumb, make("span", {}, `${choice.from} → ${choice.label}`));
}

function fillThumb(store, thumb) {
  const url = store.pictures.thumb.get(thumb.dataset.path);
  if (url && !thumb.firstChild) thumb.append(make("img", { src: url, alt: "" }));
}

/**
 * Choose any label by typing a part of it.
 * @param {HTMLElement} root @param {string[]} classes @param {(label: string) => void} choose
 */
export function openLabels(root, classes, choose) {
  const list = make("ul", { class: "wc-choices" });
  const input = /** @type {HTMLInputElement} */ (
    make("input", { type: "search", "aria-label": "A part of the label", placeholder: "Type a part of the label", autofocus: true })
  );
  const dialog = openDialog(root, "Choose a label", "wc-labels-window", input, list);
  const take = (label) => {
    dialog.close();
    choose(label);
  };
  const fitting = () => classes.filter((label) => label.toLowerCase().includes(input.value.toLowerCase()));
  const draw = () =>
    list.replaceChildren(
      ...fitting().map((label) => make("li", {}, make("button", { type: "button", class: "wc-label", onclick: () => take(label) }, label))),
    );
  input.addEventListener("input", draw);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && fitting().length) {
      event.preventDefault();
      take(fitting()[0]);
    }
  });
  draw();
  input.focus();
}

/**
 * Say what applying will do, and do it on a yes.
 * @param {HTMLElement} root @param {{relabel: number, remove: number, keep: number}} pending @param {() => void} yes
 */
export function openApply(root, pending, yes) {
  const lines = [
    pending.relabel && `${count(pending.relabel, "photo moves", "photos move")} to another class folder`,
    pending.remove && `${count(pending.remove, "photo moves", "photos move")} to .removed/`,
    pending.keep && `${count(pending.keep, "photo is", "photos are")} marked as looked at`,
  ].filter(Boolean);
  const go = make("button", { type: "button", class: "wc-button wc-primary", autofocus: true }, "Apply");
  const dialog = openDialog(root, "Apply your choices", "wc-apply-window",
    make("ul", {}, ...lines.map((line) => make("li", {}, line))),
    make("p", {}, "Nothing is deleted, and undo brings every file back."), go);
  go.addEventListener("click", () => {
    dialog.close();
    yes();
  });
  go.focus();
}
