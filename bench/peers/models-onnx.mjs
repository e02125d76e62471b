// ONNX Runtime Web as a contender of bench:models: `models-onnx.mjs FOLDER webgpu|wasm`, see ../protocol.ts. It
// predicts with the folder's model.onnx.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { readModelTask } from "../../build/bench/models-task.js";
import { serve } from "../../build/bench/protocol.js";
import { provideWebGpu } from "./webgpu.mjs";

const [folder, provider] = process.argv.slice(2);

await serve(async () => {
  const path = join(folder, "model.onnx");
  if (!existsSync(path)) throw new Error("there is no model.onnx");
  const adapter =
    provider === "webgpu" ? `WebGPU, ${await provideWebGpu()}` : `Wasm, ${availableParallelism()} threads`;
  const ort = await import(provider === "webgpu" ? "onnxruntime-web/webgpu" : "onnxruntime-web");
  ort.env.wasm.numThreads = availableParallelism();
  // Its part for WebGPU would fetch this, which Node cannot do of a file.
  if (provider === "webgpu") {
    const wasm = createRequire(import.meta.url).resolve("onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm");
    ort.env.wasm.wasmBinary = await readFile(wasm);
  }
  const session = await ort.InferenceSession.create(await readFile(path), { executionProviders: [provider] });
  const { spec, inputs } = await readModelTask(folder);
  const [name] = session.inputNames;
  const [height, width, channels] = spec.model.inputs[0].shape;
  // What it wants, [N, C, H, W] or [N, H, W, C]: the channels are the axis of 3.
  const wanted = session.inputMetadata?.[0]?.shape ?? [spec.batch, height, width, channels];
  const first = wanted[1] === channels;
  const values = first ? channelsFirst(inputs, [spec.batch, height, width, channels]) : inputs;
  const shape = first ? [spec.batch, channels, height, width] : [spec.batch, height, width, channels];
  const step = async () => {
    const results = await session.run({ [name]: new ort.Tensor("float32", values, shape) });
    return results[session.outputNames[0]].data;
  };
  return {
    contender: {
      check: async () => ({ losses: [], result: Float32Array.from(await step()) }),
      async run(steps) {
        const begun = performance.now();
        for (let i = 0; i < steps; i++) await step();
        return { ms: performance.now() - begun, steps };
      },
    },
    ready: `ONNX Runtime Web, ${adapter}`,
  };
});

function channelsFirst(values, [batch, height, width, channels]) {
  const pixels = height * width;
  const out = new Float32Array(values.length);
  for (let n = 0; n < batch; n++) {
    for (let pixel = 0; pixel < pixels; pixel++) {
      for (let c = 0; c < channels; c++) {
        out[(n * channels + c) * pixels + pixel] = values[(n * pixels + pixel) * channels + c];
      }
    }
  }
  return out;
}
