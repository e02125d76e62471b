// Dispatches of a recorded step put into one: which may be, in what order, and that results keep their bits.
import { availableParallelism } from "node:os";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { add, exp, mul, relu, sub, tanh } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { sgdKernel } from "../../src/kernels/optimizer-rules.js";
import { RandomStream } from "../../src/tensor/random.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import type { DispatchCommand } from "../../src/webgpu/commands.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { PooledBuffer } from "../../src/webgpu/pool.js";
import type { Binding, Dispatch, GpuView } from "../../src/webgpu/program.js";
import { compilationSeconds } from "../../src/webgpu/recorded/compile-cost.js";
import { groupsOf } from "../../src/webgpu/recorded/groups.js";
import { mergedDispatch } from "../../src/webgpu/recorded/merged-text.js";
import { GpuStep } from "../../src/webgpu/recorded/step.js";
import { describeProfiles } from "../support.js";

const { mergeAfter } = GpuStep;
beforeAll(() => {
  GpuStep.mergeAfter = { cached: 2, uncached: 2 };
});
afterAll(() => {
  GpuStep.mergeAfter = mergeAfter;
});

/**
 * A command that reads and writes buffers of the given numbers, with a program of so many characters and as many
 * statements as it takes.
 */
function command(
  name: string,
  reads: number[],
  writes: number[],
  { code = 10, lanes = 8, workgroups = 2, type = "f32", body = ";".repeat(code / 10), declarations = "" } = {},
) {
  const binding = (id: number, access: Binding["access"]) =>
    ({
      name: `b${id}`,
      type,
      access,
      view: { buffer: buffers[id], byteOffset: 0, byteLength: buffers[id]!.bytes },
    }) as unknown as Binding;
  const dispatch = {
    key: name,
    bindings: [...reads.map((id) => binding(id, "read")), ...writes.map((id) => binding(id, "read_write"))],
    workgroups: [workgroups],
  } as unknown as Dispatch;
  const text = { workgroupSize: [lanes], body, declarations };
  const declared = dispatch.bindings
    .map(({ name, access }) => `var<storage, ${access}> ${name}: array<${type}>;`)
    .join("");
  const program = { key: name, code: declared.padEnd(code, "x"), text, parameterNames: 2 } as unknown;
  return { dispatch, program } as DispatchCommand;
}
const buffers = Array.from({ length: 100 }, () => new PooledBuffer(256, {} as GPUBuffer));
/** The whole of three parts, which are the three numbers after it. */
const WHOLE = buffers.length;
buffers.push(new PooledBuffer(768, {} as GPUBuffer));
for (const start of [0, 256, 512]) {
  const part = new PooledBuffer(256);
  part.partOf(buffers[WHOLE]!, start);
  buffers.push(part);
}
/** A GPU, and lavapipe with two threads. */
const gpu = { maxStorageBuffers: 16, maxBindingBytes: 2 ** 27 } as WebGpuDevice["profile"];
const lavapipe = {
  maxStorageBuffers: 16,
  maxBindingBytes: 2 ** 27,
  workers: 2,
  onProcessor: true,
} as WebGpuDevice["profile"];
const namesOf = (commands: DispatchCommand[], profile = gpu) =>
  groupsOf(commands, profile).map((group) =>
    group.map((stage) => stage.map(({ dispatch }) => dispatch.key).join("+")).join(">"),
  );

test("neighbours that do not depend on each other are merged", () => {
  expect(namesOf([command("a", [0], [1]), command("b", [0], [2]), command("c", [1, 2], [3])])).toEqual(["a+b", "c"]);
  expect(namesOf([command("a", [0], [1]), command("b", [1], [2])])).toEqual(["a", "b"]);
  expect(namesOf([command("a", [1], [0]), command("b", [2], [1])])).toEqual(["a", "b"]);
  expect(namesOf([command("a", [], [0]), command("b", [], [0])])).toEqual(["a", "b"]);
});

