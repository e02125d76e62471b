// The tape: which gradients flow where, what is kept and freed, and that nothing is computed that nobody asked for.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { grad, valueAndGrad } from "../../src/autograd/differentiate.js";
import { batchNorm } from "../../src/autograd/ops/batchnorm.js";
import { full } from "../../src/autograd/ops/create.js";
import { dropout } from "../../src/autograd/ops/dropout.js";
import {
  add,
  cast,
  clip,
  div,
  exp,
  floor,
  less,
  maximum,
  minimum,
  mul,
  pow,
  relu,
  sign,
  square,
  sub,
  tanh,
  where,
} from "../../src/autograd/ops/elementwise.js";
import { gather } from "../../src/autograd/ops/gather.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { maxPool2d } from "../../src/autograd/ops/pool2d.js";
import { logSumExp, max, mean, min, sum } from "../../src/autograd/ops/reduce.js";
import {
  concat,
  expandDims,
  flip,
  pad,
  reshape,
  slice,
  squeeze,
  stack,
  transpose,
} from "../../src/autograd/ops/transform.js";
import { backward, detach, isRecording, noGrad, record } from "../../src/autograd/tape.js";
import { sequential } from "../../src/nn/architecture.js";
import { activation, flatten } from "../../src/nn/layers/core.js";
import { dropout as nnDropout } from "../../src/nn/layers/dropout.js";
import { reshape as nnReshape } from "../../src/nn/layers/reshape.js";
import { adamW, sgd } from "../../src/nn/optimizers.js";
import { Snapshot } from "../../src/nn/snapshot.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { DisposedError, KilogradError, ShapeError, UsageError } from "../../src/tensor/errors.js";
import { randomKey } from "../../src/tensor/random.js";
import { scope } from "../../src/tensor/scope.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { expectClose } from "../support.js";

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

