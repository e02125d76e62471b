// Convolution on every profile against the float64 reference: all three passes at shapes that fit no tile, with every
// stride, padding, dilation and activation; Keras's output sizes; equal bits on every run; nothing computed unasked.
import { describe, expect, it, vi } from "vitest";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { type Conv2dOptions, conv2d } from "../../src/autograd/ops/conv2d.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { FUSED_ACTIVATIONS, type FusedActivation } from "../../src/kernels/activation.js";
import { conv2dGeometry, outputShape, type Conv2dOptions as WindowOptions } from "../../src/kernels/conv2d/geometry.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { choicesInUse } from "../../src/webgpu/tuning.js";
import {
  cpu,
  describeProfiles,
  type Evaluation,
  evaluate,
  expectClose,
  expectParity,
  type Input,
  randomInput,
  withSmallBindings,
} from "../support.js";

const random = new RandomStream(11, "conv2d test");
const integer = (low: number, high: number) => low + random.integer(high - low + 1);
const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)]!;

interface Case {
  readonly x: Shape;
  readonly kernel: Shape;
  readonly options?: WindowOptions & { readonly activation?: FusedActivation };
  readonly bias?: boolean;
}

/** x, kernel, and bias where the case has one. */
function inputsOf({ x, kernel, bias = true }: Case): Input[] {
  return [x, kernel, ...(bias ? [[kernel[3]!]] : [])].map((shape) => randomInput(random, shape));
}

interface Prepared {
  readonly inputs: readonly Input[];
  /** The reference's, which takes longer than any adapter. */
  readonly expected: Evaluation;
}

const prepared = new Map<Case, Prepared>();

/** Compares a device with the reference on inputs that a case has once and for all. */
async function expectCase(device: Device, test: Case): Promise<void> {
  const fn = (x?: Tensor, kernel?: Tensor, bias?: Tensor) => apply(test, x!, kernel!, bias);
  let known = prepared.get(test);
  if (known === undefined) {
    const inputs = inputsOf(test);
    known = { inputs, expected: await evaluate(cpu, fn, inputs) };
    prepared.set(test, known);
  }
  await expectParity(device, fn, known.inputs, known);
}

const apply = ({ options }: Case, x: Tensor, kernel: Tensor, bias: Tensor | undefined) =>
  conv2d(x, kernel, { ...options, ...(bias ? { bias } : {}) } as Conv2dOptions);

function randomCase(): Case {
  const taps = [integer(1, 5), integer(1, 5)] as const;
  const strides = [integer(1, 3), integer(1, 3)] as const;
  const dilations = pick([1, 1, 2, [1, 3]] as const);
  const padding = pick<NonNullable<WindowOptions["padding"]>>([
    "valid",
    "same",
    [
      [integer(0, 3), integer(0, 3)],
      [integer(0, 3), integer(0, 3)],
    ],
  ]);
  // The largest dilated kernel spans 13.
  return {
    x: [integer(1, 9), integer(13, 16), integer(13, 16), integer(1, 70)],
    kernel: [taps[0], taps[1], 0, integer(1, 70)],
    options: { strides, dilations, padding, activation: pick(FUSED_ACTIVATIONS) },
    bias: integer(0, 2) > 0,
  };
}

const withChannels = (test: Case): Case => ({
  ...test,
  kernel: test.kernel.map((size, axis) => (axis === 2 ? test.x[3]! : size)),
});

