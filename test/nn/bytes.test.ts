// Models as bytes: what files hold, without files.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  encodeModel,
  encodeModelFiles,
  loadModel,
  loadWeights,
  readModelFile,
  saveModel,
} from "../../src/nn/checkpoint.js";
import { formatOf, formats } from "../../src/nn/formats/index.js";
import { encodeKerasModel, saveKerasModel } from "../../src/nn/keras-models.js";
import { DataError } from "../../src/tensor/errors.js";
import { oneOf } from "../../src/tensor/options.js";
import { cpu } from "../support.js";
import { describeDevices, plain, small, weightsOf } from "./small.js";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kilograd-bytes-"));
});
afterAll(() => rm(folder, { recursive: true }));

describeDevices((device) => {
  test.each([
    ["safetensors", encodeModel, saveModel],
    ["h5", encodeKerasModel, saveKerasModel],
  ] as const)("%s: as the file, and back", async (extension, encode, save) => {
    const model = plain().build({ device: device(), seed: 3 });
    const bytes = await encode(model, { notes: { a: 1 } });
    const path = join(folder, `model.${extension}`);
    await save(path, model, { notes: { a: 1 } });
    const [fromBytes, fromFile] = [await loadModel(bytes, { device: cpu }), await loadModel(path, { device: cpu })];
    expect(await weightsOf(fromBytes)).toEqual(await weightsOf(fromFile));
    // HDF5 keeps the time at which it was written.
    if (extension === "safetensors") expect(Buffer.from(bytes).equals(await readFile(path))).toBe(true);
    const other = plain().build({ device: device(), seed: 4 });
    expect(await weightsOf(other)).not.toEqual(await weightsOf(fromFile));
    await loadWeights(other, bytes);
    // Weights of the reference are float64, in .h5 files float32.
    const wanted = Object.entries(await weightsOf(fromFile));
    expect(Object.entries(await weightsOf(other))).toEqual(wanted);
  });
});

test("what is no model is told as of a file", async () => {
  const good = await encodeModel(plain().build({ device: cpu }));
  const h5 = await encodeKerasModel(plain().build({ device: cpu }));
  for (const bytes of [new Uint8Array(0), good.subarray(0, 100), good.subarray(0, -1), h5.subarray(0, 500)]) {
    const loading = loadModel(bytes, { device: cpu });
    await expect(loading).rejects.toBeInstanceOf(DataError);
    await expect(loading).rejects.toThrow(/^the bytes: /);
  }
  await expect(loadModel(3 as never, { device: cpu })).rejects.toThrow(/path must be .*Uint8Array/);
});

/** Weights of the reference are float64, those of files float32. */
const float32 = (weights: Record<string, ArrayLike<number>>) =>
  Object.fromEntries(Object.entries(weights).map(([name, values]) => [name, Array.from(values, Math.fround)]));

test("every format that is written is recognised, and holds the same model", async () => {
  const model = small().build({ device: cpu, seed: 5 });
  for (const { name, writes } of formats) {
    // Those have no place for a seed and layers' names, or for notes. Their own tests hold what comes back.
    if (!writes || ["onnx", "tfjs", "pytorch", "npz"].includes(name)) continue;
    const [bytes, path] = [
      await encodeModel(model, { format: name, notes: { a: 1 } }),
      join(folder, `by-format.${name}`),
    ];
    await saveModel(path, model, { format: name, notes: { a: 1 } });
    for (const source of [bytes, path]) {
      expect((await formatOf(source)).name).toBe(name);
      const file = await readModelFile(source);
      expect([file.seed, file.notes]).toEqual([5, { a: 1 }]);
      const loaded = await loadModel(source, { device: cpu });
      expect(loaded.config()).toEqual(model.config());
      expect(float32(await weightsOf(loaded))).toEqual(float32(await weightsOf(model)));
      const other = small().build({ device: cpu, seed: 6 });
      expect(float32(await weightsOf(other))).not.toEqual(float32(await weightsOf(model)));
      await loadWeights(other, source);
      expect(float32(await weightsOf(other))).toEqual(float32(await weightsOf(model)));
    }
  }
});

test("Node's Buffers, whose slices are views, are read as bytes of one's own", async () => {
  const model = small().build({ device: cpu, seed: 5 });
  // Not at the beginning of its memory, nor aligned.
  const buffered = (bytes: Uint8Array) => Buffer.concat([Buffer.alloc(3, 77), bytes]).subarray(3);
  for (const { name, writes } of formats) {
    if (!writes || name === "pytorch") continue;
    const files = await encodeModelFiles(model, { format: name });
    const given = Object.fromEntries(Object.entries(files).map(([file, bytes]) => [file, buffered(bytes)]));
    const source = Object.keys(given).length > 1 ? given : Object.values(given)[0]!;
    const other = small().build({ device: cpu, seed: 6 });
    if (name === "onnx") {
      const loaded = await loadModel(source, { device: cpu });
      expect(Object.values(float32(await weightsOf(loaded)))).toEqual(Object.values(float32(await weightsOf(model))));
      continue;
    }
    await loadWeights(other, source);
    expect(float32(await weightsOf(other)), name).toEqual(float32(await weightsOf(model)));
  }
});

const written = formats.filter(({ writes }) => writes).map(({ name }) => name);

test("a training is kept by the format that has a place for it", async () => {
  const model = plain().build({ device: cpu });
  const slots = [["dense/kernel/m", model.weights()[0]!.tensor]] as const;
  await expect(encodeModel(model, { slots, format: "keras-h5" })).rejects.toThrow(
    'encodeModel: format "keras-h5" has no place for a training; save it as "safetensors"',
  );
  await expect(encodeModel(model, { format: "pickle" })).rejects.toThrow(
    `encodeModel: format must be ${oneOf(...written).expected}, got "pickle"`,
  );
});

test("a path's ending chooses the format, a named one must agree", async () => {
  const model = small().build({ device: cpu, seed: 5 });
  for (const { name, endings, writes } of formats) {
    // PyTorch's weights are in safetensors files, whose own format is the first of their ending.
    for (const ending of writes && name !== "pytorch" ? endings : []) {
      const path = join(folder, `chosen${ending.toUpperCase()}`);
      await saveModel(path, model);
      expect((await formatOf(path)).name).toBe(name);
      const others = formats.filter((each) => each.writes && !each.endings.includes(ending));
      for (const { name: other } of others) {
        await expect(saveModel(path, model, { format: other })).rejects.toThrow(
          `saveModel: format must be "${name}" for ${path}, as its ending says, got "${other}"; change one of them`,
        );
      }
    }
  }
  const path = join(folder, "no.ending/of-a-format.bin");
  await expect(saveModel(path, model)).rejects.toThrow(/cannot write/); // Its folder is missing.
  await saveModel(join(folder, "chosen.bin"), model);
  expect((await formatOf(join(folder, "chosen.bin"))).name).toBe("safetensors");
});
