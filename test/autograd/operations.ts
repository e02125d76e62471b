// One table of every operation: a function of tensors, and random inputs for it. Finite differences, the comparison of
// devices and the check that nothing is missing all iterate over it. Elementwise rows come from the kernels' tables.
import { affineSample } from "../../src/autograd/ops/affine-sample.js";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { convTranspose2d } from "../../src/autograd/ops/conv-transpose.js";
import { avgPool1d, conv1d, maxPool1d } from "../../src/autograd/ops/conv1d.js";
import { type Conv2dOptions, conv2d } from "../../src/autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../src/autograd/ops/conv2d-pool.js";
import { zerosLike } from "../../src/autograd/ops/create.js";
import { dropout } from "../../src/autograd/ops/dropout.js";
import { einsum } from "../../src/autograd/ops/einsum.js";
import { cast, clip, elu, leakyRelu, relu, where } from "../../src/autograd/ops/elementwise.js";
import { binary, unary } from "../../src/autograd/ops/elementwise-rows.js";
import { gather, oneHot } from "../../src/autograd/ops/gather.js";
import { depthwiseConv2d } from "../../src/autograd/ops/grouped-conv2d.js";
import { all, any, isFinite as finite, isNan } from "../../src/autograd/ops/logical.js";
import { type MatmulOptions, matmul } from "../../src/autograd/ops/matmul.js";
import { prod, std, variance } from "../../src/autograd/ops/moments.js";
import { clipByNorm, norm, normalize } from "../../src/autograd/ops/norm.js";
import { l2Penalty } from "../../src/autograd/ops/penalty.js";
import { avgPool2d, globalAvgPool2d, maxPool2d } from "../../src/autograd/ops/pool2d.js";
import { argmax, logSumExp, max, mean, min, sum, sumSquares } from "../../src/autograd/ops/reduce.js";
import { resize } from "../../src/autograd/ops/resize.js";
import { cumsum } from "../../src/autograd/ops/scan.js";
import { logSoftmax, softmax, softmaxCrossEntropy } from "../../src/autograd/ops/softmax.js";
import { argsort, sort, topK } from "../../src/autograd/ops/sort.js";
import { standardize } from "../../src/autograd/ops/standardize.js";
import { split, tile, unstack } from "../../src/autograd/ops/tile.js";
import {
  concat,
  expandDims,
  flip,
  pad,
  reshape,
  slice,
  squeeze,
  stack,
  strided,
  transpose,
} from "../../src/autograd/ops/transform.js";
import { FUSED_ACTIVATIONS, type FusedActivation } from "../../src/kernels/activation.js";
import type { Padding, Pair } from "../../src/kernels/conv2d/geometry.js";
import {
  type BinaryName,
  type BinaryRow,
  binaryTable,
  type UnaryName,
  type UnaryRow,
  unaryTable,
} from "../../src/kernels/elementwise-table.js";
import { INTERPOLATIONS } from "../../src/kernels/resize.js";
import type { DType } from "../../src/tensor/dtype.js";
import { RandomStream, randomKey } from "../../src/tensor/random.js";
import { formatShape, type Shape, sizeOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { type Input, randomInput, randomIntegers } from "../support.js";

/** An operation applied to one set of inputs. Integer operands that are no inputs are made inside `fn`. */
export interface Case {
  readonly fn: (...inputs: Tensor[]) => Tensor;
  readonly inputs: readonly Input[];
  /** What was drawn besides the shapes, for messages. */
  readonly note?: string;
}

export interface Operation {
  /** Name of the exported function. */
  readonly op: string;
  /** Which of its forms, for the titles of tests. */
  readonly form?: string;
  /** Whether finite differences exist at the drawn inputs: no integers, ties or jumps. Default true. */
  readonly smooth?: boolean;
  /**
   * Whether NaN may stand beside where it is due: what is not finite is multiplied with zeros, of a padding or of a
   * tile's transformation (Winograd).
   */
  readonly spreads?: boolean;
  /** Whether comparing devices takes fewer rounds, because its kernels are slow to compile. */
  readonly slow?: boolean;
  readonly draw: (random: Draw) => Case;
}

/** Draws inputs: tiny ones for finite differences, or larger ones, of no tile's multiple, for comparing devices. */
export class Draw {
  readonly stream: RandomStream;

  constructor(
    seed: number,
    name: string,
    readonly large: boolean,
  ) {
    this.stream = new RandomStream(seed, name);
  }

  /** An integer in [1, small], or in [1, large]. */
  size(small: number, large: number): number {
    return 1 + this.stream.integer(this.large ? large : small);
  }

  integer(low: number, high: number): number {
    return low + this.stream.integer(high - low + 1);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.stream.integer(list.length)]!;
  }

  /** Of rank 1 to 4, with at most 24 or 40,000 elements. */
  shape(rank = this.integer(1, 4)): number[] {
    const [extent, most] = this.large ? [this.pick([9, 70, 1000]), 40_000] : [5, 24];
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) {
      shape.push(this.integer(1, Math.max(1, Math.min(extent, Math.floor(most / sizeOf(shape))))));
    }
    return shape;
  }

  /** Some axes, possibly none, sorted. */
  axes(rank: number): number[] {
    return Array.from({ length: rank }, (_, axis) => axis).filter(() => this.stream.uniform() < 0.5);
  }

  normal(shape: Shape): Input {
    return randomInput(this.stream, shape);
  }

  /** Uniform, away from the points in `kinks`. */
  uniform(shape: Shape, [low, high]: readonly [number, number] = [-3, 3], kinks: readonly number[] = []): Input {
    return randomInput(this.stream, shape, () => {
      for (;;) {
        const x = low + (high - low) * this.stream.uniform();
        if (kinks.every((kink) => Math.abs(x - kink) > 1e-3)) return x;
      }
    });
  }

  /** Shuffled values at least 0.01 apart, so that a small step changes no maximum. */
  distinct(shape: Shape): Input {
    const values = Float32Array.from({ length: sizeOf(shape) }, (_, i) => 0.01 * (i - sizeOf(shape) / 2));
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.stream.integer(i + 1);
      [values[i], values[j]] = [values[j]!, values[i]!];
    }
    return { shape, values, dtype: "f32" };
  }

  /** f32 values that are small integers: many ties. */
  ties(shape: Shape): Input {
    return randomInput(this.stream, shape, () => this.integer(-2, 2));
  }

  /** A permutation of 0 to n - 1. */
  permutation(n: number): number[] {
    const order = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.stream.integer(i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
    return order;
  }

  /** Shapes that broadcast to one: leading axes dropped, others set to 1. */
  broadcast(count: number): number[][] {
    const shape = this.shape();
    const shapes = Array.from({ length: count }, () => {
      const drop = this.stream.uniform() < 0.3 ? this.integer(0, shape.length) : 0;
      return shape.slice(drop).map((n) => (this.stream.uniform() < 0.3 ? 1 : n));
    });
    return this.stream.uniform() < 0.3 ? shapes.map(() => shape) : shapes;
  }
}

