// The first run of a step: the bits of a run without a plan, little memory, and nothing lost where it is interrupted.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { full } from "../../src/autograd/ops/create.js";
import { add, mul, relu, sub } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { mean, sum } from "../../src/autograd/ops/reduce.js";
import { backward } from "../../src/autograd/tape.js";
import { copyKernel } from "../../src/kernels/copy.js";
import { adam, type Optimizer, sgd } from "../../src/nn/optimizers.js";
import { DeviceError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { keep, scope } from "../../src/tensor/scope.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import type { Command, DispatchCommand } from "../../src/webgpu/commands.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { BufferPool, PooledBuffer } from "../../src/webgpu/pool.js";
import { endingEarly } from "../../src/webgpu/recorded/early.js";

let device: WebGpuDevice;
beforeEach(async () => {
  device = (await openDevice("webgpu")) as WebGpuDevice;
});
afterEach(() => device.destroy());

const MIB = 2 ** 20;
/** Rows and columns of a weight: more elements than what is placed beside others. */
const SIDE = 1344;
const LAYERS = 4;
const weightBytes = LAYERS * SIDE * SIDE * 4;

const values = (size: number, seed: number) => {
  const random = new RandomStream(seed, "first run");
  return Float32Array.from({ length: size }, () => random.normal() / 40);
};
const batch = (seed: number) => ({ values: values(16 * SIDE, seed), shape: [16, SIDE] });

/** A deep network of large weights and small biases, in training. */
function training(optimizer: Optimizer, options: { readonly eager?: boolean }) {
  const weights = Array.from({ length: LAYERS }, (_, i) =>
    keep(tensor(device, values(SIDE * SIDE, i), { shape: [SIDE, SIDE] })),
  );
  const scales = Array.from({ length: LAYERS }, (_, i) => keep(tensor(device, values(SIDE, 10 + i))));
  const parameters = [...weights, ...scales];
  for (const parameter of parameters) parameter.requiresGrad = true;
  const plan = new StepPlan(
    device,
    (x) => {
      const result = weights.reduce((y, weight, i) => relu(mul(matmul(y, weight), scales[i]!)), x!);
      const loss = mean(mul(result, result));
      backward(loss);
      optimizer.step(parameters);
      return [loss];
    },
    options,
  );
  return { plan, parameters };
}

/** Losses of some steps, and the parameters after them. */
async function trained(optimizer: Optimizer, options: { readonly eager?: boolean }) {
  const { plan, parameters } = training(optimizer, options);
  const losses: number[][] = [];
  for (const seed of [1, 2, 3]) losses.push(Array.from(await plan.run(batch(seed))[0]!.data()));
  const results = await Promise.all(parameters.map((parameter) => parameter.data()));
  plan.dispose();
  for (const parameter of parameters) parameter.dispose();
  optimizer.dispose();
  return { losses, results };
}

describe.each<[string, () => Optimizer]>([
  ["SGD", () => sgd({ learningRate: 0.1 })],
  ["SGD with momentum", () => sgd({ learningRate: 0.1, momentum: 0.9 })],
  ["Adam", () => adam({ learningRate: 0.001 })],
  ["Adam with averages and a limit", () => adam({ learningRate: 0.001, emaMomentum: 0.9, globalClipNorm: 1e-3 })],
  ["gathered gradients", () => sgd({ learningRate: 0.1, gradientAccumulationSteps: 2 })],
])("of %s", (_, optimizer) => {
  test("steps have the bits of a function that is called each time", async () => {
    expect(await trained(optimizer(), {})).toEqual(await trained(optimizer(), { eager: true }));
  });
});

test.each([
  ["SGD", () => sgd({ learningRate: 0.1 }), 1],
  ["Adam", () => adam({ learningRate: 0.001 }), 3],
] as const)("the first run and later ones of %s hold one large gradient at a time", async (_, optimizer, states) => {
  const { plan } = training(optimizer(), {});
  for (const seed of [1, 2, 3]) await plan.run(batch(seed))[0]!.data();
  // Weights and slots, one gradient, and what is made on the way; without an early end there would be four gradients.
  expect(device.memory().peakBytes).toBeLessThan((states + 2 / LAYERS) * weightBytes + 2 * MIB);
});

test("what a first run makes may be read, written and kept within it", async () => {
  const known: Tensor[] = [];
  const reads: Promise<ArrayLike<number>>[] = [];
  const plan = new StepPlan(
    device,
    (x) => {
      const doubled = mul(x!, 2);
      if (known.length === 0) {
        // Eager work of the first time: a result that stays, a read in between, and values of the host.
        known.push(keep(mul(doubled, tensor(device, [1, 10, 100]))));
        reads.push(doubled.data());
        doubled.assign([7, 8, 9]);
      }
      return [sum(mul(doubled, known[0]!))];
    },
    { eager: true },
  );
  const first = plan.run({ values: Float32Array.of(1, 2, 3), shape: [3] })[0]!;
  expect(Array.from(await first.data())).toEqual([7 * 2 + 8 * 40 + 9 * 600]);
  expect(Array.from(await reads[0]!)).toEqual([2, 4, 6]);
  const second = plan.run({ values: Float32Array.of(1, 1, 1), shape: [3] })[0]!;
  expect(Array.from(await second.data())).toEqual([2 * 2 + 2 * 40 + 2 * 600]);
  expect(Array.from(await known[0]!.data())).toEqual([2, 40, 600]);
  plan.dispose();
});

test("what waits already is not overtaken by what takes the memory that it needs", async () => {
  const given = values(SIDE, 1);
  const x = tensor(device, given);
  const doubled = mul(x, 2);
  x.dispose();
  const plan = new StepPlan(device, (y) => [sum(mul(y!, keep(full(device, [SIDE], 7))))], { eager: true });
  plan.run({ values: new Float32Array(SIDE), shape: [SIDE] });
  expect(await doubled.data()).toEqual(given.map((value) => 2 * value));
  plan.dispose();
});

test.each(Array.from({ length: 12 }, (_, seed) => seed))(
  "random steps have the bits of eager ones, seed %i",
  async (seed) => {
    /** Everything that a random step leaves behind, planned or not. */
    const results = async (planned: boolean) => {
      const random = new RandomStream(seed, "random step");
      // Of large ones, what uses them up moves up.
      const side = seed % 3 === 0 ? 544 : 8 * (1 + random.integer(20));
      const make = () => tensor(device, values(side * side, random.integer(1000)), { shape: [side, side] });
      // Work that waits, on memory some of which is free again.
      const before = Array.from({ length: 4 }, make);
      const waiting = before.map((t) => keep(mul(t, 3)));
      for (const t of before) if (random.uniform() < 0.6) t.dispose();
      const kept: Tensor[] = [];
      const step = () => {
        const alive = [...waiting];
        const any = () => alive[random.integer(alive.length)]!;
        for (let i = 0; i < 40; i++) {
          const kind = random.integer(8);
          // Numbers stay of one size: subnormal ones take a hundred times as long.
          if (kind === 0) alive.push(add(matmul(any(), any()), 1));
          else if (kind === 1) alive.push(full(device, [side, side], random.normal()));
          else if (kind === 2) alive.push(make());
          else if (kind === 3) runInto(copyKernel, [any()], [make()], {});
          else if (kind === 4) alive.at(-1)!.assign(values(side * side, random.integer(1000)));
          else if (kind === 5 && alive.length > 6) alive.splice(4 + random.integer(alive.length - 5), 1)[0]!.dispose();
          else alive.push(random.uniform() < 0.5 ? relu(any()) : sub(any(), any()));
          if (random.uniform() < 0.1) kept.push(keep(mul(any(), 0.5)));
          if (random.uniform() < 0.1) runInto(copyKernel, [mul(any(), 1)], [waiting[random.integer(4)]!], {});
        }
        return alive.map((t) => mul(t, 1));
      };
      const found = scope(() => (planned ? device.firstRun(step) : step()).map(keep));
      const all = [...found, ...kept, ...waiting];
      const read = await Promise.all(all.map((t) => t.data()));
      for (const t of [...all, ...before]) t.dispose();
      return read;
    };
    const [planned, eager] = [await results(true), await results(false)];
    expect(planned.length).toBe(eager.length);
    for (const [i, found] of planned.entries()) {
      // Compared as a whole: what would be said of a hundred thousand numbers takes minutes.
      expect(Buffer.from(found.buffer).equals(Buffer.from(eager[i]!.buffer)), `tensor ${i}`).toBe(true);
    }
  },
);

test("a function that throws in its first run costs nothing that was there before", async () => {
  const weights = tensor(device, [1, 2, 3]);
  const pending = mul(weights, 3);
  let fails = true;
  const plan = new StepPlan(device, (x) => {
    const product = mul(x!, weights);
    if (fails) throw new RangeError("the function's own");
    return [product];
  });
  const input = { values: Float32Array.of(1, 10, 100), shape: [3] };
  expect(() => plan.run(input)).toThrow("the function's own");
  fails = false;
  expect(Array.from(await plan.run(input)[0]!.data())).toEqual([1, 20, 300]);
  expect(Array.from(await pending.data())).toEqual([3, 6, 9]);
  const { liveBytes } = device.memory();
  for (let i = 0; i < 3; i++) expect(Array.from(await plan.run(input)[0]!.data())).toEqual([1, 20, 300]);
  expect(device.memory().liveBytes - liveBytes).toBeLessThan(8192);
  plan.dispose();
});

test("a first run for which there is no memory says so at the call, and changes nothing", async () => {
  const small = new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, memoryBytes: 2 ** 20 });
  const plan = new StepPlan(small, (x) => [sum(mul(matmul(x!, x!), 2))]);
  const input = (side: number) => ({ values: new Float32Array(side * side).fill(1), shape: [side, side] });
  expect(() => plan.run(input(400))).toThrow(/there is no memory for 640000 bytes more, 655360 are in use/);
  expect(Array.from(await plan.run(input(2))[0]!.data())).toEqual([16]);
  plan.dispose();
});