const CASES: readonly Case[] = [
  { x: [3, 28, 28, 1], kernel: [3, 3, 1, 24], options: { activation: "relu" } },
  { x: [5, 13, 13, 24], kernel: [3, 3, 24, 36], options: { activation: "relu" } },
  // Images side by side: more of them than a tile has rows, and not a multiple.
  { x: [70, 5, 5, 36], kernel: [3, 3, 36, 64] },
  { x: [2, 9, 9, 96], kernel: [3, 3, 96, 96], options: { padding: "same", activation: "relu" }, bias: false },
  { x: [1, 7, 7, 132], kernel: [3, 3, 132, 140], options: { padding: "same" } },
  { x: [2, 12, 10, 3], kernel: [5, 5, 3, 16], options: { padding: "same", strides: 2, activation: "tanh" } },
  // Of few channels with strides: taps are that far apart, and none meets some inputs where kernels are smaller.
  { x: [2, 13, 11, 3], kernel: [3, 3, 3, 32], options: { padding: "same", strides: 2, activation: "relu6" } },
  { x: [1, 10, 14, 2], kernel: [4, 1, 2, 7], options: { strides: [3, 2] } },
  { x: [2, 9, 8, 4], kernel: [2, 3, 4, 8], options: { strides: 2, dilations: [1, 2], padding: "same" } },
  // Single pixels: every pass is a product, of one image as of several; few columns, and few rows.
  { x: [1, 12, 12, 16], kernel: [1, 1, 16, 96], options: { activation: "relu6" } },
  { x: [1, 7, 7, 160], kernel: [1, 1, 160, 64] },
  { x: [3, 6, 5, 24], kernel: [1, 1, 24, 20], options: { activation: "relu" }, bias: false },
  { x: [3, 9, 9, 8], kernel: [1, 1, 8, 12], options: { strides: 2 } },
  { x: [1, 1, 1, 1], kernel: [1, 1, 1, 1], options: { activation: "sigmoid" } },
  // By Winograd on software adapters (see choice.test.ts). Tiles of 2 and of 4 do and do not divide the output. There
  // are every side of padding, a cropped input, a batch of 1, and channels that fill no vector.
  { x: [11, 14, 15, 32], kernel: [3, 3, 32, 64], options: { activation: "relu" } },
  { x: [1, 28, 28, 64], kernel: [3, 3, 64, 68], options: { padding: "same", activation: "relu" } },
  {
    x: [5, 13, 18, 60],
    kernel: [3, 3, 60, 96],
    options: {
      padding: [
        [2, 3],
        [1, -1],
      ],
    },
    bias: false,
  },
  { x: [3, 9, 9, 132], kernel: [3, 3, 132, 64], options: { padding: "same" } },
  // By products over windows on software adapters:
  // - strides,
  // - kernels that are no square,
  // - rows and columns left over,
  // - numbers of windows that no tile divides,
  // - more elements or outputs than a panel is deep.
  { x: [37, 9, 8, 20], kernel: [3, 2, 20, 36], options: { strides: [2, 1], activation: "relu" } },
  { x: [33, 6, 7, 16], kernel: [4, 4, 16, 68], options: { strides: [1, 3] }, bias: false },
  { x: [131, 4, 4, 60], kernel: [4, 4, 60, 32], options: { activation: "tanh" } },
  { x: [3, 12, 11, 148], kernel: [1, 1, 148, 44] },
  { x: [23, 5, 4, 16], kernel: [3, 3, 16, 132] },
  // By panels of the kernel on software adapters: one, two and four rows side by side, of which some are left over,
  // several panels, tiles of channels that are not full, kernels that are no square, and pixels left at a row's end.
  { x: [5, 11, 13, 16], kernel: [3, 3, 16, 16], options: { padding: "same", activation: "relu" } },
  { x: [3, 9, 7, 20], kernel: [3, 3, 20, 8], options: { padding: "same" }, bias: false },
  { x: [7, 8, 11, 44], kernel: [3, 3, 44, 24], options: { padding: "same" } },
  { x: [2, 17, 10, 8], kernel: [5, 2, 8, 36], options: { padding: "same" } },
  { x: [4, 6, 5, 4], kernel: [2, 5, 4, 12], options: { padding: "same", activation: "relu" } },
  // Taps that never meet the input.
  { x: [2, 3, 3, 4], kernel: [5, 5, 4, 4], options: { padding: "same", dilations: 2 } },
  ...Array.from({ length: 12 }, () => withChannels(randomCase())),
];

const title = ({ x, kernel, options, bias }: Case) =>
  `[${x}] * [${kernel}] ${JSON.stringify(options ?? {})}${bias === false ? " without bias" : ""}`;

