// Recorded steps: a replay gives the same bits as running the function, sees what changes, and owns its memory.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { dropout } from "../../src/autograd/ops/dropout.js";
import { add, mul, relu } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { randomBernoulli, randomNormal, randomUniform } from "../../src/autograd/ops/random.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import { storeRowKernel } from "../../src/kernels/copy.js";
import { stridedCopyKernel } from "../../src/kernels/transform.js";
import { adam, sgd } from "../../src/nn/optimizers.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { randomKey } from "../../src/tensor/random.js";
import { keep } from "../../src/tensor/scope.js";
import { type HostTensor, StepPlan } from "../../src/tensor/step-plan.js";
import { empty, run, runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";

let device: WebGpuDevice;
beforeAll(async () => {
  device = (await openDevice("webgpu")) as WebGpuDevice;
});
afterAll(() => device.destroy());
beforeEach(() => device.resetCounters());

const host = (rows: number, columns: number, seed: number): HostTensor => ({
  values: Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * 1.7 + seed)),
  shape: [rows, columns],
});
const valuesOf = async (t: Tensor) => Array.from(await t.data());

/** Awaits what is being compiled, as every first step of a loop does by reading its result. */
async function runAll(plan: StepPlan, inputs: readonly HostTensor[]): Promise<number[][]> {
  const results: number[][] = [];
  for (const input of inputs) results.push(await valuesOf(plan.run(input)[0]!));
  return results;
}

test("a replay runs the function's kernels, not the function", async () => {
  let calls = 0;
  const weights = tensor(device, host(3, 5, 9).values, { shape: [3, 5] });
  const plan = new StepPlan(device, (x) => {
    calls++;
    return [relu(matmul(x!, weights))];
  });
  const inputs = [1, 2, 3, 4, 5].map((seed) => host(4, 3, seed));
  const replayed = await runAll(plan, inputs);
  expect(calls).toBe(2);
  const { dispatches } = device.counters;
  device.resetCounters();
  for (const [i, { values, shape }] of inputs.entries()) {
    expect(replayed[i]).toEqual(await valuesOf(relu(matmul(tensor(device, values, { shape }), weights))));
  }
  // Counted as if the function had run.
  expect(dispatches).toBe(device.counters.dispatches);
  plan.dispose();
});

test("what reads nothing that changes runs again only when somebody has changed that", async () => {
  const weights = tensor(device, host(3, 5, 9).values, { shape: [3, 5] });
  const offset = tensor(device, [1, 2, 3, 4, 5]);
  // Twice the weights stays; their sum with the offset is returned, and could be changed; exp of x changes.
  const plan = new StepPlan(device, (x) => [matmul(x!, mul(weights, 2)), add(weights, offset)]);
  const x = host(4, 3, 1);
  const step = async () => {
    const before = device.counters.dispatches;
    const [product, shifted] = plan.run(x);
    const dispatches = device.counters.dispatches - before;
    return { dispatches, product: await valuesOf(product!), shifted: await valuesOf(shifted!) };
  };
  const expected = async () => ({
    product: await valuesOf(matmul(tensor(device, x.values, { shape: x.shape }), mul(weights, 2))),
    shifted: await valuesOf(add(weights, offset)),
  });
  const runs = [await step(), await step(), await step()];
  expect(runs.map(({ dispatches }) => dispatches)).toEqual([3, 3, 2]);
  expect(runs[2]).toEqual({ dispatches: 2, ...(await expected()) });
  // By the host, by a kernel, and by another recorded step.
  weights.assign(host(3, 5, 4).values);
  expect(await step()).toEqual({ dispatches: 3, ...(await expected()) });
  expect((await step()).dispatches).toBe(2);
  runInto(storeRowKernel, [tensor(device, [7, 8, 9, 10, 11])], [weights], { row: 1 });
  expect(await step()).toEqual({ dispatches: 3, ...(await expected()) });
  weights.requiresGrad = true;
  const optimizer = sgd({ learningRate: 0.5 });
  const training = new StepPlan(device, (x) => {
    const loss = sum(matmul(x!, weights));
    backward(loss);
    optimizer.step([weights]);
    return [];
  });
  for (let i = 0; i < 4; i++) {
    training.run(x);
    expect(await step()).toEqual({ dispatches: 3, ...(await expected()) });
  }
  for (const each of [plan, training, optimizer]) each.dispose();
});

