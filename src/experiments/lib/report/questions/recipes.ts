// "Do it yourself": what each experiment does, in a few lines of the library. A test runs every one of them.

const device = `const device = await openDevice("webgpu");`;

export const recipes = {
  digits: `import { data, loss, nn, openDevice, optim } from "kilograd";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 2000, testCount: 300 });
const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
  nn.conv2d({ filters: 24, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2),
  nn.conv2d({ filters: 36, kernelSize: 3, activation: "relu" }), nn.maxPool2d(2),
  nn.flatten(), nn.dense({ units: 64, activation: "relu" }), nn.dense({ units: 10, activation: "softmax" })]);
console.log(model.summary());
const { history } = await model.fit(train, {
  optimizer: optim.adam(), loss: loss.crossEntropy, epochs: 2, validationSplit: 0.1 });
const { accuracy } = await model.evaluate(test, { loss: loss.crossEntropy });
console.log("validation", history.val_accuracy.at(-1), "test", accuracy);
device.destroy();
`,

  inputs: `import { data, loss, nn, openDevice, optim } from "kilograd";
import { filmStrip, objectives, optimizeInputs, transforms, regularizers } from "kilograd/inputs";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 1500, testCount: 50 });
const model = nn.sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
  nn.conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
  nn.flatten(), nn.dense({ units: 10, activation: "softmax" })]);
await model.fit(train, { optimizer: optim.adam({ learningRate: 3e-3 }), loss: loss.crossEntropy, epochs: 3 });
// From noise to a 3.
const three = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const found = await optimizeInputs(model, { objective: objectives.targetProbabilities(three), count: 4, steps: 100,
  transforms: [transforms.jitter(1)], regularizers: [regularizers.l2(1e-4)] });
console.log("a 3 with", found.snapshots.at(-1).outputs[3]);
// From a real digit to half a 2 and half a 3, with a picture of every early step.
const both = [0, 0, 0.5, 0.5, 0, 0, 0, 0, 0, 0];
const half = await optimizeInputs(model, { objective: objectives.targetProbabilities(both),
  starts: test.images.slice(0, 784), steps: 100, snapshotSteps: [0, 1, 2, 3, 4, 9, 100] });
console.log(filmStrip(half).length, "pictures; in the end", half.snapshots.at(-1).outputs.slice(2, 4));
device.destroy();
`,

  vanishing: `import { data, loss, nn, openDevice, tensor } from "kilograd";

const device = await openDevice("webgpu", { tinyDispatches: true });
const { train } = data.digits({ seed: 1, trainCount: 32, testCount: 1 });
for (const activation of ["relu", "tanh", "sigmoid", "lecunTanh"]) {
  const hidden = Array.from({ length: 20 }, () => nn.dense({ units: 32, activation }));
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
    nn.flatten(), ...hidden, nn.dense({ units: 10, activation: "softmax" })]);
  const logits = model.logits(tensor(device, train.images, { shape: [32, 28, 28, 1] }));
  loss.crossEntropy(logits, tensor(device, train.labels)).backward();
  const kernels = model.weights().filter(({ name }) => name.endsWith("/kernel"));
  const largest = await Promise.all(kernels.map(({ tensor }) => tensor.grad.abs().max().item()));
  console.log(activation, "first layer", largest[0], "output layer", largest.at(-1));
}
device.destroy();
`,

  weightDecay: `import { data, loss, nn, openDevice, optim } from "kilograd";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 2000, testCount: 300 });
for (const factor of [0, 1e-4, 1e-3]) {
  const layer = (units) => nn.dense({ units, activation: "relu", kernelL2: factor });
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
    nn.flatten(), layer(500), layer(300), nn.dense({ units: 10, activation: "softmax", kernelL2: factor })]);
  const { history } = await model.fit(train, { optimizer: optim.sgd({ learningRate: 0.1 }),
    loss: loss.crossEntropy, epochs: 3, batchSize: 128, validationSplit: 0.1 });
  const { accuracy } = await model.evaluate(test, { loss: loss.crossEntropy });
  console.log(factor, "best validation accuracy", Math.max(...history.val_accuracy), "test", accuracy);
}
device.destroy();
`,

  examples: `import { data, loss, nn, openDevice, optim } from "kilograd";
import { attackImages, attacks, trainGenerators } from "kilograd/inputs";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 1500, testCount: 50 });
const model = nn.sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
  nn.conv2d({ filters: 8, kernelSize: 5, strides: 2, activation: "relu" }),
  nn.flatten(), nn.dense({ units: 10, activation: "softmax" })]);
await model.fit(train, { optimizer: optim.adam({ learningRate: 3e-3 }), loss: loss.crossEntropy, epochs: 3 });
// One generator for each class: networks whose weights are images that begin as the same digit.
const sample = test.images.slice(0, 784);
const samples = Float32Array.from({ length: 7840 }, (_, i) => sample[i % 784]);
const targets = Int32Array.from({ length: 10 }, (_, i) => i);
const made = await trainGenerators(model, { samples, targets, rounds: 20 });
made.confidence.forEach((confidence, target) => {
  console.log(\`a \${test.labels[0]} as a \${target}:\`, confidence, "at a distance of", made.distances.l2[target]);
});
const { accuracy } = await attackImages(model, test, attacks.pgd({ norm: "linf", epsilon: 0.1 }));
console.log("accuracy under PGD", accuracy);
device.destroy();
`,

  robust: `import { data, loss, nn, openDevice, optim } from "kilograd";
import { adversary, attackImages, attacks } from "kilograd/inputs";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 2000, testCount: 100 });
const attack = attacks.pgd({ norm: "linf", epsilon: 0.1, steps: 1, relativeStep: 1.25 });
for (const perturb of [undefined, adversary({ attack, warmupSteps: 60 })]) {
  const model = nn.sequential({ device, seed: 3, inputShape: [28, 28, 1] }, [
    nn.conv2d({ filters: 16, kernelSize: 5, strides: 2, activation: "relu" }),
    nn.flatten(), nn.dense({ units: 10, activation: "softmax" })]);
  const optimizer = optim.adam({ learningRate: 3e-3 });
  await model.fit(train, { optimizer, loss: loss.crossEntropy, epochs: 3, perturb });
  const clean = await model.evaluate(test, { loss: loss.crossEntropy });
  const underPgd = await attackImages(model, test, attacks.pgd({ norm: "linf", epsilon: 0.1 }));
  console.log(perturb ? "robust" : "plain", clean.accuracy, "under PGD", underPgd.accuracy);
}
device.destroy();
`,

  emotion: `import { loss, nn, openDevice, optim } from "kilograd";

// Faces as bytes, [N, 48, 48, 1]: with kilograd/node, data.loadDataset("fer2013") gives real ones.
${device}
const images = Float32Array.from({ length: 140 * 2304 }, (_, i) => (Math.floor(i / 2304) % 7) * 30 + (i % 48));
const labels = Int32Array.from({ length: 140 }, (_, i) => i % 7);
const model = nn.sequential({ device, seed: 1, inputShape: [48, 48, 1] }, [
  // The model prepares its pixels itself: from 0 to 1, less the face's mean, divided by its deviation.
  nn.rescaling({ scale: 1 / 255 }), nn.groupNorm({ groups: 1, center: false, scale: false, epsilon: 4e-4 }),
  nn.conv2d({ filters: 16, kernelSize: 5, strides: 2, activation: "relu" }), nn.maxPool2d(2),
  nn.flatten(), nn.dense({ units: 7, activation: "softmax" })]);
const faces = { images, labels, count: 140, imageShape: [48, 48, 1] };
const optimizer = optim.adamW({ learningRate: 3e-3, weightDecay: 0.02 });
await model.fit(faces, { optimizer, loss: loss.crossEntropy, epochs: 3 });
const file = await nn.encodeKerasModel(model); // keras.models.load_model(...).predict takes the same pixels
const again = await nn.loadModel(file, { device });
console.log(file.length, "bytes; first face", (await again.predict(images.subarray(0, 2304))).data);
device.destroy();
`,

  denoising: `import { data, loss, nn, openDevice, optim, RandomStream } from "kilograd";

${device}
const { train, test } = data.digits({ seed: 1, trainCount: 2000, testCount: 100 });
const random = new RandomStream(1, "salt and pepper");
const noisy = (images) => images.map((pixel) => (random.uniform() < 0.4 ? Math.round(random.uniform()) : pixel));
const relu = (units) => nn.dense({ units, activation: "relu" });
const autoencoder = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
  nn.flatten(), relu(128), relu(96), relu(128), nn.dense({ units: 784, activation: "sigmoid" })]);
await autoencoder.fit({ inputs: noisy(train.images), targets: train.images }, {
  optimizer: optim.adam(), loss: loss.binaryCrossEntropyFromLogits, epochs: 10, batchSize: 64 });
const seen = noisy(test.images);
const { data: clean } = await autoencoder.predict(seen);
const error = (images) => images.reduce((sum, pixel, i) => sum + (pixel - test.images[i]) ** 2, 0) / images.length;
console.log("mean squared error", error(seen), "denoised", error(clean));
device.destroy();
`,
} as const;
