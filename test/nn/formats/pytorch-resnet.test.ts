// torchvision's ResNet-18 into ours: layers have torchvision's names, so that a file, whose tensors are sorted by name,
// needs no map. Expected output: pytorch-resnet.py.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { resNet18 } from "../../../src/applications/resnet.js";
import { encodeSafetensors, type StoredTensor } from "../../../src/io/safetensors.js";
import { loadWeights } from "../../../src/nn/checkpoint.js";
import { sizeOf } from "../../../src/tensor/shape.js";
import { tensor } from "../../../src/tensor/tensor.js";
import { pictureValues, seedOf, uniform } from "../../applications/formula.js";
import { cpu, expectClose } from "../../support.js";

const { tensors, output } = JSON.parse(readFileSync("test/nn/formats/pytorch-resnet.json", "utf8")) as {
  tensors: [name: string, shape: number[]][];
  output: number[];
};

const stored = new Map(
  tensors.map(([name, shape]): [string, StoredTensor] => {
    if (name.endsWith("tracked")) return [name, { dtype: "I32", shape, data: Int32Array.of(0) }];
    const scale = shape.length > 1 ? Math.sqrt(4.5 / sizeOf(shape.slice(1))) : 0.1;
    const one = name.endsWith("running_var") || (name.endsWith("weight") && shape.length === 1) ? 1 : 0;
    const data = Float32Array.from(uniform(sizeOf(shape), seedOf(name)), (value) => one + scale * value);
    return [name, { dtype: "F32", shape, data }];
  }),
);
const build = () => resNet18({ inputShape: [32, 32, 3], classes: 10 }).build({ device: cpu, seed: 1 });

test("predicts as torchvision does", async () => {
  using model = build();
  await loadWeights(model, encodeSafetensors(stored));
  const y = await model.logits(tensor(cpu, pictureValues([1, 32, 32, 3]), { shape: [1, 32, 32, 3] })).data();
  expectClose(y, output, { rtol: 1e-4, label: "ResNet-18" });
});

test("a map gives modules of other names theirs, counters included; without it every tensor is told", async () => {
  using model = build();
  const other = new Map([...stored].map(([name, each]) => [`backbone.${name.replace("fc.", "head.")}`, each] as const));
  const refused = loadWeights(model, encodeSafetensors(other));
  await expect(refused).rejects.toThrow(
    /may each be any of the layers .* and \d+ more\. Give nn\.loadWeights the option map/,
  );
  await loadWeights(model, encodeSafetensors(other), {
    map: (name) => name.replace("backbone.", "").replace("head.", "fc."),
  });
  expect([...(await model.weights()[0]!.tensor.data())].slice(0, 3)).not.toEqual([0, 0, 0]);
  await loadWeights(model, encodeSafetensors(stored), { map: { bn1: "bn1", layer1: "layer1" } });
});