describeProfiles((device) => {
  describe("all passes against the reference", () => {
    for (const test of CASES) {
      it(title(test), async () => {
        await expectCase(device(), test);
      });
    }
  });

  it("gives equal bits on every run", async () => {
    const test: Case = { x: [9, 11, 12, 20], kernel: [3, 3, 20, 36], options: { padding: "same", activation: "relu" } };
    const leaves = inputsOf(test).map(({ values, shape }) => tensor(device(), values, { shape }));
    const evaluate = async () => {
      const { value, grads } = valueAndGrad((...inputs: Tensor[]) =>
        sum(apply(test, inputs[0]!, inputs[1]!, inputs[2])),
      )(...leaves);
      const all: ArrayLike<number>[] = [];
      for (const t of [value, ...grads]) all.push(await t.data());
      for (const t of [value, ...grads]) t.dispose();
      return all;
    };
    expect(await evaluate()).toEqual(await evaluate());
  });

  it("runs only the kernels that were asked for", async () => {
    const [x, kernel, bias] = inputsOf({ x: [2, 8, 8, 4], kernel: [3, 3, 4, 8] }).map(({ values, shape }) =>
      tensor(device(), values, { shape }),
    ) as [Tensor, Tensor, Tensor];
    kernel.requiresGrad = true;
    bias.requiresGrad = true;
    const counts = (fn: () => { value: Tensor; grads: readonly Tensor[] }) => {
      device().resetCounters();
      const { value, grads } = fn();
      for (const t of [value, ...grads]) t.dispose();
      return [...device().counters.byKernel.keys()].filter((name) => name.startsWith("conv2d"));
    };
    const loss = (x: Tensor, kernel: Tensor, bias: Tensor) => sum(conv2d(x, kernel, { bias, activation: "relu" }));
    expect(counts(() => valueAndGrad((x: Tensor) => loss(x, kernel, bias))(x))).toEqual([
      "conv2d",
      "conv2dInputGradient",
    ]);
    expect(counts(() => valueAndGrad((k: Tensor) => loss(x, k, bias))(kernel))).toEqual([
      "conv2d",
      "conv2dKernelGradient",
    ]);
    expect(counts(() => valueAndGrad((b: Tensor) => loss(x, kernel, b))(bias))).toEqual(["conv2d"]);
    await device().sync();
  });

  it("goes through activations larger than a binding in windows over the batch", async () => {
    // 2304 and 1536 elements an image; 16 images of x are 147,456 bytes.
    const small = withSmallBindings(device(), 65536);
    const test: Case = {
      x: [37, 12, 12, 16],
      kernel: [3, 3, 16, 12],
      options: { padding: "same", activation: "relu" },
    };
    await expectParity(small, (x, kernel, bias) => apply(test, x!, kernel!, bias), inputsOf(test));
    expect(small.counters.byKernel.get("conv2d")).toBeGreaterThan(1);
    // Few input channels: the columns of their gradient would fit, 57,344 bytes, but not dz.
    const few: Case = { x: [2, 16, 16, 3], kernel: [3, 3, 3, 64], options: { padding: "same" } };
    await expectParity(small, (x, kernel, bias) => apply(few, x!, kernel!, bias), inputsOf(few));
  });

  it("takes a batch of nothing", async () => {
    const x = tensor(device(), [], { shape: [0, 6, 6, 4] });
    const kernel = tensor(device(), randomInput(random, [3, 3, 4, 8]).values, { shape: [3, 3, 4, 8] });
    const { grads } = valueAndGrad((x: Tensor, k: Tensor) => sum(conv2d(x, k)))(x, kernel);
    expect(grads[0].shape).toEqual([0, 6, 6, 4]);
    expectClose(await grads[1].data(), new Float32Array(kernel.size), { rtol: 0 });
  });
});

const FORM_CASES: readonly Case[] = [
  { x: [37, 5, 5, 36], kernel: [3, 3, 36, 64], options: { activation: "relu" } },
  { x: [5, 13, 13, 32], kernel: [3, 3, 32, 64] },
  { x: [2, 10, 10, 100], kernel: [3, 3, 100, 96], options: { padding: "same" } },
  // Fewer and more zeros around than "same" has, and channels in no fours.
  {
    x: [2, 7, 9, 6],
    kernel: [3, 3, 6, 10],
    options: {
      padding: [
        [3, 0],
        [0, 2],
      ],
    },
  },
];

describe("forms that tuning chooses between", () => {
  it.each([
    ["software", 6],
    ["hardware", 3],
  ] as const)("compute the same, %s profile", async (profile, forms) => {
    const device = await openDevice("webgpu", { profile });
    try {
      const programs = new Set<string>();
      for (const { name, options } of choicesInUse(device.profile)) {
        for (const option of options) {
          const form = new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, choices: { [name]: option } });
          const compile = vi.spyOn(device.gpu, "createShaderModule");
          for (const test of FORM_CASES) {
            await expectCase(form, test);
          }
          if (name.startsWith("conv2d")) programs.add(compile.mock.calls.map(([{ code }]) => code).join());
          compile.mockRestore();
        }
      }
      // Every option is code of its own, but for the tiles that the price would choose, too.
      expect(programs.size).toBeGreaterThanOrEqual(forms);
    } finally {
      device.destroy();
    }
  });
});

