// Atomic writing, out folders and JSON.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { prepareOutputFolder, removeFile, temporaryFor, writeFileAtomic, writeJson } from "../../src/io/files.js";
import { toJson } from "../../src/io/json.js";
import { beginOf, isAlive } from "../../src/runtime/node-processes.js";
import { folderStore } from "../../src/sweeps/checkpoints.js";
import { openStore } from "../../src/sweeps/queue/stores.js";
import { KilogradError, UsageError } from "../../src/tensor/errors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-files-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("writeFileAtomic", () => {
  test("writes text, bytes and pieces, replaces, and leaves nothing else behind", async () => {
    const inside = await mkdtemp(join(folder, "whole-"));
    const path = join(inside, "file");
    for (const [content, text] of [
      ["a longer text ä", "a longer text ä"],
      [Buffer.from("bytes"), "bytes"],
      [[Buffer.from("pie"), Buffer.alloc(0), Buffer.from("ces")], "pieces"],
    ] as const) {
      await writeFileAtomic(path, content);
      expect(await readFile(path, "utf8")).toBe(text);
    }
    expect(await readdir(inside)).toEqual(["file"]);
  });

  test("keeps the old file when the content fails halfway", async () => {
    const inside = await mkdtemp(join(folder, "failing-"));
    const path = join(inside, "file");
    await writeFile(path, "old");
    const failing = async function* () {
      yield Buffer.from("new");
      expect((await readdir(inside)).length).toBe(2);
      throw new RangeError("device lost");
    };
    await expect(writeFileAtomic(path, failing())).rejects.toThrow(RangeError);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(inside)).toEqual(["file"]);
  });

  test("removes what killed processes left of the same path, and nothing else", async () => {
    const inside = await mkdtemp(join(folder, "left-"));
    const path = join(inside, "file");
    const { pid } = spawnSync(process.execPath, ["--eval", ""]); // It has ended.
    const own = basename(temporaryFor(path));
    const left = own.replace(`.${process.pid}.`, `.${pid}.`);
    await writeFile(join(inside, left), "half");
    const others = [
      own,
      left.replace(".file.", ".file2."),
      // On a shared folder: of another machine, where that number may be of a process that writes.
      left.replace(/^\.file\.[0-9a-f]{8}\./, ".file.0123abcd."),
      `.file.${pid}.tmp`,
      ".file.notes",
    ];
    for (const name of others) await writeFile(join(inside, name), "");
    await writeFileAtomic(path, "new");
    expect((await readdir(inside)).sort()).toEqual([...others, "file"].sort());
  });

  test("refuses a path that cannot be written, and says why", async () => {
    const refused = async (path: string) => {
      const error = await writeFileAtomic(path, "x").catch((error: unknown) => error);
      expect(error).toBeInstanceOf(KilogradError);
      expect((error as KilogradError).code).toBe("FILE_WRITE");
      expect((error as KilogradError).message).toContain(path);
    };
    await refused(join(folder, "missing", "file"));
    await mkdir(join(folder, "taken"));
    await refused(join(folder, "taken"));
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

describe("files that end", () => {
  const left = (path: string) => {
    const { pid } = spawnSync(process.execPath, ["--eval", ""]); // It has ended.
    return temporaryFor(path).replace(`.${process.pid}.`, `.${pid}.`);
  };

  test("take along what killed processes left of them, and nothing else", async () => {
    const inside = await mkdtemp(join(folder, "ending-"));
    const path = join(inside, "file");
    const other = left(join(inside, "file2"));
    for (const name of [path, left(path), other]) await writeFile(name, "");
    await removeFile(path);
    expect(await readdir(inside)).toEqual([basename(other)]);
    await removeFile(path); // It need not be there.
  });

  test("checkpoints of trials do, in a folder and in the folder of a queue", async () => {
    const inside = await mkdtemp(join(folder, "trials-"));
    const checkpoints = folderStore(inside);
    await checkpoints.write(3, new Uint8Array(1));
    await writeFile(left(join(inside, "trial-3.checkpoint")), "");
    await checkpoints.remove(3);
    expect(await readdir(inside)).toEqual([]);
    const store = await openStore(inside);
    await store.put("of/trial-3-a", new Uint8Array(1));
    await writeFile(left(join(inside, "of", "trial-3-b")), "");
    await store.removeAll("of/trial-3-");
    expect(await readdir(join(inside, "of"))).toEqual([]);
  });
});

describe("isAlive", () => {
  test.runIf(existsSync("/proc/self/stat"))("says no of a process that ended and that nobody waited for", async () => {
    // The shell's child ends; the shell becomes a program that never asks for that.
    const shell = spawn("sh", ["-c", "sleep 0 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      let said = "";
      for await (const piece of shell.stdout.setEncoding("utf8")) if ((said += piece).includes("\n")) break;
      const pid = Number(said);
      while (isAlive(pid)) await new Promise((later) => setTimeout(later, 20));
      expect(process.kill(pid, 0)).toBe(true); // The system still counts it.
      expect(beginOf(pid)).toMatch(/^\d+$/);
    } finally {
      shell.kill("SIGKILL");
    }
    expect(isAlive(process.pid)).toBe(true);
    expect(isAlive(0)).toBe(false);
  });
});

describe("prepareOutputFolder", () => {
  test("creates parents, accepts what exists, leaves it empty", async () => {
    const path = join(folder, "out", "deep", "run");
    expect(await prepareOutputFolder(path)).toBe(path);
    expect(await prepareOutputFolder(path)).toBe(path);
    expect(await readdir(path)).toEqual([]);
  });

  test("removes the trial of a process that was killed", async () => {
    const path = await mkdtemp(join(folder, "tried-"));
    const { pid } = spawnSync(process.execPath, ["--eval", ""]); // It has ended.
    const left = temporaryFor(join(path, "write-test")).replace(`.${process.pid}.`, `.${pid}.`);
    await writeFile(left, "");
    await prepareOutputFolder(path);
    expect(await readdir(path)).toEqual([]);
  });

  test("names the path when it is a file, goes through one, or cannot be written", async () => {
    const file = join(folder, "a-file");
    await writeFile(file, "");
    for (const path of [file, join(file, "run"), "/proc/kilograd"]) {
      const error = await prepareOutputFolder(path).catch((error: unknown) => error);
      expect(error).toBeInstanceOf(UsageError);
      expect((error as UsageError).message).toContain(`given ${path}: `);
    }
  });
});

describe("toJson", () => {
  test("numbers on one line, not-numbers as null, typed arrays as arrays", () => {
    const value = {
      loss: [0.5, Number.NaN, 1e-7, -2],
      top: Number.POSITIVE_INFINITY,
      weights: new Float32Array([0.5, 1]),
      names: ["null", "1,\n2"],
      nested: [[1, 2], []],
    };
    expect(toJson(value)).toBe(`{
  "loss": [0.5, null, 1e-7, -2],
  "top": null,
  "weights": [0.5, 1],
  "names": [
    "null",
    "1,\\n2"
  ],
  "nested": [
    [1, 2],
    []
  ]
}`);
  });

  test("is written with a final line break", async () => {
    await writeJson(join(folder, "metrics.json"), { seed: 1 });
    expect(await readFile(join(folder, "metrics.json"), "utf8")).toBe('{\n  "seed": 1\n}\n');
  });
});
