// Layers of a user's own, written with the package's public names alone. They are trained, saved, loaded, frozen,
// summarised, in graphs, with Keras's words and without. Also, what their definitions get wrong.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { reservedNames } from "../../src/nn/define-layer.js";
import { layerClasses } from "../../src/nn/layers/registry.js";
import {
  add,
  type Device,
  gradcheck,
  KilogradError,
  loss,
  mul,
  nn,
  noGrad,
  openDevice,
  optim,
  randomKey,
  randomNormal,
  sum,
  type Tensor,
  tensor,
  UsageError,
} from "../../src/node.js";
import { describeDevices } from "./small.js";

interface AffineOptions extends nn.LayerOptions {
  /** First value of every scale; default 1. */
  readonly start?: number;
}

/** y = scale x + offset + running, in which `running` is the mean of all inputs that it was trained on. */
const affine = nn.defineLayer<AffineOptions>({
  className: "Affine",
  options: { start: { expected: "a finite number", accepts: Number.isFinite } },
  make: ({ start = 1 }) => ({
    config: { start },
    weights: (shape) => [
      { name: "scale", shape: shape.slice(-1), initializer: nn.constant(start), l2: 0.01 },
      { name: "offset", shape: shape.slice(-1) },
      { name: "running", shape: [], trainable: false },
    ],
    multiplyAdds: (shape) => shape.reduce((product, size) => product * size, 1),
    call: (x, { scale, offset, running }) => add(add(mul(x, scale!), offset!), running!),
  }),
  keras: {
    className: "Own>Affine",
    settings: { start: "start" },
    weights: { scale: "gamma" },
  },
});

/** The sum over positions of two inputs; Keras has no such layer. */
const meeting = nn.defineLayer({
  className: "Meeting",
  make: () => ({
    takesSeveral: true,
    outputShape: (shape) => shape.slice(-1),
    call: (_, __, { inputs, training, key }) => {
      const met = sum(inputs.reduce(add), [1]);
      return training ? add(met, randomNormal(met.device, met.shape, key, { standardDeviation: 0.01 })) : met;
    },
  }),
});

function graph(device: Device): nn.Model {
  const x = nn.input({ shape: [4, 3] });
  const scaled = affine({ start: 2, name: "own" })(x);
  const met = meeting()([scaled, nn.dense({ units: 3, activation: "tanh" })(x)]);
  return nn.model({ device, seed: 1, inputs: x, outputs: nn.dense({ units: 2 })(met) });
}

const samples = () => ({
  inputs: Float32Array.from({ length: 16 * 12 }, (_, i) => Math.sin(i * 1.3)),
  targets: Int32Array.from({ length: 16 }, (_, i) => Number(Math.sin(i * 12 * 1.3) > 0)),
});

async function answer(model: nn.Model, device: Device): Promise<number[]> {
  const x = tensor(device, samples().inputs, { shape: [16, 4, 3] });
  const y = noGrad(() => model.call(x));
  const found = Array.from(await y.data());
  for (const t of [x, y]) t.dispose();
  return found;
}