const DTYPES = ["f32", "i32", "u32"] as const satisfies readonly DType[];

function integers(random: Draw, shape: Shape, dtype: "i32" | "u32"): Input {
  return randomIntegers(random.stream, shape, dtype, dtype === "i32" ? [-3, 4] : [0, 6]);
}

const unaryOperations = (Object.entries(unaryTable) as [UnaryName, UnaryRow][]).map(
  ([op, { domain, kinks }]): Operation => ({
    op,
    draw: (random) => ({ fn: (x) => unary(op, x!), inputs: [random.uniform(random.shape(), domain, kinks)] }),
  }),
);

const binaryOperations = (Object.entries(binaryTable) as [BinaryName, BinaryRow][]).flatMap(
  ([op, { domain, gradient, integer, kinks }]): Operation[] => [
    {
      op,
      smooth: gradient !== null,
      draw: (random) => {
        const [a, b] = random.broadcast(2) as [number[], number[]];
        const inputs = [random.uniform(a, domain?.a, kinks?.a), random.uniform(b, domain?.b)];
        return { fn: (x, y) => binary(op, x!, y!), inputs };
      },
    },
    {
      op,
      form: "with a number",
      smooth: gradient !== null,
      draw: (random) => {
        const side = random.pick(["a", "b"] as const);
        const number = Math.fround(random.uniform([1], domain?.[side]).values[0]!);
        const fn = (x?: Tensor) => (side === "a" ? binary(op, number, x!) : binary(op, x!, number));
        const other = side === "a" ? "b" : "a";
        const inputs = [random.uniform(random.shape(), domain?.[other], other === "a" ? kinks?.a : undefined)];
        return { fn, inputs, note: `${side} = ${number}` };
      },
    },
    ...(integer
      ? [
          {
            op,
            form: "with ties and integers",
            smooth: false,
            draw: (random: Draw) => {
              const dtype = random.pick(DTYPES);
              const inputs = random
                .broadcast(2)
                .map((shape) => (dtype === "f32" ? random.ties(shape) : integers(random, shape, dtype)));
              return { fn: (x?: Tensor, y?: Tensor) => binary(op, x!, y!), inputs, note: dtype };
            },
          },
        ]
      : []),
  ],
);

/** A reduction over random axes. */
function reduction(
  op: string,
  apply: (x: Tensor, options: { axes: readonly number[]; keepDims: boolean }) => Tensor,
): Operation {
  return {
    op,
    draw: (random) => {
      const shape = random.shape();
      const options = { axes: random.axes(shape.length), keepDims: random.pick([true, false]) };
      return { fn: (x) => apply(x!, options), inputs: [random.distinct(shape)], note: JSON.stringify(options) };
    },
  };
}

/** Matrices of random sizes; `batched` adds axes that broadcast. */
function product(form: string, batched: boolean, choose: (random: Draw) => Omit<MatmulOptions, "bias">): Operation {
  return {
    op: "matmul",
    form,
    slow: true,
    draw: (random) => {
      const most = batched ? 40 : 150;
      const [m, k, n] = [random.size(4, most), random.size(4, most), random.size(4, most)];
      const options = choose(random);
      const a = options.transposeA ? [k, m] : [m, k];
      const b = options.transposeB ? [n, k] : [k, n];
      let batch: number[][] = [[], []];
      if (batched) {
        const outer = [random.size(2, 5), random.size(2, 4)];
        batch = [a, b].map(() => outer.slice(random.integer(0, 2)).map((s) => random.pick([s, s, 1])));
      }
      const bias = options.activation !== undefined || random.pick([true, false]);
      const inputs = [[...batch[0]!, ...a], [...batch[1]!, ...b], ...(bias ? [[n]] : [])].map((s) => random.normal(s));
      const fn = (x?: Tensor, y?: Tensor, z?: Tensor) => matmul(x!, y!, { ...options, ...(z && { bias: z }) });
      return { fn, inputs, note: JSON.stringify(options) };
    },
  };
}

