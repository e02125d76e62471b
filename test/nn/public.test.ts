// The examples of the README, through the package's public names alone.
import { readFileSync } from "node:fs";
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

test("the residual network of the README is trained as it stands there", { timeout: 120_000 }, async () => {
  await using device = await openDevice("webgpu");
  const { train } = await data.loadDataset("digits", { seed: 1, trainCount: 640, testCount: 10 });
  const section = readFileSync("README.md", "utf8").split("## Models with branches")[1]!;
  const code = /^```js\n(.*?)^```$/ms.exec(section)![1]!;
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  const run = AsyncFunction("nn", "optim", "loss", "device", "train", `${code}\nreturn residual;`);
  const residual = (await run(nn, optim, loss, device, train)) as nn.Model;
  // Each block is wider than what goes into it, so that its shortcut is a convolution.
  const classes = residual.layers.map(({ placed }) => placed.layer.className);
  expect(classes.filter((name) => name === "Add")).toHaveLength(2);
  expect(classes.filter((name) => name === "Conv2D")).toHaveLength(6);
  // It goes on learning.
  const options = { optimizer: optim.adam({ learningRate: 0.01 }), loss: loss.crossEntropy, epochs: 5 };
  const { history } = await residual.fit(train, options);
  expect(history["loss"]!.at(-1)).toBeLessThan(0.9 * history["loss"]![0]!);
});
