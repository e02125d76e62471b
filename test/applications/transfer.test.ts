// examples/transfer.mjs as it stands there: a small network of the zoo, made here, learns red from blue pictures; what
// is frozen keeps its bits.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mobileNetV2 } from "../../src/applications.js";
import { encodeRgbPng } from "../../src/io/png.js";
import { loadModel, saveModel } from "../../src/nn/checkpoint.js";
import "../../src/node.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";
import { weightValues } from "./formula.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-transfer-"));
  const built = spawnSync(process.execPath, ["scripts/setup.mjs", "build"], { encoding: "utf8" });
  expect(built.status, built.stderr).toBe(0);
});
afterAll(() => rmSync(folder, { recursive: true }));

test("a network learns the classes of a folder, its head first", { timeout: 300_000 }, async () => {
  const random = new RandomStream(1, "pictures");
  for (const [name, bright] of [
    ["blue", 2],
    ["red", 0],
  ] as const) {
    mkdirSync(join(folder, "pictures", name), { recursive: true });
    for (let i = 0; i < 16; i++) {
      const pixels = Float32Array.from(
        { length: 32 * 32 * 3 },
        (_, k) => (k % 3 === bright ? 0.8 : 0.1) + 0.1 * random.uniform(),
      );
      writeFileSync(join(folder, "pictures", name, `${i}.png`), encodeRgbPng(pixels, { width: 32, height: 32 }));
    }
  }
  const before = mobileNetV2({ inputShape: [32, 32, 3], alpha: 0.1, classes: 5 }).build({
    device: cpu,
    // With these its features tell pictures apart, which those of a network that never learned do not.
    weights: (name, { shape }) => tensor(cpu, weightValues(name, shape), { shape }),
  });
  const [from, to] = [join(folder, "before.safetensors"), join(folder, "after.safetensors")];
  await saveModel(from, before);

  const args = ["examples/transfer.mjs", join(folder, "pictures"), from, to, "8"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  const [first, head, whole, last] = stdout.trim().split("\n");
  expect(first).toBe('mobilenetv2_0.10_32 without "predictions", which told 5 classes apart');
  expect(last).toBe(`${to} tells blue, red`);
  const [frozen, fine] = [JSON.parse(head!), JSON.parse(whole!)];
  // 1280 features to two classes; then the last convolution, too.
  expect(frozen.trainable).toBe(1280 * 2 + 2);
  expect(fine.trainable).toBeGreaterThan(frozen.trainable + 1280 * 8);
  expect(fine.val_accuracy).toBeGreaterThanOrEqual(0.75);
  expect(fine.loss).toBeLessThan(frozen.loss);

  const after = await loadModel(to, { device: cpu });
  const changed: string[] = [];
  for (const { name, tensor } of before.weights().filter(({ name }) => !name.startsWith("predictions/"))) {
    const [was, is] = [
      await tensor.data(),
      await after.layer(`network/${name.split("/")[0]}`).weights[name.split("/")[1]!]!.data(),
    ];
    if (was.some((value, i) => value !== is[i])) changed.push(name);
  }
  expect(changed).toContain("Conv_1/kernel");
  expect(changed.every((name) => /^(block_16_|Conv_1\/)/.test(name))).toBe(true);
  expect(changed.some((name) => /gamma|beta|moving/.test(name))).toBe(false);
});
