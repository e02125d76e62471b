// TensorFlow.js as a contender of bench:models: `models-tfjs.mjs FOLDER webgpu|wasm`, see ../protocol.ts. The network
// is made of its own layers.
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { readModelTask } from "../../build/bench/models-task.js";
import { serve } from "../../build/bench/protocol.js";
import { provideWebGpu } from "./webgpu.mjs";

const [folder, backend] = process.argv.slice(2);
const require = createRequire(import.meta.url);

const makers = {
  Conv2D: "conv2d",
  DepthwiseConv2D: "depthwiseConv2d",
  BatchNormalization: "batchNormalization",
  ReLU: "reLU",
  Activation: "activation",
  ZeroPadding2D: "zeroPadding2d",
  MaxPooling2D: "maxPooling2d",
  GlobalAveragePooling2D: "globalAveragePooling2d",
  Add: "add",
  Dense: "dense",
};
/** Settings that mean the same in both. */
const SETTINGS = [
  ...["filters", "kernelSize", "strides", "padding", "units", "poolSize", "momentum", "epsilon", "activation"],
  ...["useBias", "maxValue", "name", "depthMultiplier"],
];

await serve(async () => {
  const adapter = backend === "webgpu" ? `WebGPU, ${await provideWebGpu()}` : backend;
  const tf = require("@tensorflow/tfjs-core");
  const layers = require("@tensorflow/tfjs-layers");
  const entry = require.resolve(`@tensorflow/tfjs-backend-${backend}`);
  const library = require(entry);
  if (backend === "wasm") {
    library.setWasmPaths(`${dirname(entry)}/`);
    library.setThreadsCount(availableParallelism());
  }
  if (!(await tf.setBackend(backend))) throw new Error(`tfjs has no backend ${backend} here`);
  const task = await readModelTask(folder);
  return { contender: contend(tf, makeModel(layers, tf, task), task), ready: `tfjs ${tf.version_core}, ${adapter}` };
});

/** The network without its softmax. */
function makeModel(layers, tf, { spec, weights }) {
  const { inputs, layers: given, calls } = spec.model;
  const configs = new Map(given.map(({ className, config }) => [config.name, { className, config }]));
  const values = inputs.map(({ shape }) => layers.input({ shape }));
  const last = calls.at(-1).layer;
  for (const { layer, inputs: from } of calls) {
    const { className, config } = configs.get(layer);
    const options = Object.fromEntries(
      SETTINGS.flatMap((key) => (config[key] === undefined ? [] : [[key, config[key]]])),
    );
    if (layer === last) options.activation = "linear";
    const made = layers.layers[makers[className]](options);
    values.push(made.apply(from.length === 1 ? values[from[0]] : from.map((value) => values[value])));
  }
  const model = layers.model({ inputs: values[0], outputs: values.at(-1) });
  for (const layer of model.layers) {
    const own = spec.weights.filter(({ name }) => name.startsWith(`${layer.name}/`));
    layer.setWeights(own.map(({ name, shape }) => tf.tensor(weights.get(name), shape)));
  }
  return model;
}

function contend(tf, model, { spec, inputs, targets }) {
  const shape = [spec.batch, ...spec.model.inputs[0].shape];
  const gradient = tf.grad((x) => {
    const target = tf.oneHot(tf.tensor1d(targets, "int32"), 1000);
    return tf.losses.softmaxCrossEntropy(target, model.apply(x));
  });
  const step = async () => {
    const y = tf.tidy(() => {
      const x = tf.tensor(inputs, shape);
      return spec.kind === "predict" ? tf.softmax(model.predict(x)) : gradient(x);
    });
    const values = await y.data();
    y.dispose();
    return values;
  };
  return {
    check: async () => ({ losses: [], result: Float32Array.from(await step()) }),
    async run(steps) {
      const begun = performance.now();
      for (let i = 0; i < steps; i++) await step();
      return { ms: performance.now() - begun, steps };
    },
  };
}
