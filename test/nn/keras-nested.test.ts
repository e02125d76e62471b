// Files that Keras 3.15.1 and Keras 2.15.0 on TensorFlow wrote of models within models, operations on nodes,
// activations that are layers, and several inputs and outputs: as .keras, .h5 and weights alone. They answer as in
// Keras, and go on doing so when they are written and read. keras-nested.py makes them.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { encodeModel, loadModel, loadWeights, readModelFile } from "../../src/nn/checkpoint.js";
import { fromConfig } from "../../src/nn/from-config.js";
import type { Model } from "../../src/nn/model.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";
import { formula } from "./formula.js";

interface Stored {
  readonly inputs: readonly (readonly number[])[];
  readonly outputs: readonly { readonly shape: readonly number[]; readonly values: readonly number[] }[];
  readonly keras: string;
  readonly h5: string;
  readonly "weights.h5": string;
}
type Ending = "keras" | "h5" | "weights.h5";

const bytesOf = (stored: Stored, ending: Ending) => new Uint8Array(gunzipSync(Buffer.from(stored[ending], "base64")));

async function expectAnswers(model: Model, { inputs, outputs }: Stored): Promise<void> {
  const given = inputs.map((shape, i) => tensor(cpu, formula([...shape], i), { shape: [...shape] }));
  const answers = model.callAll(given.length === 1 ? given[0]! : given);
  expect(answers.map(({ shape }) => shape)).toEqual(outputs.map(({ shape }) => shape));
  for (const [i, { values }] of outputs.entries()) expectClose(await answers[i]!.data(), values, { rtol: 1e-5 });
}

describe.each(["keras3", "keras2"])("%s", (file) => {
  const { models } = JSON.parse(readFileSync(new URL(`${file}-nested.json`, import.meta.url), "utf8")) as {
    readonly models: Record<string, Stored>;
  };
  const load = (stored: Stored, ending: "keras" | "h5", said: string[] = []) =>
    loadModel(bytesOf(stored, ending), { device: cpu, onMessage: (message) => said.push(message) });

  test.each(Object.keys(models))("%s: as .keras and .h5, also when it is written again", async (name) => {
    const stored = models[name]!;
    for (const ending of ["keras", "h5"] as const) {
      const model = await load(stored, ending);
      await expectAnswers(model, stored);
      const bytes = await encodeModel(model, { format: ending === "keras" ? "keras-h5" : "keras" });
      const again = await loadModel(bytes, { device: cpu });
      expect(again.config()).toEqual(model.config());
      await expectAnswers(again, stored);
    }
  });

  // Keras 2 does not write the names of layers.
  const untold = file === "keras2" ? ["pairs", "shared", "fine-tuned", "training"] : [];

  test.each(Object.keys(models).filter((name) => !untold.includes(name)))("%s: weights alone", async (name) => {
    const stored = models[name]!;
    const { config } = await readModelFile(bytesOf(stored, "keras"));
    const model = fromConfig(config, { device: cpu, seed: 3 });
    await loadWeights(model, bytesOf(stored, "weights.h5"));
    await expectAnswers(model, stored);
  });

  test.each(untold)("%s: weights alone are refused where nothing tells whose they are", async (name) => {
    const stored = models[name]!;
    const { config } = await readModelFile(bytesOf(stored, "keras"));
    const model = fromConfig(config, { device: cpu, seed: 3 });
    await expect(loadWeights(model, bytesOf(stored, "weights.h5"))).rejects.toThrow(
      name === "training"
        ? /layer "along" must have 2 weights/
        : /does not say which of its weights belong to which model/,
    );
    // The older layout has the names of models.
    await loadWeights(model, bytesOf(stored, "h5"));
    await expectAnswers(model, stored);
  });

  test("layers are named after the models that they lie in, and frozen with them", async () => {
    const names = async (name: string) =>
      (await load(models[name]!, "keras")).layers.filter(({ placed }) => placed.weights.length > 0);
    const pairs = await names("pairs");
    expect(pairs.map(({ name }) => name).sort()).toEqual([
      "out",
      "pair/deep/deepest",
      "pair/dense",
      "pair/left",
      "pair/right",
    ]);
    const tuned = await names("fine-tuned");
    expect(tuned.map(({ name, trainable }) => [name.split("/")[0], trainable])).toEqual([
      ["base", false],
      ["base", false],
      ["dense", true],
      ["head", true],
    ]);
    const shared = await load(models["shared"]!, "h5");
    expect(shared.calls).toHaveLength(4);
    expect(shared.layers).toHaveLength(2);
  });

  test("what only training does is told", async () => {
    const said: string[] = [];
    await load(models["training"]!, "keras", said);
    expect(said).toHaveLength(1);
    expect(said[0]).toMatch(
      /the bytes: answers as in Keras, but training it further would lack the RandomFlip of layer "random_flip\w*", the ActivityRegularization of layer/,
    );
  });
});
