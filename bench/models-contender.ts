// Ours as a contender of bench:models: `models-contender.js FOLDER`, see protocol.ts. A step is recorded by StepPlan,
// as `predict` and `fit` do it. Every step is given its pictures by the host, and its result is read. With `quick`
// dispatches are not merged, which takes a minute to compile for a network of a hundred layers.
import { readFileSync } from "node:fs";
import { describeAdapter } from "../src/experiments/lib/frame/run.js";
import { backward, grad, loss, openDevice, optim, StepPlan, type Tensor, tensor } from "../src/index.js";
import type { WebGpuDevice } from "../src/webgpu/device.js";
import { GpuStep } from "../src/webgpu/recorded/step.js";
import { architectureOfTask, type ModelTask, readModelTask } from "./models-task.js";
import { packed } from "./packed.js";
import { serve } from "./protocol.js";
import type { Contender } from "./subject.js";

// Soon: a long run takes most of its steps with merged programs.
const mergeAfter = process.argv[3] === "quick" ? Number.POSITIVE_INFINITY : 3;
GpuStep.mergeAfter = { cached: mergeAfter, uncached: mergeAfter };

/** Bytes of the process in memory, where the system tells. */
function residentBytes(): number {
  if (process.platform !== "linux") return process.memoryUsage.rss();
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"));
  return peak === null ? process.memoryUsage.rss() : 1024 * Number(peak[1]);
}

function contend(device: WebGpuDevice, { spec, inputs, targets, weights }: ModelTask): Contender {
  const model = architectureOfTask(spec).build({
    ...{ device, seed: 1 },
    weights: (name, { shape }) => tensor(device, weights.get(name)!, { shape }),
  });
  if (spec.kind !== "train") model.trainable = false;
  const optimizer = optim.sgd({ learningRate: spec.learningRate });
  const kinds: Readonly<Record<typeof spec.kind, (x: Tensor, y: Tensor) => Tensor>> = {
    predict: (x) => model.call(x),
    inputGradient: (x, y) => grad((image) => loss.crossEntropy(model.logits(image), y))(x),
    train(x, y) {
      const value = loss.crossEntropy(model.logits(x, { training: true, step: () => optimizer.iterations }), y);
      backward(value);
      optimizer.step(model.parameters());
      return value.detach();
    },
  };
  const plan = new StepPlan(device, (x, y) => [kinds[spec.kind](x!, y!)]);
  const x = { values: inputs, shape: [spec.batch, ...model.inputShape] };
  const y = { values: targets, shape: [spec.batch] };
  const step = () => plan.run(x, y)[0]!.data();
  const before = process.memoryUsage.rss();
  let warm = false;
  return {
    async check(rates) {
      const losses: number[] = [];
      let result: ArrayLike<number> = [];
      for (const _ of spec.kind === "train" ? rates : [0]) {
        const values = await step();
        if (spec.kind === "train") losses.push(values[0]!);
        else result = values;
      }
      if (spec.kind !== "train") return { losses, result: Float32Array.from(result) };
      const trained: Float32Array[] = [];
      for (const parameter of model.parameters()) trained.push(Float32Array.from(await parameter.data()));
      return { losses, result: packed(trained) };
    },
    async run(steps) {
      if (!warm) {
        for (let i = 0; i < 6; i++) await step();
        while (GpuStep.merging > 0) await new Promise((resolve) => setTimeout(resolve, 100));
        await step();
        warm = true;
      }
      const begun = performance.now();
      for (let i = 0; i < steps; i++) await step();
      const ms = performance.now() - begun;
      const { liveBytes, pooledBytes } = device.memory();
      return { ms, steps, memory: { device: liveBytes + pooledBytes, process: residentBytes() - before } };
    },
  };
}

await serve(async () => {
  const task = await readModelTask(process.argv[2]!);
  const device = await openDevice("webgpu");
  const { description, device: name, profile } = describeAdapter(device);
  return { contender: contend(device, task), ready: `${description || name}, profile ${profile}` };
});
