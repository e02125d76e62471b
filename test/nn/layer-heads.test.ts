// Which layers leave a softmax before them a softmax: a loss of logits is computed on what goes into it, or is refused.
import { expect, test } from "vitest";
import { sequential } from "../../src/nn/architecture.js";
import type { Layer } from "../../src/nn/layer.js";
import { leakyRelu, relu, softmax } from "../../src/nn/layers/advanced-activations.js";
import { activation } from "../../src/nn/layers/core.js";
import { dense } from "../../src/nn/layers/dense.js";
import { gaussianDropout, gaussianNoise, spatialDropout1d } from "../../src/nn/layers/noise.js";
import { cropping1d, zeroPadding1d } from "../../src/nn/layers/padding.js";
import { globalMaxPool1d, maxPool1d } from "../../src/nn/layers/pooling.js";
import { normalization, rescaling } from "../../src/nn/layers/preprocessing.js";
import { permute, reshape } from "../../src/nn/layers/reshape.js";
import { resizing, upSampling1d } from "../../src/nn/layers/resizing.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu } from "../support.js";

/** A softmax of three classes, and layers behind it. */
const behind = (...layers: Layer[]) =>
  sequential({ device: cpu, seed: 1, inputShape: [2] }, [dense({ units: 3 }), softmax(), ...layers]);
const x = tensor(cpu, [[1, -2]]);
const shaped = reshape([1, 3]);

test.each<[string, Layer[]]>([
  ["a softmax that is a layer", []],
  ["arranging", [shaped, reshape([3])]],
  ["noise", [gaussianNoise(0.5), gaussianDropout(0.5)]],
  ["dropped channels", [shaped, spatialDropout1d(0.5)]],
])("%s has logits", (_, layers) => {
  const model = behind(...layers);
  expect(model.head).toMatchObject({ layer: "softmax", activation: "softmax" });
  expect(model.head.obstacle?.atInference ?? false).toBe(false);
  expect(Array.from(model.logits(x).shape).reduce((a, b) => a * b, 1)).toBe(3);
});

test.each<[string, Layer[]]>([
  ["noise", [gaussianNoise(0.5)]],
  ["noise that multiplies", [gaussianDropout(0.5)]],
  ["dropped channels", [shaped, spatialDropout1d(0.5)]],
])("%s has none while training", (_, layers) => {
  expect(() => behind(...layers).logits(x, { training: true })).toThrow(/its outputs have no logits/);
});

test.each<[string, Layer[]]>([
  ["another order", [shaped, permute([2, 1])]],
  ["padding", [shaped, zeroPadding1d(1)]],
  ["cropping", [reshape([3, 1]), cropping1d([1, 0])]],
  ["pooling", [reshape([3, 1]), maxPool1d({ poolSize: 2, strides: 1 })]],
  ["global pooling", [shaped, globalMaxPool1d()]],
  ["upsampling", [shaped, upSampling1d(2)]],
  ["resizing", [reshape([1, 1, 3]), resizing({ height: 2, width: 1 })]],
  ["rescaling", [rescaling({ scale: 2 })]],
  ["normalisation", [normalization()]],
  ["a rectifier with a slope", [leakyRelu(0.1)]],
  ["a rectifier", [relu()]],
  ["another activation", [activation("tanh")]],
])("%s behind a softmax is refused", (_, layers) => {
  expect(() => behind(...layers).logits(x)).toThrow(/its outputs have no logits: layer "softmax" applies softmax/);
});

test("a softmax along another axis than the last is none that a loss knows", () => {
  const along = (axis: number) =>
    sequential({ device: cpu, inputShape: [2, 3] }, [softmax({ axis })]).logits(
      tensor(cpu, [
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
      ]),
    );
  expect(() => along(1)).toThrow(/its outputs have no logits/);
  expect(along(2).shape).toEqual([1, 2, 3]);
  expect(along(-1).shape).toEqual([1, 2, 3]);
});
