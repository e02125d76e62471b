// Special values: NaN, infinities, zeros of both signs, subnormal and the largest numbers. The elementwise rows on the
// reference are compared with PyTorch. Then every operation, loss and optimizer, with some such values among regular
// ones, is compared on WebGPU with the reference, forward and backward. What is NaN or infinite there must be so here,
// and nothing else.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import "../../src/autograd/methods.js";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../src/autograd/ops/conv2d-pool.js";
import { binary, unary } from "../../src/autograd/ops/elementwise-rows.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { FUSED_ACTIVATIONS } from "../../src/kernels/activation.js";
import {
  FEW_CHANNELS_FORM,
  HARDWARE_FORM,
  hardwareTiling,
  MANY_CHANNELS_FORM,
  winogradTiling,
} from "../../src/kernels/conv2d/choice.js";
import { conv2dGeometry } from "../../src/kernels/conv2d/geometry.js";
import type { BinaryName, UnaryName } from "../../src/kernels/elementwise-table.js";
import * as losses from "../../src/nn/losses.js";
import {
  adadelta,
  adagrad,
  adam,
  adamax,
  adamW,
  lion,
  nadam,
  type Optimizer,
  rmsprop,
  sgd,
} from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import type { Shape } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import { cpu, describeProfiles, evaluate, expectEachClose, type Input } from "../support.js";
import { Draw, type Operation, operations, titleOf } from "./operations.js";

const LARGEST = 3.4028234663852886e38;
const SMALLEST = 2 ** -126;

const everyLoss = Object.values(losses).filter((value): value is losses.Loss => typeof value === "function");

// ---- elementwise rows against PyTorch

/** What special-values.py writes: numbers as texts, since JSON has neither NaN nor Infinity nor -0. */
interface GoldenRow {
  readonly y: readonly string[];
  readonly gradients?: readonly (readonly string[])[];
}
interface Golden {
  readonly unary: { readonly x: string[]; readonly rows: Readonly<Record<string, GoldenRow>> };
  readonly binary: { readonly a: string[]; readonly b: string[]; readonly rows: Readonly<Record<string, GoldenRow>> };
}
const golden: Golden = JSON.parse(readFileSync(new URL("special-values.json", import.meta.url), "utf8"));

/** Where PyTorch is not followed: what is right at x instead. */
const differences: Readonly<Record<string, (x: number) => number | undefined>> = {
  // PyTorch's sign hides NaN.
  "sign, y": (x) => (Number.isNaN(x) ? Number.NaN : undefined),
  "abs, gradient 0": (x) => (Number.isNaN(x) ? Number.NaN : undefined),
  // In float32 PyTorch has this. In float64 it is NaN in its vectors, and this in what is left over of them.
  "elu, gradient 0": (x) => (Number.isNaN(x) ? 1 : undefined),
  "selu, gradient 0": (x) => (Number.isNaN(x) ? 1.0507009873554805 : undefined),
  "hardSwish, gradient 0": (x) => (Number.isNaN(x) ? 1 : undefined),
  // PyTorch takes the slope 1/6 for a float32 number, in float64 too.
  "hardSigmoid, gradient 0": (x) => (Math.abs(x) < 3 ? 1 / 6 : undefined),
  // On the bounds the gradient passes here.
  "clip, gradient 0": (x) => (x === 0 || x === 1 ? 1 : undefined),
};

const vector = (values: readonly number[]): Input => ({ shape: [values.length], values, dtype: "f32" });
const onesOf = (shape: Shape) => vector(new Array<number>(shape[0]!).fill(1));

const rows = [
  ...Object.entries(golden.unary.rows).map(([name, row]) => ({
    ...{ name, row, inputs: [golden.unary.x.map(Number)] },
    fn: (x?: Tensor) => unary(name as UnaryName, x!),
  })),
  ...Object.entries(golden.binary.rows).map(([name, row]) => ({
    ...{ name, row, inputs: [golden.binary.a.map(Number), golden.binary.b.map(Number)] },
    fn: (a?: Tensor, b?: Tensor) => binary(name as BinaryName, a!, b!),
  })),
];

