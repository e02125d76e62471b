// How the tests run. Files run in processes, not threads, because Dawn may crash in a worker thread.
import { readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "vitest/config";
import { adapterVariables } from "./src/driver/choose.js";

// The processes that the files run in inherit it: where the adapter is that of a driver of the user's own, they have to
// start with it.
Object.assign(process.env, await adapterVariables());

/**
 * Files that run in one process one after the other, and so find devices open and programs compiled (webgpu/shared.ts).
 */
const shared = ["test/autograd/*.test.ts", "test/nn/*.test.ts", "test/kernels/*.test.ts"];

/**
 * `npm test -- --quick`: files that open no device and start no program, browser or store, and every operation on the
 * adapter once.
 */
function quickFiles(): string[] {
  const usesMore = /spawn|support\.js|small\.js|tiny\.js|run\.js|openDevice|dist\/|chromium|redis|recipes\.js/i;
  const files = readdirSync("test", { recursive: true, encoding: "utf8" }).map((path) => `test/${path}`);
  const alone = files.filter((path) => path.endsWith(".test.ts") && !usesMore.test(readFileSync(path, "utf8")));
  return [...alone, "test/autograd/parity.test.ts"];
}

const isQuick = Boolean(process.env["KILOGRAD_TEST_QUICK"]);

export default defineConfig({
  test: {
    pool: "forks",
    execArgv: ["--expose-gc"],
    setupFiles: ["test/equal-bytes.ts"],
    // A software adapter uses every core by itself; the second process fills the time in which a file works on the CPU
    // alone.
    maxWorkers: 2,
    // A kernel's first use compiles it, which takes seconds on a software adapter.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    projects: isQuick
      ? [{ extends: true, test: { name: "quick", include: quickFiles() } }]
      : [
          {
            extends: true,
            test: { name: "shared", include: shared, isolate: false, setupFiles: ["test/collect-garbage.ts"] },
          },
          { extends: true, test: { name: "alone", include: ["test/**/*.test.ts"], exclude: shared } },
        ],
  },
});
