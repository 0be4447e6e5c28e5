import { h, percent } from "./dom.js";

const SHOWN = 5;

/** Probabilities as bars that a screen reader reads as a list; more than five fold away. */
export function barChart(shares, caption) {
  const rows = shares.map((share, i) => bar(share, i === 0));
  const list = h("ul.bars", { "aria-label": caption }, rows.slice(0, SHOWN));
  if (rows.length <= SHOWN) return list;
  const rest = h("ul.bars", { "aria-label": `${caption}, less likely` }, rows.slice(SHOWN));
  return h("div", {}, list, h("details.more", {}, h("summary", {}, `${rows.length - SHOWN} more`), rest));
}

function bar({ label, p }, first) {
  const width = `${(p * 100).toFixed(1)}%`;
  return h(
    first ? "li.bar.first" : "li.bar", {},
    h("span.bar-label", {}, label),
    h("span.bar-track", { "aria-hidden": "true" }, h("span.bar-fill", { style: { width } })),
    h("span.bar-value", {}, percent(p)),
  );
}
