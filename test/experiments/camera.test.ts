// `kilograd camera`: frames from ffmpeg with everything that can go wrong, cut-outs, finding faces, and the command
// itself on a video of FER2013 faces.

import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadFer2013 } from "../../src/data/fer2013.js";
import { type CameraOptions, camera, type FrameReport } from "../../src/experiments/camera.js";
import { checkBox, cropped, middleSquare, overlap, parseBox } from "../../src/experiments/lib/faces/crop.js";
import { FaceFinder, finderArchitecture } from "../../src/experiments/lib/faces/face-finder.js";
import { finderWindows, layFace, scene } from "../../src/experiments/lib/faces/face-scenes.js";
import { FaceClassifier, faceArchitecture, STANDARDIZED, standardized } from "../../src/experiments/lib/faces/faces.js";
import {
  defaultDevice,
  type Frame,
  type FrameOptions,
  type FrameSource,
  frames,
  inputArguments,
  parsePgm,
} from "../../src/experiments/lib/faces/frames.js";
import { Preview } from "../../src/experiments/lib/faces/preview.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { architecture } from "../../src/nn/architecture.js";
import { saveModel } from "../../src/nn/checkpoint.js";
import { saveKerasModel } from "../../src/nn/keras-models.js";
import { flatten } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { rescaling } from "../../src/nn/layers/preprocessing.js";
import { DataError, KilogradError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { build, kilograd } from "../cli/run.js";

const hasFfmpeg = spawnSync("ffmpeg", ["-version"], { stdio: "ignore" }).status === 0;
const dataDir = process.env["KILOGRAD_DATA_DIR"] ?? "";
const hasFaces = ["", "fer2013"].some((sub) =>
  ["fer2013.csv", "fer2013.csv.gz"].some((name) => existsSync(join(dataDir, sub, name))),
);

const device = await openDevice("webgpu");
const folder = mkdtempSync(join(tmpdir(), "kilograd-camera-"));
const at = (name: string) => join(folder, name);
afterAll(() => {
  device.destroy();
  rmSync(folder, { recursive: true });
});

const options = (more: Partial<FrameOptions> = {}): FrameOptions => ({
  signal: new AbortController().signal,
  say: () => {},
  ...more,
});
async function all(source: FrameSource, more: Partial<FrameOptions> = {}): Promise<Frame[]> {
  const found: Frame[] = [];
  for await (const frame of frames(source, options(more))) found.push(frame);
  return found;
}

const pgm = (width: number, height: number, first: number) =>
  Buffer.concat([
    Buffer.from(`P5\n${width} ${height}\n255\n`),
    Uint8Array.from({ length: width * height }, (_, i) => (first + i) % 256),
  ]);

/** A program in ffmpeg's place: Node running `body`. */
function program(name: string, body: string): string {
  writeFileSync(at(name), `#!${process.execPath}\n${body}\n`);
  chmodSync(at(name), 0o755);
  return at(name);
}

describe("an older ffmpeg", () => {
  const picture = JSON.stringify(pgm(4, 4, 0).toString("base64"));
  /** Knows the options `known` only, as ffmpeg says it, and gives one picture; counts how often it is started. */
  const knowing = (name: string, known: readonly string[]) =>
    program(
      name,
      `require("node:fs").appendFileSync(${JSON.stringify(at(`${name}.log`))}, "x");
      const strange = process.argv.find((word) => ["-fps_mode", "-vsync"].includes(word) && !${JSON.stringify(known)}.includes(word));
      if (strange) {
        console.error("Unrecognized option '" + strange.slice(1) + "'.\\nError splitting the argument list: Option not found");
        process.exitCode = 1;
      } else process.stdout.write(Buffer.from(${picture}, "base64"));`,
    );
  const starts = (name: string) => readFileSync(at(`${name}.log`), "utf8").length;

  it.each([
    ["ffmpeg4", ["-vsync"], 2],
    ["ffmpeg7", ["-fps_mode"], 1],
  ] as const)("is asked in the words of its time: %s", async (name, known, tries) => {
    writeFileSync(at("any.mkv"), "x");
    const ffmpeg = knowing(name, known);
    expect(await all({ kind: "video", path: at("any.mkv") }, { ffmpeg })).toHaveLength(1);
    expect(starts(name)).toBe(tries);
    // Once found out, it is known.
    expect(await all({ kind: "video", path: at("any.mkv") }, { ffmpeg })).toHaveLength(1);
    expect(starts(name)).toBe(tries + 1);
  });

  it("that knows neither word is named as the reason, not the picture", async () => {
    writeFileSync(at("any.mkv"), "x");
    await expect(all({ kind: "video", path: at("any.mkv") }, { ffmpeg: knowing("ffmpeg0", []) })).rejects.toThrow(
      /ffmpeg0 knows neither -fps_mode nor -vsync; install ffmpeg 4 or newer/,
    );
  });
});

describe("parsePgm", () => {
  it("finds the pictures however the stream is cut", async () => {
    const bytes = Buffer.concat([pgm(5, 3, 10), pgm(2, 2, 0), pgm(16, 9, 200)]);
    for (const size of [1, 2, 7, 30, 1000]) {
      async function* pieces() {
        for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
      }
      const found = [];
      for await (const picture of parsePgm(pieces())) found.push(picture);
      expect(found.map(({ width, height }) => [width, height])).toEqual([
        [5, 3],
        [2, 2],
        [16, 9],
      ]);
      expect([...found[0]!.pixels]).toEqual(Array.from({ length: 15 }, (_, i) => 10 + i));
      expect(found[2]!.pixels).toHaveLength(144);
    }
  });

  it("refuses anything else", async () => {
    async function* text() {
      yield Buffer.from("this is certainly no picture in the portable grey map format");
    }
    await expect(parsePgm(text()).next()).rejects.toThrow(DataError);
    async function* enormous() {
      yield Buffer.from("P5 99999999999 99999999999 255\n");
    }
    await expect(parsePgm(enormous()).next()).rejects.toThrow(
      /at most 134,217,728 pixels, has 99999999999 x 99999999999/,
    );
  });
});

describe("cut-outs", () => {
  const picture = { width: 4, height: 3, pixels: Float32Array.from({ length: 12 }, (_, i) => i) };

  it("are the pixels themselves at their own size, means where they shrink, the edge beyond the picture", () => {
    const whole = { x: 0, y: 0, width: 4, height: 3 };
    expect([...cropped(picture, whole, { width: 4, height: 3 })]).toEqual([...picture.pixels]);
    expect([...cropped(picture, { x: 1, y: 1, width: 2, height: 2 }, { width: 1, height: 1 })]).toEqual([7.5]);
    expect([...cropped(picture, { x: 0, y: 0, width: 4, height: 2 }, { width: 2, height: 1, factor: 2 })]).toEqual([
      5, 9,
    ]);
    expect([...cropped(picture, { x: -3, y: 0, width: 2, height: 1 }, { width: 2, height: 1 })]).toEqual([0, 0]);
    const larger = cropped(picture, whole, { width: 8, height: 6 });
    expect(Math.min(...larger)).toBe(0);
    expect(Math.max(...larger)).toBe(11);
  });

  it("are asked for as x,y,width,height within the frame", () => {
    expect(parseBox("1,2,30,40")).toEqual({ x: 1, y: 2, width: 30, height: 40 });
    for (const text of ["1,2,3", "1,2,0,4", "-1,2,3,4", "a,b,c,d", "1,2,3,4,5", "1.5,2,3,4"]) {
      expect(() => parseBox(text)).toThrow(UsageError);
    }
    expect(() => checkBox({ x: 2, y: 0, width: 3, height: 1 }, picture)).toThrow(
      "crop: must lie within the frames of 4 x 3 pixels, given 2,0,3,1",
    );
    expect(middleSquare({ ...picture, width: 10, height: 5 })).toEqual({ x: 2, y: 0, width: 5, height: 5 });
    expect(overlap({ x: 0, y: 0, width: 2, height: 2 }, { x: 1, y: 0, width: 2, height: 2 })).toBeCloseTo(1 / 3);
  });
});

describe("frames", () => {
  it("ask ffmpeg in the way of each system", () => {
    const device = (name: string): FrameSource => ({ kind: "device", device: name });
    expect(inputArguments(device("/dev/video2"), "linux").join(" ")).toMatch(/-f v4l2 -i \/dev\/video2$/);
    expect(inputArguments(device("0"), "darwin").join(" ")).toMatch(/-f avfoundation -framerate 30 -i 0:none$/);
    expect(inputArguments(device("My Cam"), "win32").slice(-2)).toEqual(["-i", "video=My Cam"]);
    expect([defaultDevice("linux"), defaultDevice("darwin")]).toEqual(["/dev/video0", "0"]);
    expect(() => defaultDevice("win32")).toThrow(/-list_devices true -f dshow/);
  });

  it("need ffmpeg", async () => {
    writeFileSync(at("some.mp4"), "x");
    const absent = all({ kind: "video", path: at("some.mp4") }, { ffmpeg: at("no-such-program") });
    await expect(absent).rejects.toMatchObject({ code: "NO_FFMPEG", message: expect.stringMatching(/install it/) });
  });

  it("need a source that is there and of the kind that was said", async () => {
    const from = (kind: "video" | "folder", path: string) => all({ kind, path });
    await expect(from("video", at("absent.mp4"))).rejects.toThrow(
      `--video needs a video file, ${at("absent.mp4")} does not exist`,
    );
    await expect(from("video", folder)).rejects.toThrow(/is a folder/);
    await expect(from("folder", at("some.mp4"))).rejects.toThrow(/--frames needs a folder of pictures, .* is a file/);
    mkdirSync(at("empty"));
    await expect(from("folder", at("empty"))).rejects.toThrow(/has no pictures/);
    await expect(all({ kind: "device", device: at("video9") })).rejects.toThrow(
      process.platform === "linux" ? `there is no device ${at("video9")}` : /camera/,
    );
  });

  const camera: FrameSource = { kind: "device", device: process.platform === "linux" ? "/dev/null" : "0" };
  const twoFrames = "process.stdout.write(Buffer.concat([Buffer.from('P5\\n2 2\\n255\\n'), Buffer.alloc(4, 9)]))";

  it.skipIf(process.platform === "win32")("tell when a camera is lost, and when it never gave a frame", async () => {
    const said: string[] = [];
    const say = (text: string) => said.push(text);
    const lost = program(
      "lost",
      `${twoFrames}; console.error("[v4l2 @ 0x1] /dev/video0: No such device"); process.exitCode = 1`,
    );
    await expect(all(camera, { ffmpeg: lost, say })).rejects.toMatchObject({
      code: "CAMERA_LOST",
      message: expect.stringMatching(/was lost after 1 frame: \/dev\/video0: No such device; is it still connected/),
    });
    expect(said).toEqual(["ffmpeg: /dev/video0: No such device"]);
    const busy = program("busy", `console.error("/dev/video0: Device or resource busy"); process.exitCode = 1`);
    await expect(all(camera, { ffmpeg: busy })).rejects.toThrow(/gives no frames: .*busy/);
    await expect(all(camera, { ffmpeg: busy })).rejects.toBeInstanceOf(UsageError);
  });

  it.skipIf(process.platform === "win32")("of a camera are the latest, and end with the signal", async () => {
    const endless = program(
      "endless",
      "let n = 0; setInterval(() => process.stdout.write(Buffer.concat([Buffer.from('P5\\n2 2\\n255\\n'), Buffer.alloc(4, n++)])), 5)",
    );
    const abort = new AbortController();
    const seen: number[] = [];
    for await (const { pixels } of frames(camera, options({ ffmpeg: endless, signal: abort.signal }))) {
      seen.push(pixels[0]!);
      if (seen.length === 3) await new Promise((resolve) => setTimeout(resolve, 150));
      if (seen.length === 6) abort.abort();
    }
    expect(seen[3]! - seen[2]!).toBeGreaterThan(5); // What came meanwhile was passed over.
    expect(seen.length).toBeLessThan(9);
  });

  it.skipIf(!hasFfmpeg)(
    "of a folder come by name, and one that cannot be read is named (skipped without ffmpeg)",
    async () => {
      mkdirSync(at("pictures"));
      for (const [name, size] of [
        ["b.png", 5],
        ["a.png", 3],
      ] as const) {
        const pixels = Float32Array.from({ length: size * size }, (_, i) => i / 255);
        writeFileSync(join(at("pictures"), name), encodeGrayPng(pixels, { width: size, height: size }));
      }
      writeFileSync(join(at("pictures"), "notes.txt"), "no picture");
      const found = await all({ kind: "folder", path: at("pictures") });
      expect(found.map(({ name, width }) => [name, width])).toEqual([
        [join(at("pictures"), "a.png"), 3],
        [join(at("pictures"), "b.png"), 5],
      ]);
      expect([...found[0]!.pixels]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
      writeFileSync(join(at("pictures"), "aa.png"), "no picture at all");
      const seen: string[] = [];
      const reading = (async () => {
        for await (const { name } of frames({ kind: "folder", path: at("pictures") }, options())) seen.push(name);
      })();
      await expect(reading).rejects.toThrow(`${join(at("pictures"), "aa.png")}: no frame of it can be read`);
      await expect(reading).rejects.toBeInstanceOf(DataError);
      expect(seen).toHaveLength(1);
    },
  );

  it.skipIf(!hasFfmpeg)("of a file that is no video are refused (skipped without ffmpeg)", async () => {
    writeFileSync(at("text.mp4"), "certainly no video".repeat(50));
    await expect(all({ kind: "video", path: at("text.mp4") })).rejects.toThrow(
      /text.mp4: no frame of it can be read: /,
    );
  });
});

describe("the preview", () => {
  const frame = { width: 800, height: 400, pixels: new Uint8Array(800 * 400).fill(128) };
  const caption = { text: "happy 93 %", face: { x: 200, y: 100, width: 100, height: 100 }, figures: "9 frames/s" };

  it("shows the last frame with a box, to browsers of this machine", async () => {
    const preview = await Preview.start(0);
    const page = await (await fetch(preview.address)).text();
    expect(page).toContain("<h1>kilograd camera</h1>");
    expect(page).toMatch(/default-src 'none'; img-src 'self'; .* script-src 'sha256-/);
    expect((await fetch(`${preview.address}frame.png`)).status).toBe(404);
    const events = (await fetch(`${preview.address}events`)).body!.getReader();
    const next = async () => new TextDecoder().decode((await events.read()).value);
    expect(await next()).toContain("retry");
    preview.show(frame, caption);
    // One that comes at once is passed over.
    preview.show(frame, { ...caption, text: "sad 80 %" });
    expect(JSON.parse((await next()).replace("data: ", ""))).toEqual({
      number: 1,
      width: 800,
      height: 400,
      ...caption,
    });
    const picture = Buffer.from(await (await fetch(`${preview.address}frame.png?1`)).arrayBuffer());
    expect([picture.readUInt32BE(16), picture.readUInt32BE(20)]).toEqual([640, 320]);
    const { address } = preview;
    await preview.close();
    await expect(fetch(address)).rejects.toThrow();
  });

  it("needs a port that is free", async () => {
    const preview = await Preview.start(0);
    const port = Number(new URL(preview.address).port);
    await expect(Preview.start(port)).rejects.toThrow(`preview: needs a port that is free, given ${port}`);
    await preview.close();
  });
});

describe("finding faces", () => {
  const random = new RandomStream(1, "pictures");
  const pictures = (count: number, side: number, channels: number) => ({
    images: Float32Array.from({ length: count * side * side * channels }, () => random.uniform()),
    labels: new Int32Array(count),
    count,
    imageShape: [side, side, channels] as const,
  });
  const [faces, backgrounds] = [pictures(3, 48, 1), pictures(4, 32, 3)];

  it("lays faces wholly inside of collages, and windows of both kinds, the same for the same seed", () => {
    for (let i = 0; i < 20; i++) {
      const picture = scene(backgrounds, random);
      const before = picture.pixels.slice();
      const box = layFace(picture, faces, 0, random);
      expect(() => checkBox(box, picture)).not.toThrow();
      expect(picture.pixels).not.toEqual(before);
    }
    const windows = finderWindows(faces, backgrounds, { count: 200, seed: 3 });
    expect(windows.imageShape).toEqual([24, 24, 1]);
    const positive = windows.labels.filter((label) => label === 1).length;
    expect(positive).toBeGreaterThan(60);
    expect(positive).toBeLessThan(140);
    expect(finderWindows(faces, backgrounds, { count: 200, seed: 3 }).images).toEqual(windows.images);
  });

  it("looks at windows of every size, and gives a square within the frame", async () => {
    const model = finderArchitecture().build({ device, seed: 2 });
    // Whatever it sees is a face.
    model.layer("dense").weights["bias"]!.assign(Float32Array.of(-50, 50));
    const finder = new FaceFinder(model);
    for (const [width, height] of [
      [160, 120],
      [90, 300],
      [640, 480],
      [24, 24],
    ] as const) {
      const frame = { width, height, pixels: Float32Array.from({ length: width * height }, (_, i) => Math.sin(i)) };
      const windows = await finder.windows(frame);
      const sides = windows.map(({ box }) => box.width);
      expect(Math.min(...sides)).toBeCloseTo(0.375 * Math.min(width, height), 5);
      expect(Math.max(...sides)).toBeGreaterThan(0.85 * Math.min(width, height));
      const { box, score } = (await finder.find(frame))!;
      expect(score).toBeCloseTo(1);
      expect(box.width).toBe(box.height);
      expect(() => checkBox(box, frame)).not.toThrow();
    }
    model.layer("dense").weights["bias"]!.assign(Float32Array.of(50, -50));
    const frame = { width: 64, height: 48, pixels: new Float32Array(64 * 48) };
    expect(await finder.find(frame)).toBeUndefined();
    finder.dispose();
    model.dispose();
  });

  it("takes the face that windows agree on, not the surest window alone", async () => {
    const model = finderArchitecture().build({ device, seed: 2 });
    const finder = new FaceFinder(model);
    const frame = { width: 160, height: 120, pixels: new Float32Array(160 * 120) };
    const window = (x: number, score: number) => {
      return { box: { x, y: 10, width: 40, height: 40 }, score, pixels: new Float32Array(576) };
    };
    const given = (...windows: ReturnType<typeof window>[]) => {
      finder.windows = async () => windows;
      return finder.find(frame);
    };
    expect(await given(window(0, 0.99), window(100, 0.8), window(104, 0.6))).toEqual({
      // 100 and 104 in the ratio of their probabilities.
      box: { x: 102, y: 10, width: 40, height: 40 },
      score: 0.8,
    });
    expect(await given(window(0, 0.99), window(100, 0.4), window(104, 0.4))).toBeUndefined();
    finder.dispose();
    model.dispose();
  });
});

describe.skipIf(process.platform === "win32")("what the user says of a model", () => {
  // Two classes: the second where the pixels sum up to more than 10,000.
  const model = architecture({ inputShape: [48, 48, 1] }, [
    flatten(),
    dense({ units: 2, activation: "softmax" }),
  ]).build({ device });
  const grey = 128;
  const path = at("two-classes.safetensors");

  beforeAll(async () => {
    const { kernel, bias } = model.layer("dense").weights;
    kernel!.assign(Float32Array.from({ length: 2 * 2304 }, (_, i) => (i % 2 === 0 ? 0 : 1e-4)));
    bias!.assign(Float32Array.of(0, -1));
    await saveModel(path, model, { notes: { classNames: ["no", "yes"], pixels: STANDARDIZED } });
    writeFileSync(at("grey.mkv"), "x");
  });
  afterAll(() => model.dispose());

  async function answer(given: CameraOptions): Promise<FrameReport> {
    const body = `process.stdout.write(Buffer.concat([Buffer.from("P5\\n48 48\\n255\\n"), Buffer.alloc(2304, ${grey})]))`;
    const context = {
      openDevice: async () => device,
      signal: new AbortController().signal,
      say: () => {},
      ffmpeg: program("grey", body),
    };
    const written: string[] = [];
    const out = { write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
    await camera({ model: path, video: at("grey.mkv"), json: true, threshold: 0, ...given }, context, out);
    return JSON.parse(written.join(""));
  }

  it.each([
    // A grey face less its mean is 0 everywhere.
    [undefined, 0],
    ["0-1", (grey / 255) * 2304],
    ["0-255", grey * 2304],
  ] as const)("pixels %s", async (pixels, sum) => {
    const { probabilities } = await answer({ ...(pixels && { pixels }) });
    expect(probabilities!["yes"]).toBeCloseTo(1 / (1 + Math.exp(1 - 1e-4 * sum)), 5);
  });

  it("pixels 0-255 of a model that rescales them itself, whatever its notes", async () => {
    const own = architecture({ inputShape: [48, 48, 1] }, [
      rescaling({ scale: 2 }),
      flatten(),
      dense({ units: 2, activation: "softmax" }),
    ]).build({ device });
    const { kernel, bias } = own.layer("dense").weights;
    kernel!.assign(Float32Array.from({ length: 2 * 2304 }, (_, i) => (i % 2 === 0 ? 0 : 1e-6)));
    bias!.assign(Float32Array.of(0, -1));
    await saveModel(at("own.safetensors"), own);
    own.dispose();
    const of = async (given: CameraOptions) =>
      (await answer({ model: at("own.safetensors"), ...given })).probabilities!;
    const expected = (scale: number) => 1 / (1 + Math.exp(1 - 1e-6 * 2 * grey * scale * 2304));
    expect((await of({}))["class 1"]).toBeCloseTo(expected(1), 5);
    expect((await of({ pixels: "0-1" }))["class 1"]).toBeCloseTo(expected(1 / 255), 5);
  });

  it("below which probability no class is named", async () => {
    const sure = await answer({ pixels: "0-1" });
    expect([sure.class, sure.confidence]).toEqual(["no", expect.closeTo(0.71, 2)]);
    const unsure = await answer({ pixels: "0-1", threshold: 0.75 });
    expect([unsure.class, unsure.confidence, unsure.probabilities]).toEqual([
      ...[null, sure.confidence, sure.probabilities],
    ]);
    for (const threshold of [-0.1, 1.1, Number.NaN]) {
      await expect(answer({ threshold })).rejects.toThrow("--threshold must be from 0 to 1");
    }
  });

  it("names of classes", async () => {
    const { class: name, probabilities } = await answer({ classes: "cat, a dog", pixels: "0-255" });
    expect([name, Object.keys(probabilities!)]).toEqual(["a dog", ["cat", "a dog"]]);
    for (const classes of ["cat", "cat,dog,bird", "cat,cat", "cat,", ""]) {
      await expect(answer({ classes })).rejects.toThrow(
        `--classes must be 2 different names, as ${path} has classes, given "${classes}"`,
      );
      await expect(answer({ classes })).rejects.toBeInstanceOf(UsageError);
    }
  });
});

describe.skipIf(!hasFfmpeg || !hasFaces)("on a video of FER2013 faces (skipped without ffmpeg or the data)", () => {
  const count = 12;
  let faces: Float32Array;
  const model = faceArchitecture([4, 6], 0.2).build({ device, seed: 4 });
  const classNames = ["a", "b", "c", "d", "e", "f", "g"];

  beforeAll(async () => {
    const { test } = await loadFer2013({ dataDir });
    faces = test.images.subarray(0, count * 2304);
    writeFileSync(
      at("faces.raw"),
      Uint8Array.from(faces, (value) => Math.round(255 * value)),
    );
    const raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "48x48", "-r", "30", "-i", at("faces.raw")];
    for (const [name, ...how] of [
      ["exact.mkv", "-c:v", "ffv1", "-pix_fmt", "gray"],
      ["wide.mp4", "-vf", "pad=96:48:30:0,scale=384:192:flags=neighbor", "-c:v", "mpeg4", "-q:v", "2"],
    ] as const) {
      const { status, stderr } = spawnSync("ffmpeg", ["-y", "-loglevel", "error", ...raw, ...how, at(name)]);
      if (status !== 0) throw new Error(`ffmpeg: ${stderr}`);
    }
    await saveKerasModel(at("emotion.h5"), model, { notes: { classNames, pixels: STANDARDIZED } });
  }, 60_000);
  afterAll(() => model.dispose());

  async function answers(): Promise<{ name: string; confidence: number }[]> {
    const classifier = new FaceClassifier(model, standardized);
    const found = [];
    for (let i = 0; i < count; i++) {
      const { predicted, confidence } = await classifier.answer(faces.slice(i * 2304, (i + 1) * 2304));
      found.push({ name: classNames[predicted]!, confidence });
    }
    classifier.dispose();
    return found;
  }

  async function run(given: CameraOptions, isTTY = false): Promise<{ text: string; said: string }> {
    const [written, said]: [string[], string[]] = [[], []];
    const out = { isTTY, columns: 80, write: (text: string) => written.push(text) } as unknown as NodeJS.WriteStream;
    const signal = new AbortController().signal;
    const context = { openDevice: async () => device, signal, say: (text: string) => void said.push(text) };
    await camera({ model: at("emotion.h5"), threshold: 0, ...given }, context, out);
    return { text: written.join(""), said: said.join("\n") };
  }
  const reports = (text: string): FrameReport[] =>
    text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));

  it("says of every frame what the model says of the face", async () => {
    const expected = await answers();
    const { text, said } = await run({ video: at("exact.mkv"), json: true });
    const found = reports(text);
    expect(found.map(({ class: name }) => name)).toEqual(expected.map(({ name }) => name));
    found.forEach(({ confidence, frame, face, probabilities, latencyMs }, i) => {
      expect(confidence).toBeCloseTo(expected[i]!.confidence, 5);
      expect([frame, face]).toEqual([i, { x: 0, y: 0, width: 48, height: 48 }]);
      expect(Object.values(probabilities!).reduce((a, b) => a + b)).toBeCloseTo(1, 4);
      expect(latencyMs).toBeGreaterThan(0);
    });
    expect(said).toMatch(/There is no face finder at .*: the middle of every frame is taken/);
    expect(said).toMatch(/12 frames, \d+\.\d frames\/s, latency .* in the mean/);
  });

  it("takes the given part, within the frame only", async () => {
    const expected = await answers();
    const { text } = await run({ video: at("wide.mp4"), crop: "120,0,192,192", json: true });
    const agree = reports(text).filter(({ class: name }, i) => name === expected[i]!.name).length;
    expect(agree).toBeGreaterThanOrEqual(count - 2); // The codec loses a little.
    await expect(run({ video: at("wide.mp4"), crop: "300,0,192,192" })).rejects.toThrow(
      "crop: must lie within the frames of 384 x 192 pixels, given 300,0,192,192",
    );
  });

  it("refreshes one line on a terminal, and gives plain lines elsewhere", async () => {
    const terminal = (await run({ video: at("exact.mkv") }, true)).text;
    expect(terminal.split("\r\x1b[K")).toHaveLength(count + 1);
    expect(terminal.split("\n")).toHaveLength(2);
    expect(terminal).toMatch(/[a-g] \d+ % +\d+\.\d frames\/s .* ms {2}face 48x48 at 0,0 {2}frame 11/);
    const plain = (await run({ video: at("exact.mkv") })).text;
    expect(plain).not.toContain("\r");
    expect(plain).toMatch(/^[a-g] \d+ %.*\n/);
  });

  it("uses the face finder beside the model, and says so where there is no face", async () => {
    mkdirSync(at("with-finder"));
    const finder = finderArchitecture().build({ device, seed: 2 });
    finder.layer("dense").weights["bias"]!.assign(Float32Array.of(50, -50));
    await saveKerasModel(join(at("with-finder"), "face-finder.h5"), finder);
    await saveKerasModel(join(at("with-finder"), "emotion.h5"), model);
    finder.dispose();
    const given = { video: at("exact.mkv"), model: join(at("with-finder"), "emotion.h5") };
    const { text, said } = await run({ ...given, json: true });
    expect(reports(text)[0]).toMatchObject({ face: null, class: null, confidence: null, probabilities: null });
    expect(said).not.toMatch(/There is no face finder/);
    expect((await run(given)).text).toMatch(/^no face/);
  });

  it("says how sure the finder is, and names nothing that the model is unsure of", async () => {
    mkdirSync(at("sure-finder"));
    const finder = finderArchitecture().build({ device, seed: 2 });
    finder.layer("dense").weights["bias"]!.assign(Float32Array.of(-50, 50));
    await saveKerasModel(join(at("sure-finder"), "face-finder.h5"), finder);
    await saveKerasModel(join(at("sure-finder"), "emotion.h5"), model);
    finder.dispose();
    const given = { video: at("exact.mkv"), model: join(at("sure-finder"), "emotion.h5"), threshold: 1 };
    const [first] = reports((await run({ ...given, json: true })).text);
    expect(first).toMatchObject({ class: null, faceConfidence: expect.closeTo(1), confidence: expect.any(Number) });
    expect((await run(given)).text).toMatch(/^unsure: class \d \d+ % .* face \d+x\d+ at \d+,\d+ \(100 %\)/);
  });

  it("refuses two sources, a missing model, and models of something else", async () => {
    await expect(run({ video: "a", frames: "b" })).rejects.toThrow("takes one source, given --video and --frames");
    await expect(run({ video: at("exact.mkv"), model: at("absent.h5") })).rejects.toThrow(DataError);
    await expect(run({ video: at("exact.mkv"), model: join(at("with-finder"), "face-finder.h5") })).rejects.toThrow(
      /needs a model from \[48, 48, 1\] to classes, .* goes from \[24, 24, 1\] to \[2\]/,
    );
  });

  it("as a command ends by itself, and by Ctrl-C with what was done, exit 0", { timeout: 200_000 }, async () => {
    build();
    const whole = await kilograd(["camera", "--model", at("emotion.h5"), "--video", at("exact.mkv")]);
    expect([whole.code, whole.stderr]).toEqual([0, expect.stringMatching(/12 frames/)]);
    const long = at("long.mkv");
    spawnSync("ffmpeg", [
      "-y",
      "-loglevel",
      "error",
      "-stream_loop",
      "2000",
      "-i",
      at("exact.mkv"),
      "-c",
      "copy",
      long,
    ]);
    let interrupted = false;
    const ended = await kilograd(["camera", "--model", at("emotion.h5"), "--video", long], {
      onStderr: (text, child) => {
        if (interrupted || !text.includes("There is no face finder")) return;
        interrupted = true; // A second signal would end it at once.
        setTimeout(() => child.kill("SIGINT"), 1500);
      },
    });
    expect([ended.code, ended.signal]).toEqual([0, null]);
    expect(ended.stderr).toMatch(/\d frames?, .* latency/);
    const missing = await kilograd(["camera", "--model", at("emotion.h5"), "--video", long], {
      env: { PATH: "/nowhere" },
    });
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringMatching(/needs the program ffmpeg/)]);
    const absent = await kilograd(["camera", "--model", at("emotion.h5"), "--device", "/dev/video99"]);
    expect(absent.code).toBe(2);
  });

  it("reports errors of its own kind only", async () => {
    writeFileSync(at("cut.mkv"), "x");
    await expect(run({ video: at("cut.mkv") })).rejects.toBeInstanceOf(KilogradError);
  });
});
