// `npm run bench`: every kind of kernel at the shapes of the experiments, with its rate. Beside it stands its share of
// what the adapter reaches at all. That is the better of its ceiling right before and right after (with `--quick`, at
// the beginning). `-- --filter conv --quick` for some of them.

import { measureCeilings, onSoftware } from "../src/experiments/lib/training/profile.js";
import type { FusedActivation } from "../src/kernels/activation.js";
import {
  batchNormGradientKernel,
  batchNormKernel,
  batchNormStatisticsKernel,
  batchNormSumsKernel,
} from "../src/kernels/batchnorm.js";
import { type Conv2dOptions, conv2dGeometry, outputShape, windowAxis } from "../src/kernels/conv2d/geometry.js";
import { conv2dInputGradientKernel, conv2dKernel, conv2dKernelGradientKernel } from "../src/kernels/conv2d.js";
import { dropoutKernel } from "../src/kernels/dropout.js";
import { binaryKernels, unaryKernels } from "../src/kernels/elementwise.js";
import {
  type GroupedForwardParams,
  groupedConv2dKernel,
  groupedInputGradientKernel,
  groupedKernelGradientKernel,
} from "../src/kernels/grouped-conv2d.js";
import { matmulKernel } from "../src/kernels/matmul.js";
import { adamKernel, sgdKernel } from "../src/kernels/optimizer-rules.js";
import { pool2dGradientKernel, pool2dKernel, winnerSpec } from "../src/kernels/pool2d.js";
import { randomNormalKernel } from "../src/kernels/random.js";
import { reduceKernel } from "../src/kernels/reduce.js";
import { INTERPOLATIONS, resizeGradientKernel, resizeKernel } from "../src/kernels/resize.js";
import { cumsumKernel } from "../src/kernels/scan.js";
import { softmaxCrossEntropyKernel, softmaxGradientKernel, softmaxKernel } from "../src/kernels/softmax.js";
import { argsortKernel } from "../src/kernels/sort.js";
import { stridedCopyKernel } from "../src/kernels/transform.js";
import type { Kernel } from "../src/tensor/kernel.js";
import { randomKey } from "../src/tensor/random.js";
import {
  type KernelCase,
  kernelCase,
  measureCase,
  parseOptions,
  resultsFile,
  tableLine,
  withDevice,
} from "./harness.js";

/** A product [m, k] x [k, n], and with `gradients` those of both operands. */
function matmuls(label: string, [m, k, n]: readonly [number, number, number], gradients = false): KernelCase[] {
  const linear = { transposeA: false, transposeB: false, activation: "linear" } as const;
  const flops = 2 * m * k * n;
  const size = `${m} x ${k} x ${n}`;
  const [a, b, c] = [
    [m, k],
    [k, n],
    [m, n],
  ] as const;
  const forms = [
    { name: "", inputs: [a, b], output: c, params: linear },
    { name: " gradient of a", inputs: [c, b], output: a, params: { ...linear, transposeB: true } },
    { name: " gradient of b", inputs: [a, c], output: b, params: { ...linear, transposeA: true } },
  ];
  return forms.slice(0, gradients ? 3 : 1).map(({ name, inputs, output, params }) =>
    kernelCase("matmul", `matmul ${label} ${size}${name}`, {
      kernel: matmulKernel,
      inputs,
      outputs: [output],
      params,
      flops,
    }),
  );
}

/** A convolution of square images with its gradients; `first` has none of its input. */
function convolutions(
  label: string,
  [batch, size, inputs, outputs]: readonly [number, number, number, number],
  padding: NonNullable<Conv2dOptions["padding"]>,
  first = false,
): KernelCase[] {
  const [x, kernel] = [
    [batch, size, size, inputs],
    [3, 3, inputs, outputs],
  ];
  const geometry = conv2dGeometry(x, kernel, { padding });
  const y = outputShape(geometry);
  // Of the direct algorithm, products with padding included.
  const flops = 2 * y.reduce((a, b) => a * b) * 9 * inputs;
  const name = `${label} ${inputs} to ${outputs}, ${size} x ${size}, b${batch}`;
  return [
    kernelCase("conv2d", `conv2d ${name}`, {
      kernel: conv2dKernel,
      inputs: [x, kernel, [outputs]],
      outputs: [y],
      params: { geometry, activation: "relu" },
      flops,
    }),
    ...(first
      ? []
      : [
          kernelCase("conv2d input gradient", `conv2d dx ${name}`, {
            kernel: conv2dInputGradientKernel,
            inputs: [y, kernel],
            outputs: [x],
            params: { geometry },
            flops,
          }),
        ]),
    kernelCase("conv2d weight gradient", `conv2d dw ${name}`, {
      kernel: conv2dKernelGradientKernel,
      inputs: [x, y],
      outputs: [kernel, [outputs]],
      params: { geometry },
      flops,
    }),
  ];
}

