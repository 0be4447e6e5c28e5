import { EngineGone } from "./engine.js";

const CALM = 250; // ms between parts: servers drop what comes faster than about 1 MB a second
const AWAKE = "The app's server has gone to sleep; photos are now answered in this browser and don't leave it.";

/**
 * An engine that outlives its kernel: while the kernel answers, the model itself comes over in small parts, and
 * answers when the kernel is gone. `engine` is the kernel's; `model` its anywidget model.
 */
export class SpareEngine {
  constructor(engine, model, { onready = () => {}, onsleep = () => {} } = {}) {
    Object.assign(this, { engine, model, info: engine.info, onready, onsleep, spare: null, asked: new Map(), fetched: null });
    this.take = (message, buffers) => {
      if (message?.kind === "spare") this.asked.get(`${message.name} ${message.offset}`)?.(message.size, buffers[0]);
    };
    model.on("msg:custom", this.take);
  }

  async predict(photo, options) {
    try {
      const answer = await this.engine.predict(photo, options);
      this.fetched ??= this.fetch().catch(() => null); // the kernel ended meanwhile: no spare then
      return answer;
    } catch (error) {
      if (!(error instanceof EngineGone) || !this.spare) throw error;
      this.onsleep(AWAKE);
      return this.spare.predict(photo, options);
    }
  }

  correct(id, label, photo) {
    return this.engine.correct(id, label, photo);
  }

  /** Every file of the page, then an engine made of them. */
  async fetch() {
    const files = {};
    for (const name of this.info.spare) files[name] = await this.fetchFile(name);
    const url = (blob) => URL.createObjectURL(new Blob([blob], { type: "text/javascript" }));
    const { BrowserEngine } = await import(url(files["engine.js"]));
    const site = JSON.parse(await files["model.json"].text());
    const held = async (file) => ({ ...file, data: await files[file.path].arrayBuffer() });
    const worker = url(files["worker.js"]);
    const whole = { ...site, script: url(files["ort.mjs"]), runtime: await held(site.runtime), model: await held(site.model) };
    this.spare = new BrowserEngine(whole, { startWorker: () => new Worker(worker, { type: "module" }) });
    await this.spare.ready;
    this.onready();
  }

  async fetchFile(name) {
    const parts = [];
    for (let got = 0, size = 1; got < size; got += parts.at(-1).byteLength) {
      const [whole, part] = await this.fetchPart(name, got);
      if (!part.byteLength) throw new Error(`${name} ended early`);
      parts.push(part);
      size = whole;
      await new Promise((resolve) => { setTimeout(resolve, CALM); });
    }
    return new Blob(parts);
  }

  fetchPart(name, offset) {
    return new Promise((resolve) => {
      this.asked.set(`${name} ${offset}`, (size, part) => resolve([size, part]));
      this.model.send({ kind: "spare", name, offset });
    });
  }

  close() {
    this.model.off("msg:custom", this.take);
    this.engine.close();
    this.spare?.close();
  }
}
