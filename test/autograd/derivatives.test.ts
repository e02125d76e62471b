// Derivatives of whole functions (vjp, jacobian, hessian, hvp), gradients of a user's own, and what is computed again
// instead of kept.
import { beforeEach, describe, expect, it } from "vitest";
import "../../src/autograd/methods.js";
import { customGradient } from "../../src/autograd/custom-gradient.js";
import { hessian, hvp, jacobian, vjp } from "../../src/autograd/derivatives.js";
import { grad, valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck, gradgradcheck } from "../../src/autograd/gradcheck.js";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { ones, zeros } from "../../src/autograd/ops/create.js";
import { dropout } from "../../src/autograd/ops/dropout.js";
import { add, exp, mul, sigmoid, square, tanh } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { randomUniform } from "../../src/autograd/ops/random.js";
import { mean, sum } from "../../src/autograd/ops/reduce.js";
import { recompute } from "../../src/autograd/recompute.js";
import { backward, noGrad } from "../../src/autograd/tape.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { DisposedError, ShapeError, UsageError } from "../../src/tensor/errors.js";
import { randomKey } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { describeProfiles, expectClose } from "../support.js";

let device: Device;
beforeEach(() => {
  device = new CpuDevice();
});

function leaf(values: NestedArray, on: Device = device): Tensor {
  const t = tensor(on, values);
  t.requiresGrad = true;
  return t;
}
const values = async (t: Tensor | null) => [...(await t!.data())];

describe("vjp", () => {
  it("gives the value, and gradients for as many vectors as one likes", async () => {
    const [a, b] = [tensor(device, [1, 2]), tensor(device, [3, 4])];
    const { value, pullback, dispose } = vjp((x: Tensor, y: Tensor) => mul(square(x), y))(a, b);
    expect(await values(value)).toEqual([3, 16]);
    const [da, db] = pullback(tensor(device, [1, 10]));
    expect(await values(da)).toEqual([6, 160]);
    expect(await values(db)).toEqual([1, 40]);
    expect(await values(pullback(tensor(device, [0, 1]))[0])).toEqual([0, 16]);
    dispose();
    expect(() => pullback(value)).toThrow(DisposedError);
    expect(await values(value)).toEqual([3, 16]);
  });

  it("frees what it made", () => {
    const x = tensor(device, [1, 2]);
    const { value, pullback, dispose } = vjp((t: Tensor) => exp(mul(t, 2)))(x);
    const [slope] = pullback(x);
    dispose();
    for (const t of [value, slope, x]) t.dispose();
    expect(device.memory().liveCount).toBe(0);
    scope(() => {
      vjp((t: Tensor) => exp(mul(t, 2)))(tensor(device, [1, 2])).pullback(tensor(device, [1, 1]));
    });
    expect(device.memory().liveCount).toBe(0);
  });

  it("refuses gradients that do not fit, and has zeros for what does not matter", async () => {
    const x = tensor(device, [1, 2]);
    const { pullback } = vjp((t: Tensor) => exp(t))(x);
    expect(() => pullback(tensor(device, [1]))).toThrow("vjp: gradient must have the output's shape [2], got [1]");
    expect(() => pullback(1 as never)).toThrow("vjp: the gradient must be a tensor");
    expect(await values(vjp((_: Tensor) => tensor(device, [1]))(x).pullback(tensor(device, [1]))[0])).toEqual([0, 0]);
  });

  it("has derivatives inside of what is differentiated", async () => {
    const x = tensor(device, [2]);
    const cube = (t: Tensor) => mul(square(t), t);
    // d/dx (3 x^2 * x)
    expect(await values(grad((t: Tensor) => sum(vjp(cube)(t).pullback(t)[0]))(x))).toEqual([36]);
    const w = leaf([3]);
    const { pullback } = vjp((t: Tensor) => mul(square(t), w))(x);
    expect(() => backward(sum(pullback(x)[0]))).toThrow("pass { createGraph: true } to vjp()");
    backward(sum(vjp((t: Tensor) => mul(square(t), w), { createGraph: true })(x).pullback(x)[0]));
    expect(await values(w.grad)).toEqual([8]);
  });
});