test("what changes from step to step is asked for anew, in order", async () => {
  const make = (eager: boolean) => {
    const w = tensor(device, host(4, 6, 1).values, { shape: [4, 6] });
    w.requiresGrad = true;
    const optimizer = sgd({
      learningRate: { name: "test", config: {}, at: (step) => 0.1 / (1 + step) },
      momentum: 0.5,
    });
    const table = tensor(device, new Float32Array(8));
    let row = 0;
    const plan = new StepPlan(
      device,
      (x) => {
        let now = 0;
        device.everyTime(() => {
          now = optimizer.iterations;
        });
        const dropped = dropout(matmul(x!, w), { rate: 0.5, key: () => randomKey(7, now) });
        const loss = sum(mul(dropped, dropped));
        runInto(storeRowKernel, [loss], [table], () => ({ row }));
        device.everyTime(() => {
          row++;
        });
        backward(loss);
        optimizer.step([w]);
        return [w.alias()];
      },
      { eager },
    );
    return { plan, optimizer, table };
  };
  const inputs = Array.from({ length: 8 }, (_, seed) => host(5, 4, seed));
  const [replayed, eager] = [make(false), make(true)];
  const weights = await runAll(replayed.plan, inputs);
  expect(weights).toEqual(await runAll(eager.plan, inputs));
  expect(replayed.optimizer.iterations).toBe(8);
  const losses = await valuesOf(replayed.table);
  expect(losses).toEqual(await valuesOf(eager.table));
  expect(new Set(losses).size).toBe(8);
  expect(losses.every((loss) => loss > 0)).toBe(true);
});

test("each shape and each variant is recorded for itself", async () => {
  let calls = 0;
  let factor = 2;
  const plan = new StepPlan(
    device,
    (x) => {
      calls++;
      return [mul(x!, factor)];
    },
    { variant: () => String(factor) },
  );
  const expectRuns = async (rows: number, by: number) => {
    factor = by;
    for (let i = 0; i < 4; i++) {
      const input = host(rows, 2, i);
      expect(await valuesOf(plan.run(input)[0]!)).toEqual(Array.from(input.values, (v) => Math.fround(v * by)));
    }
  };
  await expectRuns(3, 2);
  await expectRuns(5, 2);
  await expectRuns(3, 4);
  expect(calls).toBe(6);
  await expectRuns(5, 2);
  await expectRuns(3, 2);
  expect(calls).toBe(6);
  plan.dispose();
});

test("memory that a step used and that is gone makes it record anew", async () => {
  let bias = tensor(device, [1, 2]);
  let calls = 0;
  const plan = new StepPlan(device, (x) => {
    calls++;
    return [add(x!, bias)];
  });
  const input = { values: Float32Array.of(10, 20), shape: [2] };
  for (let i = 0; i < 3; i++) expect(await valuesOf(plan.run(input)[0]!)).toEqual([11, 22]);
  bias.dispose();
  bias = tensor(device, [3, 4]);
  expect(await valuesOf(plan.run(input)[0]!)).toEqual([13, 24]);
  expect(calls).toBe(3);
  // Host values written while work on the old ones is on its way move the tensor.
  mul(bias, 2).dispose();
  bias.assign([5, 6]);
  expect(await valuesOf(plan.run(input)[0]!)).toEqual([15, 26]);
  expect(calls).toBe(4);
  plan.dispose();
});

