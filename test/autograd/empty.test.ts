// Tensors without elements: values and gradients of every operation that takes them, on memory that holds other values
// before.
import { expect, it } from "vitest";
import { convTranspose2d } from "../../src/autograd/ops/conv-transpose.js";
import { conv1d } from "../../src/autograd/ops/conv1d.js";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { full, zeros } from "../../src/autograd/ops/create.js";
import { dropout } from "../../src/autograd/ops/dropout.js";
import { einsum } from "../../src/autograd/ops/einsum.js";
import { mul, relu, where } from "../../src/autograd/ops/elementwise.js";
import { gather } from "../../src/autograd/ops/gather.js";
import { depthwiseConv2d } from "../../src/autograd/ops/grouped-conv2d.js";
import { all, any } from "../../src/autograd/ops/logical.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { prod, variance } from "../../src/autograd/ops/moments.js";
import { clipByNorm, norm, normalize } from "../../src/autograd/ops/norm.js";
import { l2Penalty } from "../../src/autograd/ops/penalty.js";
import { avgPool2d, maxPool2d } from "../../src/autograd/ops/pool2d.js";
import { logSumExp, max, sum, sumSquares } from "../../src/autograd/ops/reduce.js";
import { resize } from "../../src/autograd/ops/resize.js";
import { cumsum } from "../../src/autograd/ops/scan.js";
import { softmax, softmaxCrossEntropy } from "../../src/autograd/ops/softmax.js";
import { sort, topK } from "../../src/autograd/ops/sort.js";
import { split, tile } from "../../src/autograd/ops/tile.js";
import { concat, flip, pad, slice, transpose } from "../../src/autograd/ops/transform.js";
import { randomKey } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { sizeOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { describeProfiles, expectParity, type Input } from "../support.js";

const ids = (x: Tensor, ...values: number[]) => tensor(x.device, Int32Array.from(values));

/** Operations, the shapes of their inputs, and the reference's values by hand. */
const cases: [name: string, fn: (...inputs: Tensor[]) => Tensor, shapes: Shape[], expected: number[]][] = [
  [
    "a product over nothing",
    (a, b) => matmul(a!, b!),
    [
      [2, 0],
      [0, 3],
    ],
    [0, 0, 0, 0, 0, 0],
  ],
  [
    "a product over nothing, bias and activation",
    (a, b, bias) => matmul(a!, b!, { bias: bias!, activation: "relu" }),
    [[2, 0], [0, 3], [3]],
    [2, 2, 2, 2, 2, 2],
  ],
  [
    "a product over nothing, bias alone",
    (a, b, bias) => matmul(a!, b!, { bias: bias! }),
    [[2, 0], [0, 3], [3]],
    [2, 2, 2, 2, 2, 2],
  ],
  [
    "a transposed product over nothing",
    (a, b) => matmul(a!, b!, { transposeA: true }),
    [
      [0, 1],
      [0, 3],
    ],
    [0, 0, 0],
  ],
  ["no rows", (a, b, bias) => matmul(a!, b!, { bias: bias!, activation: "tanh" }), [[0, 2], [2, 3], [3]], []],
  [
    "no columns",
    (a, b) => matmul(a!, b!),
    [
      [2, 3],
      [3, 0],
    ],
    [],
  ],
  [
    "no batch of matrices",
    (a, b) => matmul(a!, b!),
    [
      [0, 2, 3],
      [1, 3, 4],
    ],
    [],
  ],
  ["no images to convolve", (x, k, bias) => conv2d(x!, k!, { bias: bias! }), [[0, 4, 4, 2], [3, 3, 2, 5], [5]], []],
  ["no images to take maxima of", (x) => maxPool2d(x!, { poolSize: 2 }), [[0, 4, 4, 2]], []],
  ["no images to take means of", (x) => avgPool2d(x!, { poolSize: 2 }), [[0, 4, 4, 2]], []],
  ["sums of nothing", (x) => sum(x!, 1), [[2, 0]], [0, 0]],
  ["the sum of nothing", (x) => sum(x!), [[0]], [0]],
  ["sums of no squares", (x) => sumSquares(x!, 1), [[2, 0]], [0, 0]],
  ["no maxima", (x) => max(x!, 1), [[0, 3]], []],
  ["no logarithms", (x) => logSumExp(x!, 1), [[0, 3]], []],
  ["no distributions", (x) => softmax(x!), [[0, 3]], []],
  ["distributions of nothing", (x) => softmax(x!), [[3, 0]], []],
  ["no samples", (x) => softmaxCrossEntropy(x!, ids(x!)), [[0, 3]], []],
  ["elementwise", (x) => relu(x!), [[0, 3]], []],
  ["with broadcasting", (a, b) => mul(a!, b!), [[0, 3], [3]], []],
  ["where", (a, b) => where(zeros(a!.device, [0, 3]), a!, b!), [[0, 3], [3]], []],
  ["nothing picked", (x) => gather(x!, ids(x!)), [[4, 3]], []],
  ["empty rows picked", (x) => gather(x!, ids(x!, 1, 2)), [[4, 0]], []],
  [
    "nothing and something",
    (a, b) => concat([a!, b!], 0),
    [
      [0, 2],
      [1, 2],
    ],
    [2, 2],
  ],
  [
    "nothing with a border",
    (x) =>
      pad(x!, [
        [1, 0],
        [0, 0],
      ]),
    [[0, 3]],
    [0, 0, 0],
  ],
  ["nothing cut out", (x) => slice(x!, [4, 0], [0, 3]), [[4, 3]], []],
  ["transposed", (x) => transpose(x!), [[0, 3]], []],
  ["flipped", (x) => flip(x!, 0), [[0, 3]], []],
  ["no images to resize", (x) => resize(x!, { size: 3 }), [[0, 4, 4, 2]], []],
  ["no channels to resize", (x) => resize(x!, { size: 3 }), [[1, 4, 4, 0]], []],
  [
    "no images to convolve channel by channel",
    (x, k) => depthwiseConv2d(x!, k!),
    [
      [0, 4, 4, 2],
      [3, 3, 2, 1],
    ],
    [],
  ],
  [
    "no signals to convolve",
    (x, k) => conv1d(x!, k!),
    [
      [0, 4, 2],
      [3, 2, 5],
    ],
    [],
  ],
  ["nothing repeated", (x) => tile(x!, [2, 0]), [[2, 3]], []],
  ["parts of nothing", (x) => split(x!, 2, 1)[1]!, [[3, 0]], []],
  ["norms of nothing", (x) => norm(x!, 1), [[2, 0]], [0, 0]],
  ["no norms", (x) => normalize(x!), [[0, 3]], []],
  ["the norm of nothing", (x) => clipByNorm(x!, 1), [[0]], []],
  ["no variances", (x) => variance(x!, 1), [[0, 3]], []],
  ["products of nothing", (x) => prod(x!, 1), [[2, 0]], [1, 1]],
  ["no products", (x) => prod(x!, 1), [[0, 2]], []],
  ["sums up to nothing", (x) => cumsum(x!, 1), [[2, 0]], []],
  ["no sums up to", (x) => cumsum(x!, 1), [[0, 2]], []],
  ["nothing in order", (x) => sort(x!), [[2, 0]], []],
  ["no rows in order", (x) => sort(x!), [[0, 3]], []],
  ["the none that are largest", (x) => topK(x!, 0).values, [[2, 3]], []],
  [
    "letters of nothing",
    (a, b) => einsum("ij,jk->ik", a!, b!),
    [
      [2, 0],
      [0, 1],
    ],
    [0, 0],
  ],
  ["any of nothing", (x) => any(x!, 1), [[2, 0]], [0, 0]],
  ["all of nothing", (x) => all(x!, 1), [[2, 0]], [1, 1]],
  [
    "no images to convolve back",
    (x, k) => convTranspose2d(x!, k!),
    [
      [0, 4, 4, 2],
      [3, 3, 5, 2],
    ],
    [],
  ],
  ["dropout", (x) => dropout(x!, { rate: 0.5, key: randomKey(1, "") }), [[0, 3]], []],
  ["penalties", (a, b) => l2Penalty([a!, b!].map((t) => ({ tensor: t, factor: 1 }))), [[0, 3], [3]], [12]],
];

describeProfiles((device) => {
  it.each(cases)("%s", async (name, fn, shapes, expected) => {
    // What is freed here is what the operation's memory is made of.
    for (const t of [16, 64, 64, 64, 256].map((size) => full(device(), [size], 7))) t.dispose();
    const inputs = shapes.map(
      (shape): Input => ({ shape, values: new Float32Array(sizeOf(shape)).fill(2), dtype: "f32" }),
    );
    expect([...(await expectParity(device(), fn, inputs, { label: name }))]).toEqual(expected);
  });
});
