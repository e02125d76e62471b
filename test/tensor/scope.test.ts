// Who owns memory: scopes, keep, dispose, aliases. On the reference, whose books are those of every device.
import { beforeEach, describe, expect, it } from "vitest";
import { add, exp, mul } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { keep, scope } from "../../src/tensor/scope.js";
import { type Tensor, tensor } from "../../src/tensor/tensor.js";

let device: CpuDevice;
beforeEach(() => {
  device = new CpuDevice();
});
const make = (value = 1) => tensor(device, [value, value, value]);
const live = () => device.memory().liveCount;

describe("scope", () => {
  it("frees what it does not return", async () => {
    const y = scope(() => add(mul(make(2), make(3)), make(1)));
    expect(live()).toBe(1);
    expect([...(await y.data())]).toEqual([7, 7, 7]);
    y.dispose();
    expect(live()).toBe(0);
  });

  it("finds returned tensors in arrays, objects, sets and maps", () => {
    const result = scope(() => {
      make();
      return {
        a: make(),
        list: [make(), { deep: make() }],
        set: new Set([make()]),
        map: new Map([["k", make()]]),
        n: 3,
      };
    });
    expect(live()).toBe(5);
    expect(result.list[0]).toMatchObject({ disposed: false });
  });

  it("hands returned tensors to the scope around it", () => {
    let inner: Tensor | undefined;
    scope(() => {
      inner = scope(() => {
        make();
        return make();
      });
      expect(live()).toBe(1);
    });
    expect(inner!.disposed).toBe(true);
    expect(live()).toBe(0);
  });

  it("frees everything when an error is thrown, also in nested scopes", () => {
    let outer: Tensor | undefined;
    expect(() =>
      scope(() => {
        outer = make();
        scope(() => {
          make();
          throw new Error("inside");
        });
      }),
    ).toThrow("inside");
    expect(outer!.disposed).toBe(true);
    expect(live()).toBe(0);
    // The stack of scopes is as before: a tensor made now belongs to nobody.
    const free = make();
    scope(() => {});
    expect(free.disposed).toBe(false);
  });

  it("an error caught inside leaves the outer scope's tensors", () => {
    scope(() => {
      const mine = make();
      try {
        scope(() => {
          make();
          throw new Error("inside");
        });
      } catch {}
      expect(live()).toBe(1);
      expect(mine.disposed).toBe(false);
    });
    expect(live()).toBe(0);
  });

  it("keep takes a tensor out of every scope around it", () => {
    let kept: Tensor | undefined;
    scope(() => {
      scope(() => {
        kept = keep(make());
      });
    });
    expect(kept!.disposed).toBe(false);
    kept!.dispose();
    expect(live()).toBe(0);
  });

  it("does not touch tensors made outside", () => {
    const x = make();
    scope(() => mul(x, x).alias()).dispose();
    expect(x.disposed).toBe(false);
    expect(live()).toBe(1);
  });

  it("refuses functions that await", () => {
    expect(() => scope(async () => make())).toThrow("scope: fn must be synchronous, it returned a promise");
    expect(live()).toBe(0);
  });

  it("keeps the tape of a returned loss, frees that of others", () => {
    const w = make(2);
    w.requiresGrad = true;
    const loss = scope(() => sum(exp(mul(w, w))));
    backward(loss);
    expect(w.grad).not.toBeNull();
    scope(() => {
      sum(exp(mul(w, w)));
    });
    loss.dispose();
    expect(live()).toBe(2); // w and its gradient
    w.dispose();
    expect(live()).toBe(0);
  });
});

describe("dispose", () => {
  it("is idempotent and also by `using`", () => {
    {
      using x = make();
      expect(x.disposed).toBe(false);
    }
    const x = make();
    x.dispose();
    x.dispose();
    expect(live()).toBe(0);
  });

  it("frees memory with the last alias only", async () => {
    const x = make(5);
    const y = x.alias([3, 1]);
    expect(live()).toBe(1);
    x.dispose();
    expect([...(await y.data())]).toEqual([5, 5, 5]);
    y.dispose();
    expect(device.memory()).toMatchObject({ liveBytes: 0, liveCount: 0, peakBytes: 24 });
  });

  it("takes the gradient along", () => {
    const x = make();
    x.requiresGrad = true;
    backward(sum(mul(x, x)));
    const { grad } = x;
    x.dispose();
    expect(grad!.disposed).toBe(true);
    expect(x.grad).toBeNull();
  });

  it("later use is an error that names the tensor and what to do", async () => {
    const x = make();
    x.name = "dense/kernel";
    x.dispose();
    await expect(x.data()).rejects.toThrow(
      'tensor "dense/kernel" [3]: used after dispose(); keep() it, or return it from its scope',
    );
    expect(() => mul(x, x)).toThrow('mul: an operand "dense/kernel" [3] was used after dispose()');
    expect(() => x.assign([1, 2, 3])).toThrow("used after dispose()");
    expect(() => x.alias()).toThrow("used after dispose()");
  });
});
