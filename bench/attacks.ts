// Robust accuracy under this library's attacks. attacks.py compares it with Foolbox's and AutoAttack's on the same
// weights and images.
//
// npm run bench:attacks -- OUT, then python3 bench/attacks.py OUT
//
// Takes MNIST where it is found, otherwise built-in digits. OUT gets weights.safetensors, images.safetensors and
// ours.json.
import { join } from "node:path";
import { adversary, attackImages, attacks, type Norm } from "../src/inputs.js";
import { data, io, loss, nn, openDevice, optim } from "../src/node.js";

const out = process.argv[2];
if (out === undefined) throw new Error("needs a folder for what it writes");
await io.prepareOutputFolder(out);

const device = await openDevice("webgpu");
const { dataset } = await data.loadMnistOrDigits({ seed: 1, trainCount: 5000 });
const { train, test } = dataset;
const images = data.limitImages(test, 200);

await io.writeSafetensors(
  join(out, "images.safetensors"),
  new Map<string, io.StoredTensor>([
    ["images", { dtype: "F32", shape: [images.count, 28, 28, 1], data: Float32Array.from(images.images) }],
    ["labels", { dtype: "I32", shape: [images.count], data: Int32Array.from(images.labels) }],
  ]),
);

/** A small network, trained on what PGD makes of its images. */
async function trained(norm: Norm, epsilon: number) {
  const model = nn.sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
    nn.conv2d({ filters: 16, kernelSize: 5, strides: 2, activation: "relu" }),
    nn.maxPool2d(2),
    nn.flatten(),
    nn.dense({ units: 64, activation: "relu" }),
    nn.dense({ units: 10, activation: "softmax" }),
  ]);
  const attack = attacks.pgd({ norm, epsilon, steps: 5, relativeStep: 0.4 });
  await model.fit(data.limitImages(train, 10_000), {
    ...{ optimizer: optim.adam({ learningRate: 2e-3 }), loss: loss.crossEntropy, epochs: 6 },
    perturb: adversary({ attack, warmupSteps: 200 }),
  });
  return model;
}

const found: Record<string, Record<string, number>> = {};
const weights = new Map<string, io.StoredTensor>();
for (const [norm, epsilon] of [
  ["linf", 0.2],
  ["l2", 2.5],
] as const) {
  // Trained in a smaller ball: of accuracies in the middle, differences are seen best.
  const model = await trained(norm, epsilon / 2);
  for (const { name, tensor } of model.weights()) {
    weights.set(`${norm}/${name}`, {
      dtype: "F32",
      shape: tensor.shape,
      data: Float32Array.from(await tensor.data()),
    });
  }
  await io.writeSafetensors(join(out, "weights.safetensors"), weights);
  const accuracies: Record<string, number> = { epsilon };
  found[norm] = accuracies;
  for (const attack of [
    attacks.fgsm({ norm, epsilon }),
    attacks.pgd({ norm, epsilon }),
    attacks.apgd({ norm, epsilon }),
    attacks.deepFool({ norm, epsilon }),
    attacks.autoAttack({ norm, epsilon }),
    attacks.apgd({ norm, epsilon, loss: "dlr-targeted" }),
    attacks.fab({ norm, epsilon }),
    attacks.square({ norm, epsilon, queries: 1000 }),
    ...(norm === "l2" ? [attacks.carliniWagner({ epsilon, steps: 200, initialConstant: 0.1 })] : []),
  ]) {
    const begun = performance.now();
    const { accuracy, withoutGradient } = await attackImages(model, images, attack, { seed: 1 });
    accuracies[attack.name] = accuracy;
    await io.writeJson(join(out, "ours.json"), found);
    const seconds = (performance.now() - begun) / 1000;
    console.log(
      `${norm} ${attack.name}: ${(100 * accuracy).toFixed(1)} %, ${withoutGradient} without a gradient, ${seconds.toFixed(1)} s`,
    );
  }
  model.dispose();
}
device.destroy();
