// jax-js as a contender of bench:peers: `jax.mjs FOLDER webgpu|wasm`, see ../protocol.ts. A step is one jitted
// function: forward, gradients, update. A value belongs to whoever it is passed to, `.ref` keeps it.
import { readFileSync } from "node:fs";
import { packed } from "../../build/bench/packed.js";
import { serve } from "../../build/bench/protocol.js";
import { readTask } from "../../build/bench/workloads.js";
import { arranged, arrangements, restored } from "./layout.mjs";
import { provideNavigator, provideWebGpu } from "./webgpu.mjs";
import { provideWorkers } from "./workers.mjs";

const [folder, backend] = process.argv.slice(2);
const { version } = JSON.parse(readFileSync(new URL("node_modules/@jax-js/jax/package.json", import.meta.url), "utf8"));

await serve(async () => {
  provideNavigator({});
  if (backend === "wasm") provideWorkers();
  const adapter = backend === "webgpu" ? `WebGPU, ${await provideWebGpu()}` : "Wasm";
  const jax = await import("@jax-js/jax");
  if (!(await jax.init(backend)).includes(backend)) throw new Error(`jax-js has no backend ${backend} here`);
  jax.defaultDevice(backend);
  const task = await readTask(folder);
  const contender = task.spec.kind === "train" ? training(jax, task) : optimising(jax, task);
  return { contender, ready: `jax-js ${version}, ${adapter}` };
});

/** Logits of x [N, C, H, W]; `weights` by name are borrowed. */
function forward({ numpy: np, lax, nn }, { layers }, weights, input) {
  let x = input;
  const used = (name) => weights[name].ref;
  for (const [index, { className, name, config, inputShape }] of layers.entries()) {
    if (className === "Conv2D") {
      x = lax.convGeneralDilated(x, used(`${name}/kernel`), config.strides, config.padding.toUpperCase());
      if (config.useBias) x = x.add(used(`${name}/bias`).reshape([1, -1, 1, 1]));
    } else if (className === "Dense") {
      x = np.dot(x, used(`${name}/kernel`)).add(used(`${name}/bias`));
    } else if (className === "MaxPooling2D") {
      x = lax.reduceWindow(x, np.max, config.poolSize, config.strides);
    } else if (className === "Flatten") {
      x = x.reshape([x.shape[0], inputShape.reduce((a, b) => a * b, 1)]);
    } else if (className === "BatchNormalization") {
      const axes = [0, 2, 3];
      const centred = x.ref.sub(np.mean(x, axes, { keepdims: true }));
      const variance = np.mean(np.square(centred.ref), axes, { keepdims: true });
      const scale = used(`${name}/gamma`)
        .reshape([1, -1, 1, 1])
        .div(np.sqrt(variance.add(config.epsilon)));
      x = centred.mul(scale).add(used(`${name}/beta`).reshape([1, -1, 1, 1]));
    } else {
      throw new Error(`no ${className} here`);
    }
    if (config.activation === "relu" && index < layers.length - 1) x = nn.relu(x);
  }
  return x;
}

/** Softmax cross-entropy per row with distributions. */
function crossEntropy({ nn }, logits, target) {
  return nn.logSoftmax(logits, -1).mul(target).sum(-1).neg();
}

/** Adam's learning rate of a step with both corrections. */
function correctedRate({ numpy: np }, step, rate) {
  return np.array(new Float32Array([(rate * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step)]));
}

/** Keras's Adam. Takes and gives [value, first moment, second moment]. */
function adamStep({ numpy: np }, [p, m, v], gradient, rate) {
  const first = m.mul(0.9).add(gradient.ref.mul(0.1));
  const second = v.mul(0.999).add(np.square(gradient).mul(0.001));
  const change = first.ref.mul(rate).div(np.sqrt(second.ref).add(1e-7));
  return [p.sub(change), first, second];
}

