// The kernel that counts correct answers, against counting on the host, on every family of kernels.
import { describe, expect, test } from "vitest";
import { FIGURE_COLUMNS, type StepFiguresParams, stepFiguresKernel } from "../../src/kernels/step-figures.js";
import type { Device } from "../../src/tensor/device.js";
import { RandomStream } from "../../src/tensor/random.js";
import { runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { cpu, describeProfiles } from "../support.js";

/** Row 1 of a table of three. */
async function figures(device: Device, inputs: readonly Tensor[], params: Omit<StepFiguresParams, "row">) {
  const table = tensor(device, new Float32Array(3 * FIGURE_COLUMNS).fill(7), { shape: [3, FIGURE_COLUMNS] });
  runInto(stepFiguresKernel, inputs, [table], { row: 1, ...params });
  const values = Array.from(await table.data());
  for (const t of [table, ...inputs]) t.dispose();
  const row = values.splice(FIGURE_COLUMNS, FIGURE_COLUMNS);
  expect(new Set(values), "other rows").toEqual(new Set([7]));
  return { loss: row[0], correct: row.slice(1).reduce((a, b) => a + b) };
}

const sizes = [1, 3, 63, 64, 65, 130, 200];

function counts(device: () => Device) {
  const draw = (n: number, columns: number) => {
    const random = new RandomStream(n, "figures");
    // Few values, so that maxima tie: the first counts.
    const rows = Array.from({ length: n }, () => Array.from({ length: columns }, () => random.integer(4)));
    return { rows, ids: Array.from({ length: n }, () => random.integer(columns)) };
  };
  const first = (row: number[]) => row.indexOf(Math.max(...row));

  test.each(sizes)("classes and distributions, %i samples", async (n) => {
    const { rows, ids } = draw(n, 5);
    const correct = rows.filter((row, i) => first(row) === ids[i]).length;
    const make = (target: Tensor) => [tensor(device(), 2.5), tensor(device(), rows), target];
    const options = { accuracy: "classes", threshold: 0.5 } as const;
    const hard = await figures(device(), make(tensor(device(), new Int32Array(ids))), options);
    expect(hard).toEqual({ loss: 2.5, correct });
    const soft = ids.map((id) => [0, 1, 2, 3, 4].map((c) => (c === id ? 0.6 : 0.1)));
    expect(await figures(device(), make(tensor(device(), soft)), options)).toEqual(hard);
  });

  test.each(sizes)("binary, %i samples", async (n) => {
    const { rows, ids } = draw(n, 1);
    const threshold = 1.5;
    const goals = ids.map((_, i) => [(i % 3) / 2]);
    const correct = rows.filter(([p], i) => p! > threshold === goals[i]![0]! > 0.5).length;
    const inputs = [tensor(device(), -1), tensor(device(), rows), tensor(device(), goals)];
    expect(await figures(device(), inputs, { accuracy: "binary", threshold })).toEqual({ loss: -1, correct });
  });

  test("a NaN is never correct", async () => {
    const N = Number.NaN;
    const rows = [
      [N, 0, 1],
      [0, 1, N],
      [1, 0, 0],
      [N, N, N],
      [0, N, 0],
    ];
    const options = { accuracy: "classes", threshold: 0.5 } as const;
    const make = (target: Tensor) => [tensor(device(), N), tensor(device(), rows), target];
    const ids = tensor(device(), Int32Array.of(0, 2, 0, 0, -1));
    expect(await figures(device(), make(ids), options)).toEqual({ loss: N, correct: 1 });
    const soft = tensor(device(), [
      [1, 0, 0],
      [0, 0, 1],
      [1, 0, 0],
      [N, N, N],
      [N, 0, 0],
    ]);
    expect(await figures(device(), make(soft), options)).toEqual({ loss: N, correct: 1 });
    const inputs = [
      tensor(device(), 0),
      tensor(device(), [[N], [0], [1], [0]]),
      tensor(device(), [[0], [0], [1], [N]]),
    ];
    expect(await figures(device(), inputs, { accuracy: "binary", threshold: 0.5 })).toEqual({ loss: 0, correct: 2 });
  });

  test("none", async () => {
    const inputs = [tensor(device(), 3)];
    expect(await figures(device(), inputs, { accuracy: "none", threshold: 0 })).toEqual({ loss: 3, correct: 0 });
  });
}

describe("reference", () => counts(() => cpu));
describeProfiles(counts);
