// The safetensors format: against the reference implementation's bytes, round trips, and every way a file can be
// broken.
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  decodeSafetensors,
  encodeSafetensors,
  type Safetensors,
  type StoredTensor,
  streamSafetensors,
} from "../../src/io/safetensors.js";
import { readSafetensors, writeSafetensors } from "../../src/io/safetensors-file.js";
import { headOf } from "../../src/io/source.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-safetensors-"));
});
afterAll(() => rm(folder, { recursive: true }));

const sample: Safetensors = {
  tensors: new Map<string, StoredTensor>([
    ["mean", { dtype: "F64", shape: [1], data: new Float64Array([0.1]) }],
    ["kernel", { dtype: "F32", shape: [2, 3], data: new Float32Array([0, 0.25, 0.5, 0.75, 1, 1.25]) }],
    ["step", { dtype: "U32", shape: [], data: new Uint32Array([7]) }],
    ["index", { dtype: "I32", shape: [2], data: new Int32Array([-1, 2]) }],
    ["mask", { dtype: "U8", shape: [3], data: new Uint8Array([1, 0, 255]) }],
  ]),
  metadata: { epoch: "3" },
  skipped: new Map(),
};

/**
 * The same file from Python's safetensors 0.8.0 and numpy 2.4.6:
 * safetensors.numpy.save({"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 4, "step": np.array(7,
 * dtype=np.uint32), "mask": np.array([1, 0, 255], dtype=np.uint8), "mean": np.array([0.1]), "index": np.array([-1, 2],
 * dtype=np.int32)}, metadata={"epoch": "3"})
 */
const reference = Buffer.from(
  "QAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJlcG9jaCI6IjMifSwibWVhbiI6eyJkdHlwZSI6IkY2NCIsInNoYXBlIjpbMV0sImRhdGFfb2Zmc2V0cyI6WzAsOF19LCJr" +
    "ZXJuZWwiOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzIsM10sImRhdGFfb2Zmc2V0cyI6WzgsMzJdfSwic3RlcCI6eyJkdHlwZSI6IlUzMiIsInNoYXBlIjpbXSwi" +
    "ZGF0YV9vZmZzZXRzIjpbMzIsMzZdfSwiaW5kZXgiOnsiZHR5cGUiOiJJMzIiLCJzaGFwZSI6WzJdLCJkYXRhX29mZnNldHMiOlszNiw0NF19LCJtYXNrIjp7ImR0" +
    "eXBlIjoiVTgiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOls0NCw0N119fZqZmZmZmbk/AAAAAAAAgD4AAAA/AABAPwAAgD8AAKA/BwAAAP////8CAAAAAQD/",
  "base64",
);

const arrays = { F32: Float32Array, I32: Int32Array, U32: Uint32Array, F64: Float64Array, U8: Uint8Array } as const;
const anyTensor = fc
  .record({
    dtype: fc.constantFrom(...(Object.keys(arrays) as (keyof typeof arrays)[])),
    shape: fc.array(fc.nat({ max: 4 }), { maxLength: 4 }),
    fill: fc.double({ noNaN: false }),
  })
  .map(({ dtype, shape, fill }) => {
    const size = shape.reduce((product, length) => product * length, 1);
    return { dtype, shape, data: new arrays[dtype](size).map((_, i) => fill + i) } as StoredTensor;
  });
const anyText = fc.string({ unit: "binary", maxLength: 20 });
const anyFile = fc.record({
  tensors: fc
    .array(fc.tuple(fc.oneof(anyText, fc.constantFrom("__proto__", "7", 'a"b')), anyTensor), { maxLength: 5 })
    .map((entries) => new Map(entries)),
  metadata: fc.dictionary(anyText, anyText, { maxKeys: 4, noNullPrototype: true }),
});

