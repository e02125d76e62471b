// dropout: the same mask on both devices and in both directions, the right share of it, and an unchanged mean.
import { describe, expect, it } from "vitest";
import "../../src/autograd/methods.js";
import { valueAndGrad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { ones } from "../../src/autograd/ops/create.js";
import { type DropoutOptions, dropout } from "../../src/autograd/ops/dropout.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { ShapeError, UsageError } from "../../src/tensor/errors.js";
import { randomKey } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles, withSmallBindings } from "../support.js";

const key = randomKey(5, "dropout");
const dropped = (values: ArrayLike<number>) => Array.from(values, (value) => value === 0);

describeProfiles((device) => {
  it.each([1, 5, 1003, 40_001])("drops what the reference drops, of %i elements", async (size) => {
    const options: DropoutOptions = { rate: 0.3, key, offset: 2 ** 32 - 200 };
    const expected = await dropout(ones(cpu, [size]), options).data();
    for (const d of [device(), withSmallBindings(device(), 1024)]) {
      const found = await dropout(ones(d, [size]), options).data();
      expect(dropped(found)).toEqual(dropped(expected));
      expect(found.every((value) => value === 0 || value === Math.fround(1 / 0.7))).toBe(true);
    }
  });

  it("has a gradient with the mask of its forward, and no mask in memory", async () => {
    const x = tensor(
      device(),
      Float32Array.from({ length: 999 }, (_, i) => i + 1),
    );
    const before = device().memory().liveBytes;
    const y = dropout(x, { rate: 0.5, key });
    expect(device().memory().liveBytes - before).toBe(4096);
    const { grad } = valueAndGrad((t) => sum(dropout(t, { rate: 0.5, key })))(x);
    const values = await y.data();
    expect(Array.from(await grad.data())).toEqual(Array.from(values, (value) => (value === 0 ? 0 : 2)));
  });
});

// PyTorch's nn.functional.dropout multiplies by its mask, forward and backward (2.15, on the CPU).
const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, -0, 1, -1];
const many = Float32Array.from({ length: 50 * special.length }, (_, i) => special[i % special.length]!);

describeProfiles((device) => {
  it("multiplies what it drops by 0, forward and backward", async () => {
    const options = { rate: 0.5, key };
    const mask = await dropout(ones(cpu, [many.length]), options).data();
    const expected = Array.from(many, (value, i) => value * mask[i]!);
    expect(expected.filter(Number.isNaN).length).toBeGreaterThan(60);
    for (const d of [cpu, device()]) {
      const x = tensor(d, many);
      expect(Array.from(await dropout(x, options).data()), d.kind).toEqual(expected);
      x.requiresGrad = true;
      dropout(x, options).backward({ gradient: tensor(d, many) });
      expect(Array.from(await x.grad!.data()), d.kind).toEqual(expected);
    }
  });
});

describe("the reference", () => {
  it.each([0.001, 0.25, 0.5, 0.9])("drops a share of %d and keeps the mean", async (rate) => {
    const count = 400_000;
    const values = await dropout(ones(cpu, [count]), { rate, key }).data();
    const share = dropped(values).filter(Boolean).length / count;
    expect(Math.abs(share - rate)).toBeLessThan(5 * Math.sqrt((rate * (1 - rate)) / count));
    expect(values.find((value) => value !== 0)).toBe(1 / (1 - rate));
  });

  it("changes its mask with key and offset only", async () => {
    const mask = async (options: Partial<DropoutOptions>) =>
      dropped(await dropout(ones(cpu, [200]), { rate: 0.5, key, ...options }).data());
    expect(await mask({})).toEqual(await mask({ offset: 0 }));
    expect(await mask({ offset: 100 })).not.toEqual(await mask({}));
    expect(await mask({ key: randomKey(6, "dropout") })).not.toEqual(await mask({}));
    expect((await mask({ offset: 50 })).slice(0, 100)).toEqual((await mask({})).slice(100));
  });

  it("has the gradient of finite differences", () =>
    gradcheck(
      (x) => dropout(x, { rate: 0.4, key }),
      [
        [
          [0.3, -1, 2],
          [4, 5, -6],
          [0.1, 0.2, 0.3],
        ],
      ],
    ));

  it("is the identity at rate 0", async () => {
    const x = tensor(cpu, [1, 2, 3]);
    expect(dropout(x, { rate: 0, key }).storage).toBe(x.storage);
    await gradcheck((t) => dropout(t, { rate: 0, key }), [[1, 2, 3]]);
  });

  it("refuses what makes no sense", () => {
    const x = tensor(cpu, [1, 2]);
    expect(() => dropout(x, { rate: 1, key })).toThrow(UsageError);
    expect(() => dropout(x, { rate: 1, key })).toThrow("dropout: rate must be a finite number in [0, 1), got 1");
    expect(() => dropout(x, { rate: 0.5, key, offset: 0.5 })).toThrow("dropout: offset must be a whole number");
    expect(() => dropout(tensor(cpu, Int32Array.of(1)), { rate: 0.5, key })).toThrow(ShapeError);
  });
});
