// Compiling on a second core: another device gets the programs, last first, while the first one is at work, and only
// then.
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { abs, exp, relu, sigmoid, tanh } from "../../src/autograd/ops/elementwise.js";
import { tensor } from "../../src/tensor/tensor.js";
import type { Program } from "../../src/webgpu/commands.js";
import { CompileAhead } from "../../src/webgpu/compile-ahead.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { gainsFromCompilingAhead } from "../../src/webgpu/open.js";
import { openDevice } from "../../src/webgpu/open-device.js";

let device: WebGpuDevice;
let programs: Program[];
beforeAll(async () => {
  device = (await openDevice("webgpu")) as WebGpuDevice;
  const x = tensor(device, [1, 2, 3]);
  for (const op of [abs, exp, relu, sigmoid, tanh]) await op(x).data();
  programs = [...device.compiled];
});
afterAll(() => device.destroy());

const compiled: string[] = [];
const errors: string[] = [];
const kept: GPU[] = []; // Dawn lives as long as these.
const openHelper = vi.fn(async () => {
  const { create } = await import("webgpu");
  kept.push(create([]));
  const adapter = await kept.at(-1)!.requestAdapter();
  const helper = await adapter!.requestDevice({
    requiredFeatures: ["subgroups"],
    requiredLimits: { maxStorageBuffersPerShaderStage: adapter!.limits.maxStorageBuffersPerShaderStage },
  });
  helper.onuncapturederror = ({ error }) => errors.push(error.message);
  const createModule = helper.createShaderModule.bind(helper);
  helper.createShaderModule = (descriptor) => {
    compiled.push(descriptor.code);
    return createModule(descriptor);
  };
  return { adapter: adapter!, device: helper };
});
beforeEach(() => {
  openHelper.mockClear();
  compiled.length = 0;
});
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const never = () => new Promise(() => {});

test("compiles what a slow submit brought, last first and once", async () => {
  const note = vi.fn();
  const ahead = new CompileAhead(openHelper, note);
  ahead.submitted([...programs, programs[0]!], never);
  await vi.waitUntil(() => compiled.length === programs.length, { timeout: 20_000 });
  await pause(100);
  expect(compiled).toEqual(programs.map(({ code }) => code).reverse());
  ahead.submitted(programs, never);
  await pause(400);
  expect(openHelper).toHaveBeenCalledTimes(1);
  expect(errors).toEqual([]);
  expect(note).not.toHaveBeenCalled();
  ahead.destroy();
});

test("leaves a submit alone that ends at once, one with few new programs, and those after destroy", async () => {
  const quick = new CompileAhead(openHelper, expect.unreachable);
  quick.submitted(programs, () => Promise.resolve());
  const few = new CompileAhead(openHelper, expect.unreachable);
  few.submitted(programs.slice(0, 3), never);
  const gone = new CompileAhead(openHelper, expect.unreachable);
  gone.submitted(programs, never);
  gone.destroy();
  await pause(500);
  expect(openHelper).not.toHaveBeenCalled();
});

test("says so once when there is no second device", async () => {
  const note = vi.fn();
  const failing = vi.fn(() => Promise.reject(new Error("none left")));
  const ahead = new CompileAhead(failing, note);
  ahead.submitted(programs, never);
  await vi.waitUntil(() => note.mock.calls.length > 0, { timeout: 5000 });
  ahead.submitted(
    programs.map((program) => ({ ...program })),
    never,
  );
  await pause(400);
  expect(failing).toHaveBeenCalledTimes(1);
  expect(note.mock.calls).toEqual([["compiling on a second core ended: none left"]]);
});

test("is for lavapipe", () => {
  const info = (description: string) => ({ vendor: "mesa", device: "", description }) as GPUAdapterInfo;
  expect(gainsFromCompilingAhead(info("llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)"))).toBe(true);
  expect(gainsFromCompilingAhead(info("NVIDIA H200"))).toBe(false);
});
