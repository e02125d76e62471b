// Files that Keras 3.15.1 wrote of a model with many kinds of layers:
// - attention, whose weights lie in groups within its own,
// - statistics with a count beside them,
// - arguments of calls by name.
//
// keras-layers.py makes them.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { encodeModel, loadModel, loadWeights } from "../../src/nn/checkpoint.js";
import { fromConfig } from "../../src/nn/from-config.js";
import type { Model } from "../../src/nn/model.js";
import { expectClose } from "../support.js";
import { formula } from "./formula.js";
import { describeDevices } from "./small.js";

const stored = JSON.parse(readFileSync(new URL("keras-layers.json", import.meta.url), "utf8")) as {
  readonly "model.h5": string;
  readonly "model.weights.h5": string;
  readonly output: number[];
};
const bytesOf = (name: "model.h5" | "model.weights.h5") =>
  new Uint8Array(gunzipSync(Buffer.from(stored[name], "base64")));

describeDevices((device) => {
  const expectAnswer = async (model: Model) => {
    const { data } = await model.predict(Float32Array.from(formula([2, 6, 6, 2], 1)));
    expectClose(data, stored.output, { rtol: 1e-4 });
  };

  test("a whole model answers as in Keras, and goes on doing so when it is written and read", async () => {
    const model = await loadModel(bytesOf("model.h5"), { device: device() });
    await expectAnswer(model);
    const again = await loadModel(await encodeModel(model, { format: "keras-h5" }), { device: device() });
    expect(again.config()).toEqual(model.config());
    await expectAnswer(again);
    for (const each of [model, again]) each.dispose();
  });

  test("weights alone find their places", async () => {
    const { config } = await modelConfig();
    const model = fromConfig(config, { device: device(), seed: 5 });
    await loadWeights(model, bytesOf("model.weights.h5"));
    await expectAnswer(model);
    model.dispose();
  });

  const modelConfig = async () => {
    const model = await loadModel(bytesOf("model.h5"), { device: device() });
    const config = model.config();
    model.dispose();
    return { config };
  };
});