test("where workgroups may wait for each other, one dispatch has stages that do depend on each other", () => {
  const merged = (...commands: DispatchCommand[]) => namesOf(commands, lavapipe);
  expect(merged(command("a", [0], [1]), command("b", [0], [2]), command("c", [1, 2], [3]))).toEqual(["a+b>c"]);
  expect(merged(command("a", [0], [1]), command("b", [1], [2]), command("c", [2], [3]))).toEqual(["a>b>c"]);
  // As early as can be.
  expect(merged(command("a", [0], [1]), command("b", [1], [2]), command("c", [1], [3]))).toEqual(["a>b+c"]);
  // Memory that is written has one type, or else cannot be bound once.
  expect(merged(command("a", [0], [1]), command("b", [1], [2], { type: "vec4f" }))).toEqual(["a", "b"]);
  expect(merged(command("a", [0], [1]), command("b", [0], [2], { type: "vec4f" }))).toEqual(["a+b"]);
  // Subgroups of one workgroup each, of as many lanes as subgroups have.
  expect(merged(command("a", [0], [1], { lanes: 64 }), command("b", [1], [2], { lanes: 64 }))).toEqual(["a", "b"]);
});

test("what would take long to compile is not merged", () => {
  const accessing = (name: string, id: number, count: number) =>
    command(name, [id], [id + 1], { body: `b${id + 1}[0] = b${id}[0];`.repeat(count / 2), type: "vec4f" });
  const parts = [accessing("a", 0, 40), accessing("b", 1, 40)];
  // 20 loads of 4 numbers, 14 blocks for each of 8 lanes, and 20 stores of 10; 80 numbers, 5 parameters; 20 statements.
  const seconds = (...parts: DispatchCommand[]) => compilationSeconds(parts.map(({ program }) => program));
  for (const part of parts) expect(seconds(part)).toBeCloseTo(1.9e-6 * 3840 * 85 + 4e-4 * 20, 3);
  expect(seconds(...parts)).toBeCloseTo(4 * 1.9e-6 * 3840 * 85 + 4e-4 * 40, 3);
  const loops = command("loops", [0], [1], { body: "for (;;) { b1[0] = b0[0]; }".repeat(2) });
  expect(seconds(loops)).toBeCloseTo(1.9e-6 * 144 * 7 + 0.03 * 2 + 4e-4 * 6, 3);
  const sums = command("sums", [0], [1], { body: `b1[0] = b0[0];${"var c = 0f;".repeat(81)}`, type: "vec4f" });
  expect(seconds(sums)).toBeCloseTo(1.9e-6 * 192 * 90 + 4e-4 * 82, 3);
  expect(namesOf(parts, lavapipe)).toEqual(["a", "b"]);
  expect(namesOf([...parts, accessing("c", 2, 4)], lavapipe)).toEqual(["a", "b>c"]);
  // Nor where there are no stages, as with one thread.
  const sides = [accessing("a", 0, 40), accessing("b", 2, 40), accessing("c", 4, 4)];
  expect(namesOf(sides, { ...lavapipe, workers: undefined })).toEqual(["a+c", "b"]);
  const long = (name: string, id: number) => command(name, [id], [id + 1], { code: 30_000 });
  expect(namesOf([long("a", 0), long("b", 1)], lavapipe)).toEqual(["a", "b"]);
});

test("a command is hoisted, or put off, past long ones to where it can be merged", () => {
  const long = (name: string, reads: number[], writes: number[]) => command(name, reads, writes, { code: 1e5 });
  expect(namesOf([command("a", [0], [1]), long("P", [1], [2]), command("b", [0], [3])])).toEqual(["a+b", "P"]);
  expect(namesOf([command("a", [0], [1]), long("P", [0], [2]), command("b", [2], [3])])).toEqual(["P", "b+a"]);
  expect(namesOf([command("a", [0], [1]), long("P", [1], [2]), command("b", [2], [3])])).toEqual(["a", "P", "b"]);
  expect(namesOf([command("a", [0], [1]), long("P", [0], [2]), command("b", [1, 2], [3])], lavapipe)).toEqual([
    "P",
    "a>b",
  ]);
});

