// Node, Bun and Deno: what is in check.js, and models in files, also as .h5, which a worker writes and reads. With the
// argument `navigator` the runtime's own WebGPU instead of Dawn. Prints one line of JSON.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nn, openDevice, tensor } from "kilograd/node";
import { check } from "./check.js";

const result = await check(process.argv[2] === "navigator" ? { gpu: navigator.gpu } : {});

const folder = await mkdtemp(join(tmpdir(), "kilograd-runtime-"));
const device = await openDevice("cpu");
const model = nn.sequential({ device, seed: 1, inputShape: [3] }, [nn.dense({ units: 2 })]);
const answer = async (of) => [...(await of.call(tensor(device, [[1, 2, 3]])).data())].map(Math.fround).join();
try {
  await nn.saveModel(join(folder, "model.safetensors"), model);
  await nn.saveKerasModel(join(folder, "model.h5"), await nn.loadModel(join(folder, "model.safetensors"), { device }));
  const loaded = await nn.loadModel(join(folder, "model.h5"), { device });
  // Weights of .h5 files are float32, those of the reference float64.
  await nn.loadWeights(model, await nn.encodeKerasModel(model));
  if ((await answer(loaded)) !== (await answer(model))) result.wrong.push("files");
} finally {
  await rm(folder, { recursive: true, force: true });
}
console.log(JSON.stringify(result));
