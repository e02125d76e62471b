// Node's worker threads as web workers, as far as jax-js needs them to use several cores: a script from a blob,
// messages.
import { resolveObjectURL } from "node:buffer";
import { Worker as Thread } from "node:worker_threads";

const PRELUDE = `
const { parentPort } = require("node:worker_threads");
globalThis.self = globalThis;
globalThis.postMessage = (data) => parentPort.postMessage(data);
parentPort.on("message", (data) => self.onmessage({ data }));
`;

class Worker {
  #thread;

  constructor(url) {
    this.#thread = this.#start(resolveObjectURL(url));
  }

  async #start(script) {
    const thread = new Thread(PRELUDE + (await script.text()), { eval: true });
    thread.on("message", (data) => this.onmessage({ data }));
    thread.on("error", (error) => this.onerror(error));
    return thread;
  }

  postMessage(data) {
    this.#thread.then((thread) => thread.postMessage(data));
  }
}

/** Call before the library is loaded. */
export function provideWorkers() {
  globalThis.Worker = Worker;
}
