// Opening devices and giving them back: what a process keeps of them, what reaches a user's terminal, and which errors
// escape.
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { relu } from "../../src/autograd/ops/elementwise.js";
import { tensor } from "../../src/tensor/tensor.js";
import { openDevice } from "../../src/webgpu/open-device.js";

describe("devices that are destroyed", () => {
  const used = () => ({
    threads: readdirSync("/proc/self/task").length,
    handles: readdirSync("/proc/self/fd").length,
  });

  it.skipIf(process.platform !== "linux")("leave no threads and no handles behind", async () => {
    const cycle = async () => {
      const device = await openDevice("webgpu");
      const x = tensor(device, [-1, 2]);
      expect([...(await relu(x).data())]).toEqual([0, 2]);
      device.destroy();
    };
    for (let i = 0; i < 2; i++) await cycle();
    const before = used();
    for (let i = 0; i < 10; i++) await cycle();
    const after = used();
    expect(after.threads).toBeLessThanOrEqual(before.threads);
    // The driver keeps files of its cache open from some moment on.
    expect(after.handles).toBeLessThanOrEqual(before.handles + 2);
  });

  it("begin anew: no memory, no values, no errors of an earlier use", async () => {
    const first = await openDevice("webgpu");
    const x = tensor(first, new Float32Array(1000).fill(3));
    const reading = x.data();
    first.destroy();
    await expect(reading).rejects.toMatchObject({ name: "DeviceError", code: "CLOSED" });
    expect(() => tensor(first, [1])).toThrow("used after destroy()");
    await using second = await openDevice("webgpu");
    expect(second.memory()).toEqual({ liveBytes: 0, pooledBytes: 0, peakBytes: 0, liveCount: 0 });
    expect([...(await relu(tensor(second, [-1, 1])).data())]).toEqual([0, 1]);
    expect(() => relu(x)).toThrow("used after destroy()");
    await second.sync();
  });

  it("two at the same time share nothing", async () => {
    await using first = await openDevice("webgpu");
    const second = await openDevice("webgpu");
    expect(second.gpu).not.toBe(first.gpu);
    const [x, y] = [tensor(first, [1, -2]), tensor(second, [3, -4])];
    second.destroy();
    expect([...(await relu(x).data())]).toEqual([1, 0]);
    expect(() => relu(y)).toThrow("used after destroy()");
  });

  it("whose GPU is lost are not used again", async () => {
    const lost = await openDevice("webgpu");
    lost.gpu.destroy();
    await lost.gpu.lost;
    lost.destroy();
    await using next = await openDevice("webgpu");
    expect(next.gpu).not.toBe(lost.gpu);
    expect([...(await relu(tensor(next, [-1, 1])).data())]).toEqual([0, 1]);
  });
});

it("flags that fit no adapter are a DeviceError", async () => {
  await expect(openDevice("webgpu", { dawnFlags: ["adapter=there-is-none"] })).rejects.toMatchObject({
    name: "DeviceError",
    code: "NO_ADAPTER",
  });
});

describe("a program's output", () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-output-"));
  beforeAll(() => {
    const built = spawnSync(process.execPath, ["scripts/setup.mjs", "build"], { encoding: "utf8" });
    expect(built.status, built.stderr).toBe(0);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  // An error that nobody waits for, which Dawn would print to standard output, is among what it does.
  const script = `
    import { writeSync } from "node:fs";
    import { openDevice, tensor } from ${JSON.stringify(resolve("dist/index.js"))};
    for (const profiling of [false, true]) {
      const device = await openDevice("webgpu", { profiling });
      console.log(await tensor(device, [1, 2]).add(1).sum().item());
      device.gpu.createShaderModule({ code: "nonsense" });
      device.destroy();
      device.gpu.createShaderModule({ code: "nonsense" });
    }
    console.error("to the end");
    writeSync(2, "and past it\\n");`;
  const expected = { output: "5\n5\n", errors: "to the end\nand past it\n" };

  it("has nothing of Dawn in it, where it is piped", () => {
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect({ output: stdout, errors: stderr }).toEqual(expected);
  });

  it("has nothing of Dawn in it, where it goes to a file", () => {
    const [output, errors] = ["output", "errors"].map((name) => join(folder, name)) as [string, string];
    const files = [output, errors].map((path) => openSync(path, "w"));
    spawnSync(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", ...files] });
    for (const file of files) closeSync(file);
    expect({ output: readFileSync(output, "utf8"), errors: readFileSync(errors, "utf8") }).toEqual(expected);
  });
});
