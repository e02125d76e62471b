// Zip archives: written and read back, read as Python's zipfile writes them, and everything that is damaged is refused
// before memory is taken.
import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { encodeZip, zipData, zipEntries } from "../../src/io/zip.js";
import { DataError } from "../../src/tensor/errors.js";

const texts = (entries: Record<string, string>) =>
  encodeZip(Object.entries(entries).map(([name, text]) => [name, new TextEncoder().encode(text)] as const));

async function read(bytes: Uint8Array): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [name, entry] of zipEntries(bytes, "file")) {
    found[name] = new TextDecoder().decode(await zipData(bytes, entry, "file"));
  }
  return found;
}

/** The same archive with its only entry deflated, and what is written of it. */
function deflated(text: string, announced = text.length): Uint8Array {
  const stored = texts({ "a.txt": text });
  const view = new DataView(stored.buffer);
  const data = deflateRawSync(Buffer.from(text));
  const header = stored.slice(0, 30 + 5);
  const central = stored.slice(30 + 5 + text.length);
  for (const [part, at] of [
    [header, 8],
    [central, 10],
  ] as const) {
    const fields = new DataView(part.buffer);
    fields.setUint16(at, 8, true);
    fields.setUint32(at + 10, data.length, true);
    fields.setUint32(at + 14, announced, true);
  }
  const end = new DataView(central.buffer);
  end.setUint32(central.length - 22 + 16, header.length + data.length, true);
  expect(view.getUint32(0, true)).toBe(0x04034b50);
  return Uint8Array.from([...header, ...data, ...central]);
}

test("stored entries come back, whatever their names are", async () => {
  const entries = { "metadata.json": "{}", "é/ü.bin": "bytes", empty: "" };
  expect(await read(texts(entries))).toEqual(entries);
  expect(await read(texts({}))).toEqual({});
});

test("deflated entries are uncompressed", async () => {
  const text = "kilograd ".repeat(200);
  expect(await read(deflated(text))).toEqual({ "a.txt": text });
});

test("sizes that a file announces are checked before memory is taken, and contents after", async () => {
  const text = "a".repeat(1000);
  await expect(read(deflated(text, 2 ** 31))).rejects.toThrow(
    /^file: "a.txt" is damaged: it announces 2147483648 bytes, which \d+ cannot be uncompressed to$/,
  );
  for (const announced of [999, 1001]) {
    await expect(read(deflated(text, announced))).rejects.toThrow(
      /^file: "a.txt" is damaged: it(s checksum| announces)/,
    );
  }
  const bytes = texts({ a: "text" });
  bytes[30 + 1]! ^= 1;
  await expect(read(bytes)).rejects.toThrow('file: "a" is damaged: its checksum is another one');
});

test("an archive that is cut off or damaged at any byte gives what it held, or an error of ours", async () => {
  const whole = texts({ "config.json": "{}", b: "0123456789" });
  for (let length = 0; length < whole.length; length++) {
    expect(() => zipEntries(whole.subarray(0, length), "file")).toThrow(DataError);
  }
  for (let at = 0; at < whole.length; at++) {
    for (const value of [0, 1, 0xff]) {
      const bytes = whole.slice();
      bytes[at] = value;
      const outcome = await read(bytes).catch((error: unknown) => error);
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(DataError);
    }
  }
});
