// The tape: which gradients flow where, what is kept and freed, and that nothing is computed that nobody asked for.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { add, exp, mul, relu, sub, tanh } from "../../src/autograd/ops/elementwise.js";
import { mean, sum } from "../../src/autograd/ops/reduce.js";
import { backward, detach, grad, isRecording, noGrad, record, valueAndGrad } from "../../src/autograd/tape.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import type { Device } from "../../src/tensor/device.js";
import { DisposedError, KilogradError, ShapeError } from "../../src/tensor/errors.js";
import { openDevice } from "../../src/tensor/open.js";
import { scope } from "../../src/tensor/scope.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
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

  it("gives zeros for an input that does not matter, and for one used twice both uses", async () => {
    const [a, b] = [tensor(device, [1, 2]), tensor(device, [[3]])];
    const { grads } = valueAndGrad((x: Tensor, _unused: Tensor) => sum(mul(x, x)))(a, b);
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
