// The wall of thumbnails: one section a class, one tick a picture. The model's `left_out` holds what is unticked.

const STEP = 60; // pictures a class shows before "Show more"

/** @typedef {{label: string, title: string, about: string, picture: string, page: string}} Row */

/** @param {string} name @param {object} properties @param {(Node|string)[]} children */
function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const root = make("div", { className: "winnow-gallery" });
  const redraw = () => root.replaceChildren(...sections(model));
  const repaint = () => root.querySelectorAll("section").forEach((section) => section.repaint());
  redraw();
  model.on("change:rows", redraw);
  model.on("change:left_out", repaint);
  el.append(root);
}

/** One section for each class, in the order in which the classes come. */
function sections(model) {
  /** @type {Row[]} */
  const rows = model.get("rows");
  if (rows.length === 0) return [make("p", { textContent: "Nothing was found." })];
  const classes = new Map();
  rows.forEach((row, place) => {
    if (!classes.has(row.label)) classes.set(row.label, []);
    classes.get(row.label).push(place);
  });
  return [...classes].map(([label, places]) => section(model, label || "pictures", places, rows));
}

/** @param {any} model @param {string} label @param {number[]} places @param {Row[]} rows */
function section(model, label, places, rows) {
  const count = make("span", { className: "wg-count", role: "status" });
  const grid = make("div", { className: "wg-grid", role: "group", ariaLabel: label });
  const more = make("button", { type: "button", className: "wg-more" });
  let shown = 0;
  const showMore = () => {
    places.slice(shown, shown + STEP).forEach((place) => grid.append(tile(model, place, rows[place])));
    shown = Math.min(shown + STEP, places.length);
    more.hidden = shown === places.length;
    more.textContent = `Show ${Math.min(STEP, places.length - shown)} more of ${label}`;
    node.repaint();
  };
  const setAll = (ticked) => setTicked(model, places, ticked);
  const node = make(
    "section",
    {},
    make(
      "header",
      {},
      make("h3", { textContent: label }),
      count,
      make("button", { type: "button", textContent: "Tick all", onclick: () => setAll(true) }),
      make("button", { type: "button", textContent: "Untick all", onclick: () => setAll(false) }),
    ),
    grid,
    more,
  );
  node.repaint = () => {
    const out = new Set(model.get("left_out"));
    grid.querySelectorAll("input").forEach((box) => {
      box.checked = !out.has(Number(box.value));
    });
    const left = places.filter((place) => !out.has(place)).length;
    count.textContent = `${left} of ${places.length} ticked`;
    if (!grid.querySelector('input[tabindex="0"]')) grid.querySelector("input")?.setAttribute("tabindex", "0");
  };
  more.onclick = () => {
    const next = shown;
    showMore();
    focus(grid, next);
  };
  grid.addEventListener("keydown", (event) => move(event, grid));
  showMore();
  return node;
}

/** @param {any} model @param {number} place @param {Row} row */
function tile(model, place, row) {
  const box = make("input", { type: "checkbox", value: String(place), tabIndex: -1, ariaLabel: row.title });
  box.onchange = () => setTicked(model, [place], box.checked);
  box.onfocus = () => {
    box.closest(".wg-grid").querySelectorAll("input").forEach((other) => (other.tabIndex = other === box ? 0 : -1));
  };
  const picture = make("img", { alt: "", loading: "lazy", decoding: "async", referrerPolicy: "no-referrer" });
  picture.onerror = () => picture.replaceWith(make("span", { className: "wg-none", textContent: "no preview" }));
  picture.src = row.picture;
  const words = make("span", { className: "wg-title", textContent: row.title });
  const about = make("span", { className: "wg-about", textContent: row.about });
  const link = make("a", { href: row.page, target: "_blank", rel: "noopener noreferrer", textContent: "page" });
  link.tabIndex = -1;
  link.ariaLabel = `Page of ${row.title}`;
  return make(
    "div",
    { className: "wg-tile" },
    make("label", {}, box, picture, words, about),
    ...(row.page ? [link] : []),
  );
}

/** Tick or untick some places and tell the kernel. */
function setTicked(model, places, ticked) {
  const out = new Set(model.get("left_out"));
  places.forEach((place) => (ticked ? out.delete(place) : out.add(place)));
  model.set("left_out", [...out].sort((a, b) => a - b));
  model.save_changes();
}

/** Arrows walk from picture to picture, by rows too; Home and End jump. */
function move(event, grid) {
  const boxes = [...grid.querySelectorAll("input")];
  const at = boxes.indexOf(event.target);
  if (at < 0) return;
  const tops = boxes.map((box) => box.closest(".wg-tile").offsetTop);
  const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  let next = at + (steps[event.key] ?? 0);
  if (event.key === "Home") next = 0;
  if (event.key === "End") next = boxes.length - 1;
  if (next === at || next < 0 || next >= boxes.length) return;
  event.preventDefault();
  event.stopPropagation();
  focus(grid, next);
}

function focus(grid, place) {
  grid.querySelectorAll("input")[place]?.focus();
}

export default { render };
