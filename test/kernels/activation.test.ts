// The step back through an activation with the sums for a bias: one pass where it fits a binding, else two.
import { expect, it } from "vitest";
import { activationGradientKernel, FUSED_ACTIVATIONS } from "../../src/kernels/activation.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { runMany, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose, type Input, randomInput, withSmallBindings } from "../support.js";

const shapes: Shape[] = [
  [1, 5],
  [128, 10],
  [37, 64],
  [32, 200],
  [3, 5, 12],
  [700, 1],
  [5000, 3],
  [2100, 8],
];

async function gradients(device: Device, inputs: readonly Input[], activation: (typeof FUSED_ACTIVATIONS)[number]) {
  const [dy, y] = inputs.map(({ values, shape }) => tensor(device, values, { shape }));
  const outputs = [dy!, { shape: dy!.shape.slice(-1), dtype: "f32" as const }];
  const results = runMany(activationGradientKernel, [dy!, y!], outputs, { activation });
  return Promise.all(results.map((t) => t.data()));
}

describeProfiles((device) => {
  const stream = new RandomStream(3, "activation");

  it.each(shapes.map((shape) => [shape]))("%j", async (shape) => {
    for (const activation of FUSED_ACTIVATIONS) {
      // relu's results are not negative, those of relu6 up to 6.
      const draw = () => {
        const z = stream.uniform() - 0.5;
        if (activation === "relu6") return Math.min(Math.max(0, 20 * z), 6);
        return activation === "relu" ? Math.max(0, z) : z;
      };
      const inputs = [randomInput(stream, shape), randomInput(stream, shape, draw)];
      const [dz, sums] = await gradients(cpu, inputs, activation);
      for (const d of [device(), withSmallBindings(device(), 32768)]) {
        const [foundDz, foundSums] = await gradients(d, inputs, activation);
        expectClose(foundDz!, dz!, { rtol: 1e-6, label: `${activation} dz` });
        expectClose(foundSums!, sums!, { rtol: 1e-5, label: `${activation} sums` });
      }
    }
  });

  it("is one dispatch for a batch", async () => {
    const before = device().counters.dispatches;
    await gradients(device(), [randomInput(stream, [128, 64]), randomInput(stream, [128, 64])], "relu");
    expect(device().counters.dispatches - before).toBe(1);
  });
});
