import { EngineGone, failed } from "./engine.js";
import { createApp } from "./photo_app.js";
import { shrink } from "./shrink.js";
import { SpareEngine } from "./spare.js";

const PART = 256 * 1024; // bytes in one message: far below every server's limit
const AHEAD = 4; // parts on their way before the kernel has said that it has them
const PATIENCE = 45000; // ms without a sign of life
const LIMIT = 48 * 1024 * 1024; // bytes of a photo that this browser can't make smaller
const LOST = ["dead", "restarting", "autorestarting", "terminating"]; // a restarted kernel knows nothing of this app
const GONE = "This app has gone to sleep. Reload the page to wake it; your photos stay on your device.";

/** The engine that asks the kernel behind `model` (an anywidget model): photo_app.py answers. */
export class KernelEngine {
  constructor(model) {
    this.model = model;
    this.info = model.get("info");
    this.waiting = new Map();
    this.next = 0;
    this.lost = false;
    this.watch = (_, status) => { if (LOST.includes(status)) this.lose(); };
    model.widget_manager?.kernel?.statusChanged?.connect(this.watch);
    this.receive = (message, buffers) => this.waiting.get(message?.id)?.(message, buffers);
    model.on("msg:custom", this.receive);
  }

  async predict(photo, { onprogress = () => {}, onpreview = () => {} } = {}) {
    const { blob, shown } = await shrink(photo, this.info.maxSide ?? 1024);
    if (shown) onpreview(blob);
    if (blob.size > LIMIT) return failed("", `This file has ${Math.round(blob.size / 2 ** 20)} MB, too much for a photo that this browser can't open.`);
    const [message, buffers] = await this.send(blob, { kind: "predict", preview: !shown }, onprogress);
    const { answer } = message;
    if (buffers?.[0]?.byteLength) answer.preview = URL.createObjectURL(new Blob([buffers[0]], { type: "image/jpeg" }));
    return answer;
  }

  async correct(id, label, photo) {
    const { blob } = await shrink(photo, this.info.maxSide ?? 1024);
    const [{ kept, message }] = await this.send(blob, { kind: "correct", answer: id, label }, () => {});
    return { kept, message };
  }

  /** Send `blob` in parts and wait for the kernel's last word on it: [message, buffers]. */
  send(blob, order, onprogress) {
    this.next += 1;
    const id = `photo-${this.next}`;
    const count = Math.max(1, Math.ceil(blob.size / PART));
    let sent = 0;
    return new Promise((resolve, reject) => {
      let timer;
      const end = (f, value) => { clearTimeout(timer); this.waiting.delete(id); f(value); };
      const alive = () => { clearTimeout(timer); timer = setTimeout(() => end(reject, new EngineGone(GONE)), PATIENCE); };
      const sendPart = async () => {
        const index = sent;
        sent += 1;
        const part = await blob.slice(index * PART, (index + 1) * PART).arrayBuffer();
        this.model.send({ ...order, id, index, count }, undefined, [part]);
        if (index + 1 === count) onprogress(1, "thinking");
      };
      let chain = Promise.resolve();
      const more = () => { if (sent < count) chain = chain.then(sendPart).catch((e) => end(reject, e)); };
      this.waiting.set(id, (message, buffers) => {
        if (message.kind === "lost") return end(reject, new EngineGone(GONE));
        if (message.kind !== "got") return end(resolve, [message, buffers]);
        alive();
        onprogress((message.index + 1) / count, message.index + 2 >= count ? "thinking" : "sending");
        return more();
      });
      if (this.lost) return end(reject, new EngineGone(GONE));
      alive();
      onprogress(0, "sending");
      for (let i = 0; i < Math.min(AHEAD, count); i += 1) more();
      return undefined;
    });
  }

  /** The kernel ended: whoever waits is told at once. */
  lose() {
    this.lost = true;
    [...this.waiting.values()].forEach((take) => take({ kind: "lost" }));
  }

  close() {
    this.model.off("msg:custom", this.receive);
    this.model.widget_manager?.kernel?.statusChanged?.disconnect(this.watch);
  }
}

function render({ model, el }) {
  const kernel = new KernelEngine(model);
  const onready = () => { el.dataset.spare = "ready"; };
  const engine = kernel.info.spare ? new SpareEngine(kernel, model, { onready, onsleep: (text) => app.warn(text) }) : kernel;
  const app = createApp(el, engine, { title: engine.info.title });
  return () => app.close();
}

export default { render };
