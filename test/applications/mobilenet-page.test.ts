// examples/mobilenet.mjs as docs/mobilenet-v2.md runs it: on a small network of the same layers, made here.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mobileNetV2 } from "../../src/applications.js";
import { encodeRgbPng } from "../../src/io/png.js";
import { saveModel } from "../../src/nn/checkpoint.js";
import "../../src/node.js";
import { RandomStream } from "../../src/tensor/random.js";
import { tensor } from "../../src/tensor/tensor.js";
import { build } from "../cli/run.js";
import { cpu } from "../support.js";
import { weightValues } from "./formula.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kilograd-mobilenet-"));
  build();
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

test("the page's program runs, and writes its pictures and figures", { timeout: 300_000 }, async () => {
  const random = new RandomStream(1, "photo");
  const size = { width: 32, height: 32 };
  const pixels = Float32Array.from({ length: 32 * 32 * 3 }, () => random.uniform());
  const [model, photo] = [join(folder, "model.safetensors"), join(folder, "photo.png")];
  writeFileSync(photo, encodeRgbPng(pixels, size));
  const network = mobileNetV2({ inputShape: [32, 32, 3], alpha: 0.1, classes: 5 }).build({
    device: cpu,
    weights: (name, { shape }) => tensor(cpu, weightValues(name, shape), { shape }),
  });
  await saveModel(model, network);
  const args = ["examples/mobilenet.mjs", model, photo, folder, "2", "one,two,three,four,five"];
  const { status, signal, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  expect(status, `${signal} ${stderr}`).toBe(0);
  const pictures = ["adversarial", "attributions", "classes", "layer-1", "layer-2", "layer-3"];
  const made = readdirSync(folder).filter((name) => name.endsWith(".png") && name !== "photo.png");
  expect(made.sort()).toEqual(pictures.map((name) => `${name}.png`));
  for (const [name, count] of [
    ["adversarial", 3],
    ["attributions", 6],
    ["classes", 4],
    ["layer-1", 4],
  ] as const) {
    const { width, height } = PNG.sync.read(readFileSync(join(folder, `${name}.png`)));
    expect([name, width, height]).toEqual([name, 33 * count - 1, 32]);
  }
  const report = JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
  expect(report).toMatchObject({ photo: { share: expect.any(Number) }, visualised: { classes: expect.any(Array) } });
  expect(report.adversarial.name).not.toBe(report.photo.name);
  const page = readFileSync("docs/mobilenet-v2.md", "utf8");
  for (const name of pictures) expect(page).toContain(`images/mobilenet-v2/${name}.png`);
});
