// What the browser knows: rows in pages, pictures by path, and what it has asked the kernel for.

/**
 * @typedef {{id: number, kind: "keep"|"relabel"|"remove", after: string|null, by: string, at: string,
 *   onItsWay?: boolean}} Decision
 * @typedef {{path: string, label: string, suggested: string|null, confidence: number|null, given: number|null,
 *   score: number|null, kind: string, reason: string, decision: Decision|null}} Row
 * @typedef {"thumb"|"preview"|"full"} Size
 */

const PAGE = 60;
const KEPT_PICTURES = { thumb: 900, preview: 24, full: 4 };

/** Rows and pictures of one view, fetched as they are needed, forgotten when there are too many. */
export class Store extends EventTarget {
  /** @param {any} model the anywidget model */
  constructor(model) {
    super();
    this.model = model;
    /** @type {Map<number, Row>} */
    this.rows = new Map();
    /** @type {Map<string, number>} */
    this.places = new Map();
    this.askedPages = new Set();
    /** @type {Record<Size, Map<string, string>>} */
    this.pictures = { thumb: new Map(), preview: new Map(), full: new Map() };
    /** @type {Map<string, string>} what is wrong with a photo that can't be shown */
    this.faults = new Map();
    /** @type {Set<string>} pictures on the way */
    this.asked = new Set();
    /** @type {string[]} */
    this.inList = [];
    /** @type {string[]} */
    this.beside = [];
    this.lastWish = "";
    this.unsaved = 0;
    this.hear = this.hear.bind(this);
    this.forget = this.forget.bind(this);
    model.on("msg:custom", this.hear);
    model.on("change:view", this.forget);
  }

  get total() {
    return this.model.get("view").total ?? 0;
  }

  get version() {
    return this.model.get("view").version ?? 0;
  }

  /** The menus changed or the files moved: positions mean something else now. */
  forget() {
    this.rows.clear();
    this.places.clear();
    this.askedPages.clear();
    this.tell("view");
  }

  /** @param {string} name @param {any} [detail] */
  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @param {any} message */
  send(message) {
    this.model.send(message);
  }

  /**
   * A row, or undefined while its page is on the way.
   * @param {number} position @returns {Row|undefined}
   */
  row(position) {
    const row = this.rows.get(position);
    if (!row && position >= 0 && position < this.total) this.askPage(Math.floor(position / PAGE));
    return row;
  }

  /** @param {number} page */
  askPage(page) {
    if (this.askedPages.has(page)) return;
    this.askedPages.add(page);
    this.send({ type: "rows", version: this.version, start: page * PAGE, stop: (page + 1) * PAGE });
  }

  /** Ask for the thumbnails in the list's window; the newest wish replaces the ones before it. @param {string[]} paths */
  wish(paths) {
    this.inList = paths;
    this.sendWish();
  }

  /** Ask also for these (neighbours, a preview). @param {string[]} paths */
  wishMore(paths) {
    this.beside = paths;
    this.sendWish();
  }

  sendWish() {
    const missing = [...this.beside, ...this.inList].filter(
      (path) => !this.pictures.thumb.has(path) && !this.faults.has(path),
    );
    const key = missing.join("\n");
    if (!missing.length || key === this.lastWish) return;
    this.lastWish = key;
    this.send({ type: "thumbs", paths: missing });
  }

  /** @param {string} path @param {Size} size @returns {string|undefined} an object URL, or asks for it */
  picture(path, size) {
    const url = this.pictures[size].get(path);
    const key = `${size} ${path}`;
    if (!url && !this.faults.has(path) && !this.asked.has(key)) {
      this.asked.add(key);
      this.send({ type: "picture", path, size });
    }
    return url;
  }

  /**
   * Send choices; the screen shows them at once, the kernel's answer confirms them.
   * @param {{path: string, action: string, label?: string}[]} choices
   */
  decide(choices) {
    this.unsaved += choices.length;
    const withSeen = choices.map((choice) => ({ ...choice, seen: this.known(choice.path)?.decision?.id ?? null }));
    this.send({ type: "decide", choices: withSeen });
    for (const { path, action, label } of choices) {
      const row = this.known(path);
      if (!row) continue;
      const kind = action === "relabel" && label === row.label ? "keep" : action;
      row.decision = { id: row.decision?.id ?? 0, kind, after: label ?? null, by: "", at: "", onItsWay: true };
    }
    this.tell("chosen", choices.map(({ path }) => path));
  }

  /** @param {string} path @returns {Row|undefined} */
  known(path) {
    const position = this.places.get(path);
    return position === undefined ? undefined : this.rows.get(position);
  }

  /** @param {any} message @param {DataView[]} buffers */
  hear(message, buffers) {
    const heard = { rows: this.takeRows, pictures: this.takePictures, decided: this.takeDecided, undone: this.takeDecided }[message.type];
    if (heard) heard.call(this, message, buffers);
    this.tell(message.type, message);
  }

  takeRows({ version, start, rows }) {
    if (version !== this.version) return;
    rows.forEach((row, i) => {
      if (row.fault) this.faults.set(row.path, row.fault);
      this.rows.set(start + i, row);
      this.places.set(row.path, start + i);
    });
  }

  /** The kernel's word replaces what the screen assumed. */
  takeDecided({ decisions, saved }) {
    this.unsaved = Math.max(0, this.unsaved - (saved ?? 0));
    for (const [path, decision] of Object.entries(decisions)) {
      const row = this.known(path);
      if (row) row.decision = decision;
    }
  }

  takePictures({ size, items }, buffers) {
    items.forEach(({ path, mime, fault }, i) => {
      this.asked.delete(`${size} ${path}`);
      if (fault) this.faults.set(path, fault);
      else this.keepPicture(size, path, URL.createObjectURL(new Blob([buffers[i]], { type: mime })));
    });
  }

  /** @param {Size} size @param {string} path @param {string} url */
  keepPicture(size, path, url) {
    const kept = this.pictures[size];
    if (kept.has(path)) URL.revokeObjectURL(kept.get(path));
    kept.delete(path);
    kept.set(path, url);
    if (kept.size <= KEPT_PICTURES[size]) return;
    const [oldest, oldUrl] = kept.entries().next().value;
    kept.delete(oldest);
    URL.revokeObjectURL(oldUrl);
  }

  close() {
    this.model.off("msg:custom", this.hear);
    this.model.off("change:view", this.forget);
    for (const kept of Object.values(this.pictures)) kept.forEach((url) => URL.revokeObjectURL(url));
  }
}
