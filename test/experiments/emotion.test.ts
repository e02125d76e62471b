// The experiment on emotions, with tiny settings on drawn faces. Looked at are figures, report, the files for the
// camera, and what happens without pictures for the face finder.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { fer2013Classes } from "../../src/data/fer2013.js";
import { experiment, onlyHere, repeatedRemark } from "../../src/experiments/emotion.js";
import { cameraScript } from "../../src/experiments/lib/faces/camera-py.js";
import {
  bytesOf,
  faceArchitecture,
  PIXELS,
  preparedFaces,
  standardized,
  withPreparation,
} from "../../src/experiments/lib/faces/faces.js";
import { encodeGrayPng } from "../../src/io/png.js";
import { loadModel, readModelFile } from "../../src/nn/checkpoint.js";
import { saveKerasModel } from "../../src/nn/keras-models.js";
import { DataError, UsageError } from "../../src/tensor/errors.js";
import { RandomStream } from "../../src/tensor/random.js";
import { openDevice } from "../../src/webgpu/open-device.js";
import { tinyRuns } from "./tiny.js";

const runs = tinyRuns();
let data: string;
beforeAll(() => {
  data = mkdtempSync(join(tmpdir(), "kilograd-faces-"));
  vi.stubEnv("KILOGRAD_DATA_DIR", undefined);
  vi.stubEnv("XDG_CACHE_HOME", join(data, "cache"));
  const random = new RandomStream(1, "faces");
  // A bright bar whose height is the emotion.
  const row = (label: number, usage: string) => {
    const pixels = Array.from({ length: 2304 }, (_, i) => {
      const bright = Math.abs(Math.floor(i / 48) - (4 + 6 * label)) < 3;
      return (bright ? 160 : 40) + random.integer(60);
    });
    return `${label},${pixels.join(" ")},${usage}`;
  };
  const part = (usage: string, count: number) => Array.from({ length: count }, (_, i) => row(i % 7, usage));
  const [training, validation, held] = [part("Training", 140), part("PublicTest", 21), part("PrivateTest", 27)];
  // One face of PrivateTest is one of Training.
  const rows = [...training, ...validation, ...held, training[6]!.replace("Training", "PrivateTest")];
  writeFileSync(join(data, "fer2013.csv"), `emotion,pixels,Usage\n${rows.join("\n")}\n`);
  const both = join(data, "both");
  mkdirSync(both);
  writeFileSync(join(both, "fer2013.csv"), readFileSync(join(data, "fer2013.csv")));
  for (const name of ["data_batch_1.bin", "test_batch.bin"]) {
    const records = Uint8Array.from({ length: 6 * 3073 }, (_, i) => (i % 3073 === 0 ? 1 : random.integer(256)));
    writeFileSync(join(both, name), records);
  }
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(data, { recursive: true });
});

const tiny = [
  ...["filters=[4,8,8]", "dropout=0.1", "epochs=3", "batch=10", "timedFaces=5"],
  ...["finderWindows=256", "finderEpochs=1", "finderScenes=4"],
];

test("learns what can be learned, and leaves both models for the camera", { timeout: 300_000 }, async () => {
  const { metrics, report, folder, said } = await runs.run(experiment, { set: tiny, dataDir: join(data, "both") });
  expect(said).toMatch(
    /FER2013, 140 Training, 21 PublicTest, 28 PrivateTest, .*; faces that are in it more than once: 1, of them in several parts 1/,
  );
  expect(metrics.repeated).toEqual({ faces: 1, acrossParts: 1, labelsDiffer: 0, testFaces: 1 });
  expect(metrics.withoutRepeated.count).toBe(27);
  const [all, once] = [28 * metrics.testAccuracy, 27 * metrics.withoutRepeated.accuracy].map(Math.round) as [
    number,
    number,
  ];
  expect([0, 1]).toContain(all - once);
  expect(report).toMatch(/1 face of PrivateTest is in another part, too. Without them/);
  expect(said).toMatch(/about .* by a measured step: 42 steps/);
  expect(metrics.testAccuracy).toBeGreaterThan(0.4); // Chance is 1/7.
  const counted = metrics.confusion.flat().reduce((a: number, b: number) => a + b);
  expect(counted).toBe(28);
  expect(metrics.classes.map((c: { name: string }) => c.name)).toContain("surprise");
  for (const [k, { recall, count }] of metrics.classes.entries()) {
    expect(count).toBe(4);
    expect(recall).toBe(metrics.confusion[k][k] / 4);
  }
  expect(metrics.model).toEqual({ file: "emotion.h5", sameBitsReadBack: true, pixels: PIXELS });
  expect(metrics.questions).toHaveLength(4);
  expect(metrics.finder).toMatchObject({ scenes: 4 });
  expect(metrics.timing.facesPerSecond).toBeGreaterThan(0);
  expect(report).toContain("Read back from .h5");
  expect(report.match(/<figure class="grid"/g)!.length).toBe(2);
  const file = await readModelFile(join(folder, "emotion.h5"));
  expect(file.config).toMatchObject({
    layers: expect.arrayContaining([expect.objectContaining({ className: "GroupNormalization" })]),
  });
  expect(readFileSync(join(folder, "camera.py"), "utf8")).toBe(cameraScript("emotion.h5", fer2013Classes));
  expect(file.notes).toMatchObject({ pixels: PIXELS, classNames: expect.arrayContaining(["angry", "neutral"]) });
  expect((await readModelFile(join(folder, "face-finder.h5"))).config).toMatchObject({ inputShape: [24, 24, 1] });
});