test("constants of a step keep their values, also when the step changes them", async () => {
  const plan = new StepPlan(device, (x) => {
    // Freed memory of the constant must not serve the sums after it.
    const constant = tensor(device, [1, 2, 3]);
    const first = add(x!, constant);
    constant.dispose();
    const again = tensor(device, [10, 20, 30]);
    runInto(storeRowKernel, [first], [again], { row: 0 });
    return [add(again, 100)];
  });
  for (let i = 0; i < 5; i++) {
    const [y] = plan.run({ values: Float32Array.of(i, i, i), shape: [3] });
    expect(await valuesOf(y!)).toEqual([101 + i, 102 + i, 103 + i]);
  }
  plan.dispose();
});

test("memory: constant while replaying, given back at the end", async () => {
  await device.sync();
  const before = device.memory();
  const plan = new StepPlan(device, (x) => {
    const y = relu(matmul(x!, x!));
    return [sum(matmul(y, y))];
  });
  const used: number[] = [];
  for (let i = 0; i < 6; i++) {
    await valuesOf(plan.run(host(16, 16, i))[0]!);
    used.push(device.memory().liveBytes);
  }
  expect(new Set(used.slice(2)).size).toBe(1);
  plan.dispose();
  expect(device.memory()).toMatchObject({ liveBytes: before.liveBytes, liveCount: before.liveCount });
  // An alias of an output outlives the plan.
  const other = new StepPlan(device, (x) => [mul(x!, 2)]);
  let alias: Tensor | undefined;
  for (let i = 0; i < 3; i++) alias = keep(other.run({ values: Float32Array.of(i), shape: [1] })[0]!.alias());
  other.dispose();
  const filler = Array.from({ length: 4 }, () => tensor(device, [9]));
  expect(await valuesOf(alias!)).toEqual([4]);
  for (const t of [alias!, ...filler]) t.dispose();
});

test("a result that lies beside others outlives the step", async () => {
  await device.sync();
  const before = device.memory();
  const weights = [70, 5, 300].map((size) => tensor(device, new Float32Array(size).fill(1)));
  const optimizer = adam();
  const plan = new StepPlan(device, (x) => {
    const gradients = weights.map((w) => mul(w, x!));
    optimizer.step(weights, gradients);
    return [gradients[1]!, gradients[2]!];
  });
  const aliases: Tensor[] = [];
  for (let i = 1; i <= 4; i++) {
    const outputs = plan.run({ values: Float32Array.of(i), shape: [1] });
    if (i === 4) aliases.push(...outputs.map((t) => keep(t.alias())));
    await valuesOf(outputs[0]!);
  }
  // All gradients and parameters in one dispatch.
  expect(device.counters.byKernel.get("adam")).toBe(4);
  plan.dispose();
  const found = await Promise.all(aliases.map(valuesOf));
  expect(found.map(({ length }) => length)).toEqual([5, 300]);
  for (const value of found.flat()) expect(value).toBeCloseTo(4 * (1 - 3 * 0.001), 2);
  aliases[0]!.dispose();
  const filler = tensor(device, new Float32Array(300).fill(9));
  expect(await valuesOf(aliases[1]!)).toEqual(found[1]);
  for (const t of [aliases[1]!, filler, ...weights, optimizer]) t.dispose();
  expect(device.memory()).toMatchObject({ liveBytes: before.liveBytes, liveCount: before.liveCount });
});

