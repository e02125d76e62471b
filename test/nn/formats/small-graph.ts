// A small graph model of TensorFlow.js, with operations that no converter has fused. No tests in here.
const base64 = (text: string) => Buffer.from(text).toString("base64");
const ints = (...values: number[]) => ({ list: { i: values.map(String) } });
const text = (value: string) => ({ s: base64(value) });

/** Constants by name: shape and values. */
export const constants: Readonly<Record<string, readonly [shape: number[], values: number[], dtype?: "int32"]>> = {
  kernel: [[3, 3, 1, 2], Array.from({ length: 18 }, (_, i) => Math.sin(i))],
  bias: [[2], [0.5, -0.25]],
  scale: [[2], [2, -1]],
  two: [[], [2]],
  minusOne: [[], [-1], "int32"],
  start: [[1], [0], "int32"],
  eight: [[], [8], "int32"],
  matrix: [[3, 8], Array.from({ length: 24 }, (_, i) => Math.cos(i))],
  dense: [[3], [0.1, 0.2, 0.3]],
};

const nodes = [
  {
    name: "x",
    op: "Placeholder",
    attr: { shape: { shape: { dim: [-1, 6, 6, 1].map((size) => ({ size: `${size}` })) } } },
  },
  ...Object.keys(constants).map((name) => ({ name, op: "Const", attr: {} })),
  { name: "doubled", op: "Mul", input: ["two", "x"], attr: {} },
  {
    name: "conv",
    op: "Conv2D",
    input: ["doubled", "kernel"],
    attr: { strides: ints(1, 1, 1, 1), dilations: ints(1, 1, 1, 1), padding: text("VALID"), data_format: text("NHWC") },
  },
  { name: "biased", op: "BiasAdd", input: ["conv:0", "bias"], attr: {} },
  { name: "relu", op: "Relu", input: ["biased"], attr: {} },
  { name: "copy", op: "Identity", input: ["relu", "^conv"], attr: {} },
  { name: "scaled", op: "Mul", input: ["copy", "scale"], attr: {} },
  { name: "sum", op: "AddV2", input: ["scaled", "copy"], attr: {} },
  {
    name: "pool",
    op: "MaxPool",
    input: ["sum"],
    attr: { ksize: ints(1, 2, 2, 1), strides: ints(1, 2, 2, 1), padding: text("SAME") },
  },
  { name: "shape", op: "Shape", input: ["pool"], attr: {} },
  { name: "batch", op: "StridedSlice", input: ["shape", "start", "start", "start"], attr: {} },
  { name: "target", op: "Pack", input: ["batch", "eight"], attr: {} },
  { name: "flat", op: "Reshape", input: ["pool", "target"], attr: {} },
  { name: "product", op: "MatMul", input: ["flat", "matrix"], attr: { transpose_b: { b: true } } },
  { name: "logits", op: "Add", input: ["product", "dense"], attr: {} },
  { name: "answer", op: "Softmax", input: ["logits"], attr: {} },
];

/** The JSON, and the bytes of its only shard; outputs are logits and probabilities. */
export const smallGraph = {
  json: {
    format: "graph-model",
    modelTopology: { node: nodes },
    signature: { outputs: { a: { name: "logits:0" }, b: { name: "answer" } } },
    weightsManifest: [
      {
        paths: ["w.bin"],
        weights: Object.entries(constants).map(([name, [shape, , dtype = "float32"]]) => ({ name, shape, dtype })),
      },
    ],
  },
  shard: new Uint8Array(
    Buffer.concat(
      Object.values(constants).map(([, values, dtype]) =>
        Buffer.from((dtype === "int32" ? Int32Array.from(values) : Float32Array.from(values)).buffer),
      ),
    ),
  ),
};
