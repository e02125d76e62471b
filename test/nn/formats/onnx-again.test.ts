// Models written as ONNX and read again: predictions, and layers where ONNX says them.
import { describe, expect, test } from "vitest";
import * as nn from "../../../src/nn/index.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { cpu, expectEachClose } from "../../support.js";
import { onnxCases } from "./onnx-models.js";

const again = async (model: nn.Model) =>
  nn.loadModel(await nn.encodeModel(model, { format: "onnx" }), { device: cpu, onMessage: () => {} });

describe("written and read again", () => {
  test.each(onnxCases.map((each) => [each.title, each] as const))("%s", async (_, { model: make, inputs }) => {
    const model = make(cpu);
    const read = await again(model);
    const x = inputs(model).map(({ shape, values }) => tensor(cpu, values, { shape }));
    expect(read.inputs.map(({ shape }) => shape)).toEqual(model.inputs.map(({ shape }) => shape));
    const found = read.callAll(x);
    for (const [k, output] of model.callAll(x).entries()) {
      expect(found[k]!.shape).toEqual(output.shape);
      expectEachClose(await found[k]!.data(), await output.data(), { rtol: 1e-6, atol: 1e-6 });
    }
  });

  test("a residual network has the layers that it had", async () => {
    const model = onnxCases.find(({ title }) => title === "a residual network")!.model(cpu);
    const counts = ({ layers }: nn.Model) => {
      const names = layers.map(({ placed }) => placed.layer.className);
      return ["Conv2D", "BatchNormalization", "Add", "GlobalAveragePooling2D", "Dense", "OnnxGraph"].map(
        (name) => names.filter((each) => each === name).length,
      );
    };
    expect(counts(await again(model))).toEqual(counts(model));
    expect((await again(model)).countParameters()).toEqual(model.countParameters());
  });
});
