// Files of events: their bytes against ones that TensorFlow's own code wrote, and what TensorBoard reads from them.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { crc32c, EventFile, encodeHead, encodeRecord } from "../../src/io/event-file.js";
import { KilogradError } from "../../src/tensor/errors.js";
import { needsPython, python } from "../python.js";

interface Golden {
  readonly records: Readonly<Record<string, string>>;
}
const golden: Golden = JSON.parse(readFileSync(new URL("event-file.json", import.meta.url), "utf8"));

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

test("CRC-32C of RFC 3720, B.4", () => {
  const bytes = (value: (i: number) => number) => Uint8Array.from({ length: 32 }, (_, i) => value(i));
  expect(crc32c(bytes(() => 0))).toBe(0x8a9136aa);
  expect(crc32c(bytes(() => 255))).toBe(0x62a8ab43);
  expect(crc32c(bytes((i) => i))).toBe(0x46dd794e);
  expect(crc32c(bytes((i) => 31 - i))).toBe(0x113fdb5c);
});

describe("records have the bytes that TensorBoard's own writer gives", () => {
  const time = 1700000000.5;
  const histogram = { min: -1, max: 2, count: 4, sum: 1.5, sumOfSquares: 6.25, limits: [0, 2], counts: [1, 3] };
  const image = { png: Uint8Array.of(1, 2, 3), width: 300, height: 2, channels: 3 as const };
  test.each([
    ["head", () => encodeHead(time)],
    ["scalar", () => encodeRecord({ time, step: 1, values: { "epoch/loss": { scalar: 0.25 } } })],
    ["nan", () => encodeRecord({ time, step: 2, values: { a: { scalar: Number.NaN } } })],
    ["large step", () => encodeRecord({ time, step: 5_000_000_000, values: { ä: { scalar: -1e30 } } })],
    ["several", () => encodeRecord({ time, step: 300, values: { a: { scalar: 1 }, b: { scalar: 2 } } })],
    ["histogram", () => encodeRecord({ time, step: 3, values: { w: { histogram } } })],
    ["image", () => encodeRecord({ time, step: 4, values: { i: { image } } })],
    ["session start", () => encodeRecord({ time, step: 7, values: "session start" })],
  ])("%s", (name, encode) => {
    expect(hex(encode())).toBe(golden.records[name]);
  });
});

describe("files", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-events-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test("of the same second have names of their own, in their order", () => {
    const files = [0, 1, 2].map(() => new EventFile(folder, 1700000000));
    for (const file of files) file.close();
    const names = readdirSync(folder).sort();
    expect(names).toEqual(files.map(({ path }) => path.slice(folder.length + 1)));
    for (const name of names) expect(name).toMatch(/^events\.out\.tfevents\.1700000000\./);
    expect(hex(readFileSync(files[0]!.path))).toBe(hex(encodeHead(1700000000)));
  });

  test("that cannot be made are an error of the library", () => {
    expect(() => new EventFile(join(folder, "missing"), 1)).toThrow(KilogradError);
    expect(() => new EventFile(join(folder, "missing"), 1)).toThrow(/cannot write .*missing/);
  });
});

const { reason } = needsPython("tensorboard");

test.skipIf(reason !== undefined)(`TensorBoard's reader gives back what was written ${reason ?? ""}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "kilograd-events-"));
  try {
    const first = new EventFile(folder, 1700000000);
    first.write(encodeRecord({ time: 1700000000, step: 1, values: { "epoch/loss": { scalar: 0.5 } } }));
    first.write(encodeRecord({ time: 1700000000, step: 9, values: { "epoch/loss": { scalar: 9 } } }));
    // As a killed process leaves it: the last record is cut off.
    first.write(encodeRecord({ time: 1700000000, step: 10, values: { "epoch/loss": { scalar: 10 } } }).subarray(0, 20));
    first.close();
    const second = new EventFile(folder, 1700000001);
    const histogram = { min: -1, max: 2, count: 4, sum: 1.5, sumOfSquares: 6.25, limits: [0, 2], counts: [1, 3] };
    second.write(encodeRecord({ time: 1700000001, step: 2, values: "session start" }));
    second.write(
      encodeRecord({
        ...{ time: 1700000001, step: 2 },
        values: {
          "epoch/loss": { scalar: 0.25 },
          "weights/w": { histogram },
          "images/i": { image: { png: Uint8Array.of(1, 2, 3), width: 5, height: 4, channels: 1 } },
        },
      }),
    );
    second.close();
    const ended = spawnSync(python, ["test/io/event-file.py", "read", folder], { encoding: "utf8" });
    expect(ended.stderr.replace(/^.*Warning.*\n.*\n/gm, "")).not.toContain("Error");
    expect(JSON.parse(ended.stdout)).toEqual({
      scalars: {
        "epoch/loss": [
          [1, 0.5],
          [2, 0.25],
        ],
      },
      histograms: { "weights/w": [[2, -1, 2, 4, 1.5, 6.25, [0, 2], [1, 3]]] },
      images: { "images/i": [[2, 5, 4, "010203"]] },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
