// Where WebGPU comes from: Node's Dawn, a page's navigator, or an object that a caller gives.
import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { create } from "webgpu";
import { relu } from "../../src/autograd/ops/elementwise.js";
import { decodeH5 } from "../../src/io/h5-files.js";
import * as nn from "../../src/nn/index.js";
import { crossEntropy } from "../../src/nn/losses.js";
import { sgd } from "../../src/nn/optimizers.js";
import { nodeRuntime } from "../../src/runtime/node.js";
import { findRuntime, provideRuntime, wait } from "../../src/runtime/runtime.js";
import { webRuntime } from "../../src/runtime/web.js";
import { CpuDevice } from "../../src/tensor/cpu.js";
import { defineKernel } from "../../src/tensor/kernel.js";
import { empty, runInto, tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { build } from "../cli/run.js";

describe("standard error while Dawn looks for its driver", () => {
  it.skipIf(process.platform !== "linux")("loses Dawn's two lines and nothing else", () => {
    const warning = (name: string) =>
      `Warning: ${name}PerPipelineLayout artificially reduced from 16 to 8 to fit dynamic offset allocation limit.\n`;
    // In a process of its own, whose standard error is a pipe. The driver writes by the C library, as here.
    const script = `
      import { createRequire } from "node:module";
      import { fileDescriptors, withoutLimitWarnings } from ${JSON.stringify(resolve("dist/runtime/node-dawn.js"))};
      const write = createRequire(import.meta.url)("koffi").load(null).func("intptr_t write(int, const char *, size_t)");
      const toStandardError = (text) => write(2, text, Buffer.byteLength(text));
      const descriptors = await fileDescriptors();
      const texts = ${JSON.stringify([
        "driver: no config\n",
        warning("maxDynamicUniformBuffers"),
        "Warning: another ü\n",
        warning("maxDynamicStorageBuffers"),
        "without an end",
      ])};
      toStandardError("before\\n");
      try {
        withoutLimitWarnings(descriptors, () => {
          texts.forEach(toStandardError);
          throw new Error("in the middle");
        });
      } catch {}
      toStandardError("\\nafter\\n");
    `;
    build();
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      encoding: "utf8",
    });
    expect(stderr).toBe("before\ndriver: no config\nWarning: another ü\nwithout an end\nafter\n");
    expect(status).toBe(0);
  });
});