/** Padding of a window: none, "same", or random and explicit, smaller than the window. */
function padding(random: Draw, [height, width]: readonly [number, number]): Padding {
  const explicit = ([height, width] as const).map((n) => [random.integer(0, n - 1), random.integer(0, n - 1)]);
  return random.pick(["valid", "same", explicit as unknown as Padding] as const);
}

const pools = { maxPool2d, avgPool2d };

function pooling(op: keyof typeof pools, form: string, values: (random: Draw, shape: Shape) => Input): Operation {
  return {
    op,
    form,
    smooth: form !== "with ties",
    draw: (random) => {
      const poolSize: [number, number] = [random.integer(1, 3), random.integer(1, 3)];
      const strides: Pair | undefined = random.pick([undefined, 1, 2, [2, 3]] as const);
      const options = { poolSize, ...(strides && { strides }), padding: padding(random, poolSize) };
      const shape = [random.size(2, 6), 2 + random.size(2, 15), 2 + random.size(2, 15), random.size(2, 21)];
      return { fn: (x) => pools[op](x!, options), inputs: [values(random, shape)], note: JSON.stringify(options) };
    },
  };
}

/** Images and kernels of random sizes; explicit padding may exceed the kernel. */
function convolution(form: string, choose: (random: Draw) => Omit<Conv2dOptions, "bias">): Operation {
  return {
    op: "conv2d",
    form,
    slow: true,
    spreads: form !== "",
    draw: (random) => {
      const options = choose(random);
      for (;;) {
        // Few numbers of channels: each is a code shape of its own, which takes a software adapter a second to compile.
        const [inputs, outputs] = random.large
          ? [random.pick([3, 5, 12, 38]), random.pick([7, 20, 70])]
          : [random.integer(1, 2), random.integer(1, 2)];
        const kernel = [random.integer(1, 4), random.integer(1, 4), inputs, outputs];
        const [height, width] = [3 + random.size(4, 16), 3 + random.size(4, 16)];
        const x = [random.size(2, 9), height, width, kernel[2]!];
        const work = (sizeOf(x) * sizeOf(kernel)) / kernel[2]!;
        const dilation = typeof options.dilations === "number" ? options.dilations : 1;
        const fits = Math.max(kernel[0]!, kernel[1]!) * dilation <= Math.min(height, width);
        if (!fits || work > 2e7 || (!random.large && sizeOf(x) + sizeOf(kernel) > 300)) continue;
        const bias = options.activation !== undefined;
        return {
          fn: (images, weights, offset) => conv2d(images!, weights!, { ...options, ...(offset && { bias: offset }) }),
          inputs: [x, kernel, ...(bias ? [kernel.slice(3)] : [])].map((shape) => random.normal(shape)),
          note: JSON.stringify(options),
        };
      }
    },
  };
}

/** Both forms: pooling of what remains after cropping, and the kernel for one input channel and windows of 2 x 2. */
const pooledConvolution: Operation = {
  op: "conv2dMaxPool2d",
  slow: true,
  // Of cells that did not win there are zeros, which only some ways of computing it multiply.
  spreads: true,
  draw: (random) => {
    const [channels, poolSize] = random.pick([
      [1, 2],
      [3, 3],
    ]);
    const [height, width] = [5 + random.size(3, 20), 5 + random.size(3, 20)];
    const shapes = [[random.size(2, 9), height, width, channels!], [3, 3, channels!, 4], [4]];
    return {
      fn: (x, kernel, bias) =>
        conv2dMaxPool2d(x!, kernel!, { bias: bias!, activation: "tanh", pool: { poolSize: poolSize! } }),
      inputs: shapes.map((shape) => random.normal(shape)),
    };
  },
};

/** Batch normalisation with its own statistics, or with given ones. */
function normalization(
  training: boolean,
  without: readonly ("gamma" | "beta")[] = [],
  activation: FusedActivation = "linear",
): Operation {
  return {
    op: "batchNorm",
    form: [
      training ? "while training" : "with frozen statistics",
      ...without.map((name) => `without ${name}`),
      ...(activation === "linear" ? [] : [activation]),
    ].join(", "),
    draw: (random) => {
      const channels = random.size(3, 70);
      const shape = random.pick([
        [1 + random.size(6, 300), channels],
        [1 + random.size(2, 5), random.size(2, 12), random.size(2, 12), channels],
      ]);
      const [mean, variance] = [random.normal([channels]), random.uniform([channels], [0.1, 3])];
      const names = (["gamma", "beta"] as const).filter((name) => !without.includes(name));
      return {
        fn: (x, ...scale) =>
          batchNorm(x!, {
            ...Object.fromEntries(names.map((name, i) => [name, scale[i]!])),
            runningMean: tensor(x!.device, mean.values),
            runningVariance: tensor(x!.device, variance.values),
            ...{ training, activation, epsilon: 0.01 },
          }),
        inputs: [shape, ...names.map(() => [channels])].map((s) => random.normal(s)),
      };
    },
  };
}