describe("round trips", () => {
  test("bytes equal those of the reference implementation, and are read back", () => {
    expect(Buffer.from(encodeSafetensors(sample.tensors, sample.metadata))).toEqual(reference);
    expect(decodeSafetensors(reference)).toEqual(sample);
  });

  test("any tensors, names and metadata", async () => {
    await fc.assert(
      fc.asyncProperty(anyFile, async ({ tensors, metadata }) => {
        const bytes = encodeSafetensors(tensors, metadata);
        expect(decodeSafetensors(bytes)).toEqual({ tensors, metadata, skipped: new Map() });
        const pieces: Uint8Array[] = [];
        for await (const piece of streamSafetensors(tensors, metadata)) pieces.push(piece);
        expect(Buffer.concat(pieces).equals(bytes)).toBe(true);
      }),
    );
  });

  test("every tensor is aligned to its element size, whatever the order", () => {
    const tensors = new Map([...sample.tensors].reverse());
    const bytes = encodeSafetensors(tensors);
    const headerBytes = Number(new DataView(bytes.buffer).getBigUint64(0, true));
    expect(headerBytes % 8).toBe(0);
    const header = JSON.parse(Buffer.from(bytes.subarray(8, 8 + headerBytes)).toString());
    for (const [name, { data }] of tensors) expect(header[name].data_offsets[0] % data.BYTES_PER_ELEMENT).toBe(0);
  });

  test("through a file, deferred data fetched one tensor after the other", async () => {
    const path = join(folder, "deferred.safetensors");
    let open = 0;
    const deferred = new Map(
      [...sample.tensors].map(([name, tensor]) => {
        const data = async () => {
          expect(++open).toBe(1);
          await new Promise((done) => setTimeout(done, 1));
          open--;
          return tensor.data;
        };
        return [name, { ...tensor, data } as never];
      }),
    );
    await writeSafetensors(path, deferred, sample.metadata);
    expect(await readFile(path)).toEqual(reference);
    expect(await readSafetensors(path)).toEqual(sample);
  });

  test("200 MB pass through a file in pieces", async () => {
    const path = join(folder, "large.safetensors");
    const piece = new Float32Array(2_500_000).map((_, i) => i);
    const names = Array.from({ length: 20 }, (_, i) => `layer ${i}`);
    const tensors = new Map(
      names.map((name) => [name, { dtype: "F32" as const, shape: [2500, 1000], data: async () => piece }]),
    );
    const before = process.memoryUsage().arrayBuffers;
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
    }, 5);
    await writeSafetensors(path, tensors);
    clearInterval(watch);
    expect(peak).toBeLessThan(50e6);
    const { tensors: back } = await readSafetensors(path);
    expect([...back.keys()]).toEqual(names);
    for (const { data } of back.values()) expect(Buffer.compare(asBytes(data), asBytes(piece))).toBe(0);
    await rm(path);
  });
});

const asBytes = ({ buffer, byteOffset, byteLength }: StoredTensor["data"]) =>
  new Uint8Array(buffer, byteOffset, byteLength);

/**
 * From Python's safetensors 0.8.0, numpy and torch: half [1, -2, 2^-24, inf, nan, 65504], brain [1, -2, 3.140625], the
 * I64 scalar num_batches_tracked 3, I64 [2^53 + 1], U64 [7], I8 [-1, 2], I16 [-300], U16 [65535], BOOL [true, false],
 * F8_E4M3 [1.5].
 */
