// @ts-check
// HDF5 in a worker as src/io/h5-worker.js, for files of which most are damaged: it stays after a failure, which is told
// as an answer. A new worker for each would take most of the time.
import { parentPort, workerData } from "node:worker_threads";
import * as h5wasm from "h5wasm";
import { runTask } from "../src/io/h5-tree.js";
import { limitWebAssemblyMemory } from "../src/io/wasm-limit.js";

/** After so many failures, whose files stay open in the library, another worker goes on. */
const MOST_FAILURES = 500;
let failures = 0;

/** @param {any} task */
async function answer(task) {
  limitWebAssemblyMemory(task.mostBytes);
  try {
    const { result, transfer } = await runTask(h5wasm, task);
    parentPort?.postMessage({ result }, transfer);
  } catch (error) {
    if (++failures > MOST_FAILURES) throw error;
    // The next file of this name is another one.
    const files = h5wasm.FS ?? /** @type {any} */ (await h5wasm.ready).FS;
    files.unlink("kilograd.h5");
    const [reason] = (error instanceof Error ? error.message : String(error)).split("\n");
    parentPort?.postMessage({ failure: reason });
  }
}

parentPort?.on("message", answer);
await answer(workerData);
