// Files beside a file: what a model in several files names.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { headOf, nameOf, readAll, readBeside, sourceRule } from "../../src/io/source.js";
import { DataError } from "../../src/tensor/errors.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-source-"));
const path = join(folder, "model", "model.json");
mkdirSync(join(folder, "model", "deeper"), { recursive: true });
writeFileSync(path, "{}");
writeFileSync(join(folder, "model", "shard.bin"), Uint8Array.of(1, 2, 3, 4));
writeFileSync(join(folder, "model", "deeper", "shard.bin"), Uint8Array.of(5));
writeFileSync(join(folder, "secret"), Uint8Array.of(9));
symlinkSync(join(folder, "secret"), join(folder, "model", "link"));
symlinkSync(join(folder, "model", "shard.bin"), join(folder, "model", "inside"));
afterAll(() => rmSync(folder, { recursive: true }));

const files = {
  "model.json": Uint8Array.of(123, 125),
  "shard.bin": Uint8Array.of(1, 2, 3, 4),
  "deeper/shard.bin": Uint8Array.of(5),
};

test.each([
  ["a path", path],
  ["files by name", files],
])("%s: reads what is beside it, whole and in part", async (_, source) => {
  const read = async (name: string, options = {}) => [...(await readBeside("test", source, name, options))];
  expect(await read("shard.bin")).toEqual([1, 2, 3, 4]);
  expect(await read("deeper/shard.bin")).toEqual([5]);
  expect(await read("shard.bin", { offset: 1, length: 2 })).toEqual([2, 3]);
  expect(await read("shard.bin", { offset: 4 })).toEqual([]);
  expect(await read("shard.bin", { most: 4 })).toEqual([1, 2, 3, 4]);
  await expect(read("shard.bin", { most: 3 })).rejects.toThrow(/has 4 bytes, at most 3/);
  // Far more than there is, before any memory is taken.
  await expect(read("shard.bin", { offset: 1, length: 2 ** 50 })).rejects.toThrow(/from byte 1 on; it has 4/);
  await expect(read("shard.bin", { offset: 5 })).rejects.toThrow(/from byte 5 on; it has 4/);
  await expect(read("shard.bin", { offset: -1 })).rejects.toThrow(DataError);
  await expect(read("other.bin")).rejects.toThrow(/other\.bin/);
});

test.each([
  "../secret",
  "/etc/passwd",
  "deeper/../../secret",
  "..\\secret",
  "C:/secret",
  "a//b",
  "./shard.bin",
  "",
  "a\0b",
])("%j leads out of the folder, or may", async (name) => {
  for (const source of [path, { ...files, [name]: Uint8Array.of(1) }]) {
    await expect(readBeside("test", source, name)).rejects.toThrow(/must be relative/);
  }
});

test("a link out of the folder is refused, one within it followed", async () => {
  await expect(readBeside("test", path, "link")).rejects.toThrow(/link that leads out of the folder/);
  expect([...(await readBeside("test", path, "inside"))]).toEqual([1, 2, 3, 4]);
});

test("bytes alone have nothing beside them", async () => {
  await expect(readBeside("test", files["model.json"], "shard.bin")).rejects.toThrow(/an object of all files/);
});

test("the first of several files is the one that is read", async () => {
  expect(nameOf(files)).toBe("model.json");
  expect([...(await readAll("test", files))]).toEqual([123, 125]);
  expect([...(await headOf(files, 1))]).toEqual([123]);
  expect(sourceRule.accepts(files)).toBe(true);
  expect([{}, { a: 1 }, [Uint8Array.of(1)], new Float32Array(2)].map((value) => sourceRule.accepts(value))).toEqual(
    new Array(4).fill(false),
  );
});
