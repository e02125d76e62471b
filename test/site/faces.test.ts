// The page "Faces" in Chromium, whose camera is a rendered video: what it says of a picture against this process, the
// camera by keyboard alone, a dropped video, and what it says where there is no camera, no permission, no picture.
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Eye, emotions, LEAST_CONFIDENCE, type Seen } from "../../site/src/faces/seeing.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { loadModel } from "../../src/nn/checkpoint.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { answered, openSite, PATIENCE_MS, program, type Site, status } from "./chromium.js";
import { drawnFace, emptyRoom } from "./drawn-face.js";
import { expectToStand } from "./stands.js";

const networks = join(import.meta.dirname, "../../site/public/networks");
const [WIDTH, HEIGHT] = [320, 240];
const size = { width: WIDTH, height: HEIGHT };

/** Grey pictures as a video that Chromium takes for a camera: raw, without colours. */
function video(frames: readonly Uint8Array[]): Buffer {
  const colours = Buffer.alloc((WIDTH * HEIGHT) / 2, 128);
  const parts = frames.map((frame) => Buffer.concat([Buffer.from("FRAME\n"), frame, colours]));
  return Buffer.concat([Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F10:1 Ip A1:1 C420jpeg\n`), ...parts]);
}

const png = (pixels: Uint8Array) =>
  Buffer.from(
    encodeGrayPng(
      Float32Array.from(pixels, (value) => value / 255),
      size,
    ),
  );
const file = (name: string, mimeType: string, buffer: Buffer) => ({ name, mimeType, buffer });
const labels = (elements: Element[]) => elements.map((element) => element.getAttribute("aria-label"));
const face = drawnFace(size, { x: 110, y: 50, side: 130 });

it("the networks of the site are small, and state their figures", async () => {
  const names = ["plain", "robust", "finder", "emotion"];
  const bytes = names.map((name) => statSync(join(networks, `${name}.safetensors`)).size);
  expect(bytes.reduce((a, b) => a + b)).toBeLessThanOrEqual(2_000_000);
});

describe.skipIf(program === undefined)("in Chromium", { timeout: PATIENCE_MS }, () => {
  let site: Site;
  const folder = mkdtempSync(join(tmpdir(), "kilograd-faces-"));

  beforeAll(async () => {
    const path = join(folder, "camera.y4m");
    writeFileSync(path, video([face, face]));
    site = await openSite(["--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${path}`]);
  }, PATIENCE_MS);
  afterAll(async () => {
    await site?.close();
    rmSync(folder, { recursive: true });
  });

  const open = async (options: { width?: number; camera?: boolean } = {}) => {
    const opened = await site.open("faces.html", options.width);
    if (options.camera) await opened.page.context().grantPermissions(["camera"]);
    await opened.page.waitForSelector("nav a[aria-current]");
    return opened;
  };
  const problemOf = async (page: Page) => {
    await page.waitForSelector("#problem:not([hidden])");
    return page.textContent("#problem");
  };

  it("says of a picture what this process says, and fetches no network before", async () => {
    const { page, problems } = await open({ width: 390 });
    const fetched: string[] = [];
    page.on("request", (request) => fetched.push(request.url()));
    expect(await page.isEnabled("#camera")).toBe(true);
    expect(await page.locator("#emotions meter").evaluateAll(labels)).toEqual([...emotions]);
    expect(await page.inputValue("#threshold")).toBe(String(100 * LEAST_CONFIDENCE));
    expect(fetched.filter((url) => url.endsWith(".safetensors"))).toEqual([]);
    await page.setInputFiles("#file", file("face.png", "image/png", png(face)));
    await status(page, /^A face/);
    expect(fetched.filter((url) => url.endsWith(".safetensors"))).toHaveLength(2);
    const [found] = await answered<Seen>(page);

    await using device = await openDevice("webgpu");
    const load = (name: string) => loadModel(join(networks, `${name}.safetensors`), { device });
    const eye = new Eye({ finder: await load("finder"), emotion: await load("emotion") });
    const expected = (await eye.look({ ...size, pixels: face }, { next: false }))!;
    expect(found!.box).toEqual(expected.box);
    expect(found!.faceConfidence).toBeCloseTo(expected.faceConfidence, 5);
    for (const [i, share] of expected.probabilities.entries()) expect(found!.probabilities[i]).toBeCloseTo(share, 5);
    expect(await eye.look({ ...size, pixels: emptyRoom(size) }, { next: false })).toBeUndefined();

    const most = Math.max(...expected.probabilities);
    const name = emotions[expected.probabilities.indexOf(most)];
    const words = `A face: ${name} ${(100 * most).toFixed(0)}\u00a0%.`;
    expect(await page.textContent("#status")).toBe(words);
    expect(await page.getAttribute("#view", "aria-label")).toBe(words);
    // Surer than it is: nothing is named.
    await page.fill("#threshold", "100");
    await page.setInputFiles("#file", file("again.png", "image/png", png(face)));
    await status(page, /^A face, unsure: /);
    await page.setInputFiles("#file", file("room.png", "image/png", png(emptyRoom(size))));
    await status(page, /^No face is found/);
    expect(await page.locator("#face canvas").count()).toBe(0);

    // With a face on it, the page is as accessible, and as narrow.
    await page.setInputFiles("#file", file("face.png", "image/png", png(face)));
    await page.waitForSelector("#face canvas");
    await expectToStand(page, problems);
    await page.close();
  });

  it("looks through the camera, by keyboard alone", async () => {
    const { page, problems } = await open({ camera: true });
    await page.focus("#camera");
    await page.keyboard.press("Enter");
    await status(page, /^A face/);
    await page.waitForFunction(() => {
      return /^\d+\.\d frames a second, \d+ ms each$/.test(document.getElementById("speed")!.textContent!);
    });
    const [first] = (await answered<Seen>(page)).filter((seen) => seen !== undefined);
    // The camera's picture is the file's; its colours go through a conversion.
    expect(Math.abs(first!.box.x + first!.box.width / 2 - 175)).toBeLessThan(25);
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("stop");
    await page.keyboard.press("Enter");
    await status(page, /^The camera is off/);
    expect(await page.isEnabled("#camera")).toBe(true);
    expect(await page.isDisabled("#stop")).toBe(true);
    expect(problems).toEqual([]);
    await page.close();
  });

  it("looks at a dropped video until it ends", async () => {
    const { page, problems } = await open();
    // The browser records it itself.
    const bytes = await page.evaluate(
      async ({ pixels, width, height }) => {
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [width, height];
        const context = canvas.getContext("2d")!;
        const image = new ImageData(width, height);
        for (const [i, value] of pixels.entries()) image.data.set([value, value, value, 255], 4 * i);
        const recorder = new MediaRecorder(canvas.captureStream(10), { mimeType: "video/webm" });
        const parts: Blob[] = [];
        recorder.ondataavailable = ({ data }) => parts.push(data);
        recorder.start();
        for (let frame = 0; frame < 10; frame++) {
          context.putImageData(image, 0, 0);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        await new Promise((resolve) => {
          recorder.onstop = resolve;
          recorder.stop();
        });
        return Array.from(new Uint8Array(await new Blob(parts).arrayBuffer()));
      },
      { ...size, pixels: Array.from(face) },
    );
    await page.evaluate((given) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(given)], "face.webm", { type: "video/webm" }));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true, bubbles: true }));
    }, bytes);
    await status(page, /^[1-9]\d* frames of face\.webm were looked at/);
    const seen = await answered<Seen | undefined>(page);
    expect(seen.filter((each) => each !== undefined).length).toBeGreaterThan(0);
    expect(problems).toEqual([]);
    await page.close();
  });

  it("says what to do without permission, without a camera, and with what is no picture", async () => {
    const { page, problems } = await open();
    await page.click("#camera");
    expect(await problemOf(page)).toMatch(/^The camera was not allowed\. Allow it for this page .* start again\./);
    expect(await page.isEnabled("#camera")).toBe(true);
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("none", "NotFoundError"));
    });
    await page.click("#camera");
    await page.waitForFunction(() => /no camera/.test(document.getElementById("problem")!.textContent!));
    await page.setInputFiles("#file", file("none.png", "image/png", Buffer.from("no picture")));
    await page.waitForFunction(() => /cannot read none.png/.test(document.getElementById("problem")!.textContent!));
    await page.setInputFiles("#file", file("none.webm", "video/webm", Buffer.from("no video")));
    await page.waitForFunction(() => /cannot read none.webm/.test(document.getElementById("problem")!.textContent!));
    // It goes on.
    await page.setInputFiles("#file", file("face.png", "image/png", png(face)));
    await status(page, /^A face/);
    expect(problems).toEqual([]);
    await page.close();
  });
});