/** A depthwise convolution of square images with its gradients. */
function depthwise(
  [batch, size, channels]: readonly [number, number, number],
  { stride = 1, window = 3 } = {},
): KernelCase[] {
  const [x, kernel] = [
    [batch, size, size, channels],
    [window, window, 1, channels],
  ];
  const geometry = conv2dGeometry(x, kernel, { padding: "same", strides: stride }, { groups: channels });
  const y = outputShape(geometry);
  const flops = 2 * y.reduce((a, b) => a * b) * window ** 2;
  const name = `${window} x ${window} / ${stride}, ${channels} channels, ${size} x ${size}, b${batch}`;
  const params = { geometry, groups: channels, activation: "linear" } as const;
  const shapes = { x, kernel, y };
  const pass = (title: string, pass: Kernel<GroupedForwardParams>, inputs: readonly ("x" | "kernel" | "y")[]) => {
    const output = (["x", "kernel", "y"] as const).find((side) => !inputs.includes(side))!;
    return kernelCase("depthwise", `depthwise ${title}${name}`, {
      kernel: pass,
      inputs: inputs.map((side) => shapes[side]),
      outputs: [shapes[output]],
      params,
      ...{ flops, streams: true },
    });
  };
  return [
    pass("", groupedConv2dKernel, ["x", "kernel"]),
    pass("dx ", groupedInputGradientKernel, ["y", "kernel"]),
    pass("dw ", groupedKernelGradientKernel, ["x", "y"]),
  ];
}

/** A convolution of 1 x 1 of square images with its gradients. */
function pointwise([batch, size, inputs, outputs]: readonly [number, number, number, number]): KernelCase[] {
  const [x, kernel, y] = [
    [batch, size, size, inputs],
    [1, 1, inputs, outputs],
    [batch, size, size, outputs],
  ];
  const geometry = conv2dGeometry(x, kernel);
  const flops = 2 * batch * size * size * inputs * outputs;
  const name = `${inputs} to ${outputs}, ${size} x ${size}, b${batch}`;
  const common = { flops, streams: true };
  const params = { geometry };
  return [
    kernelCase("pointwise", `pointwise ${name}`, {
      ...{ kernel: conv2dKernel, inputs: [x, kernel], outputs: [y] },
      ...{ params: { geometry, activation: "linear" as const }, ...common },
    }),
    kernelCase("pointwise", `pointwise dx ${name}`, {
      ...{ kernel: conv2dInputGradientKernel, inputs: [y, kernel], outputs: [x], params, ...common },
    }),
    kernelCase("pointwise", `pointwise dw ${name}`, {
      ...{ kernel: conv2dKernelGradientKernel, inputs: [x, y], outputs: [kernel], params, ...common },
    }),
  ];
}

/** What runs along rows: order, the first five of it, and cumulative sums. */
function rowKernels(rows: number, columns: number): KernelCase[] {
  const x = [rows, columns];
  const at = `[${rows}, ${columns}]`;
  return [
    kernelCase("rows", `argsort ${at}`, {
      kernel: argsortKernel,
      inputs: [x],
      outputs: [{ shape: x, dtype: "i32" }],
      params: { descending: false },
    }),
    kernelCase("rows", `top 5 ${at}`, {
      kernel: argsortKernel,
      inputs: [x],
      outputs: [{ shape: [rows, 5], dtype: "i32" }],
      params: { descending: true },
    }),
    kernelCase("rows", `cumsum ${at}`, {
      kernel: cumsumKernel,
      inputs: [x],
      outputs: [x],
      params: { axis: 1, exclusive: false, reverse: false },
    }),
  ];
}

