// TensorFlow.js as a contender, in Node (tfjs.mjs) and in a page (browser/page.mjs). Models are its own layers, trained
// as its trainOnBatch does: minimize() over the trainable variables.

/** `tf` and `layers` are its modules, `packed` puts arrays one after the other. */
export function contend(tf, layers, task, packed) {
  const model = makeModel(layers, tf, task);
  return task.spec.kind === "train" ? training(tf, model, task, packed) : optimising(tf, model, task);
}

function makeModel(layers, tf, { spec, weights }) {
  const model = layers.sequential();
  const last = spec.layers.at(-1).name;
  for (const [index, { className, name, config }] of spec.layers.entries()) {
    const make = {
      Conv2D: () => layers.layers.conv2d,
      MaxPooling2D: () => layers.layers.maxPooling2d,
      BatchNormalization: () => layers.layers.batchNormalization,
      Flatten: () => layers.layers.flatten,
      Dense: () => layers.layers.dense,
    }[className]();
    const { filters, kernelSize, strides, padding, units, poolSize, momentum, epsilon } = config;
    const activation = name === last ? "linear" : config.activation;
    const options = { filters, kernelSize, strides, padding, units, poolSize, momentum, epsilon, activation, name };
    if (index === 0) options.inputShape = spec.model.inputShape;
    for (const [key, value] of Object.entries(options)) if (value === undefined) delete options[key];
    model.add(make(options));
  }
  for (const layer of model.layers) {
    const own = spec.weights.filter(({ name }) => name.startsWith(`${layer.name}/`));
    layer.setWeights(own.map(({ name, shape }) => tf.tensor(weights.get(name), shape)));
  }
  return model;
}

/** What makes its Adam Keras's: the epsilon beside the corrected root that equals 1e-7 beside the uncorrected one. */
function epsilonAt(step) {
  return 1e-7 / Math.sqrt(1 - 0.999 ** step);
}

function makeOptimizer(tf, { name, learningRate }) {
  return name === "adam" ? tf.train.adam(learningRate, 0.9, 0.999, 1e-7) : tf.train.sgd(learningRate);
}

function training(tf, model, { spec, inputs, targets }, packed) {
  const { batch, batches, loss } = spec;
  const optimizer = makeOptimizer(tf, spec.optimizer);
  const inputSize = inputs.length / (batch * batches);
  const targetSize = targets.length / (batch * batches);
  let taken = 0;
  const step = () => {
    const at = (taken++ % batches) * batch;
    optimizer.epsilon = epsilonAt(taken);
    return tf.tidy(() => {
      const x = tf.tensor(inputs.subarray(at * inputSize, (at + batch) * inputSize), [batch, ...spec.model.inputShape]);
      const rows = targets.subarray(at * targetSize, (at + batch) * targetSize);
      return optimizer.minimize(() => {
        const logits = model.apply(x, { training: true });
        return loss === "softmax"
          ? tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(rows, "int32"), 10), logits)
          : tf.losses.sigmoidCrossEntropy(tf.tensor(rows, [batch, targetSize]), logits);
      }, true);
    });
  };
  const trained = () =>
    spec.weights.flatMap(({ name, trainable }) => {
      const [layer, weight] = name.split("/");
      const own = spec.weights.filter((other) => other.name.startsWith(`${layer}/`));
      const index = own.findIndex((other) => other.name === `${layer}/${weight}`);
      return trainable ? [model.getLayer(layer).getWeights()[index]] : [];
    });
  return {
    model,
    async check(rates) {
      const losses = [];
      for (const _ of rates) {
        const cost = step();
        losses.push((await cost.data())[0]);
        cost.dispose();
      }
      const values = [];
      for (const weight of trained()) values.push(await weight.data());
      return { losses, result: packed(values) };
    },
    run: (steps) => timed(steps, step),
  };
}

function optimising(tf, model, { spec, inputs, targets }) {
  const { batch, optimizer: settings, l2 } = spec;
  const shape = [batch, ...spec.model.inputShape];
  const optimizer = makeOptimizer(tf, settings);
  const x = tf.variable(tf.tensor(inputs, shape), true, "images");
  const target = tf.tensor(targets, [batch, 10]);
  const gradientOf = tf.valueAndGrad((images) => {
    const entropy = tf.losses.softmaxCrossEntropy(target, model.apply(images), undefined, 0, tf.Reduction.SUM);
    return tf.add(entropy, tf.mul(tf.sum(tf.square(images)), l2));
  });
  let taken = 0;
  const step = () => {
    optimizer.epsilon = epsilonAt(++taken);
    return tf.tidy(() => {
      const { value, grad } = gradientOf(x);
      optimizer.applyGradients({ images: grad });
      x.assign(tf.clipByValue(x, 0, 1));
      return value;
    });
  };
  return {
    async check(rates) {
      const losses = [];
      for (const rate of rates) {
        optimizer.learningRate = rate;
        const cost = step();
        losses.push((await cost.data())[0] / batch);
        cost.dispose();
      }
      return { losses, result: await x.data() };
    },
    run: (steps) => timed(steps, step),
  };
}

/** Steps without reading anything but the last loss, which waits for them. */
async function timed(steps, step) {
  const begun = performance.now();
  for (let i = 1; i < steps; i++) step().dispose();
  const cost = step();
  await cost.data();
  const ms = performance.now() - begun;
  cost.dispose();
  return { ms, steps };
}