test("without CIFAR-10 there is no face finder, and the report says so", { timeout: 300_000 }, async () => {
  const given = { set: [...tiny, "epochs=1"], dataDir: data, out: runs.at("alone") };
  const { metrics, report, folder, said } = await runs.run(experiment, given);
  expect(said).toMatch(/No face finder is trained, it needs CIFAR-10 .*: cifar-10: neither/);
  expect(metrics.finder).toBeNull();
  expect(report).toContain("No face finder was trained");
  expect(existsSync(join(folder, "face-finder.h5"))).toBe(false);
});

test("bad data and settings are refused", async () => {
  await expect(runs.run(experiment, { set: tiny, dataDir: data, out: runs.at("x"), preset: "huge" })).rejects.toThrow(
    UsageError,
  );
  const given = { set: [...tiny, "batch=1000"], dataDir: data, out: runs.at("y") };
  await expect(runs.run(experiment, given)).rejects.toThrow(
    "batch must be at most the 140 training images, given 1000",
  );
  const cut = join(data, "cut");
  mkdirSync(cut);
  writeFileSync(join(cut, "fer2013.csv"), readFileSync(join(data, "fer2013.csv")).subarray(0, 20_000));
  const cutting = runs.run(experiment, { set: tiny, dataDir: cut, out: runs.at("z") });
  await expect(cutting).rejects.toThrow(/fer2013.csv is cut off: it ends after 20000 bytes within row/);
  await expect(cutting).rejects.toBeInstanceOf(DataError);
});

test("standardised faces have mean 0 and deviation 1, whatever light and contrast", () => {
  const random = new RandomStream(2, "pixels");
  const face = Float32Array.from({ length: 2304 }, () => random.uniform());
  const [plain, dim] = [standardized(face), standardized(face.map((value) => 0.2 + 0.5 * value))];
  const mean = plain.reduce((a, b) => a + b) / 2304;
  expect(mean).toBeCloseTo(0, 4);
  expect(Math.sqrt(plain.reduce((a, b) => a + b * b, 0) / 2304)).toBeGreaterThan(0.9);
  for (let i = 0; i < 2304; i += 100) expect(dim[i]! / plain[i]!).toBeCloseTo(0.935, 1);
  expect(standardized(new Float32Array(2304).fill(0.7)).every((value) => Math.abs(value) < 1e-3)).toBe(true);
});

test("says where every face of PrivateTest is in another part, too", () => {
  const answered = { count: 2, accuracy: 0.5, mistakes: [1] };
  const repeated = { faces: 2, acrossParts: 2, labelsDiffer: 0, validation: new Int32Array() };
  const some = { ...repeated, test: Int32Array.of(1) };
  expect(onlyHere(answered, some)).toEqual({ count: 1, accuracy: 1 });
  const all = { ...repeated, test: Int32Array.of(0, 1) };
  const once = onlyHere(answered, all);
  expect(once).toEqual({ count: 0, accuracy: null });
  expect(repeatedRemark(all, answered, once)).toMatch(/in another part, too\. No other face is left to measure\.$/);
  expect(repeatedRemark(some, answered, onlyHere(answered, some))).toContain("Without them 100.0 % are recognised");
});