/** A whole network: convolution, batch normalisation, relu, pooling, convolution, dense layer, cross-entropy. */
const network: Operation = {
  op: "softmaxCrossEntropy",
  form: "of a convolutional network",
  slow: true,
  draw: (random) => {
    const [batch, size] = [1 + random.size(2, 20), 7 + random.size(2, 9)];
    const [channels, first, second] = random.large ? [3, 20, 7] : [1, random.size(3, 3), random.size(3, 3)];
    const classes = 1 + random.size(3, 12);
    // 3x3 valid, 2x2 pooling, 2x2 valid.
    const features = second * (Math.floor((size - 2) / 2) - 1) ** 2;
    const labels = indices(random, [batch], classes);
    const shapes = [
      [batch, size, size, channels],
      [3, 3, channels, first],
      [first],
      [first],
      [2, 2, first, second],
      [second],
      [features, classes],
      [classes],
    ];
    return {
      fn: (...tensors) => {
        const [x, kernel1, gamma, beta, kernel2, bias2, dense, bias] = tensors as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
          ...Tensor[],
        ];
        const statistics = { runningMean: zerosLike(gamma), runningVariance: zerosLike(gamma) };
        const normalized = batchNorm(conv2d(x, kernel1), { gamma, beta, ...statistics, training: true });
        const pooled = maxPool2d(relu(normalized), { poolSize: 2 });
        const convolved = conv2d(pooled, kernel2!, { bias: bias2!, activation: "tanh" });
        const logits = matmul(reshape(convolved, [batch, features]), dense!, { bias: bias! });
        return softmaxCrossEntropy(logits, labels(x.device));
      },
      inputs: shapes.map((shape) => random.normal(shape)),
    };
  },
};

/** Integer indices as a tensor that is no input. */
function indices(random: Draw, shape: Shape, below: number): (device: Tensor["device"]) => Tensor {
  const { values } = randomIntegers(random.stream, shape, "i32", [0, below]);
  return (device) => tensor(device, values, { shape, dtype: "i32" });
}

