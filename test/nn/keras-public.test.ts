// Public files of Keras 2.0.5, of oarriaga/face_classification (MIT): KILOGRAD_KERAS_FILES names a folder that has its
// .hdf5 files, from trained_models/. All are read, and the best known answers as Keras 3.15.1 reads it. Without the
// folder the test is skipped by name.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { loadModel } from "../../src/nn/checkpoint.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";

const folder = process.env["KILOGRAD_KERAS_FILES"];
const files =
  folder !== undefined && existsSync(folder)
    ? readdirSync(folder).filter((name) => /\.(hdf5|h5|keras)$/.test(name))
    : [];

test.skipIf(files.length === 0)(
  "public files are read (skipped without KILOGRAD_KERAS_FILES)",
  async () => {
    for (const file of files) {
      const model = await loadModel(join(folder!, file), { device: cpu, onMessage: () => {} });
      const { data } = await model.predict(new Float32Array(model.inputShape.reduce((a, b) => a * b, 1)));
      expect([...data].every(Number.isFinite), file).toBe(true);
      if (!file.endsWith("mini_XCEPTION.102-0.66.hdf5")) continue;
      const { total, trainable } = model.countParameters();
      expect([total, trainable]).toEqual([58423, 56951]);
      const pattern = Float32Array.from({ length: 4096 }, (_, i) => (2 * ((7919 * i) % 256)) / 255 - 1);
      const wanted = [
        [new Float32Array(4096), [0.1488817, 1.127505e-6, 0.1264877, 0.0405194, 0.012311, 0.0401695, 0.6316296]],
        [pattern, [0.00637264, 9.13e-17, 8.41e-8, 0.0347416, 4.489e-7, 0.9588853, 2.24e-11]],
      ] as const;
      for (const [x, values] of wanted) {
        const answers = await model.call(tensor(cpu, x, { shape: [1, 64, 64, 1] })).data();
        for (const [i, value] of values.entries()) expect(Math.abs(answers[i]! - value)).toBeLessThan(1e-6);
      }
    }
  },
  600_000,
);
