// @ts-check
// HDF5 in a worker thread of its own (h5-files.ts starts it): on some damaged files the library never returns, and here
// it can be stopped. The first task comes with the worker, the next as messages.
import { parentPort, workerData } from "node:worker_threads";
import { runTask } from "./h5-tree.js";
import { limitWebAssemblyMemory } from "./wasm-limit.js";

/** @param {any} task */
async function answer(task) {
  limitWebAssemblyMemory(task.mostBytes);
  const { result, transfer } = await runTask(await import("h5wasm"), task);
  parentPort?.postMessage(result, transfer);
}

// What a task throws ends the worker.
parentPort?.on("message", answer);
await answer(workerData);
