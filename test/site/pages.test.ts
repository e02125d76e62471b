// The pages of site/, built and shown in Chromium without a window, on the adapter that it brings along:
// - what each computes, against the same computation on this process's adapter,
// - by keyboard alone, at 390 pixels, without an error, and without a request to anybody else,
// - what axe finds.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Depth, trainDeep } from "../../site/src/depth/deep.js";
import { read } from "../../site/src/draw/reading.js";
import { type Dream, dream } from "../../site/src/dream/dreaming.js";
import { builtInDigits, type Round, smallCnn, train } from "../../site/src/train/training.js";
import { digits } from "../../src/data/digits.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { encodeModel, loadModel } from "../../src/nn/checkpoint.js";
import type { WebGpuDevice } from "../../src/webgpu/device.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { openSite, PATIENCE_MS, program, type Site, status, told } from "./chromium.js";
import { expectToStand } from "./stands.js";

const pages = ["index", "train", "draw", "dream", "depth", "faces", "inside", "kernels"] as const;

describe.skipIf(program === undefined)("in Chromium", { timeout: PATIENCE_MS }, () => {
  let site: Site;
  const open = (path: string, width?: number) => site.open(path, width);

  beforeAll(async () => {
    site = await openSite();
  }, PATIENCE_MS);
  afterAll(() => site?.close());

  it.each(pages)("%s.html stands at 390 pixels, names what it shows, and says nothing to the console", async (name) => {
    const { page, problems } = await open(`${name}.html`, 390);
    await page.waitForSelector("nav a[aria-current]");
    await expectToStand(page, problems);
    await page.close();
  });

  it("train.html trains as this process does, by keyboard alone, and gives the network away", async () => {
    const settings = { rate: 0.001, batch: 32, count: 160, epochs: 1, seed: 3 };
    const query = new URLSearchParams(Object.entries(settings).map(([name, value]) => [name, String(value)]));
    const { page, problems } = await open(`train.html?${query}`);
    await page.waitForSelector("nav a[aria-current]");
    await page.focus("#start");
    await page.keyboard.press("Enter");
    await status(page, /Done/);
    const [round] = await told<Round>(page);
    await using device = await openDevice("webgpu");
    const model = smallCnn(device, settings.seed);
    const expected: Round[] = [];
    await train(model, builtInDigits(settings), settings, {
      signal: new AbortController().signal,
      running: async () => {},
      tell: (each) => expected.push(each),
    });
    expect([round!.step, round!.steps]).toEqual([5, 5]);
    expect(round!.loss).toBeCloseTo(expected[0]!.loss, 5);
    expect(round!.accuracy).toBe(expected[0]!.accuracy);
    const weights = Object.values(round!.kernels as unknown as Record<string, number>);
    for (const [i, value] of expected[0]!.kernels.entries()) expect(weights[i]).toBeCloseTo(value, 4);
    expect(await page.locator("#kernels canvas").count()).toBe(24);
    expect(await page.locator("#confusion td").count()).toBe(100);
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("[data-format=safetensors]")]);
    expect(download.suggestedFilename()).toBe("small-cnn.safetensors");
    expect(problems).toEqual([]);
    await page.close();
  });

  it("depth.html finds the gradients that this process finds", async () => {
    const { page, problems } = await open("depth.html?depth=5&steps=0&seed=2");
    await page.click("#start");
    await status(page, /Done/);
    const found = await told<Depth>(page);
    expect(found.map(({ activation }) => activation)).toEqual(["relu", "tanh", "sigmoid", "lecunTanh"]);
    await using device = await openDevice("webgpu");
    for (const { activation, gradients, loss } of found) {
      const expected: Depth[] = [];
      const settings = { depth: 5, steps: 0, seed: 2 };
      await trainDeep(device, settings, activation, {
        signal: new AbortController().signal,
        tell: (each) => expected.push(each),
      });
      expect(loss).toBeCloseTo(expected[0]!.loss, 5);
      for (const [i, gradient] of expected[0]!.gradients.entries()) {
        expect(Math.abs(gradients[i]! - gradient)).toBeLessThan(1e-5 * Math.max(1, Math.abs(gradient)));
      }
    }
    expect(problems).toEqual([]);
    await page.close();
  });

  const shipped = async (name: string, device: WebGpuDevice) =>
    loadModel(join(import.meta.dirname, `../../site/public/networks/${name}.safetensors`), { device });

  it("draw.html reads a digit as this process does, and changes it", async () => {
    const { page, problems } = await open("draw.html");
    await page.click("#sample");
    await status(page, /says/);
    await using device = await openDevice("webgpu");
    const { test } = digits({ seed: 11, trainCount: 1, testCount: 1 });
    const [plain, robust] = await Promise.all(["plain", "robust"].map((name) => shipped(name, device)));
    const [ofPlain, ofRobust] = [await read(plain!, test.images), await read(robust!, test.images)];
    const share = `${(100 * ofRobust.probabilities[ofRobust.digit]!).toFixed(1)} %`;
    expect(await page.textContent("#status")).toBe(
      `The plain network says ${ofPlain.digit}, the robust one ${ofRobust.digit} (${share}).`,
    );
    // Noise of no size changes nothing.
    await page.locator("#epsilon").fill("0");
    await page.waitForSelector("#attacked figure");
    const captions = await page.locator("#attacked figcaption").allTextContents();
    expect(captions[1]).toBe(`robust: ${ofRobust.digit}, ${share}; changed by 0.00`);
    // The pen, by keys: a stroke to the right.
    await page.click("#clear");
    await page.focus("#pad");
    await page.keyboard.press(" ");
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowRight");
    const inked = await page.evaluate(() => {
      const pad = document.getElementById("pad") as HTMLCanvasElement;
      return pad
        .getContext("2d")!
        .getImageData(0, 0, 28, 28)
        .data.filter((value, i) => i % 4 === 0 && value > 128).length;
    });
    expect(inked).toBeGreaterThan(5);
    expect(problems).toEqual([]);
    await page.close();
  });

  it("dream.html finds the image that this process finds", async () => {
    const { page, problems } = await open("dream.html?steps=10&seed=4");
    await page.click("#start");
    await status(page, /Done/);
    const found = (await told<Dream & { network: string }>(page)).filter(({ step }) => step === 10);
    expect(found.map(({ network }) => network)).toEqual(["plain", "robust"]);
    await using device = await openDevice("webgpu");
    const targets = [Array.from({ length: 10 }, (_, digit) => Number(digit === 3))];
    for (const { network, probabilities } of found) {
      const expected: Dream[] = [];
      const settings = { targets, steps: 10, seed: 4 };
      const signal = new AbortController().signal;
      await dream(await shipped(network, device), settings, { signal, tell: (each) => expected.push(each) });
      const shares = Object.values(probabilities as unknown as Record<string, number>);
      for (const [i, share] of expected.at(-1)!.probabilities.entries()) expect(shares[i]).toBeCloseTo(share, 3);
    }
    expect(problems).toEqual([]);
    await page.close();
  });

  it("inside.html takes a model and a picture, and says what this process says", async () => {
    const { page, problems } = await open("inside.html");
    await using device = await openDevice("webgpu");
    const robust = await shipped("robust", device);
    const bytes = Buffer.from(await encodeModel(robust));
    await page.setInputFiles("#model", {
      name: "robust.safetensors",
      mimeType: "application/octet-stream",
      buffer: bytes,
    });
    await status(page, /8 layers, 66,430 parameters, inputs 28 x 28 x 1/);
    const { test } = digits({ seed: 11, trainCount: 1, testCount: 1 });
    const png = Buffer.from(encodeGrayPng(test.images, { width: 28, height: 28 }));
    await page.setInputFiles("#picture", { name: "digit.png", mimeType: "image/png", buffer: png });
    await page.waitForSelector("#answers td");
    const rounded = test.images.map((value) => Math.round(255 * value) / 255);
    const { digit, probabilities } = await read(robust, rounded);
    expect(await page.locator("#answers tr").first().textContent()).toBe(
      `output ${digit}${probabilities[digit]!.toPrecision(4)}`,
    );
    await page.click("#activations");
    await page.waitForSelector("#channels canvas");
    expect(await page.locator("#channels canvas").count()).toBe(24);
    // What is no model is an error in words, and the model stays.
    await page.setInputFiles("#model", { name: "none.onnx", mimeType: "text/plain", buffer: Buffer.from("no model") });
    await page.waitForSelector("#problem:not([hidden])");
    expect(await page.locator("#table tbody tr").count()).toBe(8);
    expect(problems).toEqual([]);
    await page.close();
  });
});
