/**
 * Changes to the page, a few at a time: many photos at once would else lay the whole page out anew for each answer,
 * which takes longer than the answer. Used by photo_app.js.
 */
export class Pace {
  /** @param {number} gap Milliseconds between two rounds of changes. */
  constructor(gap = 120) {
    Object.assign(this, { gap, changes: new Map(), timer: null, last: -Infinity });
  }

  /** Make `change` soon; a later one of the same `key` replaces it where it has not been made yet. */
  soon(key, change) {
    this.changes.delete(key); // so that the order is that of the last calls
    this.changes.set(key, change);
    this.timer ??= setTimeout(() => this.now(), Math.max(0, this.last + this.gap - performance.now()));
  }

  /** Make all changes that wait. */
  now() {
    clearTimeout(this.timer);
    const changes = [...this.changes.values()];
    this.changes.clear();
    Object.assign(this, { timer: null, last: performance.now() });
    for (const change of changes) change();
  }
}
