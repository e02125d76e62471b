// What recompute saves and costs: training steps of models in blocks, whose results are kept, or computed again in the
// backward pass. Each variant on a device of its own; memory is what its recorded step holds.
// npm run bench:recompute -- --batch 32 --steps 5
import { parseArgs } from "node:util";
import { zooModel } from "../src/experiments/lib/training/models.js";
import { backward, loss, nn, openDevice, optim, recompute, StepPlan, type Tensor } from "../src/index.js";
import type { Layer } from "../src/nn/layer.js";
import { median } from "./harness.js";

const { values } = parseArgs({
  options: { batch: { type: "string", default: "32" }, steps: { type: "string", default: "5" } },
});
const [batch, steps] = [Number(values.batch), Number(values.steps)];

interface Subject {
  readonly name: string;
  readonly layers: () => readonly Layer[];
  /** Where blocks end. What follows is no block of its own. */
  readonly ends: readonly number[];
}

const deep = Array.from({ length: 24 }, () =>
  nn.conv2d({ filters: 16, kernelSize: 3, padding: "same", activation: "relu" }),
);
const subjects: readonly Subject[] = [
  // Behind each normalisation or pooling, and before the dense layers, which have nearly all of the weights.
  { name: "alexnet-plus", layers: zooModel("alexnet-plus").layers, ends: [2, 5, 7, 10, 12, 14] },
  {
    name: "24 convolutions",
    layers: () => [...deep, nn.globalAvgPool2d(), nn.dense({ units: 10, activation: "softmax" })],
    ends: [6, 12, 18, 24],
  },
];

const images = Float32Array.from({ length: batch * 28 * 28 }, (_, i) => (i % 97) / 97);
const inputs = { values: images, shape: [batch, 28, 28, 1] };
const labels = { values: Int32Array.from({ length: batch }, (_, i) => i % 10), shape: [batch] };

async function measure({ layers, ends }: Subject, again: boolean) {
  const device = await openDevice("webgpu");
  const all = layers();
  let inputShape: readonly number[] = [28, 28, 1];
  const blocks = [0, ...ends].map((first, k) => {
    const model = nn.sequential({ device, seed: k, inputShape }, all.slice(first, ends[k]));
    inputShape = model.outputShape;
    return model;
  });
  const parameters = blocks.flatMap((model) => model.parameters());
  const optimizer = optim.sgd({ learningRate: 0.01 });
  const plan = new StepPlan(device, (x, ids) => {
    const options = { training: true, step: () => optimizer.iterations };
    const through = (before: Tensor, block: (typeof blocks)[number], k: number) => {
      const call = (t: Tensor) => (k === ends.length ? block.logits(t, options) : block.call(t, options));
      return again && k < ends.length ? recompute(call)(before) : call(before);
    };
    const value = loss.crossEntropy(blocks.reduce(through, x!), ids!);
    backward(value);
    optimizer.step(parameters);
    return [value.detach()];
  });
  const times: number[] = [];
  let found = 0;
  // The first step compiles, the second is recorded.
  for (let step = 0; step < steps + 2; step++) {
    const begun = performance.now();
    found = await plan.run(inputs, labels)[0]!.item();
    if (step >= 2) times.push(performance.now() - begun);
  }
  const { liveBytes } = device.memory();
  const weights = parameters.reduce((sum, { size }) => sum + 4 * size, 0);
  device.destroy();
  return { MiB: liveBytes / 2 ** 20, weightMiB: weights / 2 ** 20, ms: median(times), loss: found };
}

for (const subject of subjects) {
  for (const again of [false, true]) {
    const { MiB, weightMiB, ms, loss: value } = await measure(subject, again);
    console.log(
      `${subject.name.padEnd(16)} ${again ? "recomputed" : "kept      "} ${MiB.toFixed(0)} MiB (weights ${weightMiB.toFixed(0)}), ${ms.toFixed(0)} ms a step, loss ${value.toFixed(6)}`,
    );
  }
}