describe("flow", () => {
  it("accumulates over several uses of a tensor", async () => {
    const x = leaf([1, 2, 3]);
    // x^2 + 3x + x: derivative 2x + 4.
    backward(sum(add(add(mul(x, x), mul(x, 3)), x)));
    expect(await values(x.grad)).toEqual([6, 8, 10]);
  });

  it("sums both ways of a diamond, visiting each node once", async () => {
    const x = leaf([0.5, -1]);
    let visits = 0;
    const counted = record(detach(mul(x, 2)), {
      op: "double",
      inputs: [x],
      backward: (dy) => {
        visits++;
        return [() => mul(dy, 2)];
      },
    });
    const left = mul(counted, counted);
    const right = exp(counted);
    backward(sum(mul(left, right)));
    // d/dx of (2x)^2 e^(2x).
    const expected = [0.5, -1].map((v) => (8 * v + 8 * v * v) * Math.exp(2 * v));
    expectClose(await values(x.grad), expected, { rtol: 1e-14 });
    expect(visits).toBe(1);
  });

  it("goes through thousands of nodes in a row", async () => {
    const x = leaf([1]);
    let y: Tensor = x;
    for (let i = 0; i < 5000; i++) y = add(y, 1);
    backward(sum(y));
    expect(await values(x.grad)).toEqual([1]);
  });

  it("adds to .grad until it is cleared", async () => {
    const x = leaf([1, 2]);
    for (let i = 0; i < 3; i++) backward(sum(mul(x, x)));
    expect(await values(x.grad)).toEqual([6, 12]);
    x.grad!.dispose();
    x.grad = null;
    backward(sum(x));
    expect(await values(x.grad)).toEqual([1, 1]);
  });

  it("reaches every leaf, and only leaves that ask for it", async () => {
    const [a, b, c] = [leaf([2]), leaf([3]), tensor(device, [5])];
    backward(sum(mul(mul(a, b), c)));
    expect(await values(a.grad)).toEqual([15]);
    expect(await values(b.grad)).toEqual([10]);
    expect(c.grad).toBeNull();
  });

  it("stops at detach and noGrad", async () => {
    const x = leaf([3]);
    const y = mul(x, x);
    backward(sum(mul(detach(y), x)));
    expect(await values(x.grad)).toEqual([9]);
    const z = noGrad(() => {
      expect(isRecording()).toBe(false);
      return mul(x, x);
    });
    expect(isRecording()).toBe(true);
    expect(z.tracked).toBe(false);
    expect(() => backward(sum(z))).toThrow(
      "backward: the output does not depend on any tensor with requiresGrad = true (or was computed inside noGrad)",
    );
  });

  it("records again after an error inside noGrad", () => {
    expect(() =>
      noGrad(() => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(isRecording()).toBe(true);
  });

  it("a gradient that is shared by two leaves is not changed by accumulating into one", async () => {
    const [a, b] = [leaf([1, 1]), leaf([2, 2])];
    const y = add(a, b);
    const gradient = tensor(device, [10, 20]);
    backward(y, { gradient });
    backward(sum(mul(a, 5)));
    expect(await values(a.grad)).toEqual([15, 25]);
    expect(await values(b.grad)).toEqual([10, 20]);
    expect(await values(gradient)).toEqual([10, 20]);
  });

  it("weights the output with a given gradient", async () => {
    const x = leaf([1, 2, 3]);
    backward(mul(x, x), { gradient: tensor(device, [1, 0, -1]) });
    expect(await values(x.grad)).toEqual([2, 0, -6]);
    expect(() => backward(mul(x, x), { gradient: tensor(device, [1]) })).toThrow(
      "backward: gradient must have the output's shape [3], got [1]",
    );
    expect(() => backward(mul(x, x))).toThrow(
      "backward: the output must be a scalar, it has shape [3]; reduce it with mean() or sum(), or pass { gradient }",
    );
  });

  it("sums the gradient of a broadcast operand to its shape", async () => {
    const [row, column, number] = [leaf([[1, 2, 3]]), leaf([[1], [2]]), leaf(2)];
    backward(sum(mul(mul(row, column), number)));
    expect(row.grad!.shape).toEqual([1, 3]);
    expect(await values(row.grad)).toEqual([6, 6, 6]);
    expect(column.grad!.shape).toEqual([2, 1]);
    expect(await values(column.grad)).toEqual([12, 12]);
    expect(number.grad!.shape).toEqual([]);
    expect(await values(number.grad)).toEqual([18]);
  });

  it("an operation that gives a gradient of the wrong shape is named", () => {
    const x = leaf([1, 2]);
    const y = record(detach(sum(x)), { op: "crooked", inputs: [x], backward: (dy) => [() => dy.alias([])] });
    expect(() => backward(y)).toThrow('internal: "crooked" gave a gradient of shape [] for an input of shape [2]');
    expect(() => backward(y)).toThrow(ShapeError);
  });
});

describe("life of the tape", () => {
  it("a second backward is an error that says what to do", () => {
    const x = leaf([1, 2]);
    const loss = sum(mul(x, x));
    backward(loss);
    expect(() => backward(loss)).toThrow(DisposedError);
    expect(() => backward(loss)).toThrow(
      /the tape of "sum" was freed.*compute the loss again, or pass { retainTape: true }/,
    );
  });

  it("retainTape allows more", async () => {
    const x = leaf([1, 2]);
    const loss = sum(mul(x, x));
    backward(loss, { retainTape: true });
    backward(loss, { retainTape: true });
    backward(loss);
    expect(await values(x.grad)).toEqual([6, 12]);
    expect(() => backward(loss)).toThrow(DisposedError);
  });

  it("what backward needs outlives the user's dispose", async () => {
    const x = leaf([1, 2]);
    const y = exp(x);
    const z = mul(y, y);
    const loss = sum(z);
    y.dispose();
    z.dispose();
    backward(loss);
    expectClose(await values(x.grad), [2 * Math.exp(2), 2 * Math.exp(4)], { rtol: 1e-14 });
  });

  it("a tape whose scope ended without returning the loss is freed, and says so", () => {
    const x = leaf([1, 2]);
    let hidden: Tensor | undefined;
    scope(() => {
      hidden = mul(x, x);
    });
    expect(() => backward(sum(hidden!))).toThrow(DisposedError);
  });

  it("memory returns to where it was after a scope with backward", () => {
    const [x, w] = [
      tensor(device, [
        [1, 2],
        [3, 4],
      ]),
      leaf([
        [1, 2],
        [3, 4],
      ]),
    ];
    const step = () => scope(() => backward(mean(tanh(mul(add(mul(x, w), w), w)))));
    step();
    const start = device.memory();
    for (let i = 0; i < 5; i++) step();
    expect(device.memory()).toMatchObject({ liveBytes: start.liveBytes, liveCount: start.liveCount });
    expect(start.liveCount).toBe(3); // x, w and w.grad
  });

  it("without a scope, backward frees what the tape saved and leaves the user's tensors", () => {
    const x = leaf([1, 2]);
    const y = exp(x);
    const loss = sum(y);
    const before = device.memory().liveCount;
    backward(loss);
    expect(device.memory().liveCount).toBe(before + 1);
    for (const t of [loss, y, x]) t.dispose();
    expect(device.memory().liveCount).toBe(0);
  });

  it("backward inside a scope keeps the gradients of leaves outside", async () => {
    const x = leaf([1, 2]);
    scope(() => backward(sum(mul(x, x))));
    scope(() => backward(sum(mul(x, x))));
    expect(await values(x.grad)).toEqual([4, 8]);
  });

  it("an error in the middle of backward leaves nothing behind", () => {
    const x = leaf([1, 2]);
    const start = device.memory().liveCount;
    expect(() =>
      scope(() => {
        const y = record(detach(mul(x, 2)), {
          op: "failing",
          inputs: [x],
          backward: () => [
            () => {
              throw new Error("no gradient today");
            },
          ],
        });
        backward(sum(exp(y)));
      }),
    ).toThrow("no gradient today");
    expect(device.memory().liveCount).toBe(start);
    expect(isRecording()).toBe(true);
  });

  it("inference keeps nothing", () => {
    const w = leaf([1, 2]);
    noGrad(() => scope(() => sum(exp(mul(w, w))))).dispose();
    expect(device.memory().liveCount).toBe(1);
  });
});

describe("valueAndGrad", () => {
  it("gives the value and one gradient per input", async () => {
    const [a, b] = [tensor(device, [1, 2]), tensor(device, [3, 4])];
    const { value, grad: first, grads } = valueAndGrad((x: Tensor, y: Tensor) => sum(mul(mul(x, x), y)))(a, b);
    expect(await value.item()).toBe(19);
    expect(await values(grads[0])).toEqual([6, 16]);
    expect(await values(grads[1])).toEqual([1, 4]);
    expect(first).toBe(grads[0]);
    for (const t of [value, ...grads, a, b]) t.dispose();
    expect(device.memory().liveCount).toBe(0);
  });

  it("leaves the inputs and captured weights without gradients", async () => {
    const [x, w] = [tensor(device, [1, 2]), leaf([3, 4])];
    const dx = grad((input: Tensor) => sum(mul(input, w)))(x);
    expect(await values(dx)).toEqual([3, 4]);
    expect(x.grad).toBeNull();
    expect(x.requiresGrad).toBe(false);
    expect(w.grad).toBeNull();
  });

  it("refuses an input that does not matter, or gives zeros for it; for one used twice both uses", async () => {
    const [a, b] = [tensor(device, [1, 2]), tensor(device, [[3]])];
    const first = (x: Tensor, _unused: Tensor) => sum(mul(x, x));
    expect(() => valueAndGrad(first)(a, b)).toThrow("valueAndGrad: the output does not depend on input 1 [1, 1]");
    expect(device.memory().liveCount).toBe(2);
    const { grads } = valueAndGrad(first, { allowUnused: true })(a, b);
    expect(await values(grads[0])).toEqual([2, 4]);
    expect(grads[1]!.shape).toEqual([1, 1]);
    expect(await values(grads[1])).toEqual([0]);
    const same = valueAndGrad((x: Tensor, y: Tensor) => sum(mul(x, y)))(a, a);
    expect(await values(same.grads[0])).toEqual([1, 2]);
    expect(await values(same.grads[1])).toEqual([1, 2]);
  });

  it("needs a scalar, and frees everything when it gets none", () => {
    const x = tensor(device, [1, 2]);
    expect(() => valueAndGrad((t: Tensor) => mul(t, t))(x)).toThrow(
      "valueAndGrad: the output must be a scalar, it has shape [2]",
    );
    expect(device.memory().liveCount).toBe(1);
  });
});

describe("what has no gradient", () => {
  it("a gradient of what does not depend on the input is an error, or zeros where that is asked for", async () => {
    const x = tensor(device, [2]);
    const constant = (_: Tensor) => sum(tensor(device, [5]));
    expect(() => grad(constant)(x)).toThrow("grad: the output does not depend on input 0 [1]");
    expect(() => grad(constant)(x)).toThrow(expect.objectContaining({ code: "NO_GRADIENT" }));
    expect(() => grad((v: Tensor) => noGrad(() => sum(v)))(x)).toThrow("noGrad, detach and integers end it");
    expect(await values(grad(constant, { allowUnused: true })(x))).toEqual([0]);
    // Misspelt options, and functions that give no tensor.
    expect(() => grad(constant, { allowUnsed: true } as never)).toThrow("did you mean allowUnused?");
    expect(() => grad((async () => sum(x)) as never)(x as never)).toThrow("fn must be synchronous");
    expect(() => grad(constant)(undefined as never)).toThrow("grad: input 0 must be a tensor, got undefined");
    expect(() => grad(() => constant(x))()).toThrow("needs at least one input");
  });

  it("what has no slope gives zeros, as in PyTorch", async () => {
    const x = tensor(device, [1.5, -2.5]);
    expect(await values(grad((v: Tensor) => sum(floor(v)))(x))).toEqual([0, 0]);
    const w = leaf([0.5]);
    backward(sum(sign(w)));
    expect(await values(w.grad)).toEqual([0]);
  });

  it("comparisons are integers, and end the tape", () => {
    const w = leaf([1, 2]);
    const mask = less(w, 1.5);
    expect(mask.tracked).toBe(false);
    expect(() => backward(sum(cast(mask, "f32")))).toThrow("does not depend on any tensor with requiresGrad");
  });

  it("integers cannot ask for one", () => {
    const ids = tensor(device, Int32Array.of(2, 3));
    expect(() => {
      ids.requiresGrad = true;
    }).toThrow("requiresGrad: only f32 tensors have gradients, this one is i32 [2]");
    ids.requiresGrad = false;
    expect(() => grad((x: Tensor) => sum(x))(ids)).toThrow("grad: inputs must be f32, input 0 is i32 [2]");
    const y = mul(leaf([1]), 2);
    expect(() => {
      y.requiresGrad = true;
    }).toThrow('requiresGrad: this tensor [1] is a result of "mul"');
  });

  it("a seed must be f32 and on the output's device", () => {
    const y = mul(leaf([1, 1]), 2);
    expect(() => backward(y, { gradient: tensor(device, Int32Array.of(1, 1)) })).toThrow(
      "backward: gradient must be f32, got i32",
    );
    expect(() => backward(y, { gradient: tensor(new CpuDevice(), [1, 1]) })).toThrow("on the output's device");
    expect(() => backward(y, { gradient: [1, 1] as never })).toThrow("backward: gradient must be a tensor");
  });
});

describe("derivatives of derivatives", () => {
  const cube = (x: Tensor) => sum(pow(x, 3));
  const slopeOf = grad(cube);
  const refused = /gave without recording how, and derivatives of that are asked for; pass { createGraph: true } to /;

  it("inside of what is differentiated, of grad, valueAndGrad and backward", async () => {
    const x = tensor(device, [2]);
    expect(await values(grad((v: Tensor) => sum(slopeOf(v)))(x))).toEqual([12]);
    expect(await values(grad((v: Tensor) => valueAndGrad(cube)(v).value)(x))).toEqual([12]);
    expect(
      await values(
        grad((v: Tensor) => {
          const { grad: inner } = valueAndGrad(cube)(v);
          return sum(add(mul(inner, inner), v));
        })(x),
      ),
    ).toEqual([2 * 12 * 12 + 1]);
    // Of a weight that the inner function uses, and of what it had before.
    const w = leaf([3]);
    const penalty = (u: Tensor) => sum(square(grad((v: Tensor) => sum(mul(square(v), u)))(mul(u, 2))));
    // (2 v u)^2 with v = 2 u: 16 u^4.
    expect(await values(grad(penalty)(w))).toEqual([64 * 27]);
    expect(w.grad).toBeNull();
    // Through .grad.
    expect(
      await values(
        grad((v: Tensor) => {
          const inner = leaf([1]);
          backward(sum(mul(square(inner), v)));
          return sum(inner.grad!);
        })(x),
      ),
    ).toEqual([2]);
  });

  it("elsewhere where that is asked for, else they are refused", async () => {
    const [x, w] = [tensor(device, [2]), leaf([3])];
    const weighted = (v: Tensor) => sum(mul(square(v), w));
    const plain = square(grad(weighted)(x));
    expect(() => backward(sum(plain))).toThrow(refused);
    expect(() => backward(sum(add(plain, square(w))))).toThrow(/ to grad\(\), detach\(\) it to take it as a constant/);
    expect(() => backward(valueAndGrad(weighted)(x).value)).toThrow(refused);
    expect(w.grad).toBeNull();
    // (2 x w)^2
    backward(sum(square(grad(weighted, { createGraph: true })(x))));
    expect(await values(w.grad)).toEqual([2 * 12 * 4]);
    w.grad = null;
    backward(cube(w));
    expect(() => backward(sum(mul(w.grad!, w)))).toThrow(/ to backward\(\)/);
    w.grad = null;
    backward(cube(w), { createGraph: true });
    // 3 w^2 w
    const [first, second] = [w.grad!, sum(mul(w.grad!, w))];
    w.grad = null;
    backward(second);
    expect(await values(w.grad)).toEqual([81]);
    first.dispose();
    // Not inside of what is differentiated, where that is said.
    expect(() => grad((v: Tensor) => sum(grad(cube, { createGraph: false })(v)))(x)).toThrow(refused);
  });

  it("gradients add up over several uses, and through several layers of derivatives", async () => {
    const x = tensor(device, [2]);
    // x^3 + x^2 twice: 2 (6 x + 2)
    const f = (v: Tensor) => sum(add(mul(mul(v, v), v), mul(v, v)));
    const twice = (v: Tensor) => sum(add(grad(f)(v), grad(f)(v)));
    expect(await values(grad(twice)(x))).toEqual([28]);
    expect(await values(grad((v: Tensor) => sum(grad(twice)(v)))(x))).toEqual([12]);
    // One input as two.
    const product = (a: Tensor, b: Tensor) => sum(mul(square(a), b));
    const both = (v: Tensor) => {
      const { grads } = valueAndGrad(product)(v, v);
      return sum(add(grads[0], grads[1]));
    };
    // 2 v^2 + v^2
    expect(await values(grad(both)(x))).toEqual([12]);
    // What passes through unchanged.
    const identity = (v: Tensor) => sum(v);
    expect(await values(grad((v: Tensor) => sum(mul(grad(identity)(v), v)))(x))).toEqual([1]);
  });

  it("an operation whose gradient has none says so", () => {
    const x = tensor(device, [2]);
    const odd = (v: Tensor) =>
      record(detach(square(v)), {
        op: "odd",
        inputs: [v],
        saved: [v],
        backward: (dy, [v]) => [() => mul(mul(dy, v!), 2)],
      });
    expect(() => grad((v: Tensor) => sum(grad((u: Tensor) => sum(odd(u)))(v)))(x)).toThrow(
      'grad: the output depends on the gradient of "odd", which has no derivative itself; detach() it',
    );
  });

  it("a saved tensor that was changed is refused there, too", () => {
    const x = tensor(device, [2]);
    const changing = (v: Tensor) => {
      const y = exp(mul(v, 1));
      const slope = grad((u: Tensor) => sum(exp(u)))(y);
      y.assign([5]);
      return sum(slope);
    };
    expect(() => grad(changing)(x)).toThrow(UsageError);
  });

  it("memory returns to where it was", () => {
    const [x, w] = [tensor(device, [1, 2]), leaf([3, 4])];
    const penalty = () =>
      scope(() => {
        const slope = grad((v: Tensor) => sum(mul(tanh(mul(v, w)), v)), { createGraph: true })(x);
        backward(sum(square(slope)));
      });
    penalty();
    const { liveCount } = device.memory();
    for (let i = 0; i < 3; i++) penalty();
    expect(device.memory().liveCount).toBe(liveCount);
    expect(liveCount).toBe(3);
  });

  it("and without a scope, when the results are disposed of", () => {
    const [x, w] = [tensor(device, [1, 2]), leaf([3, 4])];
    const slope = grad((v: Tensor) => sum(mul(tanh(mul(exp(v), w)), v)), { createGraph: true })(x);
    const squares = square(slope);
    const loss = sum(squares);
    backward(loss);
    for (const t of [slope, squares, loss]) t.dispose();
    expect(device.memory().liveCount).toBe(3);
  });

  it("a gradient that is not recorded leaves other tapes alone", async () => {
    const x = tensor(device, [2]);
    const slope = grad((v: Tensor) => {
      const w = square(v);
      noGrad(() => grad((u: Tensor) => sum(mul(u, w)))(x));
      return sum(mul(w, w));
    })(x);
    expect(await values(slope)).toEqual([32]);
  });

  it("but gradients are at hand where nobody asks for that", async () => {
    const [x, w] = [tensor(device, [2]), leaf([3])];
    const slope = grad((v: Tensor) => sum(mul(square(v), w)));
    // Detached, inside noGrad, or by way of what has no slope: a constant.
    expect(await values(grad((v: Tensor) => sum(mul(detach(grad(cube)(v)), v)))(x))).toEqual([12]);
    expect(
      await values(
        grad((v: Tensor) =>
          sum(
            mul(
              noGrad(() => grad(cube)(v)),
              v,
            ),
          ),
        )(x),
      ),
    ).toEqual([12]);
    expect(await values(grad((v: Tensor) => sum(mul(add(v, mul(sign(slope(v)), 0.5)), w)))(x))).toEqual([3]);
    // With respect to something that the gradient does not depend on.
    expect(await values(grad((u: Tensor) => sum(mul(slope(x), u)))(x))).toEqual([12]);
    // An inner gradient that is not used, and one inside a function that is not recorded.
    expect(
      await values(
        grad((v: Tensor) => {
          slope(v);
          return cube(v);
        })(x),
      ),
    ).toEqual([12]);
    expect(await values(noGrad(() => slope(x)))).toEqual([12]);
  });

  it("a loop of steps along a gradient keeps no memory, though the weights want gradients", async () => {
    const w = leaf([3]);
    const slope = grad((v: Tensor) => sum(mul(square(v), w)));
    let x = tensor(device, [1]);
    const live: number[] = [];
    for (let i = 0; i < 4; i++) {
      const [g, before] = [slope(x), x];
      const step = mul(g, 0.1);
      x = sub(before, step);
      for (const t of [g, before, step]) t.dispose();
      live.push(device.memory().liveCount);
    }
    expect(live).toEqual([2, 2, 2, 2]);
    expect((await values(x))[0]).toBeCloseTo(0.4 ** 4, 12);
  });
});

describe("nothing that nobody asked for", () => {
  let gpu: Device;
  beforeAll(async () => {
    gpu = await openDevice("webgpu");
  });
  afterAll(() => gpu.destroy());

  it.each(["cpu", "webgpu"])("frozen operands cost no gradient kernel on %s", (kind) => {
    const on = kind === "cpu" ? device : gpu;
    const [x, w] = [leaf([1, 2], on), leaf([3, 4], on)];
    const gradients = () => {
      on.resetCounters();
      scope(() => backward(sum(mul(relu(sub(x, 1)), exp(w)))));
      return [...on.counters.byKernel.keys()].filter((name) => name.endsWith("Gradient")).sort();
    };
    expect(gradients()).toEqual(["expGradient", "mulAGradient", "mulBGradient", "reluGradient"]);
    w.requiresGrad = false;
    expect(gradients()).toEqual(["mulAGradient", "reluGradient"]);
    w.requiresGrad = true;
    x.requiresGrad = false;
    expect(gradients()).toEqual(["expGradient", "mulBGradient"]);
    w.requiresGrad = false;
    expect(() => gradients()).toThrow(KilogradError);
    for (const t of [x, w]) t.dispose();
  });

  it("valueAndGrad differentiates its inputs only, even where weights require gradients", () => {
    const [x, w] = [tensor(device, [1, 2]), leaf([3, 4])];
    device.resetCounters();
    valueAndGrad((input: Tensor) => sum(mul(input, exp(w))))(x);
    expect([...device.counters.byKernel.keys()]).toContain("mulAGradient");
    expect([...device.counters.byKernel.keys()]).not.toContain("mulBGradient");
    expect([...device.counters.byKernel.keys()]).not.toContain("expGradient");
  });
});

describe.each(["cpu", "webgpu"])("what a gradient needs and what changed it, on %s", (kind) => {
  let on: Device;
  beforeAll(async () => {
    on = await openDevice(kind as "cpu" | "webgpu");
  });
  afterAll(() => on.destroy());

  const squared = (x: Tensor) => sum(square(x));
  const changed = (op: string, by: string) =>
    `"${op}" needs a tensor`.concat(` [1] as it was when it ran, but "${by}"`);

  it("assign, also through an alias and through detach", async () => {
    const changes: ((x: Tensor) => void)[] = [
      (x) => x.assign([10]),
      (x) => reshape(x, [1, 1]).assign([10]),
      (x) => detach(x).assign([10]),
    ];
    for (const change of changes) {
      const x = leaf([1], on);
      const y = squared(x);
      change(x);
      expect(() => backward(y)).toThrow(changed("square", "assign"));
      expect(() => backward(y)).toThrow(UsageError);
      expect(x.grad).toBeNull();
      // The next loss is as it should be.
      backward(squared(x));
      expect(await values(x.grad)).toEqual([20]);
    }
  });

  it("an optimizer, a snapshot, averages, running statistics, a plan's inputs", async () => {
    const w = leaf([1], on);
    w.name = "dense/kernel";
    const optimizers = [sgd({ learningRate: 1 }), adamW({ emaMomentum: 0.5 })];
    for (const optimizer of optimizers) {
      const y = squared(w);
      optimizer.step([w], [tensor(on, [1])]);
      expect(() => backward(y)).toThrow(
        `"square" needs a tensor "dense/kernel" [1] as it was when it ran, but "${optimizer.name === "sgd" ? "sgd" : "adam"}"`,
      );
    }
    const swapped = squared(w);
    optimizers[1]!.swapAverages([w]);
    expect(() => backward(swapped)).toThrow(
      changed("square", "swapAverages").replace("tensor", 'tensor "dense/kernel"'),
    );
    const snapshot = new Snapshot();
    snapshot.take([["w", w]]);
    const restored = squared(w);
    snapshot.restore([["w", w]]);
    expect(() => backward(restored)).toThrow('but "copy" has changed it since');

    // Statistics that a later call in training updates, where an earlier one normalised by them.
    const x = leaf([[1], [3]], on);
    const own = {
      gamma: leaf([1], on),
      beta: leaf([0], on),
      runningMean: tensor(on, [0]),
      runningVariance: tensor(on, [1]),
    };
    const frozen = sum(square(batchNorm(x, { ...own, training: false })));
    const trained = sum(square(batchNorm(x, { ...own, training: true })));
    expect(() => backward(frozen)).toThrow(/"batchNorm" needs .* but "batchNormStatistics" has changed it since/);
    expect(() => backward(trained)).not.toThrow();
  });

  it("a replayed step", async () => {
    const w = leaf([1], on);
    const optimizer = sgd({ learningRate: 1 });
    const plan = new StepPlan(on, (g) => {
      optimizer.step([w], [g!]);
      return [];
    });
    const step = () => plan.run({ values: Float32Array.of(0.25), shape: [1] });
    for (let run = 0; run < 4; run++) {
      const y = squared(w);
      step();
      expect(() => backward(y)).toThrow(changed("square", "sgd"));
    }
    expect(await values(w)).toEqual([0]);
    plan.dispose();
  });

  it("what is not needed may change", async () => {
    // The gradient of a frozen product's input needs the weight alone, that of a sum nothing.
    const [x, w] = [leaf([[2]], on), tensor(on, [[3]])];
    const y = sum(add(matmul(x, w), x));
    x.assign([5]);
    backward(y);
    expect(await values(x.grad)).toEqual([4]);
    // The gradient of a factor needs the other one.
    for (const [of, right] of [
      [(a: Tensor) => mul(a, w), 3],
      [(a: Tensor) => mul(w, a), 3],
      [(a: Tensor) => div(a, w), 1 / 3],
    ] as const) {
      const a = leaf([2], on);
      const z = sum(of(a));
      a.assign([5]);
      backward(z);
      expect((await values(a.grad))[0]).toBeCloseTo(right, 6);
    }
    // Memory that moves is not memory that changes.
    const parameters = [leaf([1], on), leaf([2], on)];
    const loss = sum(mul(square(parameters[0]!), square(parameters[1]!)));
    on.placeTogether(parameters.map(({ storage }) => storage));
    backward(loss);
    expect(await values(parameters[0]!.grad)).toEqual([8]);
    // Gradients that add up in their memory.
    for (let i = 0; i < 3; i++) backward(squared(parameters[0]!));
    expect(await values(parameters[0]!.grad)).toEqual([14]);
  });

  it("gradients have memory of their own", async () => {
    const [a, b, seed] = [leaf([1, 2], on), leaf([3, 4], on), tensor(on, [1, 2])];
    backward(add(a, b), { gradient: seed });
    for (const given of [seed, a.grad!]) {
      given.assign([9, 9]);
      expect(await values(b.grad)).toEqual([1, 2]);
    }
    const [da, db] = valueAndGrad((x: Tensor, y: Tensor) => sum(add(x, y)))(a, b).grads;
    da.assign([9, 9]);
    expect(await values(db)).toEqual([1, 1]);
  });

  it("a gradient is f32 of its tensor's shape and device", () => {
    const x = leaf([1, 2], on);
    for (const wrong of [
      5,
      undefined,
      tensor(on, [1]),
      tensor(on, Int32Array.of(1, 2)),
      tensor(new CpuDevice(), [1, 2]),
    ]) {
      expect(() => {
        x.grad = wrong as Tensor;
      }).toThrow(/^grad: /);
    }
    expect(x.grad).toBe(null);
  });

  it("a result that was overwritten is no longer what its history says", async () => {
    const x = leaf([2], on);
    const y = mul(x, 3);
    y.assign([7]);
    expect(() => mul(y, x)).toThrow('mul: its input [1] is the result of "mul", but "assign" has overwritten it since');
    expect(() => backward(y)).toThrow('backward: the output [1] is the result of "mul", but "assign" has overwritten');
    expect(() => grad((leaf) => mul(leaf, 3).assign([7]))(x)).toThrow(
      'grad: what fn returns, [1] is the result of "mul"',
    );
    // Whichever of several names of the memory it was overwritten by, and is used by.
    for (const overwritten of [0, 1, 2]) {
      const z = mul(x, 3);
      const names = [z, reshape(z, [1, 1]), cast(reshape(z, [1, 1]), "f32")];
      names[overwritten]!.assign([7]);
      for (const name of names) expect(() => square(name)).toThrow('but "assign" has overwritten it since');
    }
    backward(sum(mul(detach(y), x)));
    expect(await values(x.grad)).toEqual([7]);
    // An alias of a leaf sees its changes, and its gradient is right all the same.
    const flat = reshape(x, [1, 1]);
    x.assign([4]);
    backward(sum(square(flat)));
    expect(await values(x.grad)).toEqual([15]);
  });
});

describe.each(["cpu", "webgpu"])("an alias keeps its history, on %s", (kind) => {
  it.each<[string, (x: Tensor) => Tensor]>([
    ["cast to the own dtype", (x) => cast(x, "f32")],
    ["reshape to the own shape", (x) => reshape(x, x.shape)],
    ["expandDims and squeeze", (x) => squeeze(expandDims(x, 0), 0)],
    ["transpose that moves nothing", (x) => transpose(x, [0, 1])],
    ["slice of all", (x) => slice(x, [0, 0], [-1, -1])],
    [
      "pad by nothing",
      (x) =>
        pad(x, [
          [0, 0],
          [0, 0],
        ]),
    ],
    ["concat of one", (x) => concat([x], 0)],
    ["stack of one", (x) => squeeze(stack([x]), 0)],
    ["flip of nothing", (x) => flip(x, [])],
    ["dropout at rate 0", (x) => dropout(x, { rate: 0, key: randomKey(1, "") })],
    ["clip beyond all values", (x) => clip(x, -1e9, 1e9)],
    ["sum over no axes", (x) => sum(x, { axes: [] })],
    ["mean over no axes", (x) => mean(x, { axes: [] })],
    ["max over no axes", (x) => max(x, { axes: [] })],
    ["logSumExp over no axes", (x) => logSumExp(x, { axes: [] })],
    ["gather of all", (x) => gather(x, tensor(x.device, Int32Array.of(0)))],
    ["maxPool2d of single cells", (x) => reshape(maxPool2d(reshape(x, [1, 1, 2, 1]), { poolSize: 1 }), x.shape)],
    ["layers that compute nothing", (x) => layersWithoutEffect(x)],
  ])("%s", async (_, same) => {
    const on = await openDevice(kind as "cpu" | "webgpu");
    const x = leaf([[2, -1]], on);
    backward(sum(mul(same(mul(x, 3)), x)));
    expect(await values(x.grad)).toEqual([12, -6]);
    x.grad = null;
    backward(sum(same(x)));
    expect(await values(x.grad)).toEqual([1, 1]);
    on.destroy();
  });
});

function layersWithoutEffect(x: Tensor): Tensor {
  const layers = [flatten(), nnReshape([2]), nnDropout(0), nnDropout(0.5), activation("linear")];
  const model = sequential({ device: x.device, inputShape: [2] }, layers);
  return model.call(x);
}

describe.each(["cpu", "webgpu"])("an infinite gradient stays where it belongs, on %s", (kind) => {
  const infinity = Number.POSITIVE_INFINITY;
  it.each<[string, (x: Tensor) => Tensor, number[], number[], number[]]>([
    ["where", (x) => where(less(x, 0), x, tensor(x.device, [0])), [-1, 2], [infinity, infinity], [infinity, 0]],
    ["max", (x) => max(x), [1, 2], [infinity], [0, infinity]],
    ["min", (x) => min(x), [1, 2], [infinity], [infinity, 0]],
    ["relu", relu, [-1, 2], [infinity, infinity], [0, infinity]],
    ["clip", (x) => clip(x, 0, 1), [-1, 0.5], [infinity, infinity], [0, infinity]],
    ["maximum", (x) => maximum(x, 0), [-1, 2], [infinity, infinity], [0, infinity]],
    ["minimum", (x) => minimum(x, 0), [-1, 2], [infinity, infinity], [infinity, 0]],
    ["pad", (x) => pad(x, [[1, 1]]), [1, 2], [infinity, infinity, 3, infinity], [infinity, 3]],
    ["slice", (x) => slice(x, [0], [1]), [1, 2], [infinity], [infinity, 0]],
    ["gather", (x) => gather(x, tensor(x.device, Int32Array.of(1))), [1, 2], [infinity], [0, infinity]],
    ["maxPool2d", (x) => maxPool2d(reshape(x, [1, 1, 2, 1]), { poolSize: [1, 2] }), [1, 2], [infinity], [0, infinity]],
  ])("%s", async (_, fn, at, dy, expected) => {
    const on = await openDevice(kind as "cpu" | "webgpu");
    const x = leaf(at, on);
    const y = fn(x);
    backward(y, { gradient: tensor(on, dy, { shape: y.shape }) });
    expect(await values(x.grad)).toEqual(expected);
    on.destroy();
  });

  it("dropout", async () => {
    const on = await openDevice(kind as "cpu" | "webgpu");
    const x = leaf(new Array(64).fill(1), on);
    const y = dropout(x, { rate: 0.5, key: randomKey(3, "") });
    const kept = await y.data();
    backward(y, { gradient: full(on, [64], infinity) });
    // A product with the mask, as in PyTorch.
    expect(await values(x.grad)).toEqual(Array.from(kept, (v) => v * infinity));
    on.destroy();
  });

  it("a maximum of NaN gives its gradient to the NaNs", async () => {
    const on = await openDevice("cpu");
    const x = leaf([1, Number.NaN, 3], on);
    backward(max(x));
    expect(await values(x.grad)).toEqual([0, 1, 0]);
  });
});
