import { h, percent } from "./dom.js";

/** All answers as one table. `rows` are {name, answer}. */
export function resultsTable(rows, info) {
  const targets = Object.keys(info.targets);
  const head = ["Photo", "Answer", "Sure", ...targets];
  const body = rows.map(({ name, answer }) =>
    h("tr", {}, h("th", { scope: "row" }, name), ...cells(answer, targets).map((text) => h("td", {}, text))));
  return h(
    "table", {},
    h("caption", {}, "All answers"),
    h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, body),
  );
}

function cells(answer, targets) {
  if (answer.error) return [answer.error, "", ...targets.map(() => "")];
  const label = answer.unlike ? `none of these (most like ${answer.label})` : answer.label;
  return [label, percent(answer.probabilities[0].p), ...targets.map((name) => answer.targets[name]?.label ?? "")];
}

/** The answers as CSV text: one row a photo, one column a class, ready for a spreadsheet. */
export function resultsCsv(rows, info) {
  const targets = Object.keys(info.targets);
  const head = ["photo", "label", "probability", "none_of_these", ...targets, ...info.labels.map((l) => `p_${l}`), "error"];
  const lines = rows.map(({ name, answer }) => {
    const p = Object.fromEntries(answer.probabilities.map((s) => [s.label, s.p]));
    return [
      name, answer.label, answer.error ? "" : answer.probabilities[0].p.toFixed(4), answer.error ? "" : answer.unlike,
      ...targets.map((t) => answer.targets[t]?.label ?? ""),
      ...info.labels.map((l) => (l in p ? p[l].toFixed(4) : "")), answer.error ?? "",
    ];
  });
  return `\ufeff${[head, ...lines].map((line) => line.map(csvField).join(",")).join("\r\n")}\r\n`;
}

/** Quoted where needed; a leading = + - @ is defused, since spreadsheets run such a cell as a formula. */
export function csvField(value) {
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
