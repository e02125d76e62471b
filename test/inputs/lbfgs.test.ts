// L-BFGS against PyTorch's (lbfgs.json, which lbfgs.py writes), on images for a model, and at the edges.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { add, div, log, mul, sin, square, sub } from "../../src/autograd/ops/elementwise.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { slice } from "../../src/autograd/ops/transform.js";
import { type LbfgsOptions, lbfgs } from "../../src/inputs/lbfgs.js";
import { sequential } from "../../src/nn/architecture.js";
import { dense } from "../../src/nn/layers/dense.js";
import { crossEntropy } from "../../src/nn/losses.js";
import type { Device } from "../../src/tensor/device.js";
import { KilogradError, ShapeError, UsageError } from "../../src/tensor/errors.js";
import { type NestedArray, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles } from "../support.js";

interface Golden {
  readonly function: string;
  readonly starts: readonly NestedArray[];
  readonly options: LbfgsOptions;
  readonly x: readonly NestedArray[];
  readonly value: number;
  readonly steps: number;
  readonly evaluations: number;
}
const golden = JSON.parse(readFileSync(new URL("lbfgs.json", import.meta.url), "utf8")) as {
  readonly cases: readonly Golden[];
};

const functions: Readonly<Record<string, (...x: Tensor[]) => Tensor>> = {
  rosenbrock(x) {
    const n = x!.size;
    const [left, right] = [slice(x!, [0], [n - 1]), slice(x!, [1], [n - 1])];
    return sum(add(mul(square(sub(right, square(left))), 100), square(sub(1, left))));
  },
  quadratic(x, y) {
    const bowls = add(sum(square(sub(x!, 1))), sum(mul(square(add(y!, 0.5)), 3)));
    return add(bowls, div(square(mul(sum(x!), sum(y!))), 50));
  },
  waves: (x) => sum(add(sin(mul(x!, 3)), div(square(x!), 4))),
};

const flat = async (x: readonly Tensor[]) => {
  const values: number[] = [];
  for (const t of x) values.push(...(await t.data()));
  return values;
};
const title = ({ function: name, options }: Golden, i: number) => `${i}: ${name} ${JSON.stringify(options)}`;

test.each(golden.cases.map((each, i) => [title(each, i), each] as const))(
  "%s goes where PyTorch goes",
  async (_, each) => {
    const starts = each.starts.map((start) => tensor(cpu, start));
    const found = await lbfgs(functions[each.function]!, starts, each.options);
    // PyTorch counts a step that it does not take, for want of a slope.
    const without = found.ended === "change" && found.steps < each.steps ? 1 : 0;
    expect([found.steps + without, found.evaluations]).toEqual([each.steps, each.evaluations]);
    expect(found.value).toBeCloseTo(each.value, 9);
    expect(found.values.at(-1)).toBe(found.value);
    const expected = (each.x as number[][]).flat(2);
    for (const [i, value] of (await flat(found.x)).entries()) expect(value).toBeCloseTo(expected[i]!, 8);
    expect(found.x.map(({ shape }) => shape)).toEqual(starts.map(({ shape }) => shape));
    // The starts are as they were.
    expect(await flat(starts)).toEqual((each.starts as number[][]).flat(2));
  },
);

const onEachDevice = (body: (device: () => Device) => void) => {
  describe("reference", () => body(() => cpu));
  describeProfiles(body);
};

onEachDevice((device) => {
  test("finds a minimum, with a falling value, and leaves nothing behind", async () => {
    const starts = golden.cases[5]!.starts.map((start) => tensor(device(), start));
    const before = device().memory().liveCount;
    const told: number[] = [];
    const { x, value, values, ended } = await lbfgs(functions["quadratic"]!, starts, {
      ...{ steps: 40, onProgress: ({ value: now }) => void told.push(now) },
    });
    expect(value).toBeCloseTo(golden.cases[5]!.value, 4);
    for (const [i, now] of values.slice(1).entries()) expect(now).toBeLessThanOrEqual(values[i]!);
    expect(told).toEqual(values.slice(1));
    expect(["change", "gradient", "evaluations"]).toContain(ended);
    for (const t of x) t.dispose();
    expect(device().memory().liveCount).toBe(before);
    for (const t of starts) t.dispose();
  });

  test("an input for a model, which stays as it is", async () => {
    const model = sequential({ device: device(), inputShape: [5], seed: 3 }, [
      dense({ units: 8, activation: "tanh" }),
      dense({ units: 3, activation: "softmax" }),
    ]);
    const target = tensor(device(), Int32Array.of(2, 0));
    const start = tensor(device(), [
      [0.1, 0.2, 0.3, 0.4, 0.5],
      [0.5, -0.2, 0, 0.1, -0.3],
    ]);
    const { x, values } = await lbfgs(
      (input) => add(crossEntropy(model.logits(input!), target), mul(sum(square(input!)), 1e-3)),
      start,
      { steps: 30 },
    );
    expect(values.at(-1)).toBeLessThan(0.4 * values[0]!);
    const { data } = await model.predict(Float32Array.from(await x[0]!.data()));
    for (const i of [2, 3]) expect(data[i]).toBeGreaterThan(0.7);
    expect(model.parameters().every(({ grad }) => grad === null)).toBe(true);
    for (const t of [...x, start, target]) t.dispose();
    model.dispose();
  });

  test("a trial where the function is not finite is too long", async () => {
    // log is NaN below 0, where the first steps lead.
    const { value } = await lbfgs((x) => sum(sub(x!, log(x!))), tensor(device(), [9]), { learningRate: 50, steps: 30 });
    expect(value).toBeCloseTo(1, 4);
  });
});

test("says what is wrong", async () => {
  const x = tensor(cpu, [1, 2]);
  const fn = (t: Tensor) => sum(square(t));
  const wrong: [Promise<unknown>, new (...args: never[]) => KilogradError, string][] = [
    [lbfgs(fn as never, []), UsageError, "lbfgs: needs at least one tensor to start with, got none"],
    [lbfgs(fn as never, [1] as never), UsageError, "lbfgs: starts[0] must be a tensor, got 1"],
    [lbfgs(fn as never, tensor(cpu, Int32Array.of(1))), ShapeError, "starts must be f32 and not empty, got i32 [1]"],
    [lbfgs(square as never, x), ShapeError, "scalar"],
    [lbfgs((async () => x) as never, x), UsageError, "it returned a promise"],
    [lbfgs(fn as never, x, { steps: 0 }), UsageError, "lbfgs: steps must be a whole number from 1, got 0"],
    [lbfgs((t) => sum(log(t!)), tensor(cpu, [-1])), KilogradError, "value and gradient must be finite at the start"],
    [lbfgs(fn as never, x, { onProgress: (async () => {}) as never }), UsageError, "onProgress must be synchronous"],
  ];
  for (const [promise, type, message] of wrong) {
    await expect(promise).rejects.toThrow(type);
    await expect(promise).rejects.toThrow(message);
  }
  const reason = new Error("enough");
  await expect(lbfgs(fn as never, x, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
