// The WebGPU device itself: order of writes, kernels and reads; long queues; memory books; errors. The kernels here are
// small ones of this file, so that a fault of the device shows as such.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { add } from "../../src/autograd/ops/elementwise.js";
import { DeviceError } from "../../src/tensor/errors.js";
import { defineKernel, type Kernel } from "../../src/tensor/kernel.js";
import { RandomStream } from "../../src/tensor/random.js";
import { empty, run, runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { gridOf } from "../../src/webgpu/program.js";
import { cpu } from "../support.js";

/** y += factor * x + shift, element by element. */
const addScaled = defineKernel<{ factor: number; shift: number }>({
  name: "addScaled",
  cpu: ({ inputs: [x], outputs: [y], params: { factor, shift } }) => {
    for (let i = 0; i < y!.size; i++) y!.data[i]! += factor * x!.data[i]! + shift;
  },
  webgpu: ({ inputs: [x], outputs: [y], params: { factor, shift }, dispatch }) =>
    dispatch({
      key: "vec4",
      program: () => ({
        workgroupSize: [64],
        body: "if (global.x < u.count) { y[global.x] += u.factor * x[global.x] + u.shift; }",
      }),
      bindings: [
        { name: "x", view: x!, type: "vec4f" },
        { name: "y", view: y!, type: "vec4f", access: "read_write" },
      ],
      sizes: { count: Math.ceil(y!.size / 4) },
      numbers: { factor, shift },
      workgroups: gridOf(Math.ceil(y!.size / 256)),
    }),
});

/** A kernel of one dispatch with the given WGSL, for errors. */
function faulty(
  name: string,
  body: string,
  workgroups: [number, number?, number?] = [1],
  workgroupSize: readonly [number] = [64],
): Kernel<object> {
  return defineKernel<object>({
    name,
    cpu: () => {},
    webgpu: ({ inputs: [x], outputs: [y], dispatch }) =>
      dispatch({
        key: "only",
        program: () => ({ workgroupSize, body }),
        bindings: [
          { name: "x", view: x!, type: "f32" },
          { name: "y", view: y!, type: "f32", access: "read_write" },
        ],
        workgroups,
      }),
  });
}

let device: WebGpuDevice;
beforeAll(async () => {
  device = await openDevice("webgpu");
});
afterAll(() => device.destroy());

const filled = (value: number, size = 100) => tensor(device, new Float32Array(size).fill(value));
const first = async (t: Tensor) => (await t.data())[0];
/** The different values of a tensor. */
const all = async (t: Tensor) => [...new Set(await t.data())];

describe("order", () => {
  it("a write after recorded reads of the same memory does not reach back", async () => {
    const x = filled(1);
    const sums: Tensor[] = [];
    for (let round = 1; round <= 5; round++) {
      x.assign(new Float32Array(100).fill(round));
      const y = filled(0);
      runInto(addScaled, [x], [y], { factor: 1, shift: 0 });
      sums.push(y);
    }
    x.assign(new Float32Array(100).fill(-1));
    for (const [i, y] of sums.entries()) expect(await first(y)).toBe(i + 1);
    expect(await first(x)).toBe(-1);
    for (const t of [x, ...sums]) t.dispose();
  });

  it("memory freed while recorded work still reads it is not overwritten by new tensors", async () => {
    const y = filled(0);
    for (let i = 1; i <= 300; i++) {
      const x = filled(i);
      runInto(addScaled, [x], [y], { factor: 1, shift: 0 });
      x.dispose();
    }
    expect(await first(y)).toBe((300 * 301) / 2);
    y.dispose();
  });

  it("random programs of writes, kernels, reads and frees give what the reference gives", async () => {
    const random = new RandomStream(4, "programs");
    for (let program = 0; program < 20; program++) {
      const size = 1 + random.integer(700);
      const pairs = Array.from({ length: 4 }, () => [
        tensor(device, new Float32Array(size)),
        tensor(cpu, new Float32Array(size)),
      ]);
      const reads: Promise<void>[] = [];
      for (let step = 0; step < 80; step++) {
        const [from, to] = [random.integer(4), random.integer(4)];
        const chance = random.uniform();
        if (chance < 0.3) {
          const values = Float32Array.from({ length: size }, () => random.integer(100));
          for (const t of pairs[from]!) t.assign(values);
        } else if (chance < 0.9) {
          if (from === to) continue;
          // Small integers and halves stay exact in float32.
          const params = { factor: [0.5, -0.5, 1, -1][random.integer(4)]!, shift: random.integer(5) };
          for (const which of [0, 1]) runInto(addScaled, [pairs[from]![which]!], [pairs[to]![which]!], params);
          if (step % 10 === 9) for (const t of pairs[to]!) t.assign(new Float32Array(size));
        } else if (chance < 0.95) {
          const expected = pairs[from]![1]!.data();
          reads.push(pairs[from]![0]!.data().then(async (found) => expect([...found]).toEqual([...(await expected)])));
        } else {
          for (const t of pairs[from]!) t.dispose();
          pairs[from] = [tensor(device, new Float32Array(size)), tensor(cpu, new Float32Array(size))];
        }
      }
      await Promise.all(reads);
      for (const [found, expected] of pairs) expect([...(await found!.data())]).toEqual([...(await expected!.data())]);
      for (const t of pairs.flat()) t.dispose();
    }
  });

  it("concurrent reads of different sizes each get their own values", async () => {
    const tensors = [1, 1000, 5, 70_000, 3].map((size, i) => filled(i, size));
    const results = await Promise.all(tensors.map((t) => t.data()));
    results.forEach((values, i) => {
      expect(values.length).toBe(tensors[i]!.size);
      expect(values.every((v) => v === i)).toBe(true);
    });
    for (const t of tensors) t.dispose();
  });
});

describe("long queues", () => {
  it("more commands than a submit takes are submitted along the way", async () => {
    const [x, y] = [filled(1), filled(0)];
    await device.sync();
    device.resetCounters();
    for (let i = 0; i < 1000; i++) runInto(addScaled, [x], [y], { factor: 1, shift: 0 });
    expect(device.counters.dispatches).toBe(1000);
    expect(device.counters.byKernel).toEqual(new Map([["addScaled", 1000]]));
    // The pipeline was compiled by earlier tests, so submits did not wait for the read.
    expect(device.counters.submits).toBeGreaterThanOrEqual(10);
    expect(await first(y)).toBe(1000);
    x.dispose();
    y.dispose();
  });

  it("more parameters than the uniform buffer holds, before the pipeline is compiled", async () => {
    // A device of its own: nothing is compiled, so nothing is submitted until the parameters overflow.
    await using fresh = await openDevice("webgpu");
    const [x, y] = [tensor(fresh, [1, 1, 1, 1]), tensor(fresh, [0, 0, 0, 0])];
    const count = Math.ceil((3 * 65536) / fresh.gpu.limits.minUniformBufferOffsetAlignment);
    let expected = 0;
    for (let i = 0; i < count; i++) {
      runInto(addScaled, [x], [y], { factor: i % 3, shift: i % 5 });
      expected += (i % 3) + (i % 5);
    }
    expect(await first(y)).toBe(expected);
  });

  it("sync returns when everything is done, flush before", async () => {
    const [x, y] = [filled(1), filled(0)];
    device.resetCounters();
    runInto(addScaled, [x], [y], { factor: 1, shift: 0 });
    await device.flush();
    expect(device.counters.submits).toBe(1);
    await device.sync();
    await device.sync();
    expect(device.counters.submits).toBe(1);
    for (const t of [x, y]) t.dispose();
  });
});

// lavapipe maps a page for each bind group, and a process has 65,530 maps; the driver crashes without one.
describe("bind groups of one turn of the event loop", () => {
  it("come to an end with an error, and a wait brings them back", { timeout: 120_000 }, async () => {
    const device = await openDevice("webgpu");
    if (device.profile.onProcessor !== true) return device.destroy();
    const all = Array.from({ length: 220 }, (_, i) => tensor(device, [i]));
    const pairs = () => {
      for (const a of all) for (const b of all) add(a, b).dispose();
    };
    expect(pairs).toThrow(/webgpu: 45000 sets of buffers were bound without a wait/);
    await device.sync();
    const [a, b] = all.slice(-2);
    expect(await add(a!, b!).data()).toEqual(Float32Array.of(437));
    device.destroy();
  });
});

describe("memory", () => {
  it("counts live, pooled and peak bytes in size classes, and reuses them", async () => {
    await using fresh = await openDevice("webgpu");
    expect(fresh.memory()).toEqual({ liveBytes: 0, pooledBytes: 0, peakBytes: 0, liveCount: 0 });
    const x = empty(fresh, [1000]); // 4000 bytes, in a class of 4096
    const y = empty(fresh, [3]); // at least 256
    expect(fresh.memory()).toEqual({ liveBytes: 4096 + 256, pooledBytes: 0, peakBytes: 4352, liveCount: 2 });
    x.dispose();
    expect(fresh.memory()).toEqual({ liveBytes: 256, pooledBytes: 4096, peakBytes: 4352, liveCount: 1 });
    const z = empty(fresh, [10, 100]);
    expect(fresh.memory()).toEqual({ liveBytes: 4352, pooledBytes: 0, peakBytes: 4352, liveCount: 2 });
    y.dispose();
    z.dispose();
    fresh.trim();
    expect(fresh.memory()).toEqual({ liveBytes: 0, pooledBytes: 0, peakBytes: 4352, liveCount: 0 });
  });

  it("wastes at most a quarter", () => {
    for (let size = 64; size < 5e6; size = Math.ceil(size * 1.37)) {
      const before = device.memory().liveBytes;
      const t = empty(device, [size]);
      const held = device.memory().liveBytes - before;
      expect(held).toBeGreaterThanOrEqual(size * 4);
      expect(held).toBeLessThanOrEqual(Math.max(256, size * 4 * 1.25 + 256));
      t.dispose();
    }
    device.trim();
  });

  it("trim leaves alone what recorded work still needs", async () => {
    const y = filled(0);
    const x = filled(3);
    runInto(addScaled, [x], [y], { factor: 2, shift: 0 });
    x.dispose();
    device.trim();
    expect(await first(y)).toBe(6);
    y.dispose();
  });

  it("a loop of equal steps allocates nothing new", async () => {
    const step = async () => {
      const [x, y] = [filled(1, 5000), filled(2, 5000)];
      const z = run(addScaledInto, [x, y], x, {});
      for (const t of [x, y]) t.dispose();
      expect(await first(z)).toBe(3);
      z.dispose();
    };
    const addScaledInto = faulty("plus", "if (global.x < arrayLength(&y)) { y[global.x] = x[global.x] + 2.0; }", [80]);
    await step();
    await step();
    const { peakBytes, liveBytes } = device.memory();
    for (let i = 0; i < 20; i++) await step();
    expect(device.memory()).toMatchObject({ peakBytes, liveBytes });
  });
});

describe("errors", () => {
  it("WGSL that does not compile is an error of the call, which it names; what was recorded before is done", async () => {
    const [x, y] = [filled(1), filled(0)];
    runInto(addScaled, [x], [y], { factor: 2, shift: 0 });
    const crooked = faulty("crooked", "y[0] = nonsense;");
    for (let i = 0; i < 2; i++) {
      expect(() => run(crooked, [x], { shape: [2, 50], dtype: "f32" }, {})).toThrow(
        /^crooked \(\[100\] to \[2, 50\]\): its WGSL did not compile.*nonsense/s,
      );
    }
    expect(await first(y)).toBe(2);
    await device.sync();
    for (const t of [x, y]) t.dispose();
  });

  /** A program that is found to be wrong when its pipeline is made, which takes its time: a workgroup of so many. */
  const tooWide = (name: string) => faulty(name, "y[0] = x[0];", [1], [100_000]);

  it("a program that fails later costs its results, and what is computed from them, alone", async () => {
    await using other = await openDevice("webgpu");
    const [x, elsewhere] = [filled(1), tensor(other, [5])];
    const [before, after, changed] = [filled(0), filled(0), filled(7)];
    runInto(addScaled, [x], [before], { factor: 2, shift: 0 });
    const wide = run(tooWide("wide"), [x], x, {});
    const derived = filled(0);
    runInto(addScaled, [wide], [derived], { factor: 1, shift: 0 });
    runInto(tooWide("wide"), [x], [changed], {});
    runInto(addScaled, [x], [after], { factor: 3, shift: 0 });
    const results = await Promise.allSettled([before, wide, derived, after, changed].map(first));
    const reason = { code: "VALIDATION", message: expect.stringMatching(/^wide \(\[100\] to \[100\]\): .*100000/s) };
    expect(results).toMatchObject([
      { status: "fulfilled", value: 2 },
      { status: "rejected", reason },
      { status: "rejected", reason },
      { status: "fulfilled", value: 3 },
      { status: "rejected", reason },
    ]);
    // The stack is that of the call.
    expect((results[1] as PromiseRejectedResult).reason.stack).toContain("device.test.ts");
    // It was raised: not once more. Values from the host are values again.
    await device.sync();
    changed.assign(new Float32Array(100).fill(4));
    runInto(addScaled, [x], [changed], { factor: 1, shift: 0 });
    expect(await first(changed)).toBe(5);
    // Known by now, it is an error of the next call.
    expect(() => run(tooWide("wide"), [x], { shape: [3], dtype: "f32" }, {})).toThrow(/^wide \(\[100\] to \[3\]\)/);
    expect(await first(elsewhere)).toBe(5);
    for (const t of [x, before, wide, derived, after, changed]) t.dispose();
  });

  it("a failure whose results nobody reads is raised by sync, once", async () => {
    const x = filled(1);
    const unread = run(tooWide("unread"), [x], x, {});
    expect(await first(x)).toBe(1);
    await expect(device.sync()).rejects.toThrow(/^unread \(/);
    await device.sync();
    for (const t of [x, unread]) t.dispose();
  });

  it("a step is neither recorded nor run again with what a call failed to compute", async () => {
    const [x, y] = [filled(1), filled(0)];
    const wide = run(tooWide("step"), [x], x, {});
    await device.flush().catch(() => {});
    const add = () => {
      runInto(addScaled, [wide], [y], { factor: 1, shift: 0 });
      return [];
    };
    expect(() => device.record(add)).toThrow(/^step \(/);
    wide.assign(new Float32Array(100).fill(2));
    const step = device.record(add)!;
    expect(await first(y)).toBe(2);
    expect(() => runInto(tooWide("step"), [x], [wide], {})).toThrow(/^step \(/);
    runInto(tooWide("later"), [x], [wide], {});
    expect(() => step.run()).toThrow(/^later \(/);
    wide.assign(new Float32Array(100).fill(3));
    step.run();
    expect(await first(y)).toBe(5);
    step.dispose();
    await device.flush().catch(() => {});
    for (const t of [x, y, wide]) t.dispose();
  });

  it("a call that throws midway leaves nothing behind", async () => {
    const [x, y] = [filled(1), filled(0)];
    await device.sync();
    const half = defineKernel<object>({
      name: "half",
      cpu: () => {},
      webgpu: (call) => {
        call.scratch({ shape: [1000], dtype: "f32" });
        addScaled.webgpu({ ...call, params: { factor: 1, shift: 0 } });
        throw new DeviceError("LIMIT", "half: enough");
      },
    });
    const { liveBytes, liveCount } = device.memory();
    expect(() => runInto(half, [x], [y], {})).toThrow("half: enough");
    expect(() => run(half, [x], { shape: [5000], dtype: "f32" }, {})).toThrow("half: enough");
    expect(device.memory()).toMatchObject({ liveBytes, liveCount });
    expect(await first(y)).toBe(0);
    for (const t of [x, y]) t.dispose();
  });

  it("more than the machine's memory is refused at the call; what is kept for reuse makes room", () => {
    const small = new WebGpuDevice(device.adapter, device.gpu, { ...device.profile, memoryBytes: 2 ** 20 });
    const half = empty(small, [2 ** 17]);
    expect(() => empty(small, [2 ** 18])).toThrow(/there is no memory for 1048576 bytes more, 524288 are in use/);
    half.dispose();
    empty(small, [2 ** 18]).dispose();
    small.trim();
  });

  it("a dispatch that writes what it also reads is refused by name, the rest is done", async () => {
    const [x, y] = [filled(1), filled(0)];
    runInto(addScaled, [x], [y], { factor: 2, shift: 0 });
    const onto = defineKernel({ ...addScaled, webgpu: (call) => addScaled.webgpu({ ...call, inputs: call.outputs }) });
    expect(() => runInto(onto, [x], [y], { factor: 1, shift: 0 })).toThrow(
      'addScaled: "y" is written and must not share memory with "x"; pass two tensors',
    );
    expect(await first(y)).toBe(2);
    for (const t of [x, y]) t.dispose();
  });

  it("tensors that are placed together keep their values, and can be told apart", async () => {
    await device.sync();
    const before = device.memory();
    const [a, b, c] = [filled(1, 70), filled(2, 300), filled(3, 300)] as const;
    const one = { a: filled(1, 70), bc: filled(1, 300) };
    runInto(addScaled, [one.bc], [b], { factor: 5, shift: 0 });
    device.placeTogether([a, b, c].map(({ storage }) => storage));
    runInto(addScaled, [one.bc], [c], { factor: 0, shift: 1 });
    // One of them read, another written: WebGPU has one access for all of a buffer.
    runInto(addScaled, [b], [c], { factor: 10, shift: 0 });
    expect([await all(a), await all(b), await all(c)]).toEqual([[1], [7], [74]]);
    // The host writes into one of them while kernels that use another have not been submitted.
    runInto(addScaled, [one.a], [a], { factor: 1, shift: 0 });
    b.assign(new Float32Array(300).fill(9));
    runInto(addScaled, [b], [c], { factor: 1, shift: 0 });
    expect([await all(a), await all(b), await all(c)]).toEqual([[2], [9], [83]]);
    for (const t of [b, a]) t.dispose();
    expect(await all(c)).toEqual([83]);
    for (const t of [c, one.a, one.bc]) t.dispose();
    const { liveBytes, liveCount } = before;
    expect(device.memory()).toMatchObject({ liveBytes, liveCount });
  });

  it("a validation error is a DeviceError, raised once, and names the kernel", async () => {
    const x = filled(1);
    const unaligned = defineKernel<object>({
      name: "unaligned",
      cpu: () => {},
      webgpu: ({ inputs: [input], dispatch }) =>
        dispatch({
          key: "only",
          program: () => ({ workgroupSize: [1], body: "x[0] = 1.0;" }),
          bindings: [{ name: "x", view: { ...input!, byteOffset: 4 }, type: "f32", access: "read_write" }],
          workgroups: [1],
        }),
    });
    const error = await (async () => {
      runInto(unaligned, [x], [], {});
      await device.sync();
    })().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DeviceError);
    expect(error).toMatchObject({ code: "VALIDATION" });
    expect((error as Error).message).toContain("unaligned/only");
    await device.sync();
    expect(await first(x)).toBe(1);
    x.dispose();
  });

  it("too many workgroups or too large a binding are refused by name", () => {
    const x = filled(1);
    expect(() => run(faulty("endless", "y[0] = x[0];", [65536]), [x], x, {})).toThrow(
      "internal: endless dispatches 65536 x 1 x 1 workgroups; fold with gridOf()",
    );
    expect(() => empty(device, [2 ** 40])).toThrow(/empty: a tensor on this webgpu device has at most \d+ elements/);
    x.dispose();
  });

  it("what is wrong with a submit costs the call that is to blame alone", async () => {
    const [x, broken] = [filled(1), filled(1)];
    // Not compiled before, so that all wait for the same submit; it fails by a buffer that is gone.
    const copy = faulty("copy", "y[0] = x[0];");
    const [good, bad, last] = [run(copy, [x], x, {}), run(copy, [broken], x, {}), run(copy, [x], x, {})];
    (broken.storage as unknown as { buffer: { gpu: GPUBuffer } }).buffer.gpu.destroy();
    const results = await Promise.allSettled([bad, good, broken, last].map(first));
    const message = (name: string) => expect.stringMatching(new RegExp(`^${name}.*destroyed`, "s"));
    expect(results).toMatchObject([
      { status: "rejected", reason: { code: "VALIDATION", message: message("copy \\(\\[100\\] to \\[100\\]\\): ") } },
      { status: "fulfilled", value: 1 },
      { status: "rejected", reason: { code: "VALIDATION", message: message("read: ") } },
      { status: "fulfilled", value: 1 },
    ]);
    await device.sync();
    for (const t of [x, bad, good, last]) t.dispose();
  });

  it("a device lost behind its back is named, again and again", async () => {
    const lost = await openDevice("webgpu");
    const x = tensor(lost, [1, 2, 3]);
    await x.data();
    lost.gpu.destroy();
    await lost.gpu.lost;
    for (let i = 0; i < 3; i++) {
      const error = await x.data().catch((e: unknown) => e);
      expect(error).toBeInstanceOf(DeviceError);
      expect(error).toMatchObject({ code: "DEVICE_LOST" });
      expect((error as Error).message).toContain("the device was lost");
    }
    expect(() => tensor(lost, [1])).toThrow("the device was lost");
    await expect(lost.sync()).rejects.toThrow("the device was lost");
    lost.destroy();
  });

  it("a device lost while a read is under way rejects it", async () => {
    const lost = await openDevice("webgpu");
    const x = tensor(lost, new Float32Array(1e6));
    const reading = x.data();
    lost.gpu.destroy();
    await expect(reading).rejects.toMatchObject({ code: "DEVICE_LOST" });
    lost.destroy();
  });
});
