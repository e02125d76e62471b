// Derivatives of derivatives:
// - every operation against central differences of its gradients and against the reference,
// - figures of PyTorch,
// - derivatives of third order against formulas,
// - what is recorded, kept and refused.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import "../../src/autograd/methods.js";
import { hvp } from "../../src/autograd/derivatives.js";
import { grad, valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradgradcheck } from "../../src/autograd/gradcheck.js";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { conv2d } from "../../src/autograd/ops/conv2d.js";
import { conv2dMaxPool2d } from "../../src/autograd/ops/conv2d-pool.js";
import { add, exp, gelu, mul, pow, softplus, sqrt, square, sub, tanh } from "../../src/autograd/ops/elementwise.js";
import { binary, unary } from "../../src/autograd/ops/elementwise-rows.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { maxPool2d } from "../../src/autograd/ops/pool2d.js";
import { mean, sum } from "../../src/autograd/ops/reduce.js";
import { softmaxCrossEntropy } from "../../src/autograd/ops/softmax.js";
import { reshape } from "../../src/autograd/ops/transform.js";
import {
  type BinaryName,
  binaryTable,
  type UnaryName,
  type UnaryRow,
  unaryTable,
} from "../../src/kernels/elementwise-table.js";
import { sequential } from "../../src/nn/architecture.js";
import { conv2d as convLayer } from "../../src/nn/layers/conv2d.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import type { Loss } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import type { Device } from "../../src/tensor/device.js";
import { scope } from "../../src/tensor/scope.js";
import { type Shape, sizeOf } from "../../src/tensor/shape.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, expectClose, expectEachClose } from "../support.js";
import { Draw, type Operation, operations, titleOf } from "./operations.js";

const smooth = operations.filter((operation) => operation.smooth !== false);

async function eachRound(
  { draw, ...operation }: Operation,
  rounds: number,
  act: (fn: (...inputs: Tensor[]) => Tensor, inputs: Parameters<typeof gradgradcheck>[1]) => Promise<unknown>,
): Promise<void> {
  const title = titleOf({ draw, ...operation });
  for (let seed = 0; seed < rounds; seed++) {
    const { fn, inputs, note } = draw(new Draw(seed, title, false));
    await act(fn, inputs).catch((error: Error) => {
      throw new Error(`${title}, seed ${seed} (${note ?? ""}): ${error.message}`);
    });
  }
}

describe("gradients of gradients against central differences", () => {
  it.each(smooth.map((operation) => [titleOf(operation), operation] as const))("%s", async (_, operation) => {
    await eachRound(operation, 4, async (fn, inputs) => {
      const { compared } = await gradgradcheck(fn, inputs);
      expect(compared).toBeGreaterThan(0);
    });
  });
});

describeProfiles((device) => {
  it.each(smooth.map((operation) => [titleOf(operation), operation] as const))("%s", async (_, operation) => {
    await eachRound(operation, operation.slow ? 1 : 2, (fn, inputs) =>
      gradgradcheck(fn, inputs, { against: device(), rtol: 2e-3, atol: 1e-4 }),
    );
  });

  it.each([
    [[2, 7, 6, 8], { poolSize: 3, strides: 2, padding: "same" }],
    [[1, 9, 8, 4], { poolSize: [2, 3], strides: [1, 2], activation: "tanh" }],
    [[2, 6, 6, 12], { poolSize: 2, activation: "sigmoid" }],
    [[1, 20, 20, 3], { poolSize: 17, strides: 1 }],
  ] as const)("maxPool2d of %j with %j", async (shape, options) => {
    const { values } = new Draw(1, "pools", true).distinct(shape);
    const fn = (x: Tensor) => square(maxPool2d(x, options));
    await gradgradcheck(fn, [{ shape, values }], { against: device(), rtol: 2e-3, atol: 1e-4 });
  });

  it("convolutions that take other routes: Winograd's, products, one pass with pooling", async () => {
    const random = new Draw(1, "routes", true);
    const pool = { poolSize: 2 };
    const cases: [Shape, Shape, (x: Tensor, kernel: Tensor) => Tensor][] = [
      [[2, 12, 12, 16], [3, 3, 16, 32], (x, kernel) => conv2d(x, kernel, { padding: "same", activation: "tanh" })],
      [[2, 9, 9, 8], [5, 5, 8, 16], (x, kernel) => conv2d(x, kernel, { strides: 2 })],
      [[2, 10, 10, 16], [3, 3, 16, 16], (x, kernel) => conv2dMaxPool2d(x, kernel, { pool, activation: "tanh" })],
      [[2, 14, 14, 1], [5, 5, 1, 8], (x, kernel) => conv2dMaxPool2d(x, kernel, { pool, activation: "sigmoid" })],
    ];
    for (const [x, kernel, apply] of cases) {
      const weights = random.normal(kernel);
      const small = { ...weights, values: Float32Array.from(weights.values, (v) => 0.2 * v) };
      const fn = (...t: Tensor[]) => square(apply(t[0]!, t[1]!));
      await gradgradcheck(fn, [random.normal(x), small], { against: device(), rtol: 2e-3, atol: 1e-3 });
    }
  });
});