function holds(on: () => Device): void {
  it("jacobian and hessian", async () => {
    const x = tensor(on(), [[1, 2, -1]]);
    const w = tensor(on(), [
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    const linear = jacobian((t) => matmul(t, w))(x);
    expect(linear.shape).toEqual([1, 2, 1, 3]);
    expect(await values(linear)).toEqual([1, 3, 5, 2, 4, 6]);
    // x0^2 x1 + x2
    const h = hessian((t) => {
      const [a, b, c] = [0, 1, 2].map((k) => t.slice([0, k], [1, 1])) as [Tensor, Tensor, Tensor];
      return sum(add(mul(square(a), b), c));
    })(x);
    expect(h.shape).toEqual([1, 3, 1, 3]);
    expectClose(await h.data(), [4, 2, 0, 2, 0, 0, 0, 0, 0], { rtol: 1e-6 });
    expectClose(await jacobian((t) => exp(t))(x).data(), [Math.E, 0, 0, 0, Math.E ** 2, 0, 0, 0, 1 / Math.E], {
      rtol: 1e-6,
    });
    // A straight line has none.
    expect(await values(hessian((t) => sum(t))(x))).toEqual(new Array(9).fill(0));
    expect(await values(hvp((t) => sum(t))(x, x))).toEqual([0, 0, 0]);
    expectClose(await hvp((t) => sum(exp(t)))(x, x).data(), [Math.E, 2 * Math.E ** 2, -1 / Math.E], { rtol: 1e-6 });
    // In what is differentiated: the trace of the hessian of x^3 is 6 sum(x), of which this is the gradient.
    const trace = grad((t: Tensor) => sum(mul(hessian((u) => sum(mul(square(u), u)))(t).reshape([3, 3]), 1)));
    expectClose(await trace(x).data(), [6, 6, 6], { rtol: 1e-6 });
  });

  it("recompute: the same values and gradients, of inputs and of weights", async () => {
    const w = leaf([0.5, -1], on());
    const block = (x: Tensor) => tanh(mul(exp(mul(x, w)), x));
    const run = async (part: (x: Tensor) => Tensor) => {
      const { value, grad: gradient } = valueAndGrad((x: Tensor) => sum(square(part(mul(x, 2)))))(tensor(on(), [1, 2]));
      const loss = sum(square(part(part(tensor(on(), [1, 2])))));
      backward(loss);
      const found = [await value.data(), await gradient.data(), await w.grad!.data()].map((t) => [...t]);
      w.grad = null;
      return found;
    };
    expect(await run(recompute(block))).toEqual(await run(block));
  });

  it("recompute: random numbers and running statistics of the first time", async () => {
    const [gamma, beta] = [leaf([1, 2], on()), leaf([0, 1], on())];
    const run = async (wrap: (fn: (x: Tensor) => Tensor) => (x: Tensor) => Tensor) => {
      let draw = 0;
      const key = () => randomKey(1, `draw ${draw++}`);
      const [runningMean, runningVariance] = [zeros(on(), [2]), ones(on(), [2])];
      const block = (x: Tensor) => {
        const h = batchNorm(x, { gamma, beta, runningMean, runningVariance, training: true });
        return mul(dropout(h, { rate: 0.5, key }), randomUniform(on(), [6, 2], key));
      };
      // Recomputed within what is recomputed, too.
      const whole = wrap((x) => tanh(wrap(block)(mul(x, 2))));
      const x = leaf(
        Array.from({ length: 6 }, (_, i) => [Math.sin(i), Math.cos(3 * i)]),
        on(),
      );
      backward(sum(square(whole(x))));
      const found = [x.grad!, gamma.grad!, beta.grad!, runningMean, runningVariance];
      const result = await Promise.all(found.map(async (t) => [...(await t.data())]));
      gamma.grad = beta.grad = null;
      return { result, draw };
    };
    expect(await run((fn) => recompute(fn))).toEqual(await run((fn) => fn));
  });

  it("recompute in a recorded step", async () => {
    const run = async (wrap: (fn: (x: Tensor) => Tensor) => (x: Tensor) => Tensor) => {
      let draw = 0;
      const w = leaf([1, 2, 3, 4], on());
      const plan = new StepPlan(on(), (x) => {
        const part = wrap((t) => dropout(exp(mul(t, w)), { rate: 0.5, key: () => randomKey(7, `draw ${draw++}`) }));
        backward(sum(square(part(x!))));
        const gradient = mul(w.grad!, 1);
        w.grad!.dispose();
        w.grad = null;
        return [gradient];
      });
      const found: number[][] = [];
      for (let step = 0; step < 4; step++) {
        const [gradient] = plan.run({ values: Float32Array.of(0.1, 0.2, 0.3, 0.4), shape: [4] });
        found.push([...(await gradient!.data())]);
      }
      plan.dispose();
      return found;
    };
    const plain = await run((fn) => fn);
    expect(await run((fn) => recompute(fn))).toEqual(plain);
    expect(new Set(plain.map(String)).size).toBeGreaterThan(1);
  });
}

describe("reference", () => holds(() => device));
describeProfiles(holds);

describe("jacobian, hessian and hvp refuse", () => {
  it("what is too large, and vectors that do not fit", () => {
    const x = zeros(device, [2000]);
    expect(() => hessian((t) => sum(square(t)))(x)).toThrow("hessian: x must have at most 1024 elements, got 2000");
    expect(() => jacobian((t) => t)(zeros(device, [5000]))).toThrow("jacobian: takes a backward pass for each of at");
    expect(() => hvp((t) => sum(square(t)))(x, zeros(device, [2]))).toThrow(ShapeError);
    expect(() => hvp((t) => square(t))(x, x)).toThrow("hvp: the output must be a scalar, it has shape [2000]");
    expect(() => hessian((_) => sum(x))(tensor(device, [1]))).toThrow("hessian: the output does not depend on input 0");
  });

  it("and leave no memory", () => {
    const x = tensor(device, [1, 2]);
    for (const fn of [hessian((t) => sum(exp(t))), jacobian((t) => exp(t))]) fn(x).dispose();
    hvp((t) => sum(exp(t)))(x, x).dispose();
    expect(device.memory().liveCount).toBe(1);
  });
});

describe("recompute", () => {
  it("keeps the inputs alone", () => {
    const x = leaf([1, 2]);
    const block = (t: Tensor) => exp(tanh(exp(tanh(mul(t, 2)))));
    const held = (part: (t: Tensor) => Tensor) => {
      const before = device.memory().liveCount;
      const y = scope(() => part(x));
      const during = device.memory().liveCount - before;
      backward(sum(y));
      x.grad = null;
      return during;
    };
    expect(held(block)).toBe(4);
    expect(held(recompute(block))).toBe(1);
  });

  it("has derivatives of its gradients", async () => {
    const w = leaf([[0.5, -1]]);
    const block = recompute((x: Tensor) => tanh(mul(exp(mul(x, 0.5)), w)));
    await gradcheck((x) => mul(block(mul(x!, 2)), x!), [[[0.1, -0.4]]], { reference: device as CpuDevice });
    await gradgradcheck((x) => mul(block(mul(x!, 2)), x!), [[[0.1, -0.4]]], { reference: device as CpuDevice });
    const penalty = (part: (x: Tensor) => Tensor) => {
      const slope = grad((x: Tensor) => sum(part(x)), { createGraph: true })(tensor(device, [[1, 2]]));
      backward(sum(square(slope)));
      const found = w.grad!;
      w.grad = null;
      return values(found);
    };
    expect(await penalty(block)).toEqual(await penalty((x) => tanh(mul(exp(mul(x, 0.5)), w))));
  });

  it("does nothing where nothing is recorded", async () => {
    const x = leaf([1]);
    expect(noGrad(() => recompute((t: Tensor) => exp(t))(x)).tracked).toBe(false);
    expect(recompute((t: Tensor) => exp(t))(tensor(device, [1])).tracked).toBe(false);
  });

  it("refuses what does other things the second time, and weights that changed", () => {
    const x = leaf([1]);
    let calls = 0;
    const y = recompute((t: Tensor) => (calls++ === 0 ? mul(t, 2) : tensor(device, [1, 2])))(x);
    expect(() => backward(sum(y))).toThrow("recompute: fn must do the same again, it gave [1] and then [2]");
    let more = 0;
    const z = recompute((t: Tensor) => {
      for (let k = 0; k < more; k++) randomUniform(device, [1], randomKey(1));
      more++;
      return exp(t);
    })(x);
    expect(() => backward(sum(z))).toThrow("it drew more random tensors the second time");
    const w = leaf([2]);
    const u = recompute((t: Tensor) => mul(t, w))(x);
    w.assign([3]);
    expect(() => backward(sum(u))).toThrow(UsageError);
    expect(() => recompute((async (t: Tensor) => t) as never)(x)).toThrow("must be synchronous");
  });
});

describe("customGradient", () => {
  const log1pexp = customGradient(
    (x: Tensor) => ({ value: exp(x).add(1).log(), gradient: (dy, x) => mul(dy, sigmoid(x!)), saved: [x] }),
    { derivable: true },
  );

  it("has the value of one and the gradient of the other", async () => {
    const x = tensor(device, [0, 1000]);
    expect(await values(grad((t: Tensor) => sum(log1pexp(t)))(x))).toEqual([0.5, 1]);
    await gradcheck((t) => log1pexp(t!), [[0.1, -2]]);
    await gradgradcheck((t) => log1pexp(t!), [[0.1, -2]]);
  });

  it("for several inputs, and none for some", async () => {
    const [a, b] = [leaf([1, 2]), leaf([3, 4])];
    const odd = customGradient((x: Tensor, y: Tensor) => ({
      value: mul(x, y),
      gradient: (dy) => [dy, null],
    }));
    backward(sum(odd(a, b)));
    expect(await values(a.grad)).toEqual([1, 1]);
    expect(await values(b.grad)).toEqual([0, 0]);
  });

  it("reversing a gradient: the value is the input", async () => {
    const reverse = customGradient((x: Tensor) => ({ value: x, gradient: (dy) => dy.neg() }), { name: "reverse" });
    const x = leaf([1, 2]);
    backward(sum(square(reverse(mul(x, 1)))));
    expect(await values(x.grad)).toEqual([-2, -4]);
    x.grad = null;
    backward(sum(square(reverse(x))));
    expect(await values(x.grad)).toEqual([-2, -4]);
  });

  it("the value among what is saved, and derivatives by it", async () => {
    const own = customGradient(
      (x: Tensor) => {
        const value = exp(x);
        return { value, gradient: (dy, y) => mul(dy, y!), saved: [value] };
      },
      { derivable: true },
    );
    const x = tensor(device, [1]);
    const third = grad((t: Tensor) => sum(grad((u: Tensor) => sum(grad((v: Tensor) => sum(own(v)))(u)))(t)))(x);
    expectClose(await third.data(), [Math.E], { rtol: 1e-12 });
  });

  it("refuses derivatives that nobody vouches for, and results that are none", () => {
    const x = tensor(device, [1]);
    const plain = customGradient((t: Tensor) => ({ value: exp(t), gradient: (dy) => dy }), { name: "plain" });
    expect(() => grad((t: Tensor) => sum(grad((u: Tensor) => sum(plain(u)))(t)))(x)).toThrow(
      'the gradient of "plain", which has no derivative itself',
    );
    expect(() => customGradient((() => x) as never)(x)).toThrow(UsageError);
    expect(() => customGradient((() => ({ value: x })) as never)(x)).toThrow("gradient");
    const wrong = (gradient: () => unknown) => () =>
      backward(sum(customGradient((t: Tensor) => ({ value: exp(t), gradient }) as never)(leaf([1, 2]))));
    expect(wrong(() => 3)).toThrow("customGradient: gradient must return a tensor, or an array of one");
    expect(wrong(() => [])).toThrow(UsageError);
    expect(wrong(() => tensor(device, [1]))).toThrow(
      "the gradient of input 0 must be f32 [2] on its device, got f32 [1]",
    );
  });

  it("what is not saved is gone with the operation, and says so", () => {
    const x = leaf([1]);
    const own = customGradient((t: Tensor) => {
      const y = exp(mul(t, 2));
      return { value: mul(y, 1), gradient: (dy) => mul(dy, y) };
    });
    expect(() => backward(sum(own(x)))).toThrow(DisposedError);
  });

  it("leaves no memory", () => {
    const x = leaf([1, 2]);
    scope(() => backward(mean(log1pexp(x))));
    x.dispose();
    expect(device.memory().liveCount).toBe(0);
  });
});
