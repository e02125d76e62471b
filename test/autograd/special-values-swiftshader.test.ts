// The special values once more on SwiftShader, the software driver that Chromium brings: its exp, log and tanh are its
// own. Drivers are chosen when a process starts, so this is one of its own. Without Chromium there is nothing to run
// on.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { expect, it } from "vitest";

const driver = ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome"]
  .map((folder) => `${folder}/vk_swiftshader_icd.json`)
  .find(existsSync);

it.skipIf(driver === undefined)("special values on SwiftShader", { timeout: 600_000 }, () => {
  const files = [
    "test/autograd/special-values.test.ts",
    "test/autograd/elementwise.test.ts",
    "test/kernels/ieee.test.ts",
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...files], {
    encoding: "utf8",
    env: {
      ...process.env,
      KILOGRAD_SPECIAL_VALUES: "quick",
      NO_COLOR: "1",
      // The loader's newer and older name.
      VK_DRIVER_FILES: driver,
      VK_ICD_FILENAMES: driver,
    },
  });
  expect(status, `${stdout}${stderr}`).toBe(0);
  // Both families: its subgroups have four lanes.
  expect(stdout).toMatch(/Test Files {2}3 passed/);
  // A quick run leaves out Winograd's convolutions in each of them, and nothing else.
  expect(stdout).toMatch(/Tests {2}\d+ passed \| 2 skipped/);
});
