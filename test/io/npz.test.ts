// NumPy's archives of arrays, in and out. What NumPy wrote: npy.py.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodeNpy } from "../../src/io/npy.js";
import { decodeNpz, encodeNpz, readNpz, writeNpz } from "../../src/io/npz.js";
import { encodeZip } from "../../src/io/zip.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { needsPython, runPython } from "../python.js";

const { archives, cases, refused } = JSON.parse(readFileSync("test/io/npy.json", "utf8")) as {
  archives: [name: string, file: string, arrays: Record<string, [shape: number[], values: number[]]>][];
  cases: [name: string, file: string][];
  refused: [name: string, file: string][];
};
const bytesOf = (file: string) => new Uint8Array(Buffer.from(file, "base64"));

test.each(archives)("what NumPy wrote, %s", async (_, file, arrays) => {
  const found = await decodeNpz(bytesOf(file));
  expect([...found.keys()]).toEqual(Object.keys(arrays));
  for (const [name, { shape, data }] of found) expect([shape, [...data]], name).toEqual(arrays[name]);
});

test("what is refused names file and array", async () => {
  const array = bytesOf(cases[0]![1]);
  for (const [bytes, message] of [
    [array, /^x\.npz: is no \.npz file.*numpy\.savez/],
    [encodeZip([["a.npy", array.subarray(0, -1)]]), /^x\.npz: "a\.npy": an array .* bytes/],
    [encodeZip([["a.npy", bytesOf(refused[0]![1])]]), /^x\.npz: "a\.npy": holds objects.*pickles/],
    [encodeZip([["a.txt", array]]), /^x\.npz: holds "a\.txt", which is no array/],
    [encodeZip([["a.npy", array]]).subarray(0, -5), /^x\.npz: is a zip archive, but cut off/],
  ] as const) {
    const refusal = decodeNpz(bytes, "x.npz");
    await expect(refusal).rejects.toBeInstanceOf(DataError);
    await expect(refusal).rejects.toThrow(message);
  }
});

test("entries that share their bytes are refused: a small archive would hold any number of arrays", async () => {
  const array = encodeNpy(new Float32Array(1000));
  const bytes = encodeZip([
    ["a.npy", array],
    ["b.npy", new Uint8Array(0)],
  ]);
  // The directory says of "b" what it says of "a".
  const view = new DataView(bytes.buffer);
  const entry = (name: string) => Buffer.from(bytes).lastIndexOf(name) - 46;
  for (const at of [16, 20, 24, 42])
    view.setUint32(entry("b.npy") + at, view.getUint32(entry("a.npy") + at, true), true);
  await expect(decodeNpz(bytes)).rejects.toThrow(/entries announce more than its \d+ bytes/);
});

test("what is no array, and shapes of another size", () => {
  for (const [arrays, message] of [
    [{ a: [1, 2] }, /encodeNpz: arrays\["a"\]/],
    [{ a: { data: Float32Array.of(1, 2), shape: [3] } }, /shape must have 2 elements, got \[3\]/],
    [{ "": Float32Array.of(1) }, /must have a name/],
    [3, /arrays must be an object/],
  ] as const) {
    expect(() => encodeNpz(arrays as never)).toThrow(UsageError);
    expect(() => encodeNpz(arrays as never)).toThrow(message);
  }
});

const written = {
  images: { data: Float32Array.of(1, 2, 3, 4, 5, 6), shape: [3, 2] },
  "labels/of them": Int32Array.of(1, -2),
  nothing: new Uint8Array(0),
  number: { data: Float64Array.of(0.1), shape: [] },
};

test("comes back as it was", async () => {
  const found = await decodeNpz(encodeNpz(written));
  expect(Object.fromEntries(found)).toEqual({
    images: { ...written.images, dtype: "<f4" },
    "labels/of them": { data: written["labels/of them"], shape: [2], dtype: "<i4" },
    nothing: { data: written.nothing, shape: [0], dtype: "|u1" },
    number: { ...written.number, dtype: "<f8" },
  });
});

const numpy = needsPython("numpy");

test("files", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-npz-"));
  try {
    const path = join(folder, "a.npz");
    await writeNpz(path, written);
    expect([...(await readNpz(path)).keys()]).toEqual(Object.keys(written));
    await expect(readNpz(join(folder, "b.npz"))).rejects.toThrow(/b\.npz/);
    if (numpy.reason === undefined) {
      const [found] = Object.values(runPython("test/io/npy.py", [folder]) as Record<string, unknown>);
      expect(found).toEqual({
        images: ["<f4", [3, 2], [1, 2, 3, 4, 5, 6]],
        "labels/of them": ["<i4", [2], [1, -2]],
        nothing: ["|u1", [0], []],
        number: ["<f8", [], [0.1]],
      });
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
