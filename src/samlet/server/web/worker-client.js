// Calls into the worker, one promise a call. The worker computes; the page stays free to draw and listen.

export class WorkerClient {
  #worker = new Worker(new URL("network-worker.js", import.meta.url), { type: "module" });
  #waiting = new Map();
  #next = 1;

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => this.#fail(event.message || "the worker could not start");
  }

  /** Call a function of network-worker.js; what is in `transfer` moves there instead of being copied. */
  call(name, argument, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, name, argument }, transfer);
    });
  }

  close() {
    this.#worker.terminate();
    this.#fail("the worker was closed");
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
  }
}
