// One convention for axes in every op that takes some: by position, as `axis`, or as `axes`; never twice.
import { describe, expect, it } from "vitest";
import type { Tensor } from "../../src/index.js";
import * as K from "../../src/index.js";
import { cpu } from "../support.js";

const x = K.tensor(cpu, [
  [1, 2, 3],
  [4, 5, 6],
]);
const single = K.tensor(cpu, [[[7]], [[8]]]);
const ids = K.tensor(cpu, Int32Array.of(1, 0));

// biome-ignore lint/suspicious/noExplicitAny: the same value goes to ops of different types, as it may from JavaScript.
type Op = (axes: any, options?: any) => Tensor;

/** Ops of several axes. */
const { sum, mean, max, min, sumSquares, logSumExp } = K;
const reductions = { sum, mean, max, min, sumSquares, logSumExp };
const names = Object.keys(reductions) as (keyof typeof reductions)[];
const several: Record<string, Op> = {
  ...Object.fromEntries(names.map((name) => [name, (axes, options) => reductions[name](x, axes, options)])),
  ...Object.fromEntries(names.map((name) => [`x.${name}`, (axes, options) => x[name](axes, options)])),
  flip: (axes) => K.flip(x, axes),
};
/** Ops of one axis. */
const one: Record<string, Op> = {
  argmax: (axis, options) => K.argmax(x, axis, options),
  "x.argmax": (axis, options) => x.argmax(axis, options),
  softmax: (axis) => K.softmax(x, axis),
  logSoftmax: (axis) => K.logSoftmax(x, axis),
  concat: (axis) => K.concat([x, x], axis),
  stack: (axis) => K.stack([x, x], axis),
  gather: (axis) => K.gather(x, ids, axis),
  expandDims: (axis) => K.expandDims(x, axis),
};
const described = async (t: Tensor) => ({ shape: t.shape, data: [...(await t.data())] });

describe.each(Object.entries({ ...several, ...one }))("%s", (name, op) => {
  it.each([
    ["a list", [1]],
    ["axis", { axis: 1 }],
    ["axes", { axes: 1 }],
    ["a list as axes", { axes: [1] }],
    ["with an undefined twin", { axis: 1, axes: undefined }],
    ["a negative axis", name === "stack" || name === "expandDims" ? -2 : -1],
  ])("takes %s as it takes a number", async (_, axes) => {
    expect(await described(op(axes))).toEqual(await described(op(1)));
  });

  it.each([
    null,
    "0",
    true,
    0.5,
    Number.NaN,
    [0.5],
    ["0"],
    { axis: null },
    { axis: "0" },
    { axis: 0, axes: 0 },
    { dim: 0 },
  ])("refuses %j", (axes) => expect(() => op(axes)).toThrow(K.UsageError));
  it("refuses an axis that is not there", () => expect(() => op(7)).toThrow(K.ShapeError));
});

describe.each(Object.entries(several))("%s", (_, op) => {
  it("takes several axes, by default all", async () => {
    const all = await described(op(undefined));
    for (const axes of [[0, 1], [-1, 0], { axes: [0, 1] }, { axis: [1, 0] }, {}]) {
      expect(await described(op(axes))).toEqual(all);
    }
    expect(() => op([0, 0])).toThrow("distinct");
  });
});

describe.each(Object.entries(one))("%s", (_, op) => {
  it("refuses several axes", () => expect(() => op([0, 1])).toThrow(/needs one axis, got \[0, 1\]/));
});

describe("axes and further options", () => {
  it("are given together", async () => {
    expect(K.sum(x, 0, { keepDims: true }).shape).toEqual([1, 3]);
    expect(x.sum([0], { keepDims: true }).shape).toEqual([1, 3]);
    expect(K.sum(x, { axis: 0, keepDims: true }).shape).toEqual([1, 3]);
    expect(K.argmax(x, 1, { keepDims: true }).shape).toEqual([2, 1]);
    expect([...(await K.sum(x, 0).data())]).toEqual([5, 7, 9]);
  });

  it("are refused where axes or options come twice", () => {
    expect(() => K.sum(x, 0, { axis: 1 })).toThrow("sum: axes are given twice");
    expect(() => K.sum(x, { axis: 1 }, { keepDims: true })).toThrow("sum: options are given twice");
  });

  it("squeeze and transpose take them, too", () => {
    expect(K.squeeze(single, 1).shape).toEqual([2, 1]);
    expect(K.squeeze(single, { axes: [1, 2] }).shape).toEqual([2]);
    expect(K.squeeze(single).shape).toEqual([2]);
    expect(K.transpose(x, { axes: [1, 0] }).shape).toEqual([3, 2]);
    expect(() => K.transpose(x, 0 as never)).toThrow(K.ShapeError);
  });

  it("argmax needs an axis", () => expect(() => x.argmax(undefined as never)).toThrow("argmax: needs one axis"));
});

describe("rows with parameters", () => {
  const values = K.tensor(cpu, [-1, 2]);
  it("take them as function and as method", async () => {
    for (const y of [K.leakyRelu(values, { negativeSlope: 0.5 }), values.leakyRelu({ negativeSlope: 0.5 })]) {
      expect([...(await y.data())]).toEqual([-0.5, 2]);
    }
    expect([...(await values.leakyRelu({}).data())]).toEqual([-0.3, 2]);
    expect([...(await values.clip(0, Number.POSITIVE_INFINITY).data())]).toEqual([0, 2]);
  });

  it("refuse others", () => {
    expect(() => values.leakyRelu({ alpha: 1 } as never)).toThrow(/leakyRelu: unknown option alpha/);
    expect(() => K.leakyRelu(values, { negativeSlope: "1" as never })).toThrow(K.UsageError);
    expect(() => K.leakyRelu(values, 0.5 as never)).toThrow(K.UsageError);
    expect(() => values.clip("0" as never, 1)).toThrow(K.UsageError);
  });
});
