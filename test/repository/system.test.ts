// What the set-up decides before it touches anything: stale modules and builds.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { sourceDigest, staleModules, versionAtLeast } from "../../scripts/system.mjs";

const lock = (packages: Record<string, { version?: string; optional?: boolean }>) => JSON.stringify({ packages });

describe("staleModules", () => {
  const wanted = lock({
    "": { version: "0.1.0" },
    "node_modules/a": { version: "1.0.0" },
    "node_modules/a/node_modules/@scope/b": { version: "2.0.0" },
    "node_modules/other-platform": { version: "3.0.0", optional: true },
  });
  const installed = {
    "node_modules/a": { version: "1.0.0" },
    "node_modules/a/node_modules/@scope/b": { version: "2.0.0" },
  };

  test("accepts what npm recorded, without the optional packages of other platforms", () => {
    expect(staleModules(wanted, lock(installed))).toBeUndefined();
  });
  test("names the first difference", () => {
    expect(staleModules(wanted, undefined)).toBe("absent or incomplete");
    const older = lock({ ...installed, "node_modules/a/node_modules/@scope/b": { version: "1.9.0" } });
    expect(staleModules(wanted, older)).toBe("@scope/b is 1.9.0, the lock file has 2.0.0");
    expect(staleModules(wanted, lock({}))).toBe("a is absent, the lock file has 1.0.0");
    const optional = lock({ ...installed, "node_modules/other-platform": { version: "2.9.0" } });
    expect(staleModules(wanted, optional)).toBe("other-platform is 2.9.0, the lock file has 3.0.0");
  });
  test("finds nothing stale in this checkout", () => {
    const read = (path: string) => readFileSync(path, "utf8");
    expect(staleModules(read("package-lock.json"), read("node_modules/.package-lock.json"))).toBeUndefined();
  });
});

test("sourceDigest depends on paths and contents, not on their order", () => {
  const a = ["src/a.ts", "1"] as const;
  const b = ["src/b.ts", "2"] as const;
  expect(sourceDigest([a, b])).toBe(sourceDigest([b, a]));
  const digests = [[a, b], [a], [a, ["src/b.ts", "3"]], [a, ["src/c.ts", "2"]], [["src/a.ts", ""], b]] as const;
  expect(new Set(digests.map((files) => sourceDigest(files))).size).toBe(digests.length);
});

test("versionAtLeast compares numbers, not text", () => {
  expect(["20.19.0", "20.20.1", "22.1.0", "100.0.0"].map((version) => versionAtLeast(version, "20.19"))).toEqual(
    Array(4).fill(true),
  );
  expect(["20.9.0", "18.20.4", "9.99.0"].map((version) => versionAtLeast(version, "20.19"))).toEqual(
    Array(3).fill(false),
  );
});