function resizes(x: readonly [number, number, number, number], size: number): KernelCase[] {
  const y = [x[0], size, size, x[3]];
  const axes = { y: { input: x[1], output: size }, x: { input: x[2], output: size } };
  return INTERPOLATIONS.flatMap((interpolation) => {
    const params = { ...axes, interpolation };
    const name = `${interpolation} ${x[1]} to ${size}, ${x[3]} channels, b${x[0]}`;
    return [
      kernelCase("resize", `resize ${name}`, { kernel: resizeKernel, inputs: [x], outputs: [y], params }),
      kernelCase("resize", `resize gradient ${name}`, {
        kernel: resizeGradientKernel,
        inputs: [y],
        outputs: [x],
        params,
      }),
    ];
  });
}

function pools(
  label: string,
  kind: "max" | "mean",
  x: readonly [number, number, number, number],
  stride = 2,
): KernelCase[] {
  const [rows, columns] = [x[1], x[2]].map((input) =>
    windowAxis("pool", { input, kernel: 2, stride, dilation: 1 }, "valid"),
  ) as [ReturnType<typeof windowAxis>, ReturnType<typeof windowAxis>];
  const y = [x[0], rows.output, columns.output, x[3]];
  const params = { kind, activation: "linear" as const, y: rows, x: columns };
  const winner = kind === "max" ? [winnerSpec(y, params)] : [];
  const name = `${kind} pool 2 x 2 / ${stride} [${x.join(", ")}]${label && ` ${label}`}`;
  return [
    kernelCase("pooling", name, { kernel: pool2dKernel, inputs: [x], outputs: [y, ...winner], params }),
    kernelCase("pooling", `${name} gradient`, {
      kernel: pool2dGradientKernel,
      inputs: [y, ...winner],
      outputs: [x],
      params,
    }),
  ];
}

function batchNorms(x: readonly number[]): KernelCase[] {
  const c = x.slice(-1);
  const at = `[${x.join(", ")}]`;
  const moments = [2, ...c];
  const params = { epsilon: 1e-3, gamma: true, beta: true, running: false };
  const whole = (activation: FusedActivation) => ({ ...params, activation });
  return [
    kernelCase("batchNorm", `batchNorm statistics ${at}`, {
      kernel: batchNormStatisticsKernel,
      inputs: [x],
      outputs: [moments, c, c],
      params: { momentum: 0.99 },
    }),
    ...(["linear", "relu"] as const).flatMap((activation) => [
      kernelCase("batchNorm", `batchNorm normalise, ${activation} ${at}`, {
        kernel: batchNormKernel,
        inputs: [x, moments, c, c],
        outputs: [x],
        params: whole(activation),
      }),
      kernelCase("batchNorm", `batchNorm gradient sums, ${activation} ${at}`, {
        kernel: batchNormSumsKernel,
        inputs: [x, x, moments, c, c],
        outputs: [c, c],
        params: whole(activation),
      }),
      kernelCase("batchNorm", `batchNorm gradient of x, ${activation} ${at}`, {
        kernel: batchNormGradientKernel,
        inputs: [x, x, moments, c, c, c, c],
        outputs: [x],
        params: whole(activation),
      }),
    ]),
  ];
}

function softmaxes(rows: number, columns: number): KernelCase[] {
  const x = [rows, columns];
  const at = `[${x.join(", ")}]`;
  const params = { axis: 1, log: false };
  const labels = { shape: [rows], dtype: "i32" } as const;
  return [
    kernelCase("softmax", `softmax ${at}`, { kernel: softmaxKernel, inputs: [x], outputs: [x], params }),
    kernelCase("softmax", `softmax gradient ${at}`, {
      kernel: softmaxGradientKernel,
      inputs: [x, x],
      outputs: [x],
      params,
    }),
    kernelCase("softmax", `softmax cross-entropy and gradient ${at}`, {
      kernel: softmaxCrossEntropyKernel,
      inputs: [x, labels],
      outputs: [[1], x],
      params: { reduction: "mean" },
    }),
  ];
}

const MILLION = 2 ** 20;

