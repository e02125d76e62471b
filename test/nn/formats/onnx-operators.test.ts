// Gradients of ONNX's operators that are made of several operations, against central differences.
import { describe, expect, it } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { gradcheck } from "../../../src/autograd/gradcheck.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import type { Attribute } from "../../../src/nn/formats/onnx/operators/call.js";
import { runNode } from "../../../src/nn/formats/onnx/run.js";
import { type ElementType, Value } from "../../../src/nn/formats/onnx/value.js";
import { RandomStream } from "../../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectEachClose } from "../../support.js";

type Given =
  | Shape
  | { readonly type: ElementType; readonly shape: Shape; readonly data: readonly number[] }
  | undefined;
interface Case {
  readonly op: string;
  readonly opset?: number;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** A shape is for an input whose gradient is checked; others are constants, or not there. */
  readonly inputs: readonly Given[];
  /** Which output; default 0. */
  readonly output?: number;
  readonly title?: string;
}

const ints = (data: readonly number[], shape: Shape = [data.length]) => ({ type: "int64" as const, shape, data });
const isShape = (given: Given): given is Shape => Array.isArray(given);

const heads = { q_num_heads: 4, kv_num_heads: 2 };
const cases: Case[] = [
  {
    op: "Attention",
    title: "with groups",
    attributes: heads,
    inputs: [
      [1, 3, 8],
      [1, 4, 4],
      [1, 4, 6],
    ],
  },
  {
    op: "Attention",
    title: "causal",
    attributes: { is_causal: 1, softcap: 2 },
    inputs: [
      [1, 2, 3, 2],
      [1, 2, 3, 2],
      [1, 2, 3, 2],
    ],
  },
  {
    op: "Attention",
    title: "with a query that sees nothing",
    inputs: [[1, 1, 2, 2], [1, 1, 3, 2], [1, 1, 3, 2], { type: "bool", shape: [2, 3], data: [0, 0, 0, 1, 0, 1] }],
  },
  {
    op: "Attention",
    title: "with a past",
    inputs: [[1, 1, 2, 2], [1, 1, 2, 2], [1, 1, 2, 2], undefined, [1, 1, 2, 2], [1, 1, 2, 2]],
  },
  {
    op: "RotaryEmbedding",
    attributes: { interleaved: 1 },
    inputs: [
      [1, 2, 3, 4],
      [1, 3, 2],
      [1, 3, 2],
    ],
  },
  {
    op: "RotaryEmbedding",
    attributes: { num_heads: 2, rotary_embedding_dim: 2 },
    inputs: [[1, 3, 8], [4, 1], [4, 1], ints([2, 0, 1], [1, 3])],
  },
  {
    op: "LinearAttention",
    attributes: { ...heads, update_rule: "gated_delta" },
    inputs: [
      [1, 3, 8],
      [1, 3, 4],
      [1, 3, 4],
      [1, 2, 2, 2],
      [1, 3, 2],
      [1, 3, 2],
    ],
  },
  { op: "CausalConvWithState", attributes: { activation: "silu" }, inputs: [[1, 2, 4], [2, 1, 3], [2], [1, 2, 2]] },
  { op: "TensorScatter", attributes: { axis: 1, mode: "circular" }, inputs: [[2, 4, 3], [2, 2, 3], ints([3, 1])] },
  {
    op: "SwiGLU",
    attributes: { alpha: 1.5 },
    inputs: [
      [2, 3],
      [2, 3],
    ],
  },
  {
    op: "GridSample",
    title: "linear",
    attributes: { padding_mode: "reflection" },
    inputs: [
      [1, 2, 3, 4],
      [1, 2, 3, 2],
    ],
  },
  {
    op: "GridSample",
    title: "cubic",
    attributes: { mode: "cubic", align_corners: 1 },
    inputs: [
      [1, 1, 4, 5],
      [1, 2, 2, 2],
    ],
  },
  {
    op: "GridSample",
    title: "volumes",
    attributes: { padding_mode: "border" },
    inputs: [
      [1, 1, 2, 3, 2],
      [1, 1, 2, 2, 3],
    ],
  },
  { op: "AffineGrid", inputs: [[1, 2, 3], ints([1, 1, 2, 3])] },
  {
    op: "RoiAlign",
    attributes: { output_height: 2, output_width: 2, sampling_ratio: 2 },
    inputs: [
      [2, 2, 5, 5],
      { type: "float32", shape: [2, 4], data: [0.3, 0.6, 3.2, 3.9, 1.1, 0.2, 4.6, 2.7] },
      ints([0, 1]),
    ],
  },
  { op: "DeformConv", inputs: [[1, 2, 4, 4], [2, 2, 2, 2], [1, 8, 3, 3], [2], [1, 4, 3, 3]] },
  {
    op: "Col2Im",
    attributes: { pads: [0, 1, 0, 1], strides: [1, 2] },
    inputs: [[1, 4, 6], ints([3, 5]), ints([2, 2])],
  },
  { op: "DFT", inputs: [[1, 5, 2, 2]] },
  { op: "DFT", title: "one-sided, inverse", attributes: { onesided: 1, inverse: 1 }, inputs: [[1, 4, 2]] },
  { op: "STFT", opset: 17, inputs: [[1, 8, 1], ints([2], []), [4]] },
  {
    op: "RNN",
    attributes: { direction: "bidirectional" },
    inputs: [
      [3, 2, 2],
      [2, 3, 2],
      [2, 3, 3],
      [2, 6],
    ],
  },
  {
    op: "GRU",
    attributes: { linear_before_reset: 1 },
    inputs: [[3, 2, 2], [1, 9, 2], [1, 9, 3], [1, 18], ints([3, 2]), [1, 2, 3]],
  },
  {
    op: "GRU",
    title: "reset before",
    attributes: { direction: "reverse" },
    inputs: [
      [2, 1, 2],
      [1, 6, 2],
      [1, 6, 2],
      [1, 12],
    ],
  },
  {
    op: "LSTM",
    attributes: { layout: 1 },
    inputs: [[2, 3, 2], [1, 12, 2], [1, 12, 3], [1, 24], undefined, [2, 1, 3], [2, 1, 3], [1, 9]],
    output: 2,
  },
  { op: "Det", inputs: [[2, 3, 3]] },
  { op: "CumProd", attributes: { exclusive: 1, reverse: 1 }, inputs: [[2, 4], ints([1], [])] },
  { op: "ScatterElements", attributes: { reduction: "mul" }, inputs: [[3, 2], ints([0, 1, 0, 2], [2, 2]), [2, 2]] },
  { op: "ScatterND", attributes: { reduction: "max" }, inputs: [[3, 2], ints([2, 2], [2, 1]), [2, 2]] },
  {
    op: "ConvTranspose",
    title: "volumes",
    attributes: { strides: [2, 1, 1], pads: [1, 0, 0, 0, 0, 0] },
    inputs: [[1, 2, 2, 2, 2], [2, 1, 2, 2, 2], [1]],
  },
];

