// What recompute saves and costs: training steps of alexnet-plus in four blocks, whose results are kept, or computed
// again in the backward pass. Each variant on a device of its own; memory is the most that it took.
// npm run bench:recompute -- --batch 64 --steps 5
import { parseArgs } from "node:util";
import { zooModel } from "../src/experiments/lib/training/models.js";
import { backward, loss, nn, openDevice, optim, recompute, StepPlan, type Tensor } from "../src/index.js";
import { median } from "./harness.js";

const { values } = parseArgs({
  options: { batch: { type: "string", default: "64" }, steps: { type: "string", default: "5" } },
});
const [batch, steps] = [Number(values.batch), Number(values.steps)];

/** Where blocks end: behind the poolings, and before the dense layers, whose weights outweigh their results. */
const ENDS = [5, 10, 14];

const { layers } = zooModel("alexnet-plus");
const inputs = {
  values: Float32Array.from({ length: batch * 28 * 28 }, (_, i) => (i % 97) / 97),
  shape: [batch, 28, 28, 1],
};
const labels = { values: Int32Array.from({ length: batch }, (_, i) => i % 10), shape: [batch] };

async function measure(again: boolean): Promise<{ peakMiB: number; keptMiB: number; ms: number; loss: number }> {
  const device = await openDevice("webgpu");
  const all = layers();
  let inputShape: readonly number[] = [28, 28, 1];
  const blocks = [0, ...ENDS].map((first, k) => {
    const model = nn.sequential({ device, seed: k, inputShape }, all.slice(first, ENDS[k]));
    inputShape = model.outputShape;
    return model;
  });
  const parameters = blocks.flatMap((model) => model.parameters());
  const optimizer = optim.sgd({ learningRate: 0.01 });
  const plan = new StepPlan(device, (images, ids) => {
    const options = { training: true, step: () => optimizer.iterations };
    const through = (x: Tensor, block: (typeof blocks)[number], k: number) => {
      const call = (t: Tensor) => (k === ENDS.length ? block.logits(t, options) : block.call(t, options));
      return again && k < ENDS.length ? recompute(call)(x) : call(x);
    };
    const value = loss.crossEntropy(blocks.reduce(through, images!), ids!);
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
  const { peakBytes } = device.memory();
  const kept = parameters.reduce((sum, { size }) => sum + 4 * size, 0);
  device.destroy();
  return { peakMiB: peakBytes / 2 ** 20, keptMiB: kept / 2 ** 20, ms: median(times), loss: found };
}

for (const again of [false, true]) {
  const { peakMiB, keptMiB, ms, loss: value } = await measure(again);
  console.log(
    `${again ? "recomputed" : "kept      "}  ${peakMiB.toFixed(0)} MiB at most (weights ${keptMiB.toFixed(0)}), ${ms.toFixed(0)} ms a step, loss ${value.toFixed(6)} after ${steps + 2} steps`,
  );
}