const foreign = Buffer.from(
  "aAIAAAAAAAB7InVuc2lnbmVkIjp7ImR0eXBlIjoiVTY0Iiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbMCw4XX0sImxhcmdlIjp7ImR0eXBlIjoi" +
    "STY0Iiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbOCwxNl19LCJudW1fYmF0Y2hlc190cmFja2VkIjp7ImR0eXBlIjoiSTY0Iiwic2hhcGUiOltd" +
    "LCJkYXRhX29mZnNldHMiOlsxNiwyNF19LCJicmFpbiI6eyJkdHlwZSI6IkJGMTYiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOlsyNCwzMF19LCJo" +
    "YWxmIjp7ImR0eXBlIjoiRjE2Iiwic2hhcGUiOls2XSwiZGF0YV9vZmZzZXRzIjpbMzAsNDJdfSwid29yZHMiOnsiZHR5cGUiOiJVMTYiLCJzaGFwZSI6" +
    "WzFdLCJkYXRhX29mZnNldHMiOls0Miw0NF19LCJzaG9ydHMiOnsiZHR5cGUiOiJJMTYiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls0NCw0Nl19" +
    "LCJlaWdodGgiOnsiZHR5cGUiOiJGOF9FNE0zIiwic2hhcGUiOlsxXSwiZGF0YV9vZmZzZXRzIjpbNDYsNDddfSwiYnl0ZXMiOnsiZHR5cGUiOiJJOCIs" +
    "InNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzQ3LDQ5XX0sIm1hc2siOnsiZHR5cGUiOiJCT09MIiwic2hhcGUiOlsyXSwiZGF0YV9vZmZzZXRzIjpb" +
    "NDksNTFdfX0gICAgICAgBwAAAAAAAAABAAAAAAAgAAMAAAAAAAAAgD8AwElAADwAwAEAAHwAfv97///U/jz/AgEA",
  "base64",
);

describe("files of other libraries", () => {
  test("types that Kilograd does not store are converted where that is exact, else skipped by name", async () => {
    const path = join(folder, "foreign.safetensors");
    await writeFile(path, foreign);
    for (const { tensors, skipped } of [decodeSafetensors(foreign), await readSafetensors(path)]) {
      expect(Object.fromEntries([...tensors].map(([name, { dtype, data }]) => [name, [dtype, ...data]]))).toEqual({
        half: ["F32", 1, -2, 2 ** -24, Number.POSITIVE_INFINITY, Number.NaN, 65504],
        brain: ["F32", 1, -2, 3.140625],
        num_batches_tracked: ["F64", 3],
        unsigned: ["F64", 7],
        bytes: ["I32", -1, 2],
        shorts: ["I32", -300],
        words: ["U32", 65535],
        mask: ["U8", 1, 0],
      });
      expect(tensors.get("num_batches_tracked")!.shape).toEqual([]);
      expect([...skipped]).toEqual([
        ["large", "its I64 values go beyond 2^53"],
        ["eighth", "elements of type F8_E4M3 are not read"],
      ]);
    }
  });

  test("every half is what the format says", () => {
    const bytes = Uint8Array.from(new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
    const { data } = decodeSafetensors(
      fileOf({ a: { dtype: "F16", shape: [65536], data_offsets: [0, 131072] } }, bytes),
    ).tensors.get("a")!;
    for (const [bits, value] of data.entries()) {
      // By the definition: 5 bits of exponent with bias 15, 10 of fraction.
      const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
      const magnitude = exponent === 0 ? fraction / 2 ** 24 : ((1024 + fraction) / 1024) * 2 ** (exponent - 15);
      const finite = bits & 0x8000 ? -magnitude : magnitude;
      const special = fraction === 0 ? Math.sign(0.5 - (bits >> 15)) * Number.POSITIVE_INFINITY : Number.NaN;
      if (!Object.is(value, exponent === 31 ? special : finite)) expect.fail(`half ${bits} became ${value}`);
    }
  });

  test("metadata of null are none", () => {
    expect(decodeSafetensors(fileOf({ __metadata__: null, a: kernel }, 8)).metadata).toEqual({});
  });
});

describe("writing refuses", () => {
  const write = (tensor: unknown, name = "kernel") => encodeSafetensors(new Map([[name, tensor as StoredTensor]]));

  test.each([
    [
      { dtype: "F32", shape: [2, 2], data: new Float32Array(3) },
      /needs a Float32Array of 4 elements, given a Float32Array of 3/,
    ],
    [
      { dtype: "F32", shape: [2], data: new Int32Array(2) },
      /needs a Float32Array of 2 elements, given an Int32Array of 2/,
    ],
  ])("data that do not fit: %o", (tensor, message) => {
    expect(() => write(tensor)).toThrow(UsageError);
    expect(() => write(tensor)).toThrow(message);
  });

  test("the metadata's name for a tensor", () => {
    expect(() => write({ dtype: "U8", shape: [0], data: new Uint8Array() }, "__metadata__")).toThrow(UsageError);
  });

  test("and keeps the file that was there", async () => {
    const inside = await mkdtemp(join(folder, "kept-"));
    const path = join(inside, "model.safetensors");
    await writeFile(path, reference);
    const wrong = { dtype: "F32", shape: [2], data: async () => new Float32Array(1) } as const;
    await expect(writeSafetensors(path, new Map([["a", wrong]]))).rejects.toThrow(UsageError);
    expect(await readFile(path)).toEqual(reference);
    expect(await readdir(inside)).toEqual(["model.safetensors"]);
  });
});

/** A file with `header` as it stands and behind it bytes, or so many zeros. */
function fileOf(header: unknown, data: number | Uint8Array): Uint8Array {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, typeof data === "number" ? Buffer.alloc(data) : data]);
}
const kernel = { dtype: "F32", shape: [2], data_offsets: [0, 8] };
const nested = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;

