// Dispatches of a recorded step put into one: which may be, in what order, and that results keep their bits.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { add, exp, mul, relu, sub, tanh } from "../../src/autograd/ops/elementwise.js";
import { matmul } from "../../src/autograd/ops/matmul.js";
import { sum } from "../../src/autograd/ops/reduce.js";
import { sgdKernel } from "../../src/kernels/optimizer.js";
import { openDevice } from "../../src/tensor/open.js";
import { RandomStream } from "../../src/tensor/random.js";
import { StepPlan } from "../../src/tensor/step-plan.js";
import { runInto, type Tensor, tensor } from "../../src/tensor/tensor.js";
import type { WebGpuDevice } from "../../src/tensor/webgpu.js";
import type { DispatchCommand, Program } from "../../src/tensor/webgpu-commands.js";
import { groupsOf, mergedDispatch } from "../../src/tensor/webgpu-merge.js";
import { WebGpuPlan } from "../../src/tensor/webgpu-plan.js";
import type { Binding, Dispatch } from "../../src/tensor/webgpu-program.js";
import { describeProfiles } from "../support.js";

const { mergeAfter } = WebGpuPlan;
beforeAll(() => {
  WebGpuPlan.mergeAfter = 2;
});
afterAll(() => {
  WebGpuPlan.mergeAfter = mergeAfter;
});

/** A command that reads and writes buffers of the given numbers, with a program of so many characters. */
function command(name: string, reads: number[], writes: number[], { code = 10, lanes = 8, workgroups = 2 } = {}) {
  const binding = (id: number, access: Binding["access"]) =>
    ({ name: `b${id}`, type: "f32", view: { buffer: buffers[id] }, access }) as unknown as Binding;
  const dispatch = {
    key: name,
    bindings: [...reads.map((id) => binding(id, "read")), ...writes.map((id) => binding(id, "read_write"))],
    workgroups: [workgroups],
  } as unknown as Dispatch;
  const program = { code: "x".repeat(code), text: { workgroupSize: [lanes], body: "" }, parameterNames: 2 } as unknown;
  return { dispatch, program } as DispatchCommand;
}
const buffers = Array.from({ length: 100 }, (_, id) => ({ id }));
const limits = { maxStorageBuffers: 16 } as WebGpuDevice["profile"];
const namesOf = (commands: DispatchCommand[]) =>
  groupsOf(commands, limits).map((group) => group.map(({ dispatch }) => dispatch.key).join("+"));

test("neighbours that do not depend on each other are merged", () => {
  expect(namesOf([command("a", [0], [1]), command("b", [0], [2]), command("c", [1, 2], [3])])).toEqual(["a+b", "c"]);
  expect(namesOf([command("a", [0], [1]), command("b", [1], [2])])).toEqual(["a", "b"]);
  expect(namesOf([command("a", [1], [0]), command("b", [2], [1])])).toEqual(["a", "b"]);
  expect(namesOf([command("a", [], [0]), command("b", [], [0])])).toEqual(["a", "b"]);
});

test("a command is hoisted, or put off, past long ones to where it can be merged", () => {
  const long = (name: string, reads: number[], writes: number[]) => command(name, reads, writes, { code: 1e5 });
  expect(namesOf([command("a", [0], [1]), long("P", [1], [2]), command("b", [0], [3])])).toEqual(["a+b", "P"]);
  expect(namesOf([command("a", [0], [1]), long("P", [0], [2]), command("b", [2], [3])])).toEqual(["P", "b+a"]);
  expect(namesOf([command("a", [0], [1]), long("P", [1], [2]), command("b", [2], [3])])).toEqual(["a", "P", "b"]);
});

test("merged are programs of one workgroup size that together stay within the limits", () => {
  const [a, b] = [command("a", [0], [1]), (options: object) => command("b", [0], [2], options)];
  expect(namesOf([a, b({})])).toEqual(["a+b"]);
  expect(namesOf([a, b({ lanes: 64 })])).toEqual(["a", "b"]);
  expect(namesOf([a, b({ workgroups: 65534 })])).toEqual(["a", "b"]);
  const many = (name: string, first: number) =>
    command(
      name,
      [],
      [0, 1, 2, 3, 4, 5].map((i) => first + i),
    );
  expect(namesOf([many("a", 0), many("b", 10), many("c", 20)])).toEqual(["a+b", "c"]);
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
    const groups = groupsOf(commands, limits);
    expect(groups.flat()).toHaveLength(14);
    expect(outcome(groups.flat())).toEqual(outcome(commands));
    expect(outcome(groups.flatMap((group) => group.toReversed()))).toEqual(outcome(commands));
  }
});

test("names of one part do not meet those of another", () => {
  const part = (body: string) => {
    const text = { workgroupSize: [8], declarations: "fn twice(x: f32) -> f32 { return 2f * x; }", body } as const;
    const dispatch = { ...command("p", [0], [1]).dispatch, sizes: { count: 3 } };
    return { dispatch, program: { key: body, text } as unknown as Program };
  };
  const { program, sizes } = mergedDispatch([part("b1[0] = twice(b0[u.count].x);"), part("b1[1] = v.b1;")]);
  const { declarations } = program();
  expect(declarations).toContain("fn part0_twice(x: f32)");
  expect(declarations).toContain("part0_b1[0] = part0_twice(part0_b0[u.part0_count].x);");
  expect(declarations).toContain("part1_b1[1] = v.b1;");
  expect(sizes).toMatchObject({ part0_count: 3, part1_count: 3, part0_workgroups: 2, part1_gridX: 2 });
});

describeProfiles((device) => {
  test("a recorded step takes fewer dispatches after some runs, with the same bits", { timeout: 60_000 }, async () => {
    const random = new RandomStream(8, "merge");
    const values = (size: number) => Float32Array.from({ length: size }, () => random.normal());
    const inputs = Array.from({ length: 8 }, () => ({ values: values(12), shape: [4, 3] }));
    const starts = [values(3 * 5), values(3 * 70), values(3 * 5)];
    /** So many steps, or else two more than it takes for the dispatches to become fewer. */
    const train = async (eager: boolean, steps?: number) => {
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
      const merged = () => dispatches.filter((count) => count < dispatches[0]!).length;
      for (let i = 0; steps === undefined ? merged() < 2 : i < steps; i++) {
        const before = device().counters.dispatches;
        const outputs = plan.run(inputs[i % inputs.length]!);
        dispatches.push(device().counters.dispatches - before);
        found.length = 0;
        for (const output of outputs) found.push(Array.from(await output.data()));
        if (steps === undefined) await new Promise((resolve) => setTimeout(resolve, 20));
      }
      for (const weight of weights) found.push(Array.from(await weight.data()));
      plan.dispose();
      for (const weight of weights) weight.dispose();
      return { found, dispatches };
    };
    const replayed = await train(false);
    const steps = replayed.dispatches.length;
    const eager = await train(true, steps);
    expect(replayed.found).toEqual(eager.found);
    // A step recorded later is merged from the start.
    const again = await train(false, steps);
    expect(again.found).toEqual(eager.found);
    expect(again.dispatches[1]).toBe(replayed.dispatches.at(-1));
  });
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
