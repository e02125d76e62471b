// `--profile`: the table goes to stderr, the figures into the JSON, and the model that is kept is the one trained
// before.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { build, kilograd } from "./run.js";

const folder = mkdtempSync(join(tmpdir(), "kilograd-profile-"));
beforeAll(() => build());
afterAll(() => rmSync(folder, { recursive: true }));

const training = ["train", "mlp-64", "--data", "digits", "--limit-train", "256", "--steps", "4", "--json", "--out"];

test("train --profile and optimize --profile list kernels and change no result", async () => {
  const [plain, profiled, found] = ["plain", "profiled", "found"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  await kilograd([...training, plain]);
  const trained = await kilograd([...training, profiled, "--profile"]);
  expect(trained.code, trained.stderr).toBe(0);
  expect(trained.stderr).toMatch(/^Kernels of a step: .* in \d+ dispatches/m);
  expect(trained.stderr).toMatch(/^matmul +\[128,784\] \[784,64\] \[128,64\] +1 /m);
  const { profile } = JSON.parse(trained.stdout);
  expect(profile.ceilings.gflops).toBeGreaterThan(0);
  expect(profile.kernels[0]).toMatchObject({
    kernel: expect.any(String),
    ms: expect.any(Number),
    share: expect.any(Number),
  });
  const model = (run: string) => readFileSync(join(run, "model.safetensors"));
  expect(model(profiled).equals(model(plain))).toBe(true);

  const file = join(profiled, "model.safetensors");
  const optimized = await kilograd([
    "optimize",
    "--model",
    file,
    "--target",
    "3",
    "--steps",
    "4",
    "--profile",
    "--out",
    found,
  ]);
  expect(optimized.code, optimized.stderr).toBe(0);
  expect(optimized.stderr).toMatch(/^Kernels of a step: /m);
  const measured = JSON.parse(readFileSync(join(found, "metrics.json"), "utf8")).profile;
  expect(measured.flops).toBeGreaterThan(0);
  // The table names the longest only, and which those are is for the clock to say.
  expect(measured.kernels.filter(({ kernel }: { kernel: string }) => kernel === "adam")).toMatchObject([{ calls: 1 }]);
});