const structural: Operation[] = [
  {
    op: "leakyRelu",
    form: "with a slope",
    draw: (random) => ({
      fn: (x) => leakyRelu(x!, { negativeSlope: 0.07 }),
      inputs: [random.uniform(random.shape(), [-3, 3], [0])],
    }),
  },
  {
    op: "elu",
    form: "with alpha",
    draw: (random) => ({
      fn: (x) => elu(x!, { alpha: 0.4 }),
      inputs: [random.uniform(random.shape(), [-3, 3], [0])],
    }),
  },
  {
    op: "clip",
    form: "with bounds",
    draw: (random) => ({
      fn: (x) => clip(x!, -0.75, 1.5),
      inputs: [random.uniform(random.shape(), [-3, 3], [-0.75, 1.5])],
    }),
  },
  {
    op: "where",
    draw: (random) => {
      const [c, a, b] = random.broadcast(3) as [number[], number[], number[]];
      const condition = randomIntegers(random.stream, c, "u32", [0, 2]);
      return {
        fn: (x, y) => where(tensor(x!.device, condition.values, { shape: c, dtype: "u32" }), x!, y!),
        inputs: [random.normal(a), random.normal(b)],
        note: `condition ${formatShape(c)}`,
      };
    },
  },
  {
    op: "where",
    form: "of integers",
    smooth: false,
    draw: (random) => {
      const shapes = random.broadcast(3);
      const [kind, dtype] = [random.pick(DTYPES), random.pick(["i32", "u32"] as const)];
      const condition = kind === "f32" ? random.ties(shapes[0]!) : integers(random, shapes[0]!, kind);
      const inputs = [condition, ...shapes.slice(1).map((shape) => integers(random, shape, dtype))];
      return { fn: (c, a, b) => where(c!, a!, b!), inputs, note: `${kind}, ${dtype}` };
    },
  },
  {
    op: "cast",
    smooth: false,
    draw: (random) => {
      const [from, to, shape] = [random.pick(DTYPES), random.pick(DTYPES), random.shape()];
      const input = from === "f32" ? random.uniform(shape, [to === "u32" ? 0 : -9, 9]) : integers(random, shape, from);
      return { fn: (x) => cast(x!, to), inputs: [input], note: `${from} to ${to}` };
    },
  },
  reduction("sum", sum),
  reduction("sumSquares", sumSquares),
  reduction("mean", mean),
  reduction("max", max),
  reduction("min", min),
  reduction("logSumExp", logSumExp),
  {
    op: "l2Penalty",
    draw: (random) => ({
      fn: (...tensors) => l2Penalty(tensors.map((t, k) => ({ tensor: t!, factor: 0.5 / (k + 1) }))),
      inputs: [1, 2, 3].map((axes) => random.normal(random.shape(axes))),
    }),
  },
  {
    op: "max",
    form: "with ties",
    smooth: false,
    draw: (random) => {
      const shape = random.shape();
      const axes = random.axes(shape.length);
      return { fn: (x) => max(x!, { axes }), inputs: [random.ties(shape)], note: `axes [${axes}]` };
    },
  },
  {
    op: "argmax",
    smooth: false,
    draw: (random) => {
      const shape = random.shape();
      const axis = random.stream.integer(shape.length);
      return { fn: (x) => argmax(x!, { axis }), inputs: [random.ties(shape)], note: `axis ${axis}` };
    },
  },
  {
    op: "reshape",
    draw: (random) => {
      const shape = random.shape(3);
      return { fn: (x) => reshape(x!, [shape[1]! * shape[2]!, -1]), inputs: [random.normal(shape)] };
    },
  },
  {
    op: "expandDims",
    draw: (random) => {
      const shape = random.shape();
      const axis = random.integer(-shape.length - 1, shape.length);
      return { fn: (x) => expandDims(x!, axis), inputs: [random.normal(shape)], note: `axis ${axis}` };
    },
  },
  {
    op: "squeeze",
    draw: (random) => {
      const shape = random.shape().flatMap((n) => (random.pick([true, false]) ? [n, 1] : [n]));
      return { fn: (x) => squeeze(x!), inputs: [random.normal(shape)] };
    },
  },
  {
    op: "transpose",
    draw: (random) => {
      const shape = random.shape();
      const axes = random.permutation(shape.length);
      return { fn: (x) => transpose(x!, axes), inputs: [random.normal(shape)], note: `axes [${axes}]` };
    },
  },
  {
    op: "slice",
    draw: (random) => {
      const shape = random.shape();
      const begin = shape.map((n) => random.integer(0, n - 1));
      const size = shape.map((n, axis) => random.integer(1, n - begin[axis]!));
      return { fn: (x) => slice(x!, begin, size), inputs: [random.normal(shape)], note: `[${begin}] size [${size}]` };
    },
  },
  {
    op: "pad",
    draw: (random) => {
      const shape = random.shape(random.integer(1, 3));
      const around = shape.map(() => [random.integer(0, 3), random.integer(0, 3)]);
      return { fn: (x) => pad(x!, around, 0.5), inputs: [random.normal(shape)], note: JSON.stringify(around) };
    },
  },
  {
    op: "flip",
    draw: (random) => {
      const shape = random.shape();
      const axes = random.axes(shape.length);
      return { fn: (x) => flip(x!, axes), inputs: [random.normal(shape)], note: `axes [${axes}]` };
    },
  },
  {
    op: "concat",
    draw: (random) => {
      const shape = random.shape();
      const axis = random.stream.integer(shape.length);
      const shapes = Array.from({ length: random.integer(1, 4) }, () => shape.with(axis, random.size(3, 50)));
      return { fn: (...list) => concat(list, axis), inputs: shapes.map((s) => random.normal(s)), note: `axis ${axis}` };
    },
  },
  {
    op: "stack",
    draw: (random) => {
      const shape = random.shape(random.integer(1, 3));
      const axis = random.integer(0, shape.length);
      const inputs = Array.from({ length: random.integer(1, 4) }, () => random.normal(shape));
      return { fn: (...list) => stack(list, axis), inputs, note: `axis ${axis}` };
    },
  },
  {
    op: "gather",
    draw: (random) => {
      const shape = random.shape();
      const axis = random.stream.integer(shape.length);
      const rows = [[random.size(4, 30)], [], [2, random.size(2, 9)]];
      const picked = indices(random, random.pick(rows), shape[axis]!);
      return { fn: (x) => gather(x!, picked(x!.device), axis), inputs: [random.normal(shape)], note: `axis ${axis}` };
    },
  },
  {
    op: "oneHot",
    smooth: false,
    draw: (random) => {
      const depth = random.size(5, 30);
      const shape = random.shape(random.integer(1, 2));
      return { fn: (x) => oneHot(x!, depth), inputs: [randomIntegers(random.stream, shape, "i32", [0, depth])] };
    },
  },
  {
    op: "dropout",
    draw: (random) => {
      const options = { rate: random.pick([0, 0.1, 0.5, 0.9]), key: randomKey(random.stream.bits()), offset: 3 };
      return { fn: (x) => dropout(x!, options), inputs: [random.normal(random.shape())], note: `rate ${options.rate}` };
    },
  },
  product("of matrices", false, () => ({})),
  product("with transposed operands", false, (random) =>
    random.pick([{ transposeA: true }, { transposeB: true }, { transposeA: true, transposeB: true }]),
  ),
  product("of batches", true, (random) => ({
    transposeA: random.pick([true, false]),
    transposeB: random.pick([true, false]),
  })),
  product("with bias and activation", false, (random) => ({ activation: random.pick(FUSED_ACTIVATIONS) })),
  convolution("", () => ({})),
  convolution("with same padding", () => ({ padding: "same" })),
  convolution("with strides", (random) => ({
    strides: random.pick([2, 3, [1, 2]] as const),
    padding: random.pick(["same", "valid"] as const),
  })),
  convolution("with dilation and explicit padding", (random) => ({
    dilations: 2,
    strides: random.pick([1, 2]),
    padding: [
      [random.integer(0, 3), random.integer(0, 3)],
      [random.integer(0, 3), random.integer(0, 3)],
    ],
  })),
  convolution("with bias and activation", (random) => ({
    activation: random.pick(FUSED_ACTIVATIONS),
    padding: random.pick(["same", "valid"] as const),
  })),
  {
    op: "resize",
    draw: (random) => {
      const [height, width] = [random.size(4, 14), random.size(4, 14)];
      const size: Pair = [random.size(6, 25), random.size(6, 25)];
      const options = { size, interpolation: random.pick(INTERPOLATIONS) };
      const shape = [random.size(2, 5), height, width, random.pick([1, 3, 4])];
      return { fn: (x) => resize(x!, options), inputs: [random.normal(shape)], note: JSON.stringify(options) };
    },
  },
  ...["", "with a multiplier", "with strides and dilation"].map(
    (form): Operation => ({
      op: "depthwiseConv2d",
      form,
      draw: (random) => {
        const kernel = [random.integer(1, 3), random.integer(1, 3)];
        const options = {
          padding: random.pick([
            "same",
            "valid",
            [
              [0, 2],
              [1, -1],
            ],
          ] as const),
          strides: form === "with strides and dilation" ? random.pick([2, [1, 3]] as const) : 1,
          dilations: form === "with strides and dilation" ? random.pick([1, 2]) : 1,
        };
        const multiplier = form === "with a multiplier" ? random.pick([2, 3, 4]) : 1;
        const [channels, height, width] = [
          random.pick([1, 3, 4, random.size(4, 40)]),
          6 + random.size(2, 20),
          6 + random.size(2, 20),
        ];
        const inputs = [
          [random.size(2, 9), height, width, channels],
          [...kernel, channels, multiplier],
        ];
        const fn = (x?: Tensor, k?: Tensor) => depthwiseConv2d(x!, k!, options);
        return { fn, inputs: inputs.map((shape) => random.normal(shape)), note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "conv2d",
    form: "in groups",
    spreads: true,
    draw: (random) => {
      const groups = random.integer(2, 3);
      // More than a few channels a group are sliced and convolved one by one.
      const [inputs, outputs] = random.large
        ? [random.pick([2, 4, 20]), random.pick([3, 4, 8])]
        : [random.integer(1, 2), random.pick([1, 3, 4])];
      const options = { groups, padding: random.pick(["same", "valid"] as const), strides: random.integer(1, 2) };
      const shapes = [
        [random.size(2, 5), 3 + random.size(2, 9), 3 + random.size(2, 9), groups * inputs],
        [2, 3, inputs, groups * outputs],
        [groups * outputs],
      ];
      return {
        fn: (x, k, bias) => conv2d(x!, k!, { ...options, bias: bias!, activation: "tanh" }),
        inputs: shapes.map((shape) => random.normal(shape)),
        note: JSON.stringify(options),
      };
    },
  },
  {
    op: "conv1d",
    slow: true,
    spreads: true,
    draw: (random) => {
      const options = {
        padding: random.pick(["valid", "same", "causal", [2, 1]] as const),
        dilations: random.integer(1, 2),
        activation: random.pick(["linear", "tanh"] as const),
      };
      const shapes = [
        [random.size(2, 9), 6 + random.size(3, 40), random.pick([1, 3])],
        [3, 0, random.pick([2, 7])],
      ];
      shapes[1]![1] = shapes[0]![2]!;
      const inputs = [...shapes, shapes[1]!.slice(2)].map((shape) => random.normal(shape));
      return { fn: (x, k, bias) => conv1d(x!, k!, { ...options, bias: bias! }), inputs, note: JSON.stringify(options) };
    },
  },
  ...Object.entries({ maxPool1d, avgPool1d }).map(
    ([op, apply]): Operation => ({
      op,
      draw: (random) => {
        const options = {
          poolSize: random.integer(1, 3),
          strides: random.integer(1, 3),
          padding: random.pick(["valid", "same"] as const),
        };
        const shape = [random.size(2, 6), 2 + random.size(4, 30), random.size(2, 21)];
        return { fn: (x) => apply(x!, options), inputs: [random.distinct(shape)], note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "tile",
    draw: (random) => {
      const shape = random.shape(random.integer(1, 3)).map((n) => Math.min(n, 40));
      const repeats = Array.from({ length: random.integer(0, 4) }, () => random.integer(1, 3));
      return { fn: (x) => tile(x!, repeats), inputs: [random.normal(shape)], note: `[${repeats}]` };
    },
  },
  {
    op: "split",
    draw: (random) => {
      const shape = random.shape();
      const axis = random.stream.integer(shape.length);
      const first = random.integer(0, shape[axis]!);
      const parts = random.pick([1, [first, shape[axis]! - first]]);
      return {
        fn: (x) => concat(split(x!, parts, axis).reverse(), axis),
        inputs: [random.normal(shape)],
        note: `${parts}, axis ${axis}`,
      };
    },
  },
  {
    op: "unstack",
    draw: (random) => {
      const shape = random.shape(random.integer(1, 3)).map((n) => Math.min(n, 9));
      const axis = random.stream.integer(shape.length);
      return { fn: (x) => stack(unstack(x!, axis), -1), inputs: [random.normal(shape)], note: `axis ${axis}` };
    },
  },
  ...[2, 1, 3, Number.POSITIVE_INFINITY].map(
    (order): Operation => ({
      op: "norm",
      form: `of order ${order}`,
      draw: (random) => {
        const shape = random.shape();
        const options = { axes: random.axes(shape.length), keepDims: random.pick([true, false]), order };
        return { fn: (x) => norm(x!, options), inputs: [random.normal(shape)], note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "normalize",
    draw: (random) => {
      const shape = random.shape(random.integer(2, 3));
      return { fn: (x) => normalize(x!, 1), inputs: [random.normal(shape)] };
    },
  },
  {
    op: "clipByNorm",
    draw: (random) => {
      const shape = random.shape(2);
      return { fn: (x) => clipByNorm(x!, 1.5, 1), inputs: [random.normal(shape)] };
    },
  },
  ...Object.entries({ variance, std }).map(
    ([op, apply]): Operation => ({
      op,
      draw: (random) => {
        const shape = [2 + random.size(2, 30), ...random.shape(2).map((n) => Math.min(n, 40))];
        const options = { axes: [0, ...random.axes(2).map((axis) => axis + 1)], correction: random.integer(0, 1) };
        return { fn: (x) => apply(x!, options), inputs: [random.normal(shape)], note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "prod",
    draw: (random) => {
      const shape = [random.size(4, 9), random.size(3, 9), random.size(2, 9)];
      const options = { axes: random.axes(3), keepDims: random.pick([true, false]) };
      return {
        fn: (x) => prod(x!, options),
        inputs: [random.uniform(shape, [0.9, 1.1])],
        note: JSON.stringify(options),
      };
    },
  },
  ...["f32", "i32"].map(
    (dtype): Operation => ({
      op: "cumsum",
      form: `of ${dtype}`,
      smooth: dtype === "f32",
      draw: (random) => {
        const shape = random.shape();
        const axis = random.stream.integer(shape.length);
        const options = { axis, exclusive: random.pick([true, false]), reverse: random.pick([true, false]) };
        const input = dtype === "f32" ? random.normal(shape) : integers(random, shape, "i32");
        return { fn: (x) => cumsum(x!, options), inputs: [input], note: JSON.stringify(options) };
      },
    }),
  ),
  ...["of distinct values", "with ties and integers"].map(
    (form): Operation => ({
      op: "sort",
      form,
      smooth: form === "of distinct values",
      draw: (random) => {
        const shape = random.shape(random.integer(1, 3));
        const options = { axis: random.stream.integer(shape.length), descending: random.pick([true, false]) };
        const dtype = random.pick(DTYPES);
        const input =
          form === "of distinct values"
            ? random.distinct(shape)
            : dtype === "f32"
              ? random.ties(shape)
              : integers(random, shape, dtype);
        return { fn: (x) => sort(x!, options), inputs: [input], note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "argsort",
    smooth: false,
    draw: (random) => {
      const shape = random.shape(random.integer(1, 2));
      const options = { axis: random.stream.integer(shape.length), descending: random.pick([true, false]) };
      return { fn: (x) => argsort(x!, options), inputs: [random.ties(shape)], note: JSON.stringify(options) };
    },
  },
  {
    op: "topK",
    draw: (random) => {
      const shape = random.shape(random.integer(1, 2));
      const options = { axis: random.stream.integer(shape.length), largest: random.pick([true, false]) };
      const k = random.integer(1, Math.min(50, shape[options.axis]!));
      return {
        fn: (x) => topK(x!, k, options).values,
        inputs: [random.distinct(shape)],
        note: `${k} ${JSON.stringify(options)}`,
      };
    },
  },
  {
    op: "einsum",
    draw: (random) => {
      const equation = random.pick([
        "ij,jk->ki",
        "bij,bjk->bik",
        "ijj->i",
        "i,j",
        "...i,ij->...j",
        "ij,ik,jk->k",
        "ab->b",
      ]);
      const sizes = new Map([..."abijk"].map((name) => [name, random.size(3, 12)]));
      const inputs = equation
        .split("->")[0]!
        .split(",")
        .map((term) => [...term.replace("...", "a")].map((name) => sizes.get(name)!));
      return {
        fn: (...list) => einsum(equation, ...list),
        inputs: inputs.map((shape) => random.normal(shape)),
        note: equation,
      };
    },
  },
  ...Object.entries({ isNan, isFinite: finite }).map(
    ([op, apply]): Operation => ({
      op,
      smooth: false,
      draw: (random) => ({ fn: (x) => apply(x!), inputs: [random.normal(random.shape())] }),
    }),
  ),
  ...Object.entries({ any, all }).map(
    ([op, apply]): Operation => ({
      op,
      smooth: false,
      draw: (random) => {
        const shape = random.shape().map((n) => Math.min(n, 6));
        const options = { axes: random.axes(shape.length), keepDims: random.pick([true, false]) };
        return { fn: (x) => apply(x!, options), inputs: [random.ties(shape)], note: JSON.stringify(options) };
      },
    }),
  ),
  {
    op: "convTranspose2d",
    slow: true,
    spreads: true,
    draw: (random) => {
      const strides = random.integer(1, 3);
      const dilations = strides === 1 ? random.integer(1, 2) : 1;
      const padding = random.pick([
        "same",
        "valid",
        [
          [0, 1],
          [1, 0],
        ],
      ] as const);
      const outputPadding = random.pick([undefined, random.integer(0, strides - 1)]);
      const options = { strides, dilations, padding, ...(outputPadding !== undefined && { outputPadding }) };
      const shapes = [
        [random.size(2, 5), 1 + random.size(3, 9), 1 + random.size(3, 9), random.pick([1, 3])],
        [random.integer(2, 4), random.integer(2, 3), random.pick([2, 5]), 0],
      ];
      shapes[1]![3] = shapes[0]![3]!;
      const inputs = [...shapes, [shapes[1]![2]!]].map((shape) => random.normal(shape));
      const fn = (x?: Tensor, k?: Tensor, bias?: Tensor) =>
        convTranspose2d(x!, k!, { ...options, bias: bias!, activation: "tanh" });
      return { fn, inputs, note: JSON.stringify(options) };
    },
  },
  ...[true, false].flatMap((training) => [
    ...([[], ["gamma"], ["beta"], ["gamma", "beta"]] as const).map((without) => normalization(training, without)),
    normalization(training, [], "sigmoid"),
    normalization(training, ["gamma"], "tanh"),
  ]),
  pooledConvolution,
  pooling("maxPool2d", "of distinct values", (random, shape) => random.distinct(shape)),
  pooling("maxPool2d", "with ties", (random, shape) => random.ties(shape)),
  pooling("avgPool2d", "", (random, shape) => random.normal(shape)),
  {
    op: "globalAvgPool2d",
    draw: (random) => {
      const shape = [random.size(2, 6), random.size(3, 15), random.size(3, 15), random.size(3, 40)];
      return { fn: (x) => globalAvgPool2d(x!), inputs: [random.normal(shape)] };
    },
  },
  ...Object.entries({ softmax, logSoftmax }).map(
    ([op, apply]): Operation => ({
      op,
      draw: (random) => {
        const shape = random.shape();
        const axis = random.integer(-shape.length, shape.length - 1);
        return { fn: (x) => apply(x!, axis), inputs: [random.normal(shape)], note: `axis ${axis}` };
      },
    }),
  ),
  {
    op: "strided",
    draw: (random) => {
      const shape = random.shape();
      const steps = shape.map(() => random.pick([1, 2, -1, -3]));
      const begin = shape.map((n, axis) =>
        steps[axis]! > 0 ? random.integer(0, n - 1) : n - 1 - random.integer(0, n - 1),
      );
      const size = shape.map((n, axis) => {
        const ahead = steps[axis]! > 0 ? n - 1 - begin[axis]! : begin[axis]!;
        return Math.floor(ahead / Math.abs(steps[axis]!)) + 1;
      });
      const fn = (x?: Tensor) => strided(x!, begin, size, steps);
      return { fn, inputs: [random.normal(shape)], note: JSON.stringify({ begin, size, steps }) };
    },
  },
  {
    op: "standardize",
    draw: (random) => {
      const shape = [...random.shape().slice(0, 3), random.size(3, 90)];
      const axes = random.pick([[shape.length - 1], shape.map((_, axis) => axis).slice(1), [0]]);
      const taken = axes.length === 0 ? [0] : axes;
      return { fn: (x) => standardize(x!, taken, 1e-3), inputs: [random.normal(shape)], note: `axes ${taken}` };
    },
  },
  {
    op: "affineSample",
    spreads: true,
    draw: (random) => {
      const shape = [random.size(2, 4), random.size(4, 30), random.size(4, 30), random.size(3, 5)];
      const [angle, scale] = [6 * random.stream.uniform(), 0.4 + 2 * random.stream.uniform()];
      const [sine, cosine] = [Math.sin(angle) / scale, Math.cos(angle) / scale];
      const shifts = [3 * random.stream.uniform() - 1.5, 3 * random.stream.uniform() - 1.5];
      const matrix = random.pick([
        [cosine, sine, shifts[0]!, -sine, cosine, shifts[1]!],
        [cosine, 0.3, 0.2, sine, 0.9, -0.1],
        [1, 0, 1, 0, 1, -1],
        // Without an inverse: every row of the result is the same one of the source.
        [0, 0, 0.25, 0, 1, 0],
      ]);
      const fn = (x?: Tensor) => affineSample(x!, tensor(x!.device, matrix));
      return { fn, inputs: [random.normal(shape)], note: JSON.stringify(matrix) };
    },
  },
  {
    op: "softmaxCrossEntropy",
    form: "with class ids",
    draw: (random) => {
      const [batch, classes] = [random.size(4, 200), random.size(6, 70)];
      const ids = indices(random, [batch], classes);
      return { fn: (x) => softmaxCrossEntropy(x!, ids(x!.device)), inputs: [random.normal([batch, classes])] };
    },
  },
  {
    op: "softmaxCrossEntropy",
    form: "with soft targets",
    draw: (random) => {
      const shape = [random.size(4, 200), random.size(6, 70)];
      const inputs = [random.normal(shape), random.uniform(shape, [0, 1])];
      return { fn: (x, t) => softmaxCrossEntropy(x!, t!), inputs };
    },
  },
];

export const operations: readonly Operation[] = [...unaryOperations, ...binaryOperations, ...structural, network];

export function titleOf({ op, form }: Operation): string {
  return form ? `${op} ${form}` : op;
}

/** Exported functions of src/autograd/ops that the table leaves out, and why. */
export const leftOut: Readonly<Record<string, string>> = {
  unary: "applies the rows of the unary table",
  binary: "applies the rows of the binary table",
  sumTo: "a part of other gradients",
  stretch: "a part of other gradients",
  unaryGradient: "the gradient of the unary table's rows",
  throughActivation: "a part of other gradients",
  convolutionGradients: "the gradients of conv2d, of which those of second order are made",
  convolution: "the gradient of conv2d's gradients",
  convolutionInputGradient: "the gradient of conv2d",
  convolutionKernelGradient: "the gradient of conv2d",
  handToWinners: "the gradient of maxPool2d",
  addedRows: "the gradient of gather",
  transposedAxis: "sizes of convTranspose2d along an axis",
  keyNow: "what random operations ask for their key",
  runKeeping: "how convolutions run their kernels",
  unaryOf: "makes the operations of the table's rows",
  binaryOf: "makes the operations of the table's rows",
  groupedConv2d: "what depthwiseConv2d and conv2d are made of",
  withBias: "the end of convolutions",
  rootOf: "a part of norms and deviations",
  full: "has no inputs",
  zeros: "has no inputs",
  ones: "has no inputs",
  zerosLike: "does not depend on its input's values",
  onesLike: "does not depend on its input's values",
  arange: "has no inputs",
  eye: "has no inputs",
  randomUniform: "has no inputs",
  randomNormal: "has no inputs",
  randomBernoulli: "has no inputs",
  randomCounters: "is no operation",
};