test("merged are programs of one workgroup size that together stay within the limits", () => {
  const [a, b] = [command("a", [0], [1]), (options: object) => command("b", [0], [2], options)];
  expect(namesOf([a, b({})])).toEqual(["a+b"]);
  expect(namesOf([a, b({ lanes: 64 })])).toEqual(["a", "b"]);
  expect(namesOf([a, b({ workgroups: 65534 })])).toEqual(["a", "b"]);
  expect(namesOf([a, b({ declarations: "var<workgroup> x: f32;" })])).toEqual(["a", "b"]);
  const many = (name: string, first: number) =>
    command(
      name,
      [],
      [0, 1, 2, 3, 4, 5, 6, 7].map((i) => first + i),
    );
  expect(namesOf([many("a", 0), many("b", 10), many("c", 20)])).toEqual(["a+b", "c"]);
  // What several parts use is bound once; the counters of stages are a binding as well.
  expect(namesOf([many("a", 0), many("b", 0), many("c", 8)], lavapipe)).toEqual(["a>b", "c"]);
  expect(namesOf([many("a", 0), many("b", 0), many("c", 1)], lavapipe)).toEqual(["a>b>c"]);
});

test("any order that groups give leads where the given one does", () => {
  const random = new RandomStream(5, "merge");
  const pick = (count: number) => Array.from({ length: count }, () => random.integer(12));
  for (let round = 0; round < 200; round++) {
    const commands = Array.from({ length: 14 }, (_, i) =>
      command(String(i), pick(random.integer(3)), [random.integer(12)], { code: random.uniform() < 0.3 ? 1e5 : 10 }),
    );
    /** What each buffer holds: who wrote it, from what. */
    const outcome = (order: DispatchCommand[]) => {
      const values = new Map<unknown, string>();
      for (const { dispatch } of order) {
        const read = dispatch.bindings.map(({ view }) => values.get(view.buffer) ?? "");
        for (const { view, access } of dispatch.bindings) {
          if (access === "read_write") values.set(view.buffer, `${dispatch.key}(${read})`);
        }
      }
      return values;
    };
    for (const profile of [gpu, lavapipe]) {
      const stages = groupsOf(commands, profile).flat();
      expect(stages.flat()).toHaveLength(14);
      expect(outcome(stages.flat())).toEqual(outcome(commands));
      expect(outcome(stages.flatMap((stage) => stage.toReversed()))).toEqual(outcome(commands));
    }
  }
});

test("names of one part do not meet those of another", () => {
  const part = (body: string) => {
    const made = command("p", [0], [1], { declarations: "fn twice(x: f32) -> f32 { return 2f * x; }", body });
    return { ...made, dispatch: { ...made.dispatch, sizes: { count: 3 } } };
  };
  const { program, sizes, bindings } = mergedDispatch(
    [[part("b1[0] = twice(b0[u.count].x);"), part("b1[1] = v.b1;")]],
    gpu,
  );
  const { declarations } = program();
  expect(declarations).toContain("fn part0_twice(x: f32)");
  expect(declarations).toContain("memory1[0] = part0_twice(memory0[u.part0_count].x);");
  expect(declarations).toContain("memory1[1] = v.b1;");
  expect(bindings).toMatchObject([
    { name: "memory0", access: "read" },
    { name: "memory1", access: "read_write" },
  ]);
  expect(sizes).toMatchObject({ part0_count: 3, part1_count: 3, part0_workgroups: 2, part1_gridX: 2 });
});

