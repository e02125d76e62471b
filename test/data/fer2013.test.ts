// fer2013.csv: everything that can be malformed, by row, and the real data where this machine has it.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadFer2013, parseFer2013 } from "../../src/data/fer2013.js";
import { decodeFer2013 } from "../../src/data/fer2013-format.js";
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
    ["no emotion", `,${face()},Training`, /emotion .* is missing/],
    ["an unknown usage", `1,${face()},Test`, /the usage must be one of Training, PublicTest, PrivateTest, is "Test"/],
    ["no usage", `1,${face()}`, /usage .* is missing/],
    ["a fourth column", `1,${face()},Training,x`, /must have 3 fields, has 4: "x"/],
    ["an empty line", "", /is empty$/],
    ["quotes around a part", `1,"${face(0, 9)}" ${face(9, 2295)},Training`, /pixel 1 .* is ""0"/],
    ["quotes that do not end", `1,"${face()},Training`, /pixel 1 .* is ""0"/],
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

  it.each([
    ["columns in another order", "emotion,Usage,pixels"],
    ["spaces in the header, as icml_face_data.csv has them", "emotion, Usage, pixels"],
    ["quotes in the header", '"pixels","emotion","Usage"'],
    ["a byte order mark", "\ufeffUsage,emotion,pixels"],
  ])("reads %s", (_, line) => {
    const names = line.replace(/[" \ufeff]/g, "").split(",");
    const rows = goodRows().map((row) => {
      const [emotion, pixels, Usage] = row.split(",");
      const fields: Record<string, string> = { emotion: emotion!, pixels: pixels!, Usage: Usage! };
      return names.map((name) => fields[name]).join(",");
    });
    const text = [line, ...rows].join("\n");
    expect(parse(Buffer.from(`${text}\n`))).toEqual(parse(csv(goodRows())));
    // Where the pixels are last, a file without its last line break may lack digits.
    const cut = () => parse(Buffer.from(text));
    if (names.at(-1) === "pixels")
      expect(cut).toThrow(/is cut off: it must end with a line break behind the last pixel/);
    else expect(cut()).toEqual(parse(csv(goodRows())));
  });

  it.each([
    ["quoted pixels", (row: string) => row.replace(/,([\d ]+),/, ',"$1",')],
    ["every field quoted", (row: string) => `"${row.replaceAll(",", '","')}"`],
    ["spaces behind the commas", (row: string) => row.replaceAll(",", ", ")],
  ])("reads %s", (_, change) => {
    expect(parse(csv(goodRows().map(change)))).toEqual(parse(csv(goodRows())));
  });

  it.each(["\n", "\n\n\n", "\r\n", "  \n"])("takes blank lines at the end (%j)", (end) => {
    expect(parse(csv(goodRows(), `\n${end}`))).toEqual(parse(csv(goodRows())));
  });

  it("stops at the first row that is too short, and takes no memory for millions that follow", () => {
    const followed = (line: string, rows: string[]) =>
      Buffer.concat([Buffer.from(csv(rows, "\n")), Buffer.alloc(2 ** 26, line)]);
    expect(() => parse(followed("0\n", goodRows()))).toThrow(/row \d+ \(line \d+\): must have 2304 pixels/);
    expect(() => parse(Buffer.concat([followed("\n", goodRows()), Buffer.from("x\n")]))).toThrow(/: is empty/);
  });

  it.each(["emotion,pixels", "emotion,pixels,Usage,x", "emotion,pixels,pixels", "label,pixels,Usage", ""])(
    "refuses the header %j",
    (line) => {
      expect(() => parse(Buffer.from(`${line}\n0,1,Training\n`))).toThrow(
        `some.csv must begin with the line "emotion,pixels,Usage", in any order, begins with "${line}"`,
      );
    },
  );
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
      `fer2013: neither ${folder} (--data-dir) nor its folder fer2013 has fer2013.csv or icml_face_data.csv (with or without .gz)`,
    );
    await expect(loadFer2013({ dataDir: folder })).rejects.toBeInstanceOf(UsageError);
  });

  it("finds icml_face_data.csv, too", async () => {
    const rows = goodRows().map((row) => row.replace(/^(\d),(.*),(\w+)$/, "$1,$3,$2"));
    write("fer2013/icml_face_data.csv", Buffer.from(`emotion, Usage, pixels\n${rows.join("\n")}\n`));
    const { train, source, repeated } = await loadFer2013({ dataDir: folder });
    expect([...train.labels]).toEqual([3, 5]);
    expect(source).toMatch(/icml_face_data.csv$/);
    expect(repeated).toMatchObject({ faces: 0, acrossParts: 0, labelsDiffer: 0 });
  });

  it("counts faces that are there several times, in several parts, with several labels", async () => {
    const rows = [
      ...[`3,${face(0)},Training`, `3,${face(0)},Training`], // Twice in one part.
      ...[`1,${face(1)},Training`, `1,${face(1)},PublicTest`, `1,${face(1)},PrivateTest`], // In all three.
      ...[`1,${face(2)},Training`, `4,${face(2)},PrivateTest`], // With two labels.
      ...[`5,${face(3)},PublicTest`, `5,${face(4)},PrivateTest`, `5,${face(5)},Training`],
    ];
    write("fer2013.csv", csv(rows));
    const { repeated, source } = await loadFer2013({ dataDir: folder });
    expect(repeated).toEqual({
      ...{ faces: 3, acrossParts: 2, labelsDiffer: 1 },
      ...{ validation: Int32Array.of(0), test: Int32Array.of(0, 1) },
    });
    expect(source).toMatch(
      /; faces that are in it more than once: 3, of them in several parts 2, with different labels 1$/,
    );
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
  it("has three parts with every emotion, disgust the rarest and happy the most frequent, and repeated faces", async () => {
    const { train, validation, test, repeated } = await loadFer2013({ dataDir });
    for (const { labels, images, count } of [train, validation, test]) {
      const perClass = new Array<number>(7).fill(0);
      for (const label of labels) perClass[label]!++;
      expect(Math.min(...perClass)).toBe(perClass[1]);
      expect(perClass[1]).toBeGreaterThan(0);
      expect(Math.max(...perClass)).toBe(perClass[3]);
      expect(images).toHaveLength(count * 2304);
    }
    expect(train.count).toBeGreaterThan(5 * test.count);
    expect(repeated.acrossParts).toBeGreaterThan(100);
    expect(repeated.faces).toBeGreaterThan(repeated.acrossParts);
    expect(repeated.labelsDiffer).toBeGreaterThan(0);
    expect(repeated.test.length).toBeLessThan(test.count / 5);
  });
});

describe("decodeFer2013", () => {
  it("gives of bytes, gzip or plain, the three parts", async () => {
    for (const bytes of [csv(goodRows()), gzipSync(csv(goodRows()))]) {
      const { train, validation, test, repeated, source } = await decodeFer2013(bytes);
      expect([train, validation, test].map(({ labels }) => [...labels])).toEqual([[3, 5], [6], [0]]);
      expect(repeated.faces).toBe(0);
      expect(source).toMatch(/^FER2013, 2 Training, 1 PublicTest, 1 PrivateTest, from bytes/);
    }
  });

  it("counts faces that are there twice by all of their pixels", async () => {
    const almost = face(5).replace(/\d+$/, "0");
    const rows = [...goodRows(), `2,${face(5)},PrivateTest`, `2,${almost},PrivateTest`];
    const { repeated } = await decodeFer2013(csv(rows));
    expect(repeated).toMatchObject({ faces: 1, acrossParts: 1, labelsDiffer: 1 });
    expect([[...repeated.validation], [...repeated.test]]).toEqual([[0], [1]]);
  });

  it("refuses rows as parseFer2013 does", async () => {
    await expect(decodeFer2013(Buffer.from("nothing"))).rejects.toThrow(
      /^fer2013: the CSV file must begin with the line/,
    );
  });
});
