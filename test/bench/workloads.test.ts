// What bench:steps and bench:peers rest on:
// - tasks survive their way through files,
// - our side takes the steps that it says,
// - weights arranged for other libraries come back as they were.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packed } from "../../bench/packed.js";
import { makeSubject } from "../../bench/subject.js";
import { makeTask, readTask, type Task, withWeights, workloads, writeTask } from "../../bench/workloads.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-bench-"));
let device: WebGpuDevice;
beforeAll(async () => {
  device = await openDevice("webgpu");
});
afterAll(() => {
  device.destroy();
  rmSync(folder, { recursive: true, force: true });
});

/** As toEqual for large arrays, at once. */
function expectSame(a: Float32Array | Int32Array, b: Float32Array | Int32Array): void {
  expect(a.constructor).toBe(b.constructor);
  const [left, right] = [a, b].map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength));
  expect(left!.equals(right!)).toBe(true);
}

async function taskOf(name: string, dropout = false): Promise<Task> {
  const workload = workloads.find((one) => one.name === name)!;
  return withWeights(makeTask({ ...workload, steps: 2 }, { dropout }));
}

describe.each(["mlp-64 b128", "autoencoder b64", "optimise 10"])("%s", (name) => {
  test("is read as it was written", async () => {
    const task = await taskOf(name);
    await writeTask(join(folder, name), task);
    const { spec, inputs, targets, weights } = await readTask(join(folder, name));
    expect(spec).toEqual(task.spec);
    expectSame(inputs, task.inputs);
    expectSame(targets, task.targets);
    expect([...weights!.keys()]).toEqual(spec.weights.map(({ name }) => name));
    for (const [name, values] of weights!) expectSame(values, task.weights!.get(name)!);
  });

  test("takes the same checked steps every time, and timed ones for as long as asked", async () => {
    const task = await taskOf(name);
    const rates = [0.05, 0.05];
    const subjects = [makeSubject(device, task), makeSubject(device, task)];
    const [first, second] = [await subjects[0]!.check(rates), await subjects[1]!.check(rates)];
    expect(first.losses).toHaveLength(2);
    expect(first.losses[1]).toBeLessThan(first.losses[0]!);
    expect(second.losses).toEqual(first.losses);
    expectSame(second.result, first.result);
    for (let i = 0; i < 2; i++) {
      const { ms, steps } = await subjects[0]!.run(1);
      expect(steps).toBe(2);
      expect(ms).toBeGreaterThan(0);
    }
    for (const subject of subjects) await subject.end();
  });
});

test("comparisons leave out dropout, step times do not", async () => {
  const names = (task: Task) => task.spec.layers.map(({ className }) => className);
  expect(names(await taskOf("sgd-cnn b128"))).not.toContain("Dropout");
  expect(names(await taskOf("sgd-cnn b128", true))).toContain("Dropout");
});

test("arranged weights are restored, and a dense kernel behind an image follows its axes", async () => {
  const path = "../../bench/peers/layout.mjs";
  const { arranged, arrangements, restored } = await import(path);
  const { spec, weights } = await taskOf("small-cnn b32");
  for (const place of arrangements(spec)) {
    const values = weights!.get(place.name)!;
    expectSame(restored(arranged(values, place), place), values);
  }
  const [height, width, channels, units] = [3, 3, 64, 64];
  const place = arrangements(spec).find(({ name }: { name: string }) => name === "dense/kernel");
  const dense = weights!.get("dense/kernel")!;
  const moved = arranged(dense, place);
  const [y, x, c, u] = [1, 2, 5, 7];
  expect(moved[((c * height + y) * width + x) * units + u]).toBe(dense[((y * width + x) * channels + c) * units + u]);
});

test("arrays are packed in order", () => {
  expect(packed([Float32Array.of(1, 2), Float32Array.of(3)])).toEqual(Float32Array.of(1, 2, 3));
});