test("parts of memory that is also taken as a whole are bound with it, and their indices begin where they lie", () => {
  const write = (name: string, part: number, options = {}) =>
    command(name, [part], [WHOLE + 1 + part], { body: `b${WHOLE + 1 + part}[lane] = b${part}[lane];`, ...options });
  const all = command("all", [WHOLE], [9], { body: `b9[lane] = b${WHOLE}[b${WHOLE}[lane + 1u]];` });
  const parts = [write("a", 0), write("b", 1), write("c", 2)];
  expect(namesOf([...parts, all], lavapipe)).toEqual(["a+b+c>all"]);
  // The whole last or first, or between the parts: it is one binding of its full length.
  for (const stage of [
    [...parts, all],
    [all, ...parts],
    [parts[2]!, all, parts[0]!, parts[1]!],
  ]) {
    const { program, sizes, bindings } = mergedDispatch([stage], lavapipe);
    expect(bindings).toHaveLength(5);
    const whole = bindings.find(({ view }) => view.byteLength === 768)!;
    expect(whole).toMatchObject({ access: "read_write", view: { byteOffset: 0 } });
    const [b, c] = [stage.indexOf(parts[1]!), stage.indexOf(parts[2]!)];
    expect(sizes).toMatchObject({ [`part${b}_start_b${WHOLE + 2}`]: 64, [`part${c}_start_b${WHOLE + 3}`]: 128 });
    const { declarations } = program();
    expect(declarations).toContain(`${whole.name}[u.part${b}_start_b${WHOLE + 2} + u32(lane)] = memory`);
    expect(declarations).toContain(`${whole.name}[${whole.name}[lane + 1u]];`);
    expect(declarations).toContain(`${whole.name}[lane] = memory`);
  }
  // Without the whole, each part is bound alone, though no dispatch may read one part of a buffer and write another.
  const { bindings } = mergedDispatch([[parts[1]!, command("r", [WHOLE + 1], [8], { type: "vec4f" })]], lavapipe);
  const views = bindings.map(({ type, access, view }) => [type, access, view.byteLength]);
  expect(views).toEqual([
    ["f32", "read", 256],
    ["f32", "read_write", 256],
    ["vec4f", "read_write", 256],
    ["vec4f", "read_write", 256],
  ]);
  // Other types, and what is more than indexed, cannot be moved.
  expect(namesOf([write("a", 1, { type: "vec4f" }), all], lavapipe)).toEqual(["a", "all"]);
  const length = write("l", 1, { body: `b${WHOLE + 2}[arrayLength(&b${WHOLE + 2}) - 1u] = 0f;` });
  expect(namesOf([length, all], lavapipe)).toEqual(["l", "all"]);
  // Within a part, an index may be any expression, of either sign's type.
  const nested = write("n", 1, { body: `b${WHOLE + 2}[u.i[0] + i32(b${WHOLE + 2}[2])] = v.b${WHOLE + 2}[1];` });
  expect(
    mergedDispatch([[nested], [all]], lavapipe, { buffer: buffers[50] } as GpuView).program().declarations,
  ).toMatch(
    /memory(\d)\[u.part0_start_b102 \+ u32\(u.part0_i\[0\] \+ i32\(memory\1\[u.part0_start_b102 \+ u32\(2\)\]\)\)\] = v.b102\[1\];/,
  );
});

/** Runs `fn` until the merged programs of its steps are compiled. */
const settled = () => vi.waitUntil(() => GpuStep.merging === 0, { timeout: 60_000 });