interface Golden {
  readonly rows: {
    readonly x: readonly string[];
    readonly unary: Readonly<Record<string, readonly string[]>>;
    readonly a: readonly string[];
    readonly b: readonly string[];
    readonly binary: Readonly<Record<string, readonly (readonly string[])[]>>;
  };
  readonly hvp: Readonly<Record<string, { readonly shape: Shape; readonly product: readonly string[] }>>;
  readonly penalty: readonly string[];
}
const golden: Golden = JSON.parse(readFileSync(new URL("second-order.json", import.meta.url), "utf8"));
const numbers = (texts: readonly string[]) => texts.map(Number);

/** As in second-order.py. */
function filled(device: Device, shape: Shape, shift = 0): Tensor {
  return tensor(
    device,
    Float64Array.from({ length: sizeOf(shape) }, (_, i) => Math.sin(0.7 * i + 1 + shift)),
    { shape },
  );
}

const networks: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  dense(x) {
    const of = (shape: Shape, shift = 0) => filled(x.device, shape, shift);
    const h = matmul(x, of([3, 4]), { bias: of([4], 1), activation: "tanh" });
    return sum(square(matmul(h, of([4, 2], 2), { activation: "sigmoid" })));
  },
  convolutional(x) {
    const of = (shape: Shape, shift = 0) => filled(x.device, shape, shift);
    const pooled = conv2dMaxPool2d(x, of([3, 3, 1, 4]), { activation: "tanh", pool: { poolSize: 2 } });
    return mean(square(softplus(conv2d(pooled, of([2, 2, 4, 3], 1)))));
  },
  classifier(x) {
    const of = (shape: Shape, shift = 0) => filled(x.device, shape, shift);
    const logits = matmul(gelu(matmul(x, of([3, 5]))), of([5, 4], 1));
    return softmaxCrossEntropy(logits, tensor(x.device, Int32Array.of(0, 3)), { reduction: "mean" });
  },
  normalized(x) {
    const of = (shape: Shape, shift = 0) => filled(x.device, shape, shift);
    const statistics = { runningMean: of([3]), runningVariance: of([3]), training: true, epsilon: 0.01 };
    return sum(pow(batchNorm(x, { gamma: of([3]), beta: of([3], 1), ...statistics }), 3));
  },
};