describeDevices((device) => {
  test("is trained, by eager and by replayed steps alike", async () => {
    const weights: number[][] = [];
    for (const runEagerly of [true, false]) {
      const model = graph(device());
      const { history } = await model.fit(samples(), {
        ...{ optimizer: optim.adam({ learningRate: 0.02 }), loss: loss.crossEntropy, epochs: 8, batchSize: 8 },
        runEagerly,
      });
      expect(history["loss"]!.at(-1)).toBeLessThan(0.8 * history["loss"]![0]!);
      weights.push(Array.from(await model.layer("own").weights["scale"]!.data()));
      model.dispose();
    }
    expect(weights[0]).toEqual(weights[1]);
  });

  test("is saved, loaded, frozen and summarised as Kilograd's own", async () => {
    const model = graph(device());
    const before = await answer(model, device());
    const again = await nn.loadModel(await nn.encodeModel(model), { device: device() });
    expect(again.config()).toEqual(model.config());
    expect(await answer(again, device())).toEqual(before);
    expect(again.summary()).toContain("own (Affine)");
    expect(again.summary()).toContain("meeting (Meeting)");
    expect(again.countParameters()).toEqual({ total: 7 + 12 + 8, trainable: 6 + 12 + 8, nonTrainable: 1 });
    again.layer("own").trainable = false;
    expect(again.countParameters().trainable).toBe(12 + 8);
    const optimizer = optim.sgd({ learningRate: 0.1 });
    await again.fit(samples(), { optimizer, loss: loss.crossEntropy, epochs: 1 });
    for (const [name, weight] of Object.entries(again.layer("own").weights)) {
      expect(await weight.data(), name).toEqual(await model.layer("own").weights[name]!.data());
    }
    expect(await answer(again, device())).not.toEqual(before);
    for (const each of [model, again]) each.dispose();
  });

  test("is in Keras's files under the name and the words that it gives", async () => {
    const model = nn.sequential({ device: device(), seed: 2, inputShape: [4, 3] }, [
      affine({ start: 3 }),
      nn.flatten(),
      nn.dense({ units: 2 }),
    ]);
    model.layer("affine").weights["running"]!.assign([0.5]);
    const before = await answer(model, device());
    const bytes = await nn.encodeKerasModel(model);
    expect(Buffer.from(bytes).toString("latin1")).toContain('"class_name":"Own>Affine"');
    expect(Buffer.from(bytes).toString("latin1")).toContain("gamma:0");
    const again = await nn.loadModel(bytes, { device: device() });
    expect(again.layer("affine").placed.layer.config).toEqual({ name: "affine", start: 3 });
    expect(await answer(again, device())).toEqual(before);
    const other = graph(device());
    await expect(nn.encodeKerasModel(other)).rejects.toThrow(
      'keras: layer "meeting" (Meeting): Keras has no such layer',
    );
    for (const each of [model, again, other]) each.dispose();
  });
});

test("its gradients are those of what it calls", async () => {
  const { call } = affine();
  const context = { training: false, key: () => randomKey(1), omitActivation: false };
  await gradcheck(
    (x, scale, offset) => call(x, { scale, offset, running: tensor(x.device, 0.5) }, { ...context, inputs: [x] }),
    [[[1, 2, 3]], [0.5, -1, 2], [0, 1, 2]],
  );
});

test.each<[string, () => unknown, RegExp]>([
  ["the name of a layer of Kilograd", () => own({ className: "Dense" }), /^defineLayer: className must be one that/],
  ["no name", () => own({ className: "" }), /^defineLayer: className must be a string that is not empty/],
  [
    "a misspelt part",
    () => own({ clasName: "A" } as never),
    /^defineLayer: unknown option clasName; did you mean className/,
  ],
  [
    "rules that are none",
    () => own({ options: { a: 1 } as never }),
    /^defineLayer: options must be an object of rules/,
  ],
  ["an option without a rule", () => own({})({ start: 1 } as never), /^Own: unknown option start/],
  [
    "an option that its rule refuses",
    () => affine({ start: Number.NaN }),
    /^Affine: start must be a finite number, got NaN/,
  ],
  ["nothing to call", () => own({ make: () => ({}) as never })(), /^Own: what make returns: call is required/],
  [
    "a misspelt member",
    () => own({ make: () => ({ call, outShape: 1 }) as never })(),
    /^Own: what make returns: unknown opt/,
  ],
  [
    "a function in its configuration",
    () => own({ make: () => ({ call, config: { f: call } }) })(),
    /^Own: config: .*f is/,
  ],
  [
    "weights of one name",
    () =>
      weighing([
        { name: "a", shape: [] },
        { name: "a", shape: [] },
      ]),
    /^Own: two weights have/,
  ],
  ["a weight without a shape", () => weighing([{ name: "a" }]), /^Own: weights\[0\]: shape is required/],
  [
    "an initialiser that is none",
    () => weighing([{ name: "a", shape: [], initializer: "one" }]),
    /weights\[0\]: initializer/,
  ],
])("%s is refused", (_, act, message) => {
  expect(act).toThrow(UsageError);
  expect(act).toThrow(message);
});