function elementwise(): KernelCase[] {
  const x = [MILLION];
  const plain = { p: 0, q: 0 };
  const unary = (["relu", "exp", "tanh", "gelu"] as const).flatMap((name) => [
    kernelCase("elementwise", `${name} 1 M`, {
      kernel: unaryKernels[name].forward,
      inputs: [x],
      outputs: [x],
      params: plain,
    }),
    kernelCase("elementwise", `${name} gradient 1 M`, {
      kernel: unaryKernels[name].gradient!,
      inputs: [x, x],
      outputs: [x],
      params: plain,
    }),
  ]);
  const features = [128, 11, 11, 64];
  const matrix = [1024, 1024];
  const key = randomKey(1);
  return [
    ...unary,
    kernelCase("elementwise", "add 1 M", {
      kernel: binaryKernels.add.forward,
      inputs: [x, x],
      outputs: [x],
      params: {},
    }),
    kernelCase("elementwise", "add [64] to [128, 11, 11, 64]", {
      kernel: binaryKernels.add.forward,
      inputs: [features, [64]],
      outputs: [features],
      params: {},
    }),
    kernelCase("elementwise", "multiply [1024, 1] and [1024, 1024]", {
      kernel: binaryKernels.mul.forward,
      inputs: [[1024, 1], matrix],
      outputs: [matrix],
      params: {},
    }),
    kernelCase("elementwise", "dropout 1 M", {
      kernel: dropoutKernel,
      inputs: [x],
      outputs: [x],
      params: { rate: 0.5, key, offset: 0 },
    }),
    kernelCase("elementwise", "random normal 1 M", {
      kernel: randomNormalKernel,
      inputs: [],
      outputs: [x],
      params: { key, offset: 0, mean: 0, standardDeviation: 1 },
    }),
    kernelCase("reduction", "sum of 1 M", {
      kernel: reduceKernel,
      inputs: [x],
      outputs: [[]],
      params: { reduction: "sum", axes: [0] },
    }),
    kernelCase("reduction", "sum of rows [1024, 1024]", {
      kernel: reduceKernel,
      inputs: [matrix],
      outputs: [[1024]],
      params: { reduction: "sum", axes: [1] },
    }),
    kernelCase("reduction", "sum to channels [128, 11, 11, 64]", {
      kernel: reduceKernel,
      inputs: [features],
      outputs: [[64]],
      params: { reduction: "sum", axes: [0, 1, 2] },
    }),
    kernelCase("movement", "transpose [1024, 1024]", {
      kernel: stridedCopyKernel,
      inputs: [matrix],
      outputs: [matrix],
      params: {
        copies: [{ shape: matrix, inputOffset: 0, inputStrides: [1, 1024], outputOffset: 0, outputStrides: [1024, 1] }],
      },
    }),
  ];
}

function optimizers(size: number, label: string): KernelCase[] {
  const w = [size];
  const inPlace = true;
  return [
    kernelCase("optimizer", `sgd ${label}`, {
      kernel: sgdKernel,
      inputs: [w],
      outputs: [w],
      params: { learningRate: 1e-3 },
      inPlace,
    }),
    kernelCase("optimizer", `sgd with momentum ${label}`, {
      kernel: sgdKernel,
      inputs: [w],
      outputs: [w, w],
      params: { learningRate: 1e-3, momentum: 0.9 },
      inPlace,
    }),
    kernelCase("optimizer", `adam ${label}`, {
      kernel: adamKernel,
      inputs: [w],
      outputs: [w, w, w],
      params: { learningRate: 1e-6, step: 1, beta1: 0.9, beta2: 0.999, epsilon: 1e-7, weightDecay: 0 },
      inPlace,
    }),
  ];
}

