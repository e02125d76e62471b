// The guard around libraries that read files: stand-ins that never answer or take memory, never a damaged file.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runGuarded } from "../../src/io/guarded-worker.js";
import { decodeH5, encodeH5, readH5 } from "../../src/io/h5-files.js";
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

describe("a worker that takes further tasks", () => {
  const module = () =>
    standIn(`
      import { threadId } from "node:worker_threads";
      const answer = async (task) => {
        if (task === "fails") throw new Error("inside");
        if (task !== "never") parentPort.postMessage([task, threadId]);
      };
      parentPort.on("message", answer);
      await answer(workerData);`);
  const again = (url: URL, data: unknown, more = {}) =>
    runGuarded({ module: url, again: true, data, deadlineSeconds: 100, mostBytes: 2 ** 20, owner: "file.h5", ...more });

  test("is used again after an answer, and not after a failure", async () => {
    const url = module();
    const [, first] = (await again(url, 1)) as [number, number];
    expect(await again(url, 2)).toEqual([2, first]);
    // Of other sizes, too, but not beyond its limit.
    expect(await again(url, 3, { mostBytes: 200 * 2 ** 20 })).toEqual([3, first]);
    expect((await failure(again(url, "fails"))).message).toBe("inside");
    const [, second] = (await again(url, 4)) as [number, number];
    expect(second).not.toBe(first);
    const late = await failure(again(url, "never", { deadlineSeconds: 0.3 }));
    expect(late.message).toMatch(/^file.h5: no answer within 0.3 s/);
    const [, third] = (await again(url, 5)) as [number, number];
    expect(third).not.toBe(second);
    const [, larger] = (await again(url, 6, { mostBytes: 300 * 2 ** 20 })) as [number, number];
    expect(larger).not.toBe(third);
  });

  test("is not shared by tasks at the same time, nor by modules", async () => {
    const url = module();
    const answers = (await Promise.all([1, 2, 3].map((data) => again(url, data)))) as [number, number][];
    expect(answers.map(([data]) => data)).toEqual([1, 2, 3]);
    const threads = answers.map(([, thread]) => thread);
    expect(new Set(threads).size).toBe(3);
    const [, kept] = (await again(url, 4)) as [number, number];
    expect(threads).toContain(kept);
    const [, other] = (await again(module(), 5)) as [number, number];
    expect(threads).not.toContain(other);
  });
});

describe("an .h5 file", () => {
  test("is read and written by a worker that has read and written others, a damaged one between", async () => {
    const content = (value: number, length: number) => ({
      attributes: { value: String(value) },
      groups: {},
      arrays: {
        a: {
          ...{ kind: "float", bits: 32, shape: [length] },
          bytes: new Uint8Array(new Float32Array(length).fill(value).buffer),
        },
      },
    });
    for (const [value, length] of [100_000, 3].entries()) {
      const bytes = await encodeH5(content(value, length), "file.h5");
      await failure(decodeH5(bytes.subarray(0, bytes.length / 2), "file.h5"));
      for (let again = 0; again < 2; again++) expect(await decodeH5(bytes, "file.h5")).toEqual(content(value, length));
    }
  });

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
