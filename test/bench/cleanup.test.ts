// What benchmarks leave behind: nothing, whether they end by themselves, by an error or by a signal.
import { existsSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { temporaryFolder, undoing } from "../../bench/cleanup.js";

afterEach(() => vi.restoreAllMocks());

test("a folder goes at the end of its block, also by an error", () => {
  let path = "";
  const failing = () => {
    using folder = temporaryFolder("test");
    ({ path } = folder);
    writeFileSync(join(path, "file"), "");
    throw new Error("in the middle");
  };
  expect(failing).toThrow("in the middle");
  expect(existsSync(path)).toBe(false);
  expect(process.listeners("SIGTERM")).toEqual([]);
});

test.each(["SIGINT", "SIGTERM"] as const)("%s takes all away, the last first, and ends the process", (signal) => {
  const exit = vi.spyOn(process, "exit").mockImplementation((() => {}) as never);
  using folder = temporaryFolder("test");
  const seen: boolean[] = [];
  using _ = undoing(() => seen.push(existsSync(folder.path)));
  for (const listener of process.listeners(signal)) listener(signal);
  expect(seen[0]).toBe(true);
  expect(existsSync(folder.path)).toBe(false);
  expect(exit).toHaveBeenCalledExactlyOnceWith(128 + constants.signals[signal]);
});
