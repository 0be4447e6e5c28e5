// Small helpers to build the page: no framework, no network.

/**
 * Make an element. `on…` properties become listeners, `aria…`/`data…` and the like become attributes.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node|string|null|undefined|false)} children
 * @returns {HTMLElement}
 */
export function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

/** Paths of the icons, drawn on a 16 by 16 grid. */
const ICONS = {
  keep: "M3 8.5l3.2 3.2L13 4.8",
  relabel: "M2.5 8h10M9 4.5L12.5 8 9 11.5",
  remove: "M4 4l8 8M12 4l-8 8",
  undo: "M6 3L2.5 6.5 6 10M2.5 6.5H10a3.5 3.5 0 010 7H7",
  history: "M8 4.5V8l2.5 1.5M8 14A6 6 0 108 2a6 6 0 000 12",
  help: "M6 6a2 2 0 113 1.7c-.7.4-1 .8-1 1.6M8 11.7v.1M8 14.5a6.5 6.5 0 100-13 6.5 6.5 0 000 13",
  zoom: "M9.5 2.5h4v4M13.5 2.5L9 7M6.5 13.5h-4v-4M2.5 13.5L7 9",
  queue: "M2.5 4h3v3h-3zM8 5.5h5.5M2.5 9.5h3v3h-3zM8 11h5.5",
  grid: "M2.5 2.5h4.5V7H2.5zM9 2.5h4.5V7H9zM2.5 9H7v4.5H2.5zM9 9h4.5v4.5H9z",
  all: "M1.5 8.5l3 3L10 6M7.5 11l.5.5L14.5 5",
  close: "M4 4l8 8M12 4l-8 8",
  warn: "M8 6v3.5M8 11.6v.1M8 2L1.5 13.5h13z",
};

/**
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement} a decorative icon, hidden from screen readers
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "wc-icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** @param {number} share from 0 to 1 */
export const percent = (share) => (share > 0 && share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`);

/** @param {number} n @param {string} one @param {string} [many] */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** The last part of a path. @param {string} path */
export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

/**
 * Words for a decision, as shown on a row.
 * @param {Decision} decision
 */
export function decisionWords(decision) {
  if (decision.kind === "remove") return "removed";
  if (decision.kind === "relabel") return `now ${decision.after}`;
  return "kept";
}

/** A chip that says what was decided; words and a sign, never colour alone. @param {Decision|null} decision */
export function chip(decision) {
  if (!decision) return null;
  const style = decision.onItsWay ? " wc-on-its-way" : "";
  return make("span", { class: `wc-chip wc-${decision.kind}${style}` }, icon(decision.kind), decisionWords(decision));
}

/**
 * Is the page around us dark? Hosts say so in their own ways; else the system decides.
 * @returns {boolean}
 */
export function hostIsDark() {
  const { body, documentElement: html } = document;
  const light = body.dataset.jpThemeLight;
  if (light) return light === "false";
  const kind = body.dataset.vscodeThemeKind;
  if (kind) return kind.includes("dark") || kind === "vscode-high-contrast";
  if (html.getAttribute("theme")) return html.getAttribute("theme") === "dark";
  if (body.classList.contains("theme-dark")) return true;
  if (body.classList.contains("theme-light")) return false;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * Keep `root` in the page's own light or dark.
 * @param {HTMLElement} root
 * @returns {() => void} stop watching
 */
export function followTheme(root) {
  const set = () => (root.dataset.theme = hostIsDark() ? "dark" : "light");
  const media = matchMedia("(prefers-color-scheme: dark)");
  const watcher = new MutationObserver(set);
  const seen = { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-vscode-theme-kind", "theme"] };
  watcher.observe(document.body, seen);
  watcher.observe(document.documentElement, seen);
  media.addEventListener("change", set);
  set();
  return () => {
    watcher.disconnect();
    media.removeEventListener("change", set);
  };
}
