/** A worker as something to ask: `await helper.ask("read", …)`. Used by engine_browser.js. */

/** The worker is gone; what was asked of it stays without answer. */
export class HelperGone extends Error {}

export class Helper {
  /** @param {Worker} worker @param {(share: number) => void} [onprogress] */
  constructor(worker, onprogress = () => {}) {
    this.worker = worker;
    this.waiting = new Map();
    this.next = 0;
    worker.onmessage = ({ data }) => ("progress" in data ? onprogress(data.progress) : this.settle(data));
    worker.onerror = (event) => this.end(event.message || "it stopped");
  }

  /** Rejects with an Error that has a `sentence` where the photo is to blame, or with `HelperGone`. */
  ask(verb, argument) {
    if (!this.worker) return Promise.reject(new HelperGone("it stopped"));
    const id = ++this.next;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, do: verb, with: argument });
    });
  }

  settle({ id, value, sentence, detail }) {
    const asked = this.waiting.get(id);
    this.waiting.delete(id);
    if (detail === undefined) asked?.resolve(value);
    else asked?.reject(Object.assign(new Error(detail), { sentence }));
  }

  end(reason) {
    this.worker?.terminate();
    this.worker = null;
    for (const { reject } of this.waiting.values()) reject(new HelperGone(reason));
    this.waiting.clear();
  }
}