test("where the driver has no memory for it, weights stay, and what was to be made is an error", async () => {
  const optimizer = sgd({ learningRate: 1 });
  const weight = keep(tensor(device, values(SIDE, 1)));
  weight.requiresGrad = true;
  const before = Array.from(await weight.data());
  const made: Tensor[] = [];
  const plan = new StepPlan(device, (x) => {
    const scaled = mul(x!, weight);
    if (made.length === 0) made.push(keep(mul(scaled, 2)));
    const loss = sum(scaled);
    backward(loss);
    optimizer.step([weight]);
    return [loss];
  });
  const input = { values: new Float32Array(SIDE).fill(1), shape: [SIDE] };
  const { acquire } = BufferPool.prototype;
  const refuse = new DeviceError("OUT_OF_MEMORY", "allocate: there is no memory");
  // The input is there already when the step's own memory is asked for.
  const spy = vi.spyOn(BufferPool.prototype, "acquire");
  spy.mockImplementationOnce(function (this: BufferPool, ...given) {
    spy.mockImplementation(() => {
      throw refuse;
    });
    return acquire.apply(this, given);
  });
  expect(() => plan.run(input)).toThrow(refuse);
  spy.mockRestore();
  await expect(made[0]!.data()).rejects.toThrow(refuse);
  expect(Array.from(await weight.data())).toEqual(before);
  // The next one is not a first run.
  await plan.run(input)[0]!.data();
  expect(Array.from(await weight.data())).toEqual(before.map((value) => Math.fround(value - 1)));
  plan.dispose();
});

