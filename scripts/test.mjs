// `npm test`, and `npm test -- --quick`: what needs no adapter, and every operation once on one. Other arguments go to
// vitest.
import { spawnSync } from "node:child_process";

const given = process.argv.slice(2);
const { status, signal } = spawnSync(
  process.execPath,
  ["node_modules/vitest/vitest.mjs", "run", ...given.filter((argument) => argument !== "--quick")],
  { stdio: "inherit", env: { ...process.env, ...(given.includes("--quick") && { KILOGRAD_TEST_QUICK: "1" }) } },
);
process.exitCode = signal === null ? status : 1;