describe("elementwise operations on the reference, as in PyTorch", () => {
  it.each(rows)("$name", async ({ name, row, inputs, fn }) => {
    const { value, gradients } = await evaluate(cpu, fn, inputs.map(vector), onesOf);
    const compare = (actual: ArrayLike<number>, texts: readonly string[], label: string) => {
      const right = texts.map((text, i) => differences[label]?.(inputs[0]![i]!) ?? Number(text));
      expectEachClose(actual, right, { rtol: 1e-12, atol: 1e-14, label });
    };
    compare(value, row.y, `${name}, y`);
    for (const [k, gradient] of row.gradients?.entries() ?? []) {
      // Derivatives that are 0 everywhere are left out here.
      compare(gradients[k] ?? new Float64Array(gradient.length), gradient, `${name}, gradient ${k}`);
    }
  });
});

// ---- WebGPU against the reference

interface Tolerance {
  /** Of a value, relative to it. */
  readonly rtol: number;
  readonly atol: number;
}

/** Whether a float32 result is the same NaN or infinity as the reference's, or close to its number. */
function isClose(found: number, expected: number, { rtol, atol }: Tolerance): boolean {
  const right = Math.fround(expected);
  if (Object.is(found, right)) return true;
  // Rounding may take the largest numbers over the edge.
  if (Math.abs(found) === Number.POSITIVE_INFINITY && Math.abs(right) >= LARGEST * (1 - rtol)) return found * right > 0;
  return Math.abs(found - right) <= atol + rtol * Math.abs(right);
}

/** Adapters may take subnormal operands for 0, and logarithms for those of the smallest normal number. */
const readings = [(x: number) => x, (x: number) => x * 0, (x: number) => Math.sign(x) * SMALLEST];
const isSubnormal = (x: number) => x !== 0 && Math.abs(x) < SMALLEST;

describeProfiles((device) => {
  it.each(rows)("$name", async ({ name, inputs, fn }) => {
    const found = await evaluate(device(), fn, inputs.map(vector), onesOf);
    const expected = await Promise.all(
      readings.map((read) => {
        const taken = inputs.map((values) => vector(values.map((x) => (isSubnormal(x) ? read(x) : x))));
        return evaluate(cpu, fn, taken, onesOf);
      }),
    );
    // WGSL asks sines for 2^-11, and of large numbers for nothing.
    const periodic = name === "sin" || name === "cos" || name === "tan";
    const tolerance = { rtol: 1e-4, atol: periodic ? 2 ** -11 : 1e-6 };
    const compare = (label: string, actual: ArrayLike<number>, right: readonly ArrayLike<number>[]) => {
      inputs[0]!.forEach((x, i) => {
        const operands = inputs.map((values) => values[i]);
        const candidates = right.map((values) => values[i]!);
        const between = actual[i]! >= Math.min(...candidates) && actual[i]! <= Math.max(...candidates);
        const close = candidates.some((value) => isClose(actual[i]!, value, tolerance));
        const small = periodic && Math.abs(x) === LARGEST && (name === "tan" || Math.abs(actual[i]!) <= 1);
        if (!close && !between && !small)
          expect.fail(`${label} of ${operands} is ${actual[i]}, expected ${candidates[0]}`);
      });
    };
    compare(
      `${name}`,
      found.value,
      expected.map(({ value }) => value),
    );
    found.gradients.forEach((gradient, k) => {
      if (gradient)
        compare(
          `${name}, gradient ${k}`,
          gradient,
          expected.map(({ gradients }) => gradients[k]!),
        );
    });
  });
});