/** A critic of images, and its loss as in WGAN-GP: inputs are the fake images, targets nothing. */
function critic(device: Device) {
  const model = sequential({ device, seed: 1, inputShape: [6, 6, 1] }, [
    convLayer({ filters: 4, kernelSize: 3, activation: "tanh" }),
    flatten(),
    dense({ units: 1 }),
  ]);
  const [kernel, bias, weights, offset] = model.parameters() as [Tensor, Tensor, Tensor, Tensor];
  const scaled = (t: Tensor, factor: number, shift: number) =>
    t.assign(Float64Array.from({ length: t.size }, (_, i) => factor * Math.sin(0.7 * i + 1 + shift)));
  scaled(kernel, 0.3, 0);
  scaled(bias, 0.1, 1);
  scaled(weights, 0.3, 2);
  scaled(offset, 0.1, 3);
  const [real, fake] = [filled(device, [4, 6, 6, 1], 5), filled(device, [4, 6, 6, 1], 6)];
  const measured = (scores: Tensor) => {
    const between = add(mul(real, 0.3), mul(fake, 0.7));
    const slope = grad((x: Tensor) => sum(model.call(x)))(between);
    const norm = sqrt(sum(square(slope), [1, 2, 3]));
    return add(sub(mean(scores), mean(model.call(real))), mul(mean(square(sub(norm, 1))), 10));
  };
  const loss: Loss = Object.assign((scores: Tensor) => scope(() => measured(scores)), {
    lossName: "wganGp",
    perSample: measured,
    includes: undefined,
    classifies: false,
  });
  return { model, loss, fake };
}

function holds(device: () => Device, tolerance: number): void {
  it.each(Object.keys(golden.hvp))("Hessian-vector products of PyTorch's: %s", async (name) => {
    const { shape, product } = golden.hvp[name]!;
    const [x, v] = [filled(device(), shape, 3), filled(device(), shape, 4)];
    const found = await hvp(networks[name]!)(x, v).data();
    expectClose(found, numbers(product), { rtol: tolerance });
  });

  it("a gradient penalty inside a training loss: PyTorch's figures", async () => {
    const { model, loss, fake } = critic(device());
    const optimizer = sgd({ learningRate: 0.01 });
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      losses.push(await model.trainStep(fake, fake, { optimizer, loss }).item());
    }
    expectClose(losses, numbers(golden.penalty), { rtol: tolerance });
  });

  it("and in fit, whose steps are recorded", async () => {
    const { model, loss, fake } = critic(device());
    const data = { inputs: Float32Array.from(await fake.data()), targets: new Float32Array(4) };
    const options = { optimizer: sgd({ learningRate: 0.01 }), loss, batchSize: 4, epochs: 5, shuffle: false };
    const { history } = await model.fit(data, options);
    // The inputs went through float32.
    expectClose(history["loss"]!, numbers(golden.penalty), { rtol: Math.max(tolerance, 1e-6) });
  });

  it("derivatives of third order", async () => {
    const x = tensor(device(), [0.3, -0.7, 1.1]);
    const third = (fn: (t: Tensor) => Tensor) => {
      const derivative = (f: (t: Tensor) => Tensor) => (t: Tensor) => grad((u: Tensor) => sum(f(u)))(t);
      return derivative(derivative(derivative(fn)))(x).data();
    };
    const at = [0.3, -0.7, 1.1];
    expectClose(await third(exp), at.map(Math.exp), { rtol: tolerance });
    // tanh''' = (1 - t^2) (6 t^2 - 2)
    const ofTanh = at.map((v) => (1 - Math.tanh(v) ** 2) * (6 * Math.tanh(v) ** 2 - 2));
    expectClose(await third(tanh), ofTanh, { rtol: tolerance });
    expectClose(
      await third((t) => pow(t, 4)),
      at.map((v) => 24 * v),
      { rtol: tolerance },
    );
    expectClose(await third((t) => mul(mul(t, t), t)), [6, 6, 6], { rtol: tolerance });
    // The sum of (x w)^3 over a matrix product: the third derivative along a direction, by polarisation 6 w_i w_j w_k.
    const w = tensor(device(), [[2], [-1], [0.5]]);
    const cube = (t: Tensor) => sum(pow(matmul(reshape(t, [1, 3]), w), 3));
    const hessianRow = (t: Tensor) => sum(mul(hvp(cube)(t, tensor(device(), [1, 0, 0])), tensor(device(), [0, 1, 0])));
    expectClose(await grad(hessianRow)(x).data(), [6 * 2 * -1 * 2, 6 * 2 * -1 * -1, 6 * 2 * -1 * 0.5], {
      rtol: tolerance,
    });
  });

  it("first gradients are the same bits, recorded or not", async () => {
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1, -1, 0.5, 3e38, 30, -30];
    const pairs = special.flatMap((a) => special.map((b) => [a, b] as const));
    const x = tensor(device(), special);
    const [a, b] = [0, 1].map((side) =>
      tensor(
        device(),
        pairs.map((pair) => pair[side]!),
      ),
    ) as [Tensor, Tensor];
    const w = tensor(device(), [1]);
    w.requiresGrad = true;
    const both = async (fn: (...inputs: Tensor[]) => Tensor, inputs: Tensor[]) => {
      // The weight makes recording worth its while.
      const loss = (...t: Tensor[]) => mul(sum(fn(...t)), w);
      const plain = valueAndGrad(loss, { allowUnused: true })(...inputs).grads;
      const recorded = valueAndGrad(loss, { allowUnused: true, createGraph: true })(...inputs).grads;
      for (const [k, gradient] of plain.entries()) {
        expectEachClose(await recorded[k]!.data(), await gradient.data(), { rtol: 0, atol: 0 });
      }
    };
    for (const [name, { gradient }] of Object.entries(unaryTable) as [UnaryName, UnaryRow][]) {
      if (gradient !== null) await both((t) => unary(name, t!), [x]);
    }
    for (const name of Object.keys(binaryTable) as BinaryName[]) {
      if (binaryTable[name].gradient !== null) await both((s, t) => binary(name, s!, t!), [a, b]);
    }
  });
}

