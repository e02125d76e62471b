// Keras itself judges: it reads .keras and .h5 files that Kilograd writes, of a model with every layer that both have,
// and answers alike; what it saves of them is read back. KILOGRAD_KERAS3_PYTHON and KILOGRAD_KERAS2_PYTHON name
// interpreters that have it (Keras 3.15.1, and Keras 2.15.0 on TensorFlow 2.15.1). Without them any python3 that has
// Keras 3 is one, and what is missing is skipped by name.
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, saveModel } from "../../src/nn/checkpoint.js";
import { fromConfig } from "../../src/nn/from-config.js";
import type { Model } from "../../src/nn/model.js";
import type { FunctionalConfig } from "../../src/nn/model-config.js";
import { tensor } from "../../src/tensor/tensor.js";
import { cpu, expectClose } from "../support.js";
import { layerCases } from "./layer-cases.js";

const environment = {
  ...process.env,
  KERAS_BACKEND: process.env["KERAS_BACKEND"] ?? "torch",
  TF_CPP_MIN_LOG_LEVEL: "3",
};

const hasVersion = (python: string, version: string) =>
  spawnSync(python, ["-c", `import keras; assert keras.__version__.startswith("${version}.")`], {
    stdio: "ignore",
    env: environment,
  }).status === 0;

const judges = ["3", "2"].map((version) => {
  const given = process.env[`KILOGRAD_KERAS${version}_PYTHON`];
  const python = given ?? (version === "3" && hasVersion("python3", version) ? "python3" : undefined);
  return { version, python, name: `Keras ${version}${python === undefined ? " (not installed)" : ""}` };
});

/** Layers that Keras 2.15 lacks, or has in another way. */
const ONLY_THREE = /^(MultiHeadAttention|Conv2DTranspose that is dilated|Activation hard_)|silu in groups/;
/** Keras 3 reads no list of several axes from .h5, not even of its own; Keras 2 has them in another order. */
const SEVERAL_AXES = /^(LayerNormalization over|Normalization of each position)/;

/** All cases in one model: each has inputs and an output of its own, and the weights of the table. */
function wholeModel(
  version: string,
  ending: string,
): { model: Model; inputs: { shape: readonly number[]; values: number[] }[] } {
  const cases = layerCases.filter(
    ({ title, layerConfig }) =>
      !(version === "2" && (ONLY_THREE.test(title) || layerConfig["activation"] === "hardSwish")) &&
      !((version === "2" || ending === "h5") && SEVERAL_AXES.test(title)),
  );
  const inputs: { name: string; shape: number[] }[] = [];
  const given: { shape: readonly number[]; values: number[] }[] = [];
  const parts = cases.map((each, number) => {
    const config = each.model as FunctionalConfig;
    const first = inputs.length;
    for (const [i, input] of config.inputs.entries()) {
      inputs.push({ name: `x${number}_${i}`, shape: [...input.shape] });
      given.push({ shape: each.inputs[i]!, values: each.values[i]! });
    }
    return { each, name: `case${number}`, first, count: config.inputs.length };
  });
  const layers = parts.map(({ each, name }) => ({
    className: each.model.layers[0]!.className,
    config: { ...each.layerConfig, name },
  }));
  const calls = parts.map(({ name, first, count }) => ({
    layer: name,
    inputs: Array.from({ length: count }, (_, i) => first + i),
  }));
  const outputs = parts.map((_, i) => inputs.length + i);
  const model = fromConfig({ className: "Functional", name: "all", inputs, layers, calls, outputs }, { device: cpu });
  for (const { each, name } of parts) {
    for (const [weight, , values] of each.weightValues)
      model.layer(name).weights[weight]!.assign(Float32Array.from(values));
  }
  return { model, inputs: given };
}

describe.each(judges)("$name", ({ version, python }) => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "kilograd-judges-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test.skipIf(python === undefined)(
    "reads what is written of all layers, answers alike, and is read",
    async () => {
      const endings = ["keras", "h5"].map((ending) => {
        const { model, inputs } = wholeModel(version, ending);
        // Samples differ from case to case, so that each is run as often as the shortest has.
        const samples = 2;
        const cut = inputs.map(({ shape, values }) => {
          const size = values.length / shape[0]!;
          return { shape: [samples, ...shape.slice(1)], values: values.slice(0, samples * size) };
        });
        return { ending, model, cut };
      });
      for (const { ending, model, cut } of endings) {
        writeFileSync(join(folder, `all.${ending}.in.json`), JSON.stringify(cut));
        await saveModel(join(folder, `all.${ending}`), model);
      }
      const script = fileURLToPath(new URL("keras-judge.py", import.meta.url));
      await promisify(execFile)(python!, [script, folder], { env: environment });
      for (const { ending, model, cut } of endings) {
        const x = cut.map(({ shape, values }) => tensor(cpu, values, { shape }));
        const answers = JSON.parse(readFileSync(join(folder, `all.${ending}.out.json`), "utf8")) as number[][];
        expect((answers as { error?: string }).error).toBeUndefined();
        const again = await loadModel(join(folder, `again-all.${ending}`), { device: cpu });
        const read = again.callAll(x);
        for (const [i, y] of model.callAll(x).entries()) {
          const [values, label] = [await y.data(), `${ending}: ${model.outputNames[i]}`];
          expectClose(answers[i]!, values, { rtol: 1e-5, label });
          expectClose(await read[i]!.data(), values, { rtol: 1e-5, label: `${label}, read again` });
        }
      }
    },
    600_000,
  );
});
