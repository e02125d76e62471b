// The example of the README, through the package's public names alone.
import { expect, test } from "vitest";
import { data, loss, nn, openDevice, optim, randomKey, randomUniform, tensor, valueAndGrad } from "../../src/node.js";

test("a network is trained, frozen, and its input optimised", async () => {
  await using device = await openDevice("webgpu");
  const { train } = await data.loadDataset("digits", { seed: 1, trainCount: 640, testCount: 10 });
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
    nn.conv2d({ filters: 8, kernelSize: 3, strides: 2, activation: "relu" }),
    nn.maxPool2d(2),
    nn.flatten(),
    nn.dense({ units: 10 }),
  ]);
  const history = await model.fit(train, {
    optimizer: optim.adam({ learningRate: 0.01 }),
    loss: loss.crossEntropy,
    epochs: 3,
    batchSize: 32,
    validationSplit: 0.1,
  });
  expect(history.history["val_accuracy"]!.at(-1)).toBeGreaterThan(0.5);

  const image = randomUniform(device, [1, 28, 28, 1], randomKey(1, "start"));
  const target = tensor(device, new Int32Array([3]));
  const optimizer = optim.adam({ learningRate: 0.1 });
  const losses: number[] = [];
  for (let step = 0; step < 20; step++) {
    const { value, grad } = valueAndGrad((x) => loss.crossEntropy(model.call(x), target))(image);
    optimizer.step([image], [grad]);
    losses.push(await value.item());
    for (const t of [value, grad]) t.dispose();
  }
  expect(losses.at(-1)).toBeLessThan(0.5 * losses[0]!);
});
