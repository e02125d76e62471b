// @ts-check
// HDF5 in a worker of a page (h5-web.ts starts it), as h5-worker.js in Node. It imports the library at once: bundlers
// make one file of a worker.
import * as h5wasm from "h5wasm";
import { runTask } from "./h5-tree.js";
import { limitWebAssemblyMemory } from "./wasm-limit.js";

const scope = /** @type {any} */ (globalThis);

/** @param {{ data: any }} message */
scope.onmessage = async ({ data }) => {
  try {
    limitWebAssemblyMemory(data.mostBytes);
    const { result, transfer } = await runTask(h5wasm, data);
    scope.postMessage({ result }, transfer);
  } catch (error) {
    scope.postMessage({ failure: error instanceof Error ? error.message : String(error) });
  }
};