describe("a model that prepares its pixels", () => {
  const golden = JSON.parse(readFileSync("test/experiments/face-preparation.json", "utf8"));
  const bytes = Float32Array.from(golden.faces.flat() as number[]);
  const inRange = {
    images: bytes.map((value) => value / 255),
    ...{ labels: new Int32Array(3), count: 3, imageShape: [48, 48, 1] as const },
  };

  test("gives what Keras's layers give, and pixels come back as the bytes that they were", async () => {
    expect(bytesOf(inRange).images).toEqual(bytes);
    const device = await openDevice("webgpu");
    const { images } = await preparedFaces(device, inRange);
    // Of the faces with little contrast the rounding of the mean is divided by 0.02.
    for (const [n, face] of (golden.prepared as number[][]).entries()) {
      for (const [i, place] of (golden.places as number[]).entries()) {
        expect(Math.abs(images[n * 2304 + place]! - face[i]!)).toBeLessThan(n === 0 ? 2e-5 : 1e-4);
      }
    }
    device.destroy();
  });

  const python = process.env["KILOGRAD_PYTHON"] ?? "python3";
  const env = { ...process.env, KERAS_BACKEND: process.env["KERAS_BACKEND"] ?? "torch" };
  const has = (module: string) => spawnSync(python, ["-c", `import keras, ${module}`], { env }).status === 0;

  test.skipIf(!has("numpy"))("is right in Keras on plain pixels (skipped without Keras)", async () => {
    const device = await openDevice("webgpu");
    const network = faceArchitecture([4, 6], 0.2);
    const inner = network.build({ device, seed: 4 });
    const prepared = await preparedFaces(device, inRange);
    const expected = Array.from((await inner.predict(prepared.images)).data);
    const model = await withPreparation(network, inner);
    expect(Array.from((await model.predict(bytes)).data)).toEqual(expected);
    const path = join(data, "whole.h5");
    await saveKerasModel(path, model);
    expect(Array.from((await (await loadModel(path, { device })).predict(bytes)).data)).toEqual(expected);
    writeFileSync(join(data, "pixels.json"), JSON.stringify(golden.faces));
    const program = `import json, sys, keras, numpy as np
pixels = np.array(json.load(open(sys.argv[2])), "float32").reshape(-1, 48, 48, 1)
print(json.dumps(np.asarray(keras.models.load_model(sys.argv[1], compile=False).predict(pixels, verbose=0)).reshape(-1).tolist()))`;
    const { stdout, stderr } = spawnSync(python, ["-c", program, path, join(data, "pixels.json")], {
      ...{ env, encoding: "utf8" },
    });
    const found = JSON.parse(stdout.trim().split("\n").at(-1) ?? stderr) as number[];
    found.forEach((value, i) => {
      expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-5);
    });
    device.destroy();
  });

  test.skipIf(!has("cv2; cv2.CascadeClassifier"))(
    "camera.py names the faces of pictures (skipped without OpenCV 4 and Keras)",
    { timeout: 240_000 },
    async () => {
      const device = await openDevice("webgpu");
      const network = faceArchitecture([4, 6], 0.2);
      const model = await withPreparation(network, network.build({ device, seed: 4 }));
      await saveKerasModel(join(data, "emotion.h5"), model);
      writeFileSync(join(data, "camera.py"), cameraScript("emotion.h5", fer2013Classes));
      device.destroy();
      // A drawn picture that is no face: every frame is read, and nothing is found in it.
      mkdirSync(join(data, "frames"));
      for (const n of [0, 1]) {
        const pixels = Float32Array.from({ length: 96 * 96 }, (_, i) => ((i + n) % 96) / 96);
        writeFileSync(join(data, "frames", `00${n}.png`), encodeGrayPng(pixels, { width: 96, height: 96 }));
      }
      const { stdout, stderr, status } = spawnSync(
        python,
        [join(data, "camera.py"), join(data, "frames", "%03d.png")],
        { env, encoding: "utf8" },
      );
      expect(
        [
          status,
          stdout
            .trim()
            .split("\n")
            .filter((line) => line === "no face").length,
        ],
        stderr,
      ).toEqual([0, 2]);
    },
  );

  test("camera.py has twenty lines, and the names in the model's order", () => {
    const script = cameraScript("emotion.h5", ["a", "b"]);
    expect(script.trim().split("\n").length).toBeLessThanOrEqual(22);
    expect(script).toContain('names = ["a", "b"]');
    expect(script).toContain('with_name("emotion.h5")');
  });
});
