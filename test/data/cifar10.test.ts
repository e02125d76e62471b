// CIFAR-10 archives and folders: everything that can be malformed, and the real data where this machine has it.

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { cifar10Classes, loadCifar10 } from "../../src/data/cifar10.js";
import { decodeCifar10 } from "../../src/data/cifar10-format.js";
import { parseTar } from "../../src/data/tar.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";

/** Read before the tests change the environment. */
const dataDir = process.env["KILOGRAD_DATA_DIR"] ?? "";
const hasReal = ["", "cifar-10"].some((sub) => existsSync(join(dataDir, sub, "cifar-10-binary.tar.gz")));

/** A tar archive of regular files. */
function tar(files: Record<string, Uint8Array>): Buffer {
  const blocks = Object.entries(files).flatMap(([path, bytes]) => {
    const header = Buffer.alloc(512);
    header.write(path, 0);
    header.write(bytes.length.toString(8).padStart(11, "0"), 124);
    header.write("0ustar", 156);
    header.fill(" ", 148, 156);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return [header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

/** A record whose pixel (row, column) is (row, column, label). */
function record(label: number): Buffer {
  const bytes = Buffer.alloc(3073);
  bytes[0] = label;
  for (let i = 0; i < 1024; i++) {
    bytes[1 + i] = Math.floor(i / 32);
    bytes[1025 + i] = i % 32;
    bytes[2049 + i] = label;
  }
  return bytes;
}

const folderName = "cifar-10-batches-bin";
const good = (): Record<string, Buffer> => ({
  "batches.meta.txt": Buffer.from(`${cifar10Classes.join("\n")}\n\n`),
  "data_batch_1.bin": Buffer.concat([record(3), record(9)]),
  "data_batch_2.bin": record(1),
  "test_batch.bin": record(0),
});
const packed = (files: Record<string, Buffer>): Buffer =>
  gzipSync(tar(Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`${folderName}/${name}`, bytes]))));

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-cifar-"));
  vi.stubEnv("KILOGRAD_DATA_DIR", undefined);
  vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(path: string, bytes: Uint8Array): string {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), bytes);
  return folder;
}

describe("loadCifar10", () => {
  it("reads the archive: as many batches as there are, planes to pixels, and says how many images", async () => {
    write("cifar-10/cifar-10-binary.tar.gz", packed(good()));
    const { train, test, source, classNames } = await loadCifar10({ dataDir: folder });
    expect(source).toBe(
      `CIFAR-10, 3 training and 1 test images, from ${join(folder, "cifar-10", "cifar-10-binary.tar.gz")}`,
    );
    expect([...train.labels]).toEqual([3, 9, 1]);
    expect([...test.labels]).toEqual([0]);
    expect(train.imageShape).toEqual([32, 32, 3]);
    const at = 3072 + 3 * (32 * 5 + 7); // second image, row 5, column 7
    expect([...train.images.subarray(at, at + 3)]).toEqual([5, 7, 9].map((byte) => Math.fround(byte / 255)));
    expect(classNames?.[9]).toBe("truck");
  });

  it("reads unpacked batches, in the folder itself or below, named by the environment, too", async () => {
    for (const [name, bytes] of Object.entries(good())) {
      write(join("direct", name), bytes);
      write(join("below", "cifar-10", folderName, name), bytes);
    }
    expect((await loadCifar10({ dataDir: join(folder, "direct") })).train.count).toBe(3);
    vi.stubEnv("KILOGRAD_DATA_DIR", join(folder, "below"));
    expect((await loadCifar10()).train.count).toBe(3);
  });

  it("says that the version for Python is not the one", async () => {
    write("cifar-10/cifar-10-python.tar.gz", Buffer.from("x"));
    await expect(loadCifar10({ dataDir: folder })).rejects.toThrow(/cifar-10-python.tar.gz is the version for Python/);
  });

  it.each<[string, (files: Record<string, Buffer>) => void, RegExp]>([
    [
      "no training batch",
      (f) => {
        delete f["data_batch_1.bin"];
        delete f["data_batch_2.bin"];
      },
      /misses data_batch_1.bin/,
    ],
    [
      "no test batch",
      (f) => {
        delete f["test_batch.bin"];
      },
      /misses test_batch.bin; it has batches.meta.txt, data_batch_1/,
    ],
    [
      "a cut batch",
      (f) => {
        f["data_batch_2.bin"] = record(1).subarray(0, 3000);
      },
      /data_batch_2.bin of .* multiple of 3073 bytes.*it has 3000: 0 images and 3000 bytes/,
    ],
    [
      "an empty batch",
      (f) => {
        f["test_batch.bin"] = Buffer.alloc(0);
      },
      /test_batch.bin .* it has 0: /,
    ],
    [
      "a label out of range",
      (f) => {
        f["data_batch_1.bin"] = Buffer.concat([record(3), record(10)]);
      },
      /data_batch_1.bin of .* labels 0 to 9, that of image 1 is 10/,
    ],
    [
      "other classes",
      (f) => {
        f["batches.meta.txt"] = Buffer.from("apple\npear\n");
      },
      /it names apple, pear/,
    ],
  ])("refuses %s", async (_, change, message) => {
    const files = good();
    change(files);
    write("cifar-10-binary.tar.gz", packed(files));
    const loading = loadCifar10({ dataDir: folder });
    await expect(loading).rejects.toThrow(message);
    await expect(loading).rejects.toBeInstanceOf(DataError);
  });

  it("refuses a damaged archive with its byte count", async () => {
    const bytes = packed(good());
    write("cifar-10-binary.tar.gz", bytes.subarray(0, bytes.length - 20));
    await expect(loadCifar10({ dataDir: folder })).rejects.toThrow(
      `damaged gzip (unexpected end of file) after ${bytes.length - 20} bytes`,
    );
  });

  it("uncompresses no more than the six batches have", async () => {
    write("cifar-10-binary.tar.gz", gzipSync(Buffer.alloc(186e6)));
    await expect(loadCifar10({ dataDir: folder })).rejects.toThrow(
      /cifar-10-binary.tar.gz: it holds more than the 185,428,576 bytes that it may have/,
    );
  });

  it("never looks further than the folder that was named", async () => {
    await expect(loadCifar10({ dataDir: join(folder, "absent") })).rejects.toThrow(UsageError);
    await expect(loadCifar10({ dataDir: folder })).rejects.toThrow(
      /neither .* \(--data-dir\) nor its folder cifar-10 has/,
    );
    await expect(loadCifar10({ offline: true })).rejects.toThrow(/cifar-10-binary.tar.gz is missing or damaged/);
  });
});