describe("reference", () => holds(() => cpu, 1e-9));
describeProfiles((device) => holds(device, 2e-4));

describe("second derivatives at special values, as PyTorch's", () => {
  /** Where PyTorch is not followed: what is right instead. */
  const differences: Readonly<Record<string, (x: number) => number | undefined>> = {
    // PyTorch takes softplus for a straight line from 20 on.
    softplus: (x) => (x === 20 ? Math.exp(-20) / (1 + Math.exp(-20)) ** 2 : undefined),
  };
  it.each(Object.entries(golden.rows.unary))("%s", async (name, expected) => {
    const x = tensor(cpu, numbers(golden.rows.x));
    const slope = (t: Tensor) => grad((u: Tensor) => sum(unary(name as UnaryName, u)))(t);
    const found = await grad((t: Tensor) => sum(slope(t)), { allowUnused: true })(x).data();
    const right = numbers(expected).map((value, i) => differences[name]?.(Number(golden.rows.x[i])) ?? value);
    expectEachClose(found, right, { rtol: 1e-12, atol: 1e-14, label: name });
  });

  // Of pow PyTorch gives NaN for many limits that exist, such as (a^2 log a)' at 0, and 0 for (b a^(b - 1))' at b = 0,
  // which is 1 / a: those are left out.
  const compares = (name: string, a: number, b: number, right: number) =>
    name !== "pow" ||
    (b !== 0 && !(a === 0 && b === 1) && (!Number.isNaN(right) || Number.isNaN(a) || Number.isNaN(b)));
  it.each(Object.entries(golden.rows.binary))("%s", async (name, expected) => {
    const pairs = golden.rows.a.map((text, i) => [Number(text), Number(golden.rows.b[i])] as const);
    const [a, b] = [tensor(cpu, numbers(golden.rows.a)), tensor(cpu, numbers(golden.rows.b))];
    for (const side of [0, 1] as const) {
      const slope = (...t: Tensor[]) =>
        sum(valueAndGrad((u: Tensor, v: Tensor) => sum(binary(name as BinaryName, u, v)))(t[0]!, t[1]!).grads[side]);
      const found = valueAndGrad(slope, { allowUnused: true })(a, b).grads;
      for (const of of [0, 1] as const) {
        const label = `${name}, ${side} ${of}`;
        const right = numbers(expected[2 * side + of]!);
        const at = pairs.flatMap(([s, t], i) => (compares(name, s, t, right[i]!) ? [i] : []));
        expect(at.length).toBeGreaterThan(70);
        const values = await found[of]!.data();
        expectEachClose(
          at.map((i) => values[i]!),
          at.map((i) => right[i]!),
          { rtol: 1e-12, atol: 1e-14, label },
        );
      }
    }
  });
});
