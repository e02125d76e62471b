// NumPy's arrays, in and out. What NumPy wrote: npy.py.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeNpy, encodeNpy, type NpyData, readNpy, writeNpy } from "../../src/io/npy.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { needsPython, runPython } from "../python.js";

const golden = JSON.parse(readFileSync("test/io/npy.json", "utf8")) as {
  cases: [name: string, file: string, shape: number[], values: number[]][];
  refused: [name: string, file: string][];
};
const bytesOf = (file: string) => new Uint8Array(Buffer.from(file, "base64"));

test.each(golden.cases)("%s", (_, file, shape, values) => {
  const found = decodeNpy(bytesOf(file));
  expect(found.shape).toEqual(shape);
  expect([...found.data]).toEqual(values);
});

test("types: half and whole numbers of 64 bits become what tensors and labels take", () => {
  const typeOf = (name: string) =>
    decodeNpy(bytesOf(golden.cases.find(([each]) => each === name)![1])).data.constructor;
  expect(["<f2 C", "<f4 C", ">f8 C", "<i8 C", "<u8 C", "beyond 32 bits", "<b1 C", ">i2 F"].map(typeOf)).toEqual([
    ...[Float32Array, Float32Array, Float64Array, Int32Array, Uint32Array, Float64Array, Uint8Array, Int16Array],
  ]);
});

test.each(golden.refused)("%s are refused", (_, file) => {
  expect(() => decodeNpy(bytesOf(file), "x.npy")).toThrow(DataError);
  expect(() => decodeNpy(bytesOf(file), "x.npy")).toThrow(/^x\.npy: /);
});

/** A file of version 1 with these words as its header. */
function withHeader(header: string, elements = 0): Uint8Array {
  const bytes = new Uint8Array(10 + header.length + elements);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  return bytes;
}

describe("headers", () => {
  test.each([
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
    "{'shape': (2L,), 'fortran_order': False, 'descr': '<f4'}",
    '{"descr":"<f4","fortran_order":False,"shape":(2,)}  \n',
  ])("%s", (header) => {
    expect([...decodeNpy(withHeader(header, 8)).data]).toEqual([0, 0]);
  });

  test.each([
    ["a call", "{'descr': exec('x'), 'fortran_order': False, 'shape': (2,), }", /dictionary/],
    ["a missing entry", "{'descr': '<f4', 'shape': (2,), }", /dictionary/],
    ["an entry twice", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", /dictionary/],
    ["a word too many", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x", /dictionary/],
    ["a negative size", "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", /dictionary/],
    [
      "two gigabytes",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (536870912,), }",
      /2147483648 bytes, 8 are there/,
    ],
    [
      "more than there is",
      "{'descr': '<f8', 'fortran_order': False, 'shape': (9007199254740991, 9007199254740991), }",
      /bytes, 8 are/,
    ],
    [
      "too few elements",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
      /4 bytes, 8 are there; one array/,
    ],
  ])("%s is refused", (_, header, message) => {
    expect(() => decodeNpy(withHeader(header, 8))).toThrow(DataError);
    expect(() => decodeNpy(withHeader(header, 8))).toThrow(message);
  });

  test("cut anywhere, a file is refused", () => {
    const bytes = encodeNpy(Float32Array.of(1, 2, 3));
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeNpy(bytes.subarray(0, length)), `${length}`).toThrow(DataError);
    }
  });
});

const arrays: Readonly<Record<string, [NpyData, number[]?]>> = {
  f4: [Float32Array.of(1.5, -2, 3, 4, 5, 6), [2, 3]],
  f8: [Float64Array.of(0.1)],
  i4: [Int32Array.of(-1, 2), [2, 1]],
  u4: [Uint32Array.of(2 ** 32 - 1), []],
  i2: [Int16Array.of(-1)],
  u2: [Uint16Array.of(65535)],
  i1: [Int8Array.of(-128)],
  u1: [Uint8Array.of(255)],
  none: [new Float32Array(0), [0, 5]],
};

test.each(Object.keys(arrays))("%s comes back as it was", (name) => {
  const [data, shape = [data.length]] = arrays[name]!;
  const bytes = encodeNpy(data, { shape });
  const found = decodeNpy(bytes);
  expect(found.data).toEqual(data);
  expect(found.shape).toEqual(shape);
  // NumPy maps files into memory, and asks for elements at a multiple of 64.
  expect((bytes.length - data.byteLength) % 64).toBe(0);
});

test("shapes of another size, and what is no array of numbers", () => {
  expect(() => encodeNpy(Float32Array.of(1, 2), { shape: [3] })).toThrow(UsageError);
  expect(() => encodeNpy([1, 2] as never)).toThrow(UsageError);
  expect(() => encodeNpy(BigInt64Array.of(1n) as never)).toThrow(UsageError);
});

const numpy = needsPython("numpy");

test("files", async () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-npy-"));
  try {
    const path = join(folder, "a.npy");
    await writeNpy(path, Int32Array.of(1, 2, 3), { shape: [3, 1] });
    expect(await readNpy(path)).toEqual({ data: Int32Array.of(1, 2, 3), shape: [3, 1], dtype: "<i4" });
    await expect(readNpy(join(folder, "b.npy"))).rejects.toThrow(/b\.npy/);
    writeFileSync(path, "text");
    await expect(readNpy(path)).rejects.toThrow(/numpy\.save/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.skipIf(numpy.reason)(`NumPy reads what is written ${numpy.reason ?? ""}`, async () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-npy-"));
  try {
    for (const [name, [data, shape]] of Object.entries(arrays)) {
      await writeNpy(join(folder, `${name}.npy`), data, shape && { shape });
    }
    const found = runPython("test/io/npy.py", [folder]) as Record<string, Record<"", [string, number[], number[]]>>;
    for (const [name, [data, shape = [data.length]]] of Object.entries(arrays)) {
      const [dtype, theirShape, values] = found[`${name}.npy`]![""];
      expect([dtype.slice(1), theirShape, values], name).toEqual([name === "none" ? "f4" : name, shape, [...data]]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