describe("openDevice with a gpu", () => {
  it("takes its adapter", async () => {
    const gpu = create([]);
    const request = vi.spyOn(gpu, "requestAdapter");
    await using device = await openDevice("webgpu", { gpu });
    expect(request).toHaveBeenCalledOnce();
    expect([...(await relu(tensor(device, [-1, 2])).data())]).toEqual([0, 2]);
  });

  it("keeps to it: a device of another object, or of the runtime, is not handed out for it", async () => {
    const [some, other] = [create([]), create([])];
    const opened = [];
    for (const gpu of [some, other, undefined, some]) {
      const device = await openDevice("webgpu", gpu && { gpu });
      opened.push(device.gpu);
      device.destroy();
    }
    expect(new Set(opened.slice(0, 3)).size).toBe(3);
    // As few are kept as anywhere.
    expect(opened[3]).not.toBe(opened[1]);
  });

  it("reports errors of its calls, as a browser does: later", async () => {
    await using device = await openDevice("webgpu", { gpu: create([]) });
    const wrong = defineKernel<object>({
      name: "wrong",
      cpu: () => {},
      webgpu: ({ outputs: [y], dispatch }) =>
        dispatch({
          key: "only",
          program: () => ({ workgroupSize: [1], body: "y[0] = there_is_none;" }),
          bindings: [{ name: "y", view: y!, type: "f32", access: "read_write" }],
          workgroups: [1],
        }),
    });
    const y = empty(device, [1]);
    runInto(wrong, [], [y], {});
    await expect(y.data()).rejects.toThrow(/^wrong \(.*its WGSL did not compile[\s\S]*there_is_none/);
  });

  it("says that it has no adapter", async () => {
    const gpu = { requestAdapter: async () => null } as unknown as GPU;
    await expect(openDevice("webgpu", { gpu })).rejects.toMatchObject({ name: "DeviceError", code: "NO_ADAPTER" });
    await expect(openDevice("auto", { gpu })).resolves.toMatchObject({ kind: "cpu" });
  });

  it("refuses what is none, and flags that come too late", async () => {
    await expect(openDevice("webgpu", { gpu: {} as GPU })).rejects.toThrow(
      /openDevice: gpu must be an object of WebGPU/,
    );
    const gpu = create([]);
    await expect(openDevice("webgpu", { gpu, dawnFlags: ["adapter=llvmpipe"] })).rejects.toThrow(/leave out dawnFlags/);
  });
});

describe("the runtime", () => {
  it("is Node's here, and found once", async () => {
    const runtime = await findRuntime();
    expect(runtime.name).toBe("node");
    expect(await findRuntime()).toBe(runtime);
    vi.stubEnv("KILOGRAD_SOMETHING", "");
    expect(runtime.environment("KILOGRAD_SOMETHING")).toBeUndefined();
    vi.stubEnv("KILOGRAD_SOMETHING", "said");
    expect(runtime.environment("KILOGRAD_SOMETHING")).toBe("said");
    vi.unstubAllEnvs();
  });

  it("waits as the promise does", async () => {
    await expect(wait(Promise.resolve(3))).resolves.toBe(3);
    await expect(wait(Promise.reject(new Error("no")))).rejects.toThrow("no");
  });
});

describe("a browser's", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    provideRuntime(nodeRuntime);
  });
  const start = { flags: [], environment: {} };

  it("has WebGPU where its navigator has it", async () => {
    vi.stubGlobal("navigator", {});
    expect(await webRuntime.webgpu(start)).toBeUndefined();
    vi.stubGlobal("navigator", { gpu: create([]) });
    const source = await webRuntime.webgpu(start);
    expect(source).toMatchObject({ isOwn: false });
    expect(await source!.requestAdapter()).not.toBeNull();
  });

  it("has no files: a path is an error that says so", async () => {
    provideRuntime(webRuntime);
    const model = nn.sequential({ device: new CpuDevice(), inputShape: [2] }, [nn.dense({ units: 1 })]);
    const noFiles = { name: "UsageError", message: expect.stringContaining("a path needs Node, Bun or Deno") };
    await expect(nn.saveModel("model.safetensors", model)).rejects.toMatchObject(noFiles);
    await expect(nn.loadModel("model.h5", { device: model.device })).rejects.toMatchObject(noFiles);
    const logger = nn.csvLogger("log.csv");
    await expect((async () => logger.onEpochEnd?.(0, { loss: 1 }, {} as never))()).rejects.toMatchObject(noFiles);
  });

  it("writes progress to the console", async () => {
    provideRuntime(webRuntime);
    const info = vi.spyOn(console, "info").mockImplementation(() => {});
    const model = nn.sequential({ device: new CpuDevice(), inputShape: [2] }, [nn.dense({ units: 2 })]);
    const samples = { inputs: new Float32Array(8), targets: Int32Array.of(0, 1, 0, 1) };
    await model.fit(samples, { optimizer: sgd(), loss: crossEntropy, batchSize: 2, callbacks: [nn.progressBar()] });
    expect(info.mock.calls.flat()).toEqual([expect.stringMatching(/^Epoch 1\/1 {2}2\/2 .*loss [\d.]+/)]);
    info.mockRestore();
  });

  it("has no HDF5 where there are no workers, which must guard it", async () => {
    provideRuntime(webRuntime);
    const bytes = Uint8Array.of(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a);
    await expect(decodeH5(bytes, "model.h5")).rejects.toThrow(/^model.h5: HDF5 needs workers that can be ended/);
  });
});
