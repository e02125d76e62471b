// What every runtime has to get right with the built package: operations against the float64 reference, ten training steps, the
// gradient of an input, and a model that is saved and loaded, also as .h5, which a worker writes and reads. Prints one line of
// JSON: the largest error of each, and the adapter. Runs in any runtime that has `node:fs`; scripts/test-runtimes.mjs starts it.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  add,
  conv2d,
  data,
  exp,
  logSumExp,
  loss,
  matmul,
  maxPool2d,
  mul,
  nn,
  openDevice,
  optim,
  relu,
  softmax,
  sum,
  tanh,
  tensor,
  valueAndGrad,
} from "../dist/index.js";

/** Pseudo-random numbers in [-1, 1), the same everywhere. */
function numbers(count, seed) {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

const devices = [await openDevice("webgpu"), await openDevice("cpu")];

/** The largest difference between the devices' values, relative to the largest value. */
async function errorOf(compute) {
  const [found, expected] = [await compute(devices[0]), await compute(devices[1])];
  if (found.length !== expected.length) throw new Error(`${found.length} values instead of ${expected.length}`);
  let [difference, largest] = [0, Number.MIN_VALUE];
  for (let i = 0; i < expected.length; i++) {
    // A NaN stays.
    difference = Math.max(difference, Math.abs(found[i] - expected[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}

const operations = {
  elementwise: (device) => {
    const x = tensor(device, numbers(600, 1), { shape: [20, 30] });
    return add(mul(exp(x), tanh(x)), relu(x)).data();
  },
  matmul: (device) =>
    matmul(
      tensor(device, numbers(64 * 96, 2), { shape: [64, 96] }),
      tensor(device, numbers(96 * 80, 3), { shape: [96, 80] }),
    ).data(),
  convolution: (device) => {
    const x = tensor(device, numbers(4 * 16 * 16 * 3, 4), { shape: [4, 16, 16, 3] });
    const kernel = tensor(device, numbers(3 * 3 * 3 * 16, 5), { shape: [3, 3, 3, 16] });
    return maxPool2d(conv2d(x, kernel), { poolSize: 2 }).data();
  },
  reductions: (device) => {
    const x = tensor(device, numbers(50 * 70, 6), { shape: [50, 70] });
    return add(sum(softmax(x), { axes: [0] }), logSumExp(x)).data();
  },
};

/** Ten steps of Adam; then the weights, the gradient of an image, and its answer, before and after a file. */
async function trained(device) {
  const { train, test } = data.digits({ seed: 1, trainCount: 320, testCount: 10 });
  const model = nn.sequential({ device, seed: 1, inputShape: [28, 28, 1] }, [
    nn.conv2d({ filters: 8, kernelSize: 3, activation: "relu" }),
    nn.maxPool2d(2),
    nn.flatten(),
    nn.dense({ units: 10, activation: "softmax" }),
  ]);
  await model.fit(train, { optimizer: optim.adam(), loss: loss.crossEntropy, epochs: 1, batchSize: 32 });
  const weights = [];
  for (const { tensor: weight } of model.weights()) weights.push(...(await weight.data()));
  const image = tensor(device, test.images.subarray(0, 784), { shape: [1, 28, 28, 1] });
  const target = tensor(device, Int32Array.of(3));
  const { grad } = valueAndGrad((x) => loss.crossEntropy(model.logits(x), target))(image);
  const answer = await model.call(image).data();
  const folder = await mkdtemp(join(tmpdir(), "kilograd-runtime-"));
  try {
    let same = true;
    // The weights of the float64 reference are float32 in an .h5 file.
    const formats = { "model.safetensors": [nn.saveModel, 0], "model.h5": [nn.saveKerasModel, 1e-6] };
    for (const [name, [save, allowed]] of Object.entries(formats)) {
      const path = join(folder, name);
      await save(path, model);
      const loaded = await nn.loadModel(path, { device });
      const again = await loaded.call(image).data();
      same &&= again.every((value, i) => Math.abs(value - answer[i]) <= allowed);
    }
    return { weights, gradient: await grad.data(), answer, same };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

// float32 sums of some hundred terms; ten steps of Adam amplify the differences of small gradients.
const allowed = { gradient: 1e-3, answer: 1e-3, weights: 1e-3 };
const errors = {};
for (const [name, compute] of Object.entries(operations)) errors[name] = await errorOf(compute);
const results = [await trained(devices[0]), await trained(devices[1])];
for (const name of Object.keys(allowed)) {
  let turn = 0;
  errors[name] = await errorOf(() => results[turn++][name]);
}
const wrong = Object.keys(errors).filter((name) => !(errors[name] <= (allowed[name] ?? 1e-5)));
if (!results.every(({ same }) => same)) wrong.push("save and load");
const { description, device } = devices[0].adapter.info;
console.log(JSON.stringify({ adapter: description || device, errors, wrong }));
for (const opened of devices) opened.destroy();
