// fer2013.csv: everything that can be malformed, by row, and the real data where this machine has it.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadFer2013, parseFer2013 } from "../../src/data/fer2013.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";

/** Read before the tests change the environment. */
const dataDir = process.env["KILOGRAD_DATA_DIR"] ?? "";
const hasReal = ["", "fer2013"].some((sub) =>
  ["fer2013.csv", "fer2013.csv.gz"].some((name) => existsSync(join(dataDir, sub, name))),
);

const header = "emotion,pixels,Usage";
const face = (offset = 0, count = 2304): string =>
  Array.from({ length: count }, (_, i) => (i + offset) % 256).join(" ");
const goodRows = (): string[] => [
  `3,${face()},Training`,
  `6,${face(5)},PublicTest`,
  `0,${face(9)},PrivateTest`,
  `5,${face(17)},Training`,
];
const csv = (rows: readonly string[], end = "\n"): Buffer => Buffer.from([header, ...rows].join("\n") + end);
const parse = (bytes: Uint8Array) => parseFer2013(bytes, "some.csv");

describe("parseFer2013", () => {
  it.each(["\n", "", "\r\n"])("reads labels, pixels and parts in order (file ends with %j)", (end) => {
    const text = [header, ...goodRows()].join(end === "\r\n" ? end : "\n") + end;
    const { Training, PublicTest, PrivateTest } = parse(Buffer.from(text));
    expect([...Training.labels]).toEqual([3, 5]);
    expect([...PublicTest.labels]).toEqual([6]);
    expect([...PrivateTest.labels]).toEqual([0]);
    expect(Training.imageShape).toEqual([48, 48, 1]);
    expect(Training.images).toHaveLength(2 * 2304);
    expect(Training.images[2304 + 100]).toBe(Math.fround(117 / 255));
    expect(PrivateTest.images[246]).toBe(1);
  });

  it.each<[string, string, RegExp]>([
    ["a pixel too few", `1,${face(0, 2303)},Training`, /must have 2304 pixels \(48 x 48\), has 2303/],
    ["a pixel too many", `1,${face(0, 2305)},Training`, /must have 2304 pixels \(48 x 48\), has 2305/],
    ["no pixels", "1,,Training", /has 0$/],
    ["a value above 255", `1,256 ${face(0, 2303)},Training`, /pixel 1 must be a whole number from 0 to 255, is "256"/],
    ["a negative value", `1,4 -3 ${face(0, 2302)},Training`, /pixel 2 .* is "-3"/],
    ["a fraction", `1,1.5 ${face(0, 2303)},Training`, /pixel 1 .* is "1.5"/],
    ["a word", `1,${face(0, 2303)} NaN,Training`, /pixel 2304 .* is "NaN"/],
    ["two spaces", `1,0  ${face(0, 2303)},Training`, /pixel 2 .* is ""/],
    ["a space at the end", `1,${face(0, 2304)} ,Training`, /end with a space behind pixel 2304/],
    ["a number of many digits", `1,0000000 ${face(0, 2303)},Training`, /pixel 1 .* is "0000000"/],
    ["an unknown emotion", `7,${face()},Training`, /the emotion must be a number from 0 to 6, is "7"/],
    ["an emotion of two digits", `10,${face()},Training`, /is "10"/],
    ["no emotion", `,${face()},Training`, /emotion .* is ""/],
    ["an unknown usage", `1,${face()},Test`, /the usage must be one of Training, PublicTest, PrivateTest, is "Test"/],
    ["no usage", `1,${face()}`, /usage .* is missing/],
    ["a fourth column", `1,${face()},Training,x`, /is "Training,x"/],
    ["an empty line", "", /emotion .* is ""/],
    ["quotes", `1,"${face()}",Training`, /pixel 1 .* is ""0"/],
  ])("refuses %s, naming the row", (_, row, message) => {
    const rows = goodRows();
    rows.splice(2, 0, row);
    expect(() => parse(csv(rows))).toThrow(DataError);
    expect(() => parse(csv(rows))).toThrow(/^fer2013: some.csv, row 3 \(line 4\): /);
    expect(() => parse(csv(rows))).toThrow(message);
  });

  it("refuses a file that is cut off wherever that is, with its byte count", () => {
    const whole = csv(goodRows(), "");
    const lastRow = goodRows().at(-1)!.length;
    for (let missing = 1; missing < lastRow; missing += 13) {
      const bytes = whole.subarray(0, whole.length - missing);
      expect(() => parse(bytes)).toThrow(`some.csv is cut off: it ends after ${bytes.length} bytes within row 4: `);
    }
    expect(() => parse(csv(goodRows().slice(0, 2)))).toThrow(
      /none of its 2 rows is of PrivateTest; is the file cut off/,
    );
    expect(() => parse(csv([]))).toThrow(/has no rows: .* has 21 bytes/);
    expect(() => parse(Buffer.alloc(0))).toThrow(/has no rows: .* has 0 bytes/);
  });

  it("refuses another header", () => {
    expect(() => parse(Buffer.from("emotion,Usage,pixels\n"))).toThrow(
      'some.csv must begin with the line "emotion,pixels,Usage", begins with "emotion,Usage,pixels"',
    );
  });
});

describe("loadFer2013", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-fer-"));
    vi.stubEnv("KILOGRAD_DATA_DIR", undefined);
    vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });
  const write = (path: string, bytes: Uint8Array): void => {
    mkdirSync(join(folder, path, ".."), { recursive: true });
    writeFileSync(join(folder, path), bytes);
  };

  it("reads gzip and plain files from the named folder, the environment's, the cache, in this order", async () => {
    write("named/fer2013.csv", csv(goodRows()));
    write("environment/fer2013/fer2013.csv.gz", gzipSync(csv(goodRows())));
    write("cache/kilograd/fer2013/fer2013.csv", csv(goodRows()));
    const sourceOf = async (options = {}) => (await loadFer2013(options)).source;
    expect(await sourceOf()).toBe(
      `FER2013, 2 Training, 1 PublicTest, 1 PrivateTest, from ${join(folder, "cache/kilograd/fer2013/fer2013.csv")}`,
    );
    vi.stubEnv("KILOGRAD_DATA_DIR", join(folder, "environment"));
    expect(await sourceOf()).toMatch(/environment\/fer2013\/fer2013.csv.gz$/);
    expect(await sourceOf({ dataDir: join(folder, "named") })).toMatch(/named\/fer2013.csv$/);
  });

  it("says where the file is to be put, and never looks further than the named folder", async () => {
    await expect(loadFer2013()).rejects.toThrow(/cache\/kilograd\/fer2013\/fer2013.csv is missing; .* https:.*kaggle/);
    await expect(loadFer2013()).rejects.toBeInstanceOf(DataError);
    write("cache/kilograd/fer2013/fer2013.csv", csv(goodRows()));
    await expect(loadFer2013({ dataDir: folder })).rejects.toThrow(
      `fer2013: neither ${folder} (--data-dir) nor its folder fer2013 has fer2013.csv or fer2013.csv.gz`,
    );
    await expect(loadFer2013({ dataDir: folder })).rejects.toBeInstanceOf(UsageError);
  });

  it("refuses damaged gzip with its byte count", async () => {
    const bytes = gzipSync(csv(goodRows()));
    write("fer2013.csv.gz", bytes.subarray(0, 500));
    await expect(loadFer2013({ dataDir: folder })).rejects.toThrow(
      /damaged gzip \(unexpected end of file\) after 500 bytes/,
    );
  });
});

describe.skipIf(!hasReal)("the real FER2013 (skipped where KILOGRAD_DATA_DIR does not name it)", () => {
  it("has three parts with every emotion, disgust the rarest and happy the most frequent", async () => {
    const { train, validation, test } = await loadFer2013({ dataDir });
    for (const { labels, images, count } of [train, validation, test]) {
      const perClass = new Array<number>(7).fill(0);
      for (const label of labels) perClass[label]!++;
      expect(Math.min(...perClass)).toBe(perClass[1]);
      expect(perClass[1]).toBeGreaterThan(0);
      expect(Math.max(...perClass)).toBe(perClass[3]);
      expect(images).toHaveLength(count * 2304);
    }
    expect(train.count).toBeGreaterThan(5 * test.count);
  });
});
