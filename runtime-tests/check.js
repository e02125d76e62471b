// What every runtime has to get right: operations against the float64 reference, ten training steps, the gradient of an
// input, and a model that is saved and loaded in each format. The same file runs in Node, Bun, Deno, a page and a
// worker; run.mjs starts it.
import * as K from "kilograd";

const { data, loss, nn, optim, tensor } = K;

/** Pseudo-random numbers in [-1, 1), the same everywhere. */
const numbers = (count, state) =>
  Float32Array.from({ length: count }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1);

const operations = {
  elementwise: (x) => K.add(K.mul(K.exp(x), K.tanh(x)), K.relu(x)),
  matmul: (x, y) => K.matmul(x.reshape([36, 48]), y.reshape([48, 36])),
  conv2d: (x, y) => K.conv2d(x, y.reshape([3, 3, 3, 64]), { padding: "same" }),
  maxPool2d: (x) => K.maxPool2d(x, { poolSize: 2 }),
  reductions: (x) => K.sum(K.softmax(x), { axes: [0, 1] }).add(K.logSumExp(x)),
  gradient: (x) => K.grad((leaf) => K.sum(K.mul(K.tanh(leaf), leaf)))(x),
};

/**
 * Ten steps of Adam; then the weights, the gradient of an image, and the model's answer, before and after it was bytes.
 */
async function trained(device) {
  const { train, test } = data.digits({ seed: 1, trainCount: 320, testCount: 1 });
  const conv = nn.conv2d({ filters: 8, kernelSize: 3, activation: "relu" });
  const layers = [conv, nn.maxPool2d(2), nn.flatten(), nn.dense({ units: 10, activation: "softmax" })];
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, layers);
  await model.fit(train, { optimizer: optim.adam(), loss: loss.crossEntropy, epochs: 1, batchSize: 32 });
  const image = tensor(device, test.images, { shape: [1, 28, 28, 1] });
  const target = tensor(device, Int32Array.of(3));
  const { grad } = K.valueAndGrad((x) => loss.crossEntropy(model.logits(x), target))(image);
  const weights = await Promise.all(model.weights().map(({ tensor }) => tensor.data()));
  const before = await model.call(image).data();
  const after = {};
  for (const format of ["safetensors", "keras-h5", "keras"]) {
    const loaded = await nn.loadModel(await nn.encodeModel(model, { format }), { device });
    after[`after ${format}`] = await loaded.call(image).data();
  }
  return { weights: weights.flatMap((values) => [...values]), input: await grad.data(), before, ...after };
}

/** Float32 sums of some hundred terms, which ten steps amplify. */
const allowed = (name) => (/^(weights|input|before|after)/.test(name) ? 1e-3 : 1e-5);

/** The largest error of each, relative to the largest value, and the names of what is wrong. */
export async function check(options = {}) {
  const devices = [await K.openDevice("webgpu", options), await K.openDevice("cpu")];
  const [found, expected] = [{}, {}];
  for (const [device, values] of [
    [devices[0], found],
    [devices[1], expected],
  ]) {
    const [x, y] = [1, 2].map((seed) => tensor(device, numbers(1728, seed), { shape: [3, 24, 8, 3] }));
    for (const [name, compute] of Object.entries(operations)) values[name] = await compute(x, y).data();
    Object.assign(values, await trained(device));
  }
  const errors = Object.entries(found).map(([name, values]) => {
    const largest = expected[name].reduce((most, value) => Math.max(most, Math.abs(value)), Number.MIN_VALUE);
    const error = expected[name].reduce((most, value, i) => Math.max(most, Math.abs(value - values[i])), 0);
    return [name, values.length === expected[name].length ? error / largest : Number.NaN];
  });
  const wrong = errors.flatMap(([name, error]) => (error <= allowed(name) ? [] : [name]));
  for (const [name, values] of Object.entries(found)) {
    if (name.startsWith("after") && found.before.some((value, i) => value !== values[i]))
      wrong.push(`save and load: ${name}`);
  }
  const { info } = devices[0].adapter;
  for (const device of devices) device.destroy();
  return { adapter: info.description || info.device || info.vendor, errors: Object.fromEntries(errors), wrong };
}