const call = (x: Tensor) => x;
const own = (change: Partial<nn.LayerDefinition<nn.LayerOptions>>) =>
  nn.defineLayer({ className: "Own", make: () => ({ call }), ...change });
const weighing = (weights: unknown) => {
  const layer = own({ make: () => ({ call, weights: () => weights as never }) })();
  return nn.architecture({ inputShape: [2] }, [layer]);
};

test("what it gives must be of the shape that it says", async () => {
  const device = await openDevice("cpu");
  const wrong = own({ make: () => ({ call, outputShape: () => [5] }) })();
  const model = nn.sequential({ device, inputShape: [2] }, [wrong]);
  expect(() => model.call(tensor(device, [[1, 2]]))).toThrow(
    'sequential: layer "own" (Own) must give [N, 5], as its outputShape says, gave [1, 2]',
  );
  device.destroy();
});

test("a later definition of a name is the one that files find", async () => {
  const device = await openDevice("cpu");
  own({ make: () => ({ call: (x) => mul(x, 2) }) });
  const twice = nn.sequential({ device, inputShape: [1] }, [own({ make: () => ({ call: (x) => mul(x, 3) }) })()]);
  const loaded = await nn.loadModel(await nn.encodeModel(twice), { device });
  expect(Array.from(await loaded.call(tensor(device, [[1]])).data())).toEqual([3]);
  device.destroy();
});

test("the README names every layer, and its example of an own one runs", async () => {
  const section = readFileSync("README.md", "utf8").split("## Layers\n")[1]!.split("\n## ")[0]!;
  // Calls give layers; a layer may need options.
  const options = [undefined, 2, "relu", [1], { rate: 0.5 }, { filters: 1, kernelSize: 1 }, { kernelSize: 1 }];
  const more = [{ units: 1 }, { scale: 1 }, { axes: 1 }, { height: 1, width: 1 }, { numHeads: 1, keyDim: 1 }];
  const isLayer = (value: unknown) => {
    for (const each of [...options, ...more, { inputDim: 1, outputDim: 1 }, { stddev: 1 }, { n: 2 }]) {
      try {
        const made = (value as (given: unknown) => unknown)(each);
        // Functions that are no layers may refuse it later.
        if (made instanceof Promise) void made.catch(() => {});
        if (typeof Object(made).outputShape === "function") return true;
      } catch (error) {
        if (!(error instanceof KilogradError)) throw error;
      }
    }
    return false;
  };
  const names = Object.entries(nn).flatMap(([name, value]) =>
    typeof value === "function" &&
    /^[a-z]/.test(name) &&
    !/^(en|load|save|read|define|adapt|from|arch)/.test(name) &&
    isLayer(value)
      ? [name]
      : [],
  );
  expect(names.length).toBeGreaterThan(45);
  expect(names.filter((name) => !section.includes(`\`${name}`))).toEqual([]);
  const code = /^```js\n(.*?)^```$/ms.exec(section)![1]!;
  const AsyncFunction = (async () => {}).constructor as FunctionConstructor;
  const device = await openDevice("cpu");
  const again = (await AsyncFunction("nn", "device", `${code}\nreturn again;`)(nn, device)) as nn.Model;
  expect(Array.from(await again.layer("scaling").weights["scale"]!.data())).toEqual([2, 2, 2, 2]);
  device.destroy();
});

test("no name of the library's layers is free", () => {
  expect([...reservedNames]).toEqual(layerClasses.map(({ className }) => className));
  const make = () => ({ config: {}, call: (x: Tensor) => x });
  expect(() => nn.defineLayer({ className: "Dense", make })).toThrow(/no layer of, got "Dense"/);
});