const broken: [name: string, bytes: Uint8Array, message: RegExp][] = [
  ["empty", new Uint8Array(0), /at least 10 bytes, this one has 0/],
  ["nine bytes", new Uint8Array(9), /at least 10 bytes, this one has 9/],
  [
    "HDF5",
    Buffer.concat([Buffer.from("\x89HDF\r\n\x1a\n", "latin1"), Buffer.alloc(99)]),
    /not a safetensors file but HDF5/,
  ],
  ["ZIP", Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), Buffer.alloc(99)]), /not a safetensors file but a ZIP/],
  ["text", Buffer.from("this is no model at all"), /not a safetensors file; name one/],
  ["zeros", new Uint8Array(64), /not a safetensors file/],
  ["an enormous header", Buffer.from("\xff\xff\xff\xff\xff\xff\xff\x7f{}", "latin1"), /at most 100000000 bytes/],
  [
    "a header beyond the end",
    Buffer.from("\xff\0\0\0\0\0\0\0{}", "latin1"),
    /cut short: its header claims 255 bytes, 2 follow/,
  ],
  ["no JSON", fileOf("{not JSON}", 0), /header is damaged/],
  ["no UTF-8", Buffer.from('\x07\0\0\0\0\0\0\0{"\xff":1}', "latin1"), /header is damaged/],
  ["a list in the header", fileOf("{}[]", 0), /header is damaged/],
  [
    "a name twice",
    fileOf(`{"a":${JSON.stringify(kernel)},"\\u0061"   \n   :${JSON.stringify(kernel)}}`, 8),
    /"a" occurs twice/,
  ],
  [
    "a field twice",
    fileOf('{"a":{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,2]}}', 2),
    /"shape" occurs twice/,
  ],
  [
    "an unknown dtype",
    fileOf({ a: { ...kernel, dtype: "F24" } }, 8),
    /"a" must have dtype F64, F32, F16, BF16, C64, I64, .*F4, has F24/,
  ],
  ["a dtype of Object's", fileOf({ a: { ...kernel, dtype: "constructor" } }, 8), /has constructor/],
  ["no description", fileOf({ a: null }, 8), /must have dtype .* has undefined/],
  ["a negative size", fileOf({ a: { ...kernel, shape: [-2] } }, 8), /shape of whole numbers, has \[-2\]/],
  ["a fractional size", fileOf({ a: { ...kernel, shape: [0.5] } }, 8), /shape of whole numbers, has \[0.5\]/],
  ["a nested shape", fileOf(`{"a":{"dtype":"F32","shape":${nested},"data_offsets":[0,8]}}`, 8), /has \[\.\.\.\]/],
  ["no offsets", fileOf({ a: { ...kernel, data_offsets: [8] } }, 8), /two data_offsets, has \[8\]/],
  ["offsets backwards", fileOf({ a: { ...kernel, data_offsets: [8, 0] } }, 8), /8 bytes apart .* has \[8,0\]/],
  [
    "bytes that do not fit the shape",
    fileOf({ a: { ...kernel, shape: [3] } }, 8),
    /12 bytes apart for F32 of shape \[3\]/,
  ],
  ["a shape beyond counting", fileOf({ a: { ...kernel, shape: [2 ** 53 - 1, 2 ** 53 - 1] } }, 8), /bytes apart/],
  [
    "a hole",
    fileOf({ a: kernel, b: { ...kernel, data_offsets: [12, 20] } }, 20),
    /"b" must begin at byte 8, begins at 12: a hole/,
  ],
  ["an overlap", fileOf({ a: kernel, b: { ...kernel, data_offsets: [4, 12] } }, 12), /begins at 4: an overlap/],
  ["a half of a byte", fileOf({ a: { dtype: "F4", shape: [3], data_offsets: [0, 1] } }, 1), /1.5 bytes apart for F4/],
  ["missing data", fileOf({ a: kernel }, 7), /cut short: its tensors need 8 bytes, 7 are there/],
  ["data to spare", fileOf({ a: kernel }, 9), /1 bytes follow that belong to no tensor/],
  ["metadata that are no texts", fileOf({ __metadata__: { epoch: 3 } }, 0), /__metadata__ must map texts to texts/],
  ["metadata that are a list", fileOf({ __metadata__: [] }, 0), /__metadata__ must map texts to texts/],
];