function training(jax, { spec, inputs, targets, weights }) {
  const { numpy: np, nn } = jax;
  const { batch, batches, loss, optimizer } = spec;
  const places = arrangements(spec).filter(({ trainable }) => trainable);
  const names = places.map(({ name }) => name);
  const fresh = (place) => np.array(arranged(weights.get(place.name), place)).reshape([...place.shape]);
  const adam = optimizer.name === "adam";
  const slots = ({ shape }) => (adam ? [np.zeros([...shape]), np.zeros([...shape])] : []);
  let state = places.map((place) => [fresh(place), ...slots(place)]);

  const lossOf = (values, x, y) => {
    const named = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    const logits = forward(jax, spec, named, x);
    for (const value of values) value.dispose();
    if (loss === "softmax") return crossEntropy(jax, logits, nn.oneHot(y, 10)).mean();
    // softplus(x) - x y, where softplus(x) = max(x, 0) + log(1 + exp(-|x|))
    const softplus = np.maximum(logits.ref, 0).add(np.log1p(np.exp(np.abs(logits.ref).neg())));
    return softplus.sub(logits.mul(y)).mean();
  };
  const step = jax.jit((state, x, y, rate) => {
    const [value, gradients] = jax.valueAndGrad(lossOf)(
      state.map(([p]) => p.ref),
      x,
      y,
    );
    const next = state.map((own, i) =>
      adam ? adamStep(jax, own, gradients[i], rate.ref) : [own[0].sub(gradients[i].mul(rate.ref))],
    );
    rate.dispose();
    return [next, value];
  });
  const inputSize = inputs.length / (batch * batches);
  const targetSize = targets.length / (batch * batches);
  const [height, width, channels] = spec.model.inputShape;
  let taken = 0;
  const take = () => {
    const at = (taken++ % batches) * batch;
    const x = np.array(inputs.slice(at * inputSize, (at + batch) * inputSize));
    const y = np.array(targets.slice(at * targetSize, (at + batch) * targetSize));
    const rate = adam
      ? correctedRate(jax, taken, optimizer.learningRate)
      : np.array(new Float32Array([optimizer.learningRate]));
    // One channel, so that [H, W, C] is [C, H, W].
    const image = x.reshape([batch, channels, height, width]);
    const [next, value] = step(state, image, targetSize > 1 ? y.reshape([batch, targetSize]) : y, rate);
    state = next;
    return value;
  };
  return {
    async check(rates) {
      const losses = [];
      for (const _ of rates) losses.push((await take().data())[0]);
      const values = [];
      for (const [i, [value]] of state.entries()) values.push(restored(await value.ref.data(), places[i]));
      return { losses, result: packed(values) };
    },
    run: (steps) => timed(steps, take),
  };
}

function optimising(jax, { spec, inputs, targets, weights }) {
  const { numpy: np } = jax;
  const { batch, optimizer, l2 } = spec;
  const [height, width, channels] = spec.model.inputShape;
  const shape = [batch, channels, height, width];
  const frozen = Object.fromEntries(
    arrangements(spec).map((place) => [
      place.name,
      np.array(arranged(weights.get(place.name), place)).reshape([...place.shape]),
    ]),
  );
  const target = np.array(targets.slice()).reshape([batch, 10]);
  const lossOf = (x, named, y) => {
    const entropy = crossEntropy(jax, forward(jax, spec, named, x.ref), y).sum();
    for (const value of Object.values(named)) value.dispose();
    return entropy.add(np.square(x).sum().mul(l2));
  };
  const step = jax.jit((state, named, y, rate) => {
    const [value, gradient] = jax.valueAndGrad(lossOf)(state[0].ref, named, y);
    const [x, m, v] = adamStep(jax, state, gradient, rate);
    return [[np.clip(x, 0, 1), m, v], value];
  });
  let state = [np.array(inputs.slice()).reshape(shape), np.zeros(shape), np.zeros(shape)];
  let taken = 0;
  const take = (learningRate = optimizer.learningRate) => {
    const named = Object.fromEntries(Object.entries(frozen).map(([name, value]) => [name, value.ref]));
    const [next, value] = step(state, named, target.ref, correctedRate(jax, ++taken, learningRate));
    state = next;
    return value;
  };
  return {
    async check(rates) {
      const losses = [];
      for (const rate of rates) losses.push((await take(rate).data())[0] / batch);
      return { losses, result: await state[0].ref.data() };
    },
    run: (steps) => timed(steps, () => take()),
  };
}

/** Steps without reading anything but the last loss, which waits for them. */
async function timed(steps, step) {
  const begun = performance.now();
  for (let i = 1; i < steps; i++) step().dispose();
  await step().data();
  return { ms: performance.now() - begun, steps };
}
