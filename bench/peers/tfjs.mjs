// TensorFlow.js as a contender of bench:peers: `tfjs.mjs FOLDER webgpu|wasm|cpu`, see ../protocol.ts.
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { packed } from "../../build/bench/packed.js";
import { serve } from "../../build/bench/protocol.js";
import { readTask } from "../../build/bench/workloads.js";
import { contend } from "./tfjs-contender.mjs";
import { provideWebGpu } from "./webgpu.mjs";

const [folder, backend] = process.argv.slice(2);
const require = createRequire(import.meta.url);

await serve(async () => {
  const adapter = backend === "webgpu" ? `WebGPU, ${await provideWebGpu()}` : backend;
  const tf = require("@tensorflow/tfjs-core");
  const layers = require("@tensorflow/tfjs-layers");
  const entry = require.resolve(`@tensorflow/tfjs-backend-${backend}`);
  const library = require(entry);
  if (backend === "wasm") {
    library.setWasmPaths(`${dirname(entry)}/`);
    library.setThreadsCount(availableParallelism());
  }
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs has no backend ${backend} here`);
  const task = await readTask(folder);
  const contender = contend(tf, layers, task, packed);
  return { contender, ready: `tfjs ${tf.version_core}, ${adapter}` };
});
