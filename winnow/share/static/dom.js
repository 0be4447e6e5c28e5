/** Small helpers to make elements. Text goes in as text, so a file's name can never become markup. */

/** `h("button.primary", { onclick, "aria-label": "…" }, "Send")`: an element, its attributes, its children. */
export function h(selector, attributes = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) setAttribute(node, name, value);
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

function setAttribute(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else if (name === "style") Object.entries(value).forEach(([k, v]) => node.style.setProperty(k, v));
  else node.setAttribute(name, value === true ? "" : String(value));
}

let lastId = 0;

/** An id that no other element of this page has. */
export function freshId(prefix) {
  lastId += 1;
  return `winnow-${prefix}-${lastId}`;
}

/** 0.934 as "93 %", never rounded to a certainty that the model doesn't have. */
export function percent(p) {
  if (p > 0.99 && p < 1) return "> 99 %";
  if (p < 0.01 && p > 0) return "< 1 %";
  return `${Math.round(p * 100)} %`;
}

/** Offer `blob` as a download called `name`. */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
