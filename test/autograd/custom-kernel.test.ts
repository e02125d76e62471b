// Kernels that users write: the same on the reference and on WebGPU, with gradients, in recorded steps, and refused in
// words where they are none.
import { describe, expect, test } from "vitest";
import { customKernel } from "../../src/autograd/custom-kernel.js";
import { grad } from "../../src/autograd/differentiate.js";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { UsageError } from "../../src/tensor/errors.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { describeProfiles } from "../support.js";

/** max(x, slope x) for slopes below 1, written with a comment, a function and a parameter. */
const leaky = customKernel({
  name: "leaky",
  inputs: ["x"],
  numbers: ["slope"],
  declarations: "fn steeper(a: f32, b: f32) -> f32 { return select(b, a, a > b); } // y[i] = 0;",
  wgsl: "y[i] = steeper(x[i], u.slope * x[i]); /* never: y[i] = 1; */",
  cpu: (i, { x }, { slope }) => Math.max(x![i]!, slope! * x![i]!),
  gradient: (dy, [x], numbers) => leakyGradient([x!, dy], numbers),
});
const leakyGradient = customKernel({
  name: "leakyGradient",
  inputs: ["x", "dy"],
  numbers: ["slope"],
  wgsl: "y[i] = select(u.slope, 1.0, x[i] > 0) * dy[i];",
  cpu: (i, { x, dy }, { slope }) => (x![i]! > 0 ? 1 : slope!) * dy![i]!,
});
/** Which column of each row is the largest: another shape and element type. */
const largest = customKernel({
  name: "largest",
  inputs: ["x"],
  sizes: (x) => ({ columns: x.shape[1]! }),
  output: (x) => ({ shape: [x.shape[0]!], dtype: "u32" }),
  wgsl: `
    var best = 0u;
    for (var k = 1u; k < u.columns; k++) {
      if (x[i * u.columns + k] > x[i * u.columns + best]) { best = k; }
    }
    y[i] = best;`,
  cpu: (i, { x }, { columns }) => {
    const row = Array.from({ length: columns! }, (_, k) => x![i * columns! + k]!);
    return row.indexOf(Math.max(...row));
  },
});

describeProfiles((device) => {
  test("gives what the reference gives", async () => {
    await using reference = await openDevice("cpu");
    const values = Array.from({ length: 3000 }, (_, i) => Math.fround(Math.sin(i)));
    for (const shape of [[3000], [100, 30], [0]]) {
      const given = shape[0] === 0 ? [] : values;
      const on = (where: typeof reference | ReturnType<typeof device>) =>
        leaky([tensor(where, given, { shape })], { slope: 0.25 });
      expect(Array.from(await on(device()).data())).toEqual(Array.from(await on(reference).data()));
    }
    const rows = largest([tensor(device(), values, { shape: [100, 30] })]);
    expect([rows.shape, rows.dtype]).toEqual([[100], "u32"]);
    const expected = largest([tensor(reference, values, { shape: [100, 30] })]);
    expect(Array.from(await rows.data())).toEqual(Array.from(await expected.data()));
  });

  test("has the gradient that it is given", async () => {
    await gradcheck(
      (x) => leaky([x], { slope: 0.1 }),
      [
        [
          [-1, 2],
          [3, -4],
        ],
      ],
    );
    const options = { against: device() };
    expect(
      (
        await gradcheck(
          (x) => leaky([x], { slope: 0.1 }),
          [
            [
              [-1, 2],
              [3, -4],
            ],
          ],
          options,
        )
      ).compared,
    ).toBe(4);
    const none = grad((x) => sum(leakyGradient([x, x], { slope: 1 })));
    expect(() => none(tensor(device(), [1, 2]))).toThrow(/NO_GRADIENT|no gradient/);
  });

  test("is part of a recorded step, whose numbers change", async () => {
    const x = tensor(device(), [-1, 2]);
    let slope = 0;
    const plan = new StepPlan(device(), () => [leaky([leaky([x], () => ({ slope }))], () => ({ slope }))]);
    const found: number[][] = [];
    for (slope of [0.5, 0.25, 0.125, 2 ** -4]) found.push(Array.from(await plan.run()[0]!.data()));
    expect(found).toEqual([
      [-0.25, 2],
      [-0.0625, 2],
      [-(2 ** -6), 2],
      [-(2 ** -8), 2],
    ]);
    plan.dispose();
  });

  test("is an error of the device where its text does not compile", async () => {
    const own = await openDevice("webgpu", { profile: device().profile.family });
    const wrong = customKernel({ name: "wrong", inputs: ["x"], wgsl: "y[i] = x[i] +;", cpu: () => 0 });
    await expect(async () => void (await wrong([tensor(own, [1])]).data())).rejects.toThrow(/wrong/);
    own.destroy();
  });
});

describe("refused", () => {
  const right = { name: "own", inputs: ["x"], wgsl: "y[i] = x[i];", cpu: () => 0 };
  test.each([
    ["a name that a program has", { inputs: ["y"] }, /inputs.*"y"|names/],
    ["a name twice", { inputs: ["a", "a"] }, /twice/],
    ["the name of an input as that of a number", { numbers: ["x"] }, /twice/],
    ["no inputs", { inputs: [] }, /inputs/],
    ["no formula for the reference", { cpu: 3 }, /cpu/],
    ["another option", { body: "" }, /body/],
  ])("%s", (_, options, message) => {
    expect(() => customKernel({ ...right, ...options } as never)).toThrow(UsageError);
    expect(() => customKernel({ ...right, ...options } as never)).toThrow(message);
  });

  test("other inputs, numbers, sizes and outputs than it names", async () => {
    await using device = await openDevice("cpu");
    const x = tensor(device, [1]);
    expect(() => customKernel(right)([x, x])).toThrow(/own: needs 1 inputs/);
    expect(() => customKernel(right)([x], { slope: 1 })).toThrow(/slope/);
    expect(() => leaky([x])).toThrow(/slope/);
    expect(() => leaky([x], { slope: Number.NaN })).toThrow(/slope/);
    expect(() => customKernel({ ...right, sizes: () => ({ n: -1 }) })([x])).toThrow(/own: sizes/);
    expect(() => customKernel({ ...right, sizes: () => ({ x: 1 }) })([x])).toThrow(/twice/);
    expect(() => customKernel({ ...right, output: () => 3 as never })([x])).toThrow(UsageError);
  });
});