const cases: readonly KernelCase[] = [
  ...matmuls("square", [512, 512, 512]),
  ...matmuls("square", [1024, 1024, 1024]),
  ...matmuls("square", [2048, 2048, 2048]),
  ...matmuls("sgd-cnn", [128, 1600, 200], true),
  ...matmuls("sgd-cnn", [128, 200, 128], true),
  ...matmuls("mlp-64", [128, 784, 64], true),
  ...matmuls("small-cnn", [32, 576, 64], true),
  ...matmuls("alexnet-plus", [16, 9216, 4096]),
  ...convolutions("sgd-cnn", [128, 28, 1, 32], "valid", true),
  ...convolutions("sgd-cnn", [128, 13, 32, 64], "valid"),
  ...convolutions("small-cnn", [32, 28, 1, 24], "valid", true),
  ...convolutions("small-cnn", [32, 13, 24, 36], "valid"),
  ...convolutions("small-cnn", [32, 5, 36, 64], "valid"),
  ...convolutions("resnet-20", [32, 32, 16, 16], "same"),
  ...convolutions("resnet-20", [32, 16, 32, 32], "same"),
  ...convolutions("resnet-20", [32, 8, 64, 64], "same"),
  ...convolutions("alexnet-plus", [16, 28, 96, 96], "same"),
  ...convolutions("alexnet-plus", [16, 14, 256, 256], "same"),
  ...convolutions("alexnet-plus", [16, 7, 384, 384], "same"),
  ...pools("sgd-cnn", "max", [128, 26, 26, 32]),
  ...pools("small-cnn", "max", [32, 11, 11, 36]),
  ...pools("alexnet-plus", "max", [16, 7, 7, 256], 1),
  ...pools("", "mean", [128, 26, 26, 32]),
  ...depthwise([16, 56, 64]),
  ...depthwise([16, 28, 96], { stride: 2 }),
  // Of MobileNetV2 and EfficientNet-B0 at 224 x 224, and products of 1 x 1 between them.
  ...depthwise([1, 112, 32]),
  ...depthwise([1, 112, 96], { stride: 2 }),
  ...depthwise([1, 56, 144]),
  ...depthwise([1, 14, 576]),
  ...depthwise([8, 7, 960]),
  ...depthwise([1, 28, 240], { window: 5 }),
  ...depthwise([1, 28, 240], { window: 5, stride: 2 }),
  ...pointwise([1, 112, 32, 16]),
  ...pointwise([1, 56, 24, 144]),
  ...pointwise([1, 14, 64, 384]),
  ...pointwise([1, 7, 320, 1280]),
  ...resizes([16, 28, 28, 32], 56),
  ...batchNorms([16, 28, 28, 96]),
  ...softmaxes(128, 10),
  ...softmaxes(1024, 1000),
  ...rowKernels(128, 1000),
  ...rowKernels(1, 100_000),
  ...elementwise(),
  ...optimizers(MILLION, "1 M"),
];

/**
 * Shapes of alexnet-plus at its own batch, and a large product: seconds a call on a software adapter, which runs them
 * when asked.
 */
const largeCases: readonly KernelCase[] = [
  ...matmuls("large", [4096, 4096, 4096]),
  ...matmuls("large alexnet-plus", [128, 9216, 4096], true),
  ...convolutions("large alexnet-plus", [128, 28, 96, 96], "same"),
  ...convolutions("large alexnet-plus", [128, 14, 256, 256], "same"),
  ...convolutions("large alexnet-plus", [128, 7, 384, 384], "same"),
];

const options = parseOptions("Times every kind of kernel at the shapes of the experiments.");
const WIDTHS = [58, 9, 7, 8, 7, 6, 8];

await withDevice(options, async (device) => {
  const large = !onSoftware(device) || options.filter.source.includes("large");
  const chosen = [...cases, ...(large ? largeCases : [])].filter(({ group, name }) =>
    options.filter.test(`${group} ${name}`),
  );
  if (chosen.length === 0) throw new Error(`--filter ${options.filter.source}: no benchmark has such a name`);
  const write = await resultsFile(device, options, "kernels");
  console.log(tableLine(["", "ms", "+- %", "rate", "", "share", "of"], WIDTHS));
  const results = [];
  let before = await measureCeilings(device);
  for (const item of chosen) {
    const timing = await measureCase(device, item, options.quick);
    const after = options.quick ? before : await measureCeilings(device);
    const { flops = 0, bytes = 0 } = item.work as { readonly flops?: number; readonly bytes?: number };
    const ceilings = { gflops: Math.max(before.gflops, after.gflops), gbs: Math.max(before.gbs, after.gbs) };
    before = after;
    // Of two kinds of work, what takes longer at the ceiling.
    const [amount, unit, ceiling] =
      flops / ceilings.gflops >= bytes / ceilings.gbs
        ? [flops, "GFLOP/s", ceilings.gflops]
        : [bytes, "GB/s", ceilings.gbs];
    const rate = amount / timing.medianMs / 1e6;
    const share = rate / ceiling;
    const figures = [timing.medianMs.toFixed(3), timing.rmePercent.toFixed(1), rate.toFixed(1), unit];
    console.log(tableLine([item.name, ...figures, `${(100 * share).toFixed(0)} %`, ceiling.toFixed(1)], WIDTHS));
    results.push({ group: item.group, name: item.name, ...item.work, ...timing, rate, unit, share, ceiling });
    await write({ results });
  }
});