describe("on the reference", () => {
  it("has the gradients that finite differences give", async () => {
    for (const options of [{}, { padding: "same", strides: 2 }, { dilations: [2, 1], activation: "tanh" }] as const) {
      const test: Case = { x: [2, 5, 6, 3], kernel: [3, 2, 3, 2], options };
      await gradcheck((x, kernel, bias) => sum(apply(test, x!, kernel!, bias)), inputsOf(test));
    }
  });

  it("computes a small example by hand", async () => {
    const x = tensor(cpu, [1, 2, 3, 4, 5, 6, 7, 8, 9], { shape: [1, 3, 3, 1] });
    const kernel = tensor(cpu, [1, 2, 3, 4], { shape: [2, 2, 1, 1] });
    expect([...(await conv2d(x, kernel).data())]).toEqual([37, 47, 67, 77]);
    // "same" with an even kernel pads at the bottom and right.
    expect([...(await conv2d(x, kernel, { padding: "same" }).data())]).toEqual([37, 47, 21, 67, 77, 33, 23, 26, 9]);
    expect([...(await conv2d(x, kernel, { padding: "same", strides: 2 }).data())]).toEqual([37, 21, 23, 9]);
  });
});

describe("output shape", () => {
  // Checked against keras.layers.Conv2D.compute_output_shape's rules: "same" ceil(n / s), "valid" ceil((n - e + 1) /
  // s).
  it.each([
    [[1, 28, 28, 1], [3, 3, 1, 24], {}, [1, 26, 26, 24]],
    [[1, 28, 28, 3], [3, 3, 3, 8], { padding: "same" }, [1, 28, 28, 8]],
    [[1, 28, 27, 3], [5, 3, 3, 8], { padding: "same", strides: [2, 3] }, [1, 14, 9, 8]],
    [[1, 28, 27, 3], [5, 3, 3, 8], { strides: [2, 3] }, [1, 12, 9, 8]],
    [[1, 9, 9, 1], [3, 3, 1, 1], { dilations: 3 }, [1, 3, 3, 1]],
    [
      [1, 4, 4, 1],
      [3, 3, 1, 1],
      {
        padding: [
          [1, 0],
          [2, 3],
        ],
      },
      [1, 3, 7, 1],
    ],
  ] as [Shape, Shape, WindowOptions, Shape][])("[%s] * [%s]", (x, kernel, options, expected) => {
    expect(outputShape(conv2dGeometry(x, kernel, options))).toEqual(expected);
  });

  it.each([
    [[1, 5, 5, 3], [3, 3, 4, 8], {}, /has 3 channels, kernel .* needs 4/],
    [[5, 5, 3], [3, 3, 3, 8], {}, /needs x \[N, H, W, Cin\]/],
    [[1, 2, 5, 3], [3, 3, 3, 8], {}, /the kernel must fit/],
    [[1, 5, 5, 3], [3, 3, 3, 8], { strides: 0 }, /strides must be positive/],
    [[1, 5, 5, 3], [3, 3, 3, 8], { dilations: 1.5 }, /dilations must be positive/],
    [
      [1, 5, 5, 3],
      [3, 3, 3, 8],
      {
        padding: [
          [-1, 0],
          [0, 0],
        ],
      },
      /padding must be non-negative/,
    ],
    [[1, 5, 5, 3], [3, 3, 3, 8], { padding: "full" }, /padding must be "valid"/],
    [[1, 5, 5, 3], [3, 0, 3, 8], {}, /sizes must be at least 1/],
  ] as [Shape, Shape, WindowOptions, RegExp][])("refuses [%s] * [%s] %o", (x, kernel, options, message) => {
    expect(() => conv2dGeometry(x, kernel, options)).toThrow(message);
  });

  it("refuses a bias of the wrong size", () => {
    const [x, kernel, bias] = [[1, 5, 5, 3], [3, 3, 3, 8], [7]].map((shape) =>
      tensor(cpu, randomInput(random, shape).values, { shape }),
    ) as [Tensor, Tensor, Tensor];
    expect(() => conv2d(x, kernel, { bias })).toThrow(/bias must be f32 of shape \[8\]/);
  });
});