describeProfiles((device) => {
  test("a recorded step takes fewer dispatches after some runs, with the same bits", { timeout: 120_000 }, async () => {
    const random = new RandomStream(8, "merge");
    const values = (size: number) => Float32Array.from({ length: size }, () => random.normal());
    const inputs = Array.from({ length: 8 }, () => ({ values: values(12), shape: [4, 3] }));
    const starts = [values(3 * 5), values(3 * 70), values(3 * 5)];
    const train = async (eager: boolean) => {
      const weights = starts.map((start, i) => tensor(device(), start, { shape: i === 1 ? [3, 70] : [3, 5] }));
      let step = 0;
      const plan = new StepPlan(
        device(),
        (x) => {
          const [a, b, c] = weights as [Tensor, Tensor, Tensor];
          device().everyTime(() => {
            step++;
          });
          // Independent of each other, of different sizes, each with a parameter that changes.
          const left = relu(matmul(x!, a));
          const right = tanh(matmul(x!, b));
          runInto(sgdKernel, [exp(mul(c, -1))], [a], () => ({ learningRate: 0.01 * step }));
          runInto(sgdKernel, [sub(b, 1)], [b], () => ({ learningRate: 0.1 / step }));
          return [add(sum(left), sum(right)), left, right];
        },
        { eager },
      );
      const found: number[][] = [];
      const dispatches: number[] = [];
      for (let i = 0; i < 12; i++) {
        if (i === 8) await settled();
        const before = device().counters.dispatches;
        const outputs = plan.run(inputs[i % inputs.length]!);
        dispatches.push(device().counters.dispatches - before);
        found.length = 0;
        for (const output of outputs) found.push(Array.from(await output.data()));
      }
      for (const weight of weights) found.push(Array.from(await weight.data()));
      plan.dispose();
      for (const weight of weights) weight.dispose();
      return { found, dispatches };
    };
    const replayed = await train(false);
    expect(replayed.dispatches[11]).toBeLessThan(replayed.dispatches[0]!);
    const eager = await train(true);
    expect(replayed.found).toEqual(eager.found);
    // A step recorded later is merged from the start. Its first run has what stays the same, exp(-c), too.
    const again = await train(false);
    expect(again.found).toEqual(eager.found);
    expect(again.dispatches[1]).toBe(replayed.dispatches[11]! + 2);
    expect(again.dispatches[2]).toBe(replayed.dispatches[11]);
  });

  test("stages see what those before wrote, all of it", { timeout: 120_000 }, async () => {
    const side = 96;
    const square = (of: (row: number, column: number) => number) =>
      Float32Array.from({ length: side * side }, (_, i) => of(Math.floor(i / side), i % side));
    const [x, reversal] = [square((r, c) => 100 * r + c), square((r, c) => (r + c === side - 1 ? 1 : 0))].map(
      (values) => tensor(device(), values, { shape: [side, side] }),
    ) as [Tensor, Tensor];
    // Rows and columns change places, so that what a workgroup reads another one wrote just before.
    const plan = new StepPlan(device(), (scale) => {
      let y = mul(x, scale!);
      for (let i = 0; i < 3; i++) y = add(matmul(matmul(reversal, y), reversal), 1);
      return [y];
    });
    const counts: number[] = [];
    for (let i = 1; i < 100; i++) {
      if (i === 6) await settled();
      const before = device().counters.dispatches;
      const [y] = plan.run({ values: Float32Array.of(i), shape: [1] }) as [Tensor];
      counts.push(device().counters.dispatches - before);
      const found = await y.data();
      const expected = square((r, c) => (100 * (side - 1 - r) + side - 1 - c) * i + 3);
      expect(
        found.findIndex((value, k) => value !== expected[k]),
        `run ${i}`,
      ).toBe(-1);
    }
    if (device().profile.workers !== undefined) expect(counts.at(-1)).toBeLessThan(counts[0]! / 2);
    plan.dispose();
    x.dispose();
    reversal.dispose();
  });
});

test("a dispatch of stages has as many workgroups as lavapipe has cores to compute with", async () => {
  const workers = async (options: object) => {
    await using device = (await openDevice("webgpu", options)) as WebGpuDevice;
    return { llvmpipe: /llvmpipe/.test(device.adapter.info.description), workers: device.profile.workers };
  };
  const { llvmpipe, workers: most } = await workers({});
  expect(most).toBe(llvmpipe ? availableParallelism() : undefined);
  expect(await workers({ tinyDispatches: true })).toMatchObject({ workers: undefined });
  expect(await workers({ profile: "hardware" })).toMatchObject({ workers: undefined });
  vi.stubEnv("LP_NUM_THREADS", "1");
  expect(await workers({})).toMatchObject({ workers: llvmpipe ? 1 : undefined });
  vi.unstubAllEnvs();
});

test("what a merged program cannot be compiled for is raised", { timeout: 60_000 }, async () => {
  const device = (await openDevice("webgpu")) as WebGpuDevice;
  const compile = vi.spyOn(device.gpu, "createComputePipelineAsync");
  const plan = new StepPlan(device, (x) => [relu(x!), tanh(x!)]);
  const input = { values: Float32Array.of(1, 2), shape: [2] };
  for (let i = 0; i < 3; i++) await plan.run(input)[0]!.data();
  compile.mockRejectedValueOnce(new Error("no memory for it"));
  plan.run(input);
  await expect(vi.waitUntil(() => device.flush().then(() => false), { timeout: 20_000 })).rejects.toThrow(
    "merged: its WGSL did not compile",
  );
  device.destroy();
});
