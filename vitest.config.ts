// How the tests run. Files run in processes, not threads, because Dawn may crash in a worker thread; each opens its own device.
import { defineConfig } from "vitest/config";
import { adapterVariables } from "./src/driver/choose.js";

// The processes that the files run in inherit it: where the adapter is that of a driver of the user's own, they have to start with it.
Object.assign(process.env, await adapterVariables());

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // A software adapter uses every core by itself; the second process fills the time in which a file works on the CPU alone.
    maxWorkers: 2,
    // A kernel's first use compiles it, which takes seconds on a software adapter.
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