describe("parseTar", () => {
  const archive = tar({ "a/b": Buffer.from("hello"), c: Buffer.alloc(600, 7) });

  it("gives the files by path", () => {
    const files = parseTar(archive, "x.tar");
    expect([...files.keys()]).toEqual(["a/b", "c"]);
    expect(new TextDecoder().decode(files.get("a/b"))).toBe("hello");
    expect(files.get("c")).toHaveLength(600);
  });

  /** The archive's first header with another size field, and its checksum. */
  const withSize = (field: Uint8Array): Buffer => {
    const bytes = Buffer.from(archive);
    bytes.fill(0, 124, 136).set(field, 124);
    bytes.fill(0x20, 148, 156);
    const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    return bytes;
  };

  it("reads sizes in octal with any filling, and in base 256", () => {
    const base256 = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    for (const field of ["00000000005\0", "5", "     5      ", "5 \0 \0"].map((text) => Buffer.from(text))) {
      expect(parseTar(withSize(field), "x.tar").get("a/b")).toHaveLength(5);
    }
    expect(parseTar(withSize(Uint8Array.from(base256)), "x.tar").get("a/b")).toHaveLength(5);
  });

  it.each([
    "-1000",
    "abc",
    "",
    "1000x",
    "0x10",
    "8",
    "5 5",
    "1e3",
    "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    "\xff",
  ])("refuses the size %j", (field) => {
    const bytes = withSize(Buffer.from(field, "latin1"));
    expect(() => parseTar(bytes, "x.tar")).toThrow(DataError);
    expect(() => parseTar(bytes, "x.tar")).toThrow(/x.tar is damaged: the size of a\/b must be an octal number, is "/);
  });

  it("refuses a size in base 256 that goes beyond the archive", () => {
    const bytes = withSize(Uint8Array.of(0x80, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff));
    expect(() => parseTar(bytes, "x.tar")).toThrow(/is cut off: a\/b must have 1099511627775 bytes/);
  });

  it.each([
    ["a file cut short", archive.subarray(0, 1800), /x.tar is cut off: c must have 600 bytes, 264 are there/],
    ["a cut between files", archive.subarray(0, 1024), /a header or the end mark must follow at byte 1024 .* has 1024/],
    ["another format", Buffer.alloc(600, 65), /x.tar is not a tar archive/],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => parseTar(bytes, "x.tar")).toThrow(message);
  });
});

describe.skipIf(!hasReal)("the real CIFAR-10 (skipped where KILOGRAD_DATA_DIR does not name it)", () => {
  it("has ten classes of about equal size, and the mean that normalisations use", async () => {
    const { train, test } = await loadCifar10({ dataDir });
    for (const part of [train, test]) {
      const perClass = new Array<number>(10).fill(0);
      for (const label of part.labels) perClass[label]!++;
      for (const count of perClass) expect(count).toBeGreaterThan(part.count / 12);
    }
    const means = [0, 0, 0];
    train.images.forEach((value, i) => {
      means[i % 3]! += value / (train.images.length / 3);
    });
    [0.4914, 0.4822, 0.4465].forEach((mean, channel) => {
      expect(means[channel]).toBeCloseTo(mean, 1);
    });
  });
});

describe("decodeCifar10", () => {
  it("gives of bytes, gzip or plain, what loadCifar10 gives of files", async () => {
    const { source: _, ...loaded } = await loadCifar10({ dataDir: write("cifar-10-binary.tar.gz", packed(good())) });
    for (const bytes of [packed(good()), tar(good())]) {
      const { source, ...decoded } = await decodeCifar10(bytes);
      expect(decoded).toEqual(loaded);
      expect(source).toBe("CIFAR-10, 3 training and 1 test images, from bytes");
    }
  });

  it("refuses what is no archive", async () => {
    await expect(decodeCifar10(new Uint8Array(600).fill(1))).rejects.toThrow(/^tar: the archive is not a tar archive/);
    await expect(decodeCifar10("cifar-10" as never)).rejects.toThrow(/^decodeCifar10: archive must be a Uint8Array/);
  });
});