/** The function of those inputs whose gradient is wanted. */
function functionOf({ op, opset = 24, attributes = {}, inputs, output = 0 }: Case) {
  const outputs = Array.from({ length: output + 1 }, (_, k) => `y${k}`);
  const node = { label: op, op, opset, inputs: inputs.map((_, i) => `${i}`), outputs, attributes };
  return (...tensors: Tensor[]): Tensor => {
    const place = { device: tensors[0]!.device, exact: false };
    let next = 0;
    const values = inputs.map((given) => {
      if (given === undefined) return undefined;
      if (isShape(given)) return Value.ofTensor("float32", tensors[next++]!, place);
      return Value.of(given.type, given.shape, given.data);
    });
    return runNode(node, values, { source: "test", place })[output]!.on(place);
  };
}

const titled = cases.map((each, k) => [`${k}: ${each.op} ${each.title ?? ""}`.trim(), each] as const);

const randomly = ({ inputs }: Case) =>
  inputs.filter(isShape).map((shape, k) => {
    const stream = new RandomStream(k, "onnx-operators");
    return { shape, values: Float64Array.from({ length: sizeOf(shape) }, () => 1.6 * stream.uniform() - 0.8) };
  });

describe("gradients of ONNX's operators", () => {
  it.each(titled)("%s", async (_, each) => {
    const { compared } = await gradcheck(functionOf(each), randomly(each));
    expect(compared).toBeGreaterThan(0);
  });

  // The rest is made of the same operations.
  const few = titled.filter(([title]) => /nothing|linear|LSTM|Det/.test(title));
  describeProfiles((device) => {
    it.each(few)("%s, as the reference", async (_, each) => {
      const run = functionOf(each);
      const inputs = randomly(each);
      const [found, right] = await Promise.all(
        [device(), cpu].map(async (place) => {
          const made = inputs.map(({ shape, values }) => tensor(place, values, { shape }));
          const gradients = grad((...x: Tensor[]) => sum(run(...x)), { allowUnused: true })(...made);
          return Promise.all([run(...made), ...[gradients].flat()].map((t) => t.data()));
        }),
      );
      for (const [k, values] of found!.entries()) expectEachClose(values, right![k]!, { rtol: 1e-4, atol: 1e-5 });
    });
  });
});
