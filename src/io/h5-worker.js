// @ts-check
// HDF5 in a worker thread of its own (h5-files.ts starts it): on some damaged files the library never returns, and here
// it can be stopped.
import { parentPort, workerData } from "node:worker_threads";
import { runTask } from "./h5-tree.js";
import { limitWebAssemblyMemory } from "./wasm-limit.js";

limitWebAssemblyMemory(workerData.mostBytes);
const { result, transfer } = await runTask(await import("h5wasm"), workerData);
parentPort?.postMessage(result, transfer);
