// The guard around libraries that read files: stand-ins that never answer or take memory, never a damaged file.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runGuarded } from "../../src/io/guarded-worker.js";
import { readH5 } from "../../src/io/h5-files.js";
import { DataError } from "../../src/tensor/errors.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-guard-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
function standIn(code: string): URL {
  const path = join(folder, `stand-in-${count++}.mjs`);
  writeFileSync(path, `import { parentPort, workerData } from "node:worker_threads";\n${code}`);
  return pathToFileURL(path);
}
const run = (module: URL, more: { data?: unknown; deadlineSeconds?: number; mostBytes?: number } = {}) =>
  runGuarded({ module, data: 1, deadlineSeconds: 100, mostBytes: 64 * 2 ** 20, owner: "file.h5", ...more });
async function failure(promise: Promise<unknown>): Promise<Error> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  return error as Error;
}

/** (module (func (export "run") (loop br 0))): what no signal handler in its thread would ever see the end of. */
const endless =
  "new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, " +
  "7, 7, 1, 3, 114, 117, 110, 0, 0, 10, 9, 1, 7, 0, 3, 64, 12, 0, 11, 11))).exports.run();";

describe("a guarded worker", () => {
  test("gives what it posts", async () => {
    expect(await run(standIn("parentPort.postMessage(workerData + 1);"))).toBe(2);
  });

  test.each([
    ["in JavaScript", "for (;;);"],
    ["in WebAssembly", endless],
    ["asleep", "setInterval(() => {}, 1000);"],
  ])("that never answers, %s, is ended at the deadline, while this thread is free", async (_, code) => {
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 5);
    const error = await failure(run(standIn(code), { deadlineSeconds: 1 }));
    clearInterval(ticking);
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toMatch(/^file.h5: no answer within 1 s/);
    expect(ticks).toBeGreaterThan(10);
  });

  test("that takes memory without end is ended", async () => {
    const error = await failure(run(standIn("const all = []; for (;;) all.push(new Array(1000).fill(0.5));")));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toMatch(/^file.h5: takes more than 67108864 bytes of memory to read/);
  });

  test("that ends without a word, or throws, is an error", async () => {
    expect((await failure(run(standIn("")))).message).toContain("ended with code 0 and no answer");
    expect((await failure(run(standIn("process.exit(3);")))).message).toContain("ended with code 3");
    expect((await failure(run(standIn('throw new Error("inside");')))).message).toBe("inside");
  });

  test("is limited in the memory that WebAssembly takes", async () => {
    const limit = new URL("../../src/io/wasm-limit.js", import.meta.url).href;
    const code = `
      import { limitWebAssemblyMemory } from ${JSON.stringify(limit)};
      limitWebAssemblyMemory(workerData);
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
      let refused;
      while (refused === undefined) try { memory.grow(16); } catch (error) { refused = error.message; }
      parentPort.postMessage([memory.buffer.byteLength, refused]);`;
    const [bytes, refused] = (await run(standIn(code), { data: 4 * 2 ** 20 })) as [number, string];
    expect(bytes).toBeLessThanOrEqual(4 * 2 ** 20);
    expect(bytes).toBeGreaterThan(2 * 2 ** 20);
    expect(refused).toMatch(/is more than 4194304/);
  });
});

describe("an .h5 file", () => {
  test("whose library does not answer is an error that names file and deadline", async () => {
    const path = join(folder, "some.h5");
    writeFileSync(path, Buffer.from("\x89HDF\r\n\x1a\n and more", "latin1"));
    const error = await failure(readH5(path, { module: standIn(endless), deadlineSeconds: 0.5 }));
    expect(error).toBeInstanceOf(DataError);
    expect(error.message).toContain(`${path}: no answer within 0.5 s`);
    const thrown = await failure(
      readH5(path, { module: standIn('throw new Error("  #000: a.c line 1 in H5X(): odd");') }),
    );
    expect(thrown).toBeInstanceOf(DataError);
    expect(thrown.message).toBe(`${path}: is HDF5, but cut off or damaged (17 bytes): odd`);
  });

  test("that is no regular file is not read", async () => {
    await expect(readH5("/dev/zero")).rejects.toThrow("cannot read /dev/zero: it is no regular file");
  });
});