describeProfiles((device) => {
  it.each(Object.keys(golden.binary.rows) as BinaryName[])("%s with numbers", async (name) => {
    const numbers = [...new Set(golden.binary.a)].map(Number);
    for (const number of numbers) {
      const others = tensor(device(), new Array<number>(numbers.length).fill(number));
      const x = tensor(device(), numbers);
      const pairs = [
        [binary(name, x, number), binary(name, x, others)],
        [binary(name, number, x), binary(name, others, x)],
      ];
      for (const [found, expected] of pairs) expect(await found!.data(), `${number}`).toEqual(await expected!.data());
    }
  });

  it.each(FUSED_ACTIVATIONS)("matmul and conv2d with activation %s, alone and before pooling", async (activation) => {
    const [values, ones] = [[Number.NaN, 2, -2, 0], [1]];
    const alone = activation === "linear" ? (x: Tensor) => x.mul(1) : (x: Tensor) => unary(activation, x);
    for (const on of [device(), cpu]) {
      const run = async (fn: (x: Tensor) => Tensor) => {
        const x = tensor(on, values);
        x.requiresGrad = true;
        const y = fn(x).reshape([4]);
        y.backward({ gradient: tensor(on, [1, 1, 1, 1]) });
        return [...(await y.data()), ...(await x.grad!.data())];
      };
      const expected = await run(alone);
      expect(expected.slice(0, 1)).toEqual([Number.NaN]);
      const [images, kernel] = [(x: Tensor) => x.reshape([4, 1, 1, 1]), (shape: Shape) => tensor(on, ones, { shape })];
      const pool = { poolSize: 1 };
      for (const fused of [
        (x: Tensor) => matmul(x.reshape([4, 1]), kernel([1, 1]), { activation }),
        (x: Tensor) => conv2d(images(x), kernel([1, 1, 1, 1]), { activation }),
        (x: Tensor) => conv2dMaxPool2d(images(x), kernel([1, 1, 1, 1]), { activation, pool }),
      ]) {
        expectEachClose(await run(fused), expected, { rtol: 1e-5, atol: 1e-6, label: `${on.kind} ${activation}` });
      }
    }
  });

  it("a NaN among predictions or targets makes a loss NaN", async () => {
    const [regular, bad] = [new Float32Array(6).fill(0.5), new Float32Array(6).fill(0.5).with(1, Number.NaN)];
    for (const on of [device(), cpu]) {
      for (const loss of everyLoss) {
        for (const pair of [
          [bad, regular],
          [regular, bad],
        ]) {
          const [x, t] = pair.map((values) => tensor(on, values, { shape: [2, 3] })) as [Tensor, Tensor];
          expect(await loss(x, t).item(), `${loss.lossName} on ${on.kind}`).toBeNaN();
        }
      }
      const x = tensor(on, bad, { shape: [2, 3] });
      const ids = tensor(on, [0, 0], { dtype: "i32" });
      for (const loss of [losses.crossEntropy, losses.crossEntropyFromProbabilities]) {
        expect(await loss(x, ids).item(), `${loss.lossName} of ids on ${on.kind}`).toBeNaN();
      }
    }
  });
});

// ---- every operation, loss and optimizer

const lossOperations = everyLoss.flatMap((loss) =>
  ["of a batch", "per sample"].map(
    (form): Operation => ({
      ...{ op: loss.lossName, form },
      draw: (random) => {
        const shape = [random.size(4, 40), 1 + random.size(4, 20)];
        const inputs = [random.uniform(shape, [0.1, 0.9]), random.uniform(shape, [0.1, 0.9])];
        return { fn: (x, t) => (form === "per sample" ? loss.perSample(x!, t!) : loss(x!, t!)), inputs };
      },
    }),
  ),
);

const WINOGRAD_SHAPES = [
  [1, 18, 18, 32],
  [3, 3, 32, 64],
] as const;
/** Larger than the table's small draws: channels and windows enough for tiles. */
const winograd: Operation = {
  op: "conv2d",
  form: "by Winograd's filtering",
  spreads: true,
  draw: (random) => ({
    fn: (x, kernel) => conv2d(x!, kernel!),
    inputs: WINOGRAD_SHAPES.map((shape) => random.normal(shape)),
  }),
};

/** The same adapter, which takes tiles of 4 where it has the choice. */
function withWinograd({ adapter, gpu, profile }: WebGpuDevice): WebGpuDevice {
  const choices = Object.fromEntries(
    [FEW_CHANNELS_FORM, MANY_CHANNELS_FORM, HARDWARE_FORM].map(({ name }) => [name, "tiles of 4"]),
  );
  const device = new WebGpuDevice(adapter, gpu, { ...profile, choices: { ...profile.choices, ...choices } });
  const geometry = conv2dGeometry(WINOGRAD_SHAPES[0], WINOGRAD_SHAPES[1], {});
  expect(winogradTiling(device.profile, geometry) ?? hardwareTiling(device.profile, geometry)).toBeDefined();
  return device;
}

interface Kind {
  readonly name: string;
  readonly values: readonly number[];
  /**
   * float32 may overflow on the way to a result that is finite in the reference's float64: infinities and NaN are
   * right.
   */
  readonly overflows?: boolean;
}

/** Those of a list are put in together. */
const kinds: readonly Kind[] = [
  { name: "NaN", values: [Number.NaN] },
  { name: "Infinity", values: [Number.POSITIVE_INFINITY] },
  { name: "-Infinity", values: [Number.NEGATIVE_INFINITY] },
  { name: "zeros", values: [0, -0] },
  { name: "subnormals", values: [2 ** -133, -(2 ** -140)] },
  { name: "the largest", values: [LARGEST], overflows: true },
  { name: "the most negative", values: [-LARGEST], overflows: true },
];