describe("what a recorded step must not do", () => {
  const attempt = async (fn: (x: Tensor) => readonly Tensor[]) => {
    const plan = new StepPlan(device, (x) => fn(x!));
    const input = { values: Float32Array.of(1), shape: [1] };
    try {
      await plan.run(input)[0]?.data();
      plan.run(input);
    } finally {
      plan.dispose();
    }
  };

  test("keep tensors that it does not return", async () => {
    const kept: Tensor[] = [];
    const fn = (x: Tensor) => {
      kept.push(keep(mul(x, 2)));
      return [add(x, 1)];
    };
    await expect(attempt(fn)).rejects.toThrow(/must not keep tensors/);
    for (const t of kept) t.dispose();
  });

  test("write host values into a tensor made before it", async () => {
    const before = tensor(device, [1]);
    await expect(attempt((x) => [add(x, before.assign([2]))])).rejects.toThrow(/pass them as its inputs/);
  });

  test("write host values into a tensor it has used, which keeps its memory", async () => {
    const { values, shape } = host(3, 2, 5);
    const table = tensor(device, values, { shape });
    const usesAndWrites = (x: Tensor) => {
      const y = mul(x, table);
      table.assign(values);
      return [y];
    };
    await expect(attempt(usesAndWrites)).rejects.toThrow(/pass them as its inputs/);
    // Memory made next is none of the table's.
    const others = Array.from({ length: 8 }, () => tensor(device, new Float32Array(6), { shape }));
    expect(await valuesOf(table)).toEqual(Array.from(values, Math.fround));
    for (const t of [table, ...others]) t.dispose();
  });

  test("read", async () => {
    let read: Promise<unknown> = Promise.resolve();
    await attempt((x) => {
      const y = mul(x, 2);
      read = y.data().catch((error: Error) => error);
      return [y];
    });
    expect(String(await read)).toMatch(/cannot wait for results/);
  });

  test("hold another recorded step", async () => {
    const nested = (x: Tensor) => {
      device.record(() => [])?.dispose();
      return [mul(x, 2)];
    };
    await expect(attempt(nested)).rejects.toThrow(/cannot hold another/);
  });

  test("change more than numbers", async () => {
    const y = empty(device, [4]);
    let length = 4;
    const plan = new StepPlan(device, (x) => {
      runInto(stridedCopyKernel, [x!], [y], () => ({
        copies: [{ shape: [length], inputOffset: 0, inputStrides: [1], outputOffset: 0, outputStrides: [1] }],
      }));
      return [];
    });
    const input = { values: Float32Array.of(1, 2, 3, 4), shape: [4] };
    plan.run(input);
    await device.sync();
    plan.run(input);
    length = 3;
    expect(() => plan.run(input)).toThrow(/only its numbers may change/);
    plan.dispose();
  });
});

test("random numbers of a key that is a function are others in every run", async () => {
  let step = 0;
  const key = () => randomKey(7, `step ${step}`);
  const draw = () => [
    randomUniform(device, [4], key),
    randomNormal(device, [4], key),
    randomBernoulli(device, [64], key, { probability: 0.5 }),
  ];
  const plan = new StepPlan(device, draw);
  for (; step < 4; step++) {
    const [found, expected] = [plan.run(), draw()];
    for (const [i, tensor] of found.entries()) expect(await tensor.data()).toEqual(await expected[i]!.data());
  }
  plan.dispose();
  expect(() => randomNormal(device, [4], (() => 3) as never)).toThrow(/randomNormal: .*key/);
});

test("an error inside the function leaves the device usable and frees the step", async () => {
  let fail = false;
  const plan = new StepPlan(device, (x) => {
    const y = mul(x!, 2);
    if (fail) throw new Error("in the middle");
    return [y];
  });
  const input = { values: Float32Array.of(4), shape: [1] };
  await plan.run(input)[0]!.data();
  const { liveBytes } = device.memory();
  fail = true;
  expect(() => plan.run(input)).toThrow("in the middle");
  expect(device.memory().liveBytes).toBe(liveBytes);
  fail = false;
  expect(await valuesOf(plan.run(input)[0]!)).toEqual([8]);
  plan.dispose();
});

test("the CPU reference runs the function every time", async () => {
  const cpu = new CpuDevice();
  let calls = 0;
  const plan = new StepPlan(cpu, (x) => {
    calls++;
    return [run(storeRowKernel, [x!], { shape: [1], dtype: "f32" }, () => ({ row: 0 }))];
  });
  for (let i = 0; i < 3; i++)
    expect(await valuesOf(plan.run({ values: Float32Array.of(i), shape: [1] })[0]!)).toEqual([i]);
  expect(calls).toBe(3);
  plan.dispose();
  expect(cpu.memory().liveCount).toBe(0);
});
