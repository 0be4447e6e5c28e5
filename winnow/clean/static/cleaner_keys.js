// What each key does in the cleaner's window.
import { openAcceptAll, openHelp, openHistory } from "./cleaner_dialogs.js";

const SELECT_ALL = 2000; // photos that Ctrl+A takes at most

/** A key in the cleaner, unless it is meant for a field or a window on top. @param {KeyboardEvent} event */
export function press(cleaner, event) {
  if (event.defaultPrevented || cleaner.root.querySelector("dialog[open]")) return;
  const target = /** @type {HTMLElement} */ (event.target);
  if (target.matches("input, select, textarea")) return;
  if (target.matches("button") && (event.key === "Enter" || event.key === " ")) return;
  const done = chord(cleaner, event) || stroke(cleaner, event);
  if (!done) return;
  event.preventDefault();
  event.stopPropagation();
}

/** With Ctrl or Cmd. */
function chord(cleaner, event) {
  if (!(event.ctrlKey || event.metaKey)) return false;
  const doing = { z: () => cleaner.undo(), a: () => cleaner.marks.mark(0, Math.min(cleaner.store.total, SELECT_ALL) - 1) }[event.key.toLowerCase()];
  doing?.();
  return Boolean(doing);
}

function stroke(cleaner, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const { cursor, columns, pageLength } = cleaner.list;
  const extend = { extend: event.shiftKey };
  const label = /^[0-9]$/.test(event.key) && cleaner.model.get("classes")[(Number(event.key) + 9) % 10];
  if (label) {
    cleaner.act("relabel", label);
    return true;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const doing = {
    ArrowDown: () => cleaner.moveTo(cursor + columns, extend),
    ArrowUp: () => cleaner.moveTo(cursor - columns, extend),
    ArrowRight: () => cleaner.moveTo(cursor + 1, extend),
    ArrowLeft: () => cleaner.moveTo(cursor - 1, extend),
    PageDown: () => cleaner.moveTo(cursor + pageLength, extend),
    PageUp: () => cleaner.moveTo(cursor - pageLength, extend),
    Home: () => cleaner.moveTo(0, extend),
    End: () => cleaner.moveTo(cleaner.store.total - 1, extend),
    Enter: () => cleaner.act("accept"),
    a: () => cleaner.act("accept"),
    k: () => cleaner.act("keep"),
    x: () => cleaner.act("remove"),
    Delete: () => cleaner.act("remove"),
    u: () => cleaner.undo(),
    n: () => cleaner.seek(1),
    p: () => cleaner.seek(-1),
    l: () => cleaner.openLabels(),
    " ": () => cleaner.marks.toggle(cursor),
    f: () => cleaner.openPhoto(),
    g: () => cleaner.setMode(cleaner.model.get("mode") === "grid" ? "queue" : "grid"),
    h: () => openHistory(cleaner.root, cleaner.store),
    t: () => openAcceptAll(cleaner.root, cleaner.store),
    s: () => !cleaner.bar.applyButton.disabled && cleaner.openApply(),
    Escape: () => cleaner.marks.clear(),
    "[": () => cleaner.turnClass(-1),
    "]": () => cleaner.turnClass(1),
    "?": () => openHelp(cleaner.root),
  }[key];
  doing?.();
  return Boolean(doing);
}