/** Some of the values at random places. */
function planted(random: Draw, input: Input, { values }: Kind): Input {
  const copy = Float32Array.from(input.values);
  for (const value of values) copy[random.integer(0, copy.length - 1)] = value;
  return { ...input, values: copy };
}

const withReading = (input: Input, read: (x: number) => number): Input => ({
  ...input,
  values: Float64Array.from(input.values, (x) => (isSubnormal(x) ? read(x) : x)),
});

interface Comparison {
  readonly kind: Kind;
  /** NaN may stand where the reference has a number, see Operation. */
  readonly spreads: boolean;
  readonly rtol: number;
}

/** @returns a message about the first element that is not as the reference has it, in none of its readings */
function difference(
  found: ArrayLike<number>,
  readings: readonly ArrayLike<number>[],
  { kind, spreads, rtol }: Comparison,
): string | undefined {
  let scale = 0;
  for (let i = 0; i < readings[0]!.length; i++) {
    const size = Math.abs(readings[0]![i]!);
    if (size < 1e15) scale = Math.max(scale, size);
  }
  const tolerance = { rtol, atol: Math.max(rtol * scale, SMALLEST) };
  for (let i = 0; i < found.length; i++) {
    const value = found[i]!;
    if (kind.overflows && !Number.isFinite(value)) continue;
    if (spreads && Number.isNaN(value) && !Number.isFinite(kind.values[0])) continue;
    if (readings.some((expected) => isClose(value, expected[i]!, tolerance))) continue;
    return `element ${i} of ${found.length} is ${value}, expected ${Math.fround(readings[0]![i]!)}`;
  }
  return undefined;
}

/**
 * WGSL says nothing of sines of large numbers; float32 cancels in the gradients of a whole network and in Winograd's
 * sums. Squares overflow in norms and deviations, as in PyTorch: what is divided by them is 0.
 */
const withoutLargest = [
  "sin",
  "cos",
  "tan",
  "norm of order 2",
  "normalize",
  "clipByNorm",
  "std",
  "standardize",
  "softmaxCrossEntropy of a convolutional network",
  "conv2d by Winograd's filtering",
];
/** 1 - 1e-7 is 1 - 1.19e-7 in float32, and so are logarithms of what is left. */
const coarse = ["binaryCrossEntropy", "binaryFocalCrossEntropy", "crossEntropyFromProbabilities"];

/** Other software drivers emulate workgroups so slowly that they get through without the large kernels only. */
const quick = process.env["KILOGRAD_SPECIAL_VALUES"] === "quick";
const tested = [...operations, ...lossOperations].filter(({ slow }) => !(quick && slow));

/** Operations that fail as yet, to be emptied. */
const FAILING: readonly string[] = [];
/** On SwiftShader, too. */
const FAILING_THERE: readonly string[] = [];

/** What is not right about an operation on a device. */
async function problemsOf(device: Device, operation: Operation): Promise<string> {
  const title = titleOf(operation);
  const { op, spreads = false } = operation;
  const problems: string[] = [];
  for (const large of [false, true]) {
    const { fn, inputs, note = "" } = operation.draw(new Draw(1, title, large));
    const floats = inputs.flatMap(({ dtype, shape }, k) => (dtype === "f32" && !shape.includes(0) ? [k] : []));
    for (const kind of kinds) {
      if (kind.overflows && withoutLargest.includes(title)) continue;
      // Large shapes are for what is not finite; an infinite dy meets factors there that are 0 in float32 only.
      if (large && Number.isFinite(kind.values[0])) continue;
      for (const target of [...floats, ...(large && kind.name !== "NaN" ? [] : ["dy" as const])]) {
        const random = new Draw(2, `${title} ${kind.name} ${target}`, false);
        const given = inputs.map((input, k) => (k === target ? planted(random, input, kind) : input));
        const upstream = (shape: Shape) => {
          const dy = new Draw(3, title, false).normal(shape);
          return target === "dy" ? planted(new Draw(4, title, false), dy, kind) : dy;
        };
        const found = await evaluate(device, fn, given, upstream);
        const expected = await Promise.all(
          (kind.name === "subnormals" ? readings : readings.slice(0, 1)).map((read) =>
            evaluate(
              cpu,
              fn,
              given.map((input) => withReading(input, read)),
              upstream,
            ),
          ),
        );
        const compare = (
          what: string,
          actual: ArrayLike<number> | undefined,
          right: readonly (ArrayLike<number> | undefined)[],
        ) => {
          if (actual === undefined) return;
          const rtol = coarse.includes(op) ? 0.02 : 1e-3;
          const message = difference(actual, right as ArrayLike<number>[], { kind, spreads, rtol });
          const place = `${typeof target === "number" ? `input ${target}` : target} of ${inputs.map(({ shape }) => `[${shape}]`)} ${note}`;
          if (message !== undefined) problems.push(`${kind.name} in ${place}: ${what}: ${message}`);
        };
        compare(
          "value",
          found.value,
          expected.map(({ value }) => value),
        );
        found.gradients.forEach((gradient, k) => {
          compare(
            `gradient ${k}`,
            gradient,
            expected.map(({ gradients }) => gradients[k]),
          );
        });
      }
    }
  }
  return problems.join("\n");
}