describe("reading refuses", () => {
  test.each(broken)("%s", async (_name, bytes, message) => {
    const path = join(folder, "broken.safetensors");
    await writeFile(path, bytes);
    for (const [read, source] of [
      [async () => decodeSafetensors(bytes, "there"), "there: "],
      [() => readSafetensors(path), path],
    ] as const) {
      const error = await read().catch((error: unknown) => error);
      expect(error).toBeInstanceOf(DataError);
      expect((error as DataError).message).toMatch(message);
      expect((error as DataError).message.startsWith(source)).toBe(true);
      expect((error as DataError).message.length).toBeLessThan(300);
    }
  });

  test("a file cut anywhere, in memory and on disk", async () => {
    for (let length = 0; length < reference.length; length++) {
      expect(() => decodeSafetensors(reference.subarray(0, length))).toThrow(DataError);
    }
    const path = join(folder, "cut.safetensors");
    await writeFile(path, reference);
    for (let length = reference.length - 1; length >= 0; length -= 7) {
      await truncate(path, length);
      await expect(readSafetensors(path)).rejects.toThrow(DataError);
    }
  });

  test("a file with changed bytes, or reads it: nothing else happens", () => {
    const change = fc.record({ at: fc.nat({ max: reference.length - 1 }), to: fc.nat({ max: 255 }) });
    let refused = 0;
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const bytes = Uint8Array.from(reference);
        for (const { at, to } of changes) bytes[at] = to;
        try {
          decodeSafetensors(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(DataError);
          refused++;
        }
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });

  test("a file that is missing or a folder", async () => {
    await expect(readSafetensors(join(folder, "missing"))).rejects.toThrow(/cannot read .*missing: ENOENT/);
    await expect(readSafetensors(folder)).rejects.toThrow(DataError);
  });

  test.skipIf(process.platform === "win32")("a pipe, which nobody might ever write to", async () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    await expect(readSafetensors(pipe)).rejects.toThrow(/cannot read .*pipe: it is no regular file/);
    expect(await headOf(pipe, 8)).toHaveLength(0);
  });
});