test("a device may be destroyed within a first run", async () => {
  const other = (await openDevice("webgpu")) as WebGpuDevice;
  const plan = new StepPlan(other, (x) => {
    const product = mul(x!, 2);
    other.destroy();
    return [product];
  });
  expect(plan.run({ values: Float32Array.of(1), shape: [1] })).toHaveLength(1);
});

test("memory of a first run comes back", async () => {
  const before = device.memory();
  scope(() => {
    const plan = new StepPlan(device, (x) => [sum(relu(mul(x!, 3)))]);
    plan.run(batch(1));
    plan.dispose();
  });
  await device.sync();
  expect(device.memory()).toMatchObject({ liveBytes: before.liveBytes, liveCount: before.liveCount });
});

describe("what uses up large buffers moves up", () => {
  const large = (bytes = 2 * MIB) => new PooledBuffer(bytes);
  const view = (buffer: PooledBuffer) => ({
    ...{ shape: [buffer.bytes / 4], dtype: "f32" as const, size: buffer.bytes / 4 },
    ...{ buffer, byteOffset: 0, byteLength: buffer.bytes },
  });
  const command = (reads: readonly PooledBuffer[], writes: readonly PooledBuffer[]) =>
    ({
      kind: "dispatch",
      dispatch: {
        bindings: [
          ...reads.map((buffer) => ({ name: "x", view: view(buffer), type: "f32" })),
          ...writes.map((buffer) => ({ name: "y", view: view(buffer), type: "f32", access: "read_write" })),
        ],
      },
    }) as unknown as DispatchCommand;

  test("an update goes to behind its gradient, and behind what reads the weights", () => {
    const [weights, gradient, upstream, next] = [large(), large(), large(), large()];
    const makes = command([upstream], [gradient]);
    const reads = command([weights, upstream], [next]);
    const others = [command([next], [large()]), command([next], [large()])];
    const update = command([gradient], [weights]);
    const isPassing = (buffer: PooledBuffer) => buffer !== weights;
    expect(endingEarly([makes, reads, ...others, update], isPassing)).toEqual([makes, reads, update, ...others]);
  });

  test("a copy of what it binds stops it, another does not", () => {
    const [weights, gradient, passing] = [large(), large(), large()];
    const memories = [{}, {}, {}] as GPUBuffer[];
    weights.place(memories[0]!, 0);
    const copyOf = (from: GPUBuffer, to: GPUBuffer): Command => ({
      ...{ kind: "copy", from, fromOffset: 0, to, toOffset: 0, bytes: 16 },
    });
    const [own, other] = [copyOf(memories[0]!, memories[1]!), copyOf(memories[1]!, memories[2]!)];
    const [makes, update] = [command([passing], [gradient]), command([gradient], [weights])];
    const isPassing = (buffer: PooledBuffer) => buffer !== weights;
    expect(endingEarly([makes, own, other, update], isPassing)).toEqual([makes, own, update, other]);
  });

  test("small gradients, and what makes something for the step, stay where they are", () => {
    const [weights, small, made] = [large(), large(1024), large()];
    const commands = [
      command([], [small]),
      command([], [made]),
      command([small], [weights]),
      command([made, small], [large()]),
    ];
    expect(endingEarly(commands, (buffer) => buffer !== weights)).toEqual(commands);
  });
});