describeProfiles((device) => {
  for (const operation of tested) {
    const title = titleOf(operation);
    const test = FAILING.includes(title) || (quick && FAILING_THERE.includes(title)) ? it.fails : it;
    test(`special values in ${title}`, async () => {
      expect(await problemsOf(device(), operation)).toBe("");
    });
  }

  it.skipIf(quick)("special values in convolutions by Winograd's filtering", async () => {
    expect(await problemsOf(withWinograd(device()), winograd)).toBe("");
  });

  /** Parameters after two steps. */
  async function trained(
    on: Device,
    optimizer: Optimizer,
    parameters: Input,
    gradients: Input,
  ): Promise<ArrayLike<number>> {
    const [w, g] = [parameters, gradients].map(({ values, shape }) => tensor(on, values, { shape })) as [
      Tensor,
      Tensor,
    ];
    for (let step = 0; step < 2; step++) optimizer.step([w], [g]);
    const values = await w.data();
    for (const t of [w, g, optimizer]) t.dispose();
    return values;
  }

  /** Squares of gradients overflow, and what divides by infinity is 0, as it is in PyTorch's float32. */
  const squaring = ["adam", "adamW with averages", "nadam", "adamax", "centered rmsprop", "adagrad", "adadelta"];
  squaring.push("sgd with a limited norm");

  it.each<[string, () => Optimizer]>([
    ["sgd", () => sgd({ learningRate: 0.1 })],
    ["sgd with momentum and decay", () => sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.1 })],
    ["adam", () => adam({ learningRate: 0.1 })],
    ["adamW with averages", () => adamW({ learningRate: 0.1, emaMomentum: 0.9 })],
    ["nadam", () => nadam({ learningRate: 0.1 })],
    ["adamax", () => adamax({ learningRate: 0.1 })],
    ["centered rmsprop", () => rmsprop({ learningRate: 0.1, centered: true, momentum: 0.9 })],
    ["adagrad", () => adagrad({ learningRate: 0.1 })],
    ["adadelta", () => adadelta({ learningRate: 1 })],
    ["lion", () => lion({ learningRate: 0.1 })],
    ["sgd with limited elements", () => sgd({ learningRate: 0.1, clipValue: 0.5 })],
    ["sgd with a limited norm", () => sgd({ learningRate: 0.1, clipNorm: 0.5 })],
    ["sgd that gathers", () => sgd({ learningRate: 0.1, gradientAccumulationSteps: 2 })],
  ])("special values in %s", async (name, make) => {
    for (const kind of kinds) {
      if (kind.overflows && squaring.includes(name)) continue;
      for (const target of [0, 1]) {
        const random = new Draw(5, `${name} ${kind.name} ${target}`, false);
        const given = [random.normal([37]), random.normal([37])] as const;
        const [w, g] = given.map((input, k) => (k === target ? planted(random, input, kind) : input)) as [Input, Input];
        const found = await trained(device(), make(), w, g);
        // Adapters may take subnormal numbers for 0, which have no sign.
        const [w0, g0] = [withReading(w, () => 0), withReading(g, () => 0)];
        const readings = [await trained(cpu, make(), w, g), await trained(cpu, make(), w0, g0)];
        const message = difference(found, readings, { kind, spreads: false, rtol: 1e-3 });
        expect(message, `${kind.name} in ${target === 0 ? "parameters" : "gradients"}`).toBeUndefined();
      }
    }
  });
});
