// NaN and infinities in the inputs of matrix products and convolutions, in every way that these are computed. They
// reach the results that depend on them, as numbers that are not finite, and no others. Only Winograd's filtering mixes
// the pixels of a tile: there, NaN may stand in a whole tile's results.
import { expect, it } from "vitest";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../src/autograd/ops/conv2d-pool.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import type { FusedActivation } from "../../src/kernels/activation.js";
import { RandomStream } from "../../src/tensor/random.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import type { Tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, evaluate, type Input, randomInput } from "../support.js";

interface Route {
  readonly name: string;
  readonly inputs: readonly Shape[];
  readonly fn: (...inputs: Tensor[]) => Tensor;
  /** Pixels from an input's pixel to results of its tile, where tiles mix. */
  readonly reach?: number;
}

const product = (name: string, a: Shape, b: Shape, transposeA = false, transposeB = false): Route => ({
  name: `matmul, ${name}`,
  inputs: [a, b, [transposeB ? b.at(-2)! : b.at(-1)!]],
  fn: (x, y, bias) => matmul(x!, y!, { transposeA, transposeB, bias: bias! }),
});

const convolution = (
  name: string,
  [x, kernel]: readonly [Shape, Shape],
  options: Parameters<typeof conv2d>[2] & { readonly pooled?: boolean; readonly reach?: number } = {},
): Route => {
  const { pooled, reach, ...rest } = options;
  return {
    name: `${pooled ? "conv2dMaxPool2d" : "conv2d"}, ${name}`,
    inputs: [x, kernel, [kernel.at(-1)!]],
    fn: (x, kernel, bias) =>
      pooled
        ? conv2dMaxPool2d(x!, kernel!, { ...rest, bias: bias!, pool: { poolSize: 2 } })
        : conv2d(x!, kernel!, { ...rest, bias: bias! }),
    ...(reach !== undefined && { reach }),
  };
};

const relu: FusedActivation = "relu";
const routes: readonly Route[] = [
  product("a small tile", [5, 7], [7, 6]),
  product("rows not in fours", [33, 37], [37, 35]),
  product("panels", [64, 132], [132, 40]),
  product("A transposed", [64, 72], [64, 40], true),
  product("B transposed", [40, 64], [36, 64], false, true),
  product("k in pieces", [8, 4096], [4096, 64]),
  product("a batch", [3, 20, 24], [3, 24, 28]),
  convolution(
    "gather",
    [
      [2, 9, 9, 3],
      [3, 3, 3, 7],
    ],
    { activation: relu },
  ),
  convolution(
    "gather with padding",
    [
      [2, 9, 9, 4],
      [3, 3, 4, 8],
    ],
    { padding: "same" },
  ),
  convolution(
    "strides",
    [
      [2, 11, 9, 4],
      [3, 3, 4, 8],
    ],
    { strides: 2 },
  ),
  convolution("windows as rows", [
    [4, 9, 9, 16],
    [3, 3, 16, 32],
  ]),
  convolution(
    "Winograd, padded",
    [
      [2, 16, 16, 32],
      [3, 3, 32, 32],
    ],
    { padding: "same", reach: 6 },
  ),
  convolution(
    "one channel",
    [
      [2, 14, 14, 1],
      [3, 3, 1, 8],
    ],
    { pooled: true, activation: relu },
  ),
  convolution(
    "Winograd",
    [
      [2, 18, 18, 32],
      [3, 3, 32, 32],
    ],
    { pooled: true, activation: relu, reach: 6 },
  ),
  convolution(
    "one after the other",
    [
      [2, 9, 9, 3],
      [3, 3, 3, 4],
    ],
    { pooled: true, activation: relu },
  ),
];

/** Image, row and column of an element of [N, H, W, C]; of other shapes none. */
function pixelOf(shape: Shape, index: number): readonly [number, number, number] {
  const [, height = 1, width = 1, channels = 1] = shape;
  const pixel = Math.floor(index / channels);
  return [Math.floor(pixel / width / height), Math.floor(pixel / width) % height, pixel % width];
}

describeProfiles((device) => {
  it.each(routes)("$name", async ({ inputs: shapes, fn, reach = 0 }) => {
    const stream = new RandomStream(3, "non-finite");
    const upstream = (shape: Shape) => randomInput(new RandomStream(4, "dy"), shape);
    for (const special of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const inputs: Input[] = shapes.map((shape) => randomInput(stream, shape));
      const place = stream.integer(sizeOf(shapes[0]!));
      (inputs[0]!.values as Float32Array)[place] = special;
      const [found, expected] = [
        await evaluate(device(), fn, inputs, upstream),
        await evaluate(cpu, fn, inputs, upstream),
      ];
      const [image, row, column] = pixelOf(shapes[0]!, place);
      const scale = expected.shape[1] === undefined ? 1 : Math.round(shapes[0]![1]! / expected.shape[1]);
      for (const [i, value] of expected.value.entries()) {
        const actual = found.value[i]!;
        const [n, y, x] = pixelOf(expected.shape, i);
        const near = Math.max(Math.abs(y * scale - row), Math.abs(x * scale - column)) <= reach + scale;
        const mixed = reach > 0 && n === image && near;
        if (mixed && Number.isNaN(actual)) continue;
        const label = `${special} at ${place}: element ${i} of [${expected.shape}]`;
        if (!Number.isFinite(value)) expect(actual, label).toBe(value);
        else expect(Math.abs(actual - value), `${label}, ${actual} for ${value}`).toBeLessThan(1e-3);
      }
      // Gradients of the others: not finite where they should be.
      expected.gradients.forEach((gradient, k) => {
        for (const [i, value] of Array.from(gradient ?? []).entries()) {
          const actual = found.gradients[k]![i]!;
          if (!Number.isFinite(value))
            expect(Number.isFinite(actual), `gradient ${k}, element ${i}: ${actual}`).toBe(false);
        }
      });
    }
  });
});
