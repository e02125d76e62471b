// Every gradient against central differences in float64, and the checker itself against wrong gradients.
import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { gradcheck } from "../../src/autograd/gradcheck.js";
import { mul, square, tanh } from "../../src/autograd/ops/elementwise.js";
import { detach, record } from "../../src/autograd/tape.js";
import * as K from "../../src/index.js";
import { KilogradError } from "../../src/tensor/errors.js";
import type { Tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";
import { Draw, leftOut, operations, titleOf } from "./operations.js";

/** Random cases of each row of the table. */
const ROUNDS = 8;

describe("at PyTorch's tolerances", () => {
  for (const operation of operations.filter(({ smooth }) => smooth !== false)) {
    const title = titleOf(operation);
    it(title, async () => {
      for (let seed = 0; seed < ROUNDS; seed++) {
        const { fn, inputs, note } = operation.draw(new Draw(seed, title, false));
        const { compared } = await gradcheck(fn, inputs).catch((error: Error) => {
          throw new Error(`${title}, seed ${seed}${note === undefined ? "" : ` (${note})`}: ${error.message}`);
        });
        expect(compared).toBeGreaterThan(0);
      }
    });
  }
});

it("every exported operation is in the table or left out for a reason", async () => {
  const exported = new Set<string>();
  for (const file of readdirSync("src/autograd/ops")) {
    const module: Record<string, unknown> = await import(`../../src/autograd/ops/${file.replace(/\.ts$/, ".js")}`);
    for (const [name, value] of Object.entries(module)) if (typeof value === "function") exported.add(name);
  }
  const known = [...new Set(operations.map(({ op }) => op)), ...Object.keys(leftOut)];
  expect(known.sort()).toEqual([...exported].sort());
});

/** What the package exports beside operations. */
const others: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["openDevice", "tensor", "Tensor", "randomKey", "RandomStream", "StepPlan", "keep", "scope"].map((name) => [
      name,
      "of devices, memory and random numbers",
    ]),
  ),
  ...Object.fromEntries(
    [
      ...[
        "backward",
        "detach",
        "grad",
        "isRecording",
        "noGrad",
        "valueAndGrad",
        "customGradient",
        "customKernel",
        "recompute",
      ],
      ...["vjp", "hvp", "jacobian", "hessian", "gradcheck", "gradgradcheck"],
    ].map((name) => [name, "of the tape"]),
  ),
  ...Object.fromEntries(
    Object.keys(K)
      .filter((name) => name.endsWith("Error"))
      .map((name) => [name, "an error"]),
  ),
};

it("every function that the package exports is in the table, or is no operation", () => {
  const exported = Object.entries(K).flatMap(([name, value]) => (typeof value === "function" ? [name] : []));
  const table = new Set([...operations.map(({ op }) => op), ...Object.keys(leftOut)]);
  expect(exported.filter((name) => !table.has(name)).sort()).toEqual(Object.keys(others).sort());
});

describe("the checker", () => {
  /** x^2 with a derivative that is wrong at one element. */
  const crooked = (x: Tensor) =>
    record(detach(square(x)), {
      op: "crooked",
      inputs: [x],
      saved: [x],
      backward: (dy, [saved]) => [
        () => {
          const right = mul(mul(dy, saved!), 2);
          // Row-major element 4 doubled.
          const factor = new Float64Array(x.size).fill(1).with(4, 2);
          return mul(right, tensorLike(x, factor));
        },
      ],
    });
  const tensorLike = (x: Tensor, values: Float64Array) => mul(detach(x), 0).assign(values);
  const input = [
    [0.5, 1, 2],
    [-1, 3, 0.25],
  ];

  it("catches a wrong derivative, naming input and element", async () => {
    await expect(gradcheck(crooked, [input])).rejects.toThrow(KilogradError);
    // Element 4 has weight sin(0.7 * 4 + 1) + 1.5 in the scalar that is checked, and the derivative 2 * 3.
    await expect(gradcheck(crooked, [input])).rejects.toThrow(
      /^gradcheck: the gradient of input 0 at element 4 is 10\.657\d+, expected 5\.328\d+ within 5\.34e-3 \(inputs \[2, 3\]; eps 0\.000001, atol 0\.00001, rtol 0\.001\)$/,
    );
  });

  it("reports instead of raising when asked", async () => {
    const report = await gradcheck((a, b) => mul(crooked(b!), a!), [[[1], [2]], input], { raise: false });
    expect(report).toMatchObject({ ok: false, compared: 8, worst: { input: 1, index: 4 } });
    expect(report.worst!.analytic).toBeCloseTo(2 * report.worst!.expected, 5);
  });

  it("catches a missing gradient and NaN", async () => {
    const stopped = (x: Tensor) => mul(detach(x), x);
    expect(await gradcheck(stopped, [[1, 2]], { raise: false })).toMatchObject({ ok: false });
    const undefinedOne = (x: Tensor) =>
      record(detach(tanh(x)), { op: "nan", inputs: [x], backward: (dy) => [() => mul(dy, Number.NaN)] });
    expect(await gradcheck(undefinedOne, [[1, 2]], { raise: false })).toMatchObject({ ok: false });
  });

  it("compares a device with the reference", async () => {
    expect(await gradcheck((x) => tanh(x), [input], { against: cpu })).toMatchObject({ ok: true, compared: 6 });
  });

  it("leaves no memory behind on the device it is given", async () => {
    const { liveCount } = cpu.memory();
    await gradcheck((x, y) => mul(tanh(x), y), [input, input], { against: cpu });
    expect(cpu.memory().liveCount).toBe(liveCount);
  });
});
