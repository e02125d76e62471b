// Calls in the configurations of functional Keras models: both forms, any order, and what is refused.
import { expect, test } from "vitest";
import { fromKerasConfig } from "../../src/nn/formats/keras.js";
import { type KerasEntry, toKerasCalls } from "../../src/nn/formats/keras-graph.js";
import type { FunctionalConfig } from "../../src/nn/model-config.js";
import { DataError } from "../../src/tensor/errors.js";

const input = (name: string, shape: unknown = [null, 2]): KerasEntry => ({
  class_name: "InputLayer",
  config: { name, batch_input_shape: shape },
  inbound_nodes: [],
});
const layer = (name: string, inbound: unknown): KerasEntry => ({
  class_name: "Dense",
  config: { name },
  inbound_nodes: inbound,
});
const tensor = (...history: unknown[]) => ({ class_name: "__keras_tensor__", config: { keras_history: history } });
function callsOf(layers: KerasEntry[], config: object) {
  const model = { class_name: "Functional", config: { ...config, layers } };
  const { inputs, calls, outputs } = fromKerasConfig(model, "f") as FunctionalConfig;
  return { inputs, calls, outputs };
}
const ends = { input_layers: [["x", 0, 0]], output_layers: [["sum", 0, 0]] };

test("lists of Keras 2 and args of Keras 3, in any order, a bare reference for one input or output", () => {
  const lists = [
    layer("sum", [
      [
        ["d", 0, 0, {}],
        ["d", 1, 0],
      ],
    ]),
    layer("d", [[["x", 0, 0, {}]], [["d", 0, 0]]]),
    input("x"),
  ];
  const expected = {
    inputs: [{ name: "x", shape: [2] }],
    calls: [
      { layer: "d", inputs: [0] },
      { layer: "d", inputs: [1] },
      { layer: "sum", inputs: [1, 2] },
    ],
    outputs: [3],
  };
  expect(callsOf(lists, ends)).toEqual(expected);
  const args = [
    input("x"),
    layer("d", [
      { args: [tensor("x", 0, 0)], kwargs: { training: false, mask: null } },
      { args: [tensor("d", 0, 0)], kwargs: {} },
    ]),
    layer("sum", [{ args: [[tensor("d", 0, 0), tensor("d", 1, 0)]], kwargs: {} }]),
  ];
  const bare = { input_layers: ["x", 0, 0], output_layers: ["sum", 0, 0] };
  expect(callsOf(args, bare)).toEqual(expected);
  const { inbound, inputLayers, outputLayers } = toKerasCalls({
    ...{ className: "Functional", name: "f", layers: [] },
    ...expected,
  });
  expect(inputLayers).toEqual([["x", 0, 0]]);
  expect(outputLayers).toEqual([["sum", 0, 0]]);
  expect(inbound.get("sum")).toEqual([
    [
      ["d", 0, 0, {}],
      ["d", 1, 0, {}],
    ],
  ]);
});

test.each<[string, KerasEntry[], object, RegExp]>([
  ["a circle", [input("x"), layer("sum", [[["sum", 0, 0]]])], ends, /^f: layer "sum" is called on what no layer/],
  ["an unknown layer", [input("x"), layer("sum", [[["y", 0, 0]]])], ends, /layer "sum" is called on what no layer/],
  ["no calls", [input("x"), layer("sum", [])], ends, /layer "sum": inbound_nodes must be a list of calls/],
  ["a number", [input("x"), layer("sum", [{ args: [3] }])], ends, /layer "sum": is called on 3, which is no output/],
  [
    "an argument",
    [input("x"), layer("sum", [[["x", 0, 0, { training: true }]]])],
    ends,
    /layer "sum": is called with training of true, which is not known/,
  ],
  ["an open size", [input("x", [null, null]), layer("sum", [[["x", 0, 0]]])], ends, /input "x" needs a fixed shape/],
  ["no inputs", [layer("sum", [[["x", 0, 0]]])], { output_layers: [["sum", 0, 0]] }, /input_layers must be a list/],
  [
    "an output of nobody",
    [input("x"), layer("sum", [[["x", 0, 0]]])],
    { ...ends, output_layers: [["y", 0, 0]] },
    /its output \["y",0,0\] is given by no layer/,
  ],
  ["two of a name", [input("x"), layer("x", [[["x", 0, 0]]])], ends, /^f: two layers have the name "x"/],
  ["a second output", [input("x"), layer("sum", [[["x", 0, 1]]])], ends, /layer "sum" is called on what no layer/],
])("refuses %s", (_, entries, config, message) => {
  const act = () => callsOf(entries, config);
  expect(act).toThrow(DataError);
  expect(act).toThrow(message);
});

const inner = (inbound: unknown, class_name = "Functional"): KerasEntry => ({
  class_name,
  name: "inner",
  config: {
    name: "inner",
    layers: [input("i", [null, null]), layer("d", [[["i", 0, 0]]]), layer("e", [[["d", 0, 0]]])],
    input_layers: [["i", 0, 0]],
    output_layers: [
      ["e", 0, 0],
      ["d", 0, 0],
    ],
  },
  inbound_nodes: inbound,
});

test("calls of a model count from 1 in Keras 2, whatever they count from in Keras 3, and become calls of its layers", () => {
  const calls = [
    { layer: "inner/d", inputs: [0] },
    { layer: "inner/e", inputs: [1] },
    { layer: "inner/d", inputs: [1] },
    { layer: "inner/e", inputs: [3] },
  ];
  for (const first of [0, 1]) {
    const lists = [input("x"), inner([[["x", 0, 0, {}]], [["inner", first, 1, {}]]])];
    const outputs = [
      ["inner", first + 1, 0],
      ["inner", first, 0],
    ];
    const found = callsOf(lists, { input_layers: [["x", 0, 0]], output_layers: outputs });
    expect(found).toEqual({ inputs: [{ name: "x", shape: [2] }], calls, outputs: [4, 2] });
  }
  const args = [
    input("x"),
    inner([
      { args: [tensor("x", 0, 0)], kwargs: { mask: null } },
      { args: [tensor("inner", 0, 1)], kwargs: {} },
    ]),
  ];
  const found = callsOf(args, { input_layers: ["x", 0, 0], output_layers: ["inner", 2, 0] });
  expect(found).toEqual({ inputs: [{ name: "x", shape: [2] }], calls, outputs: [4] });
});

test("models that lie too deep, or are called too often, are refused", () => {
  let deep: KerasEntry = layer("d", [[["x", 0, 0]]]);
  for (let i = 0; i < 40; i++) {
    const config = { name: "m", layers: [input("x"), deep], input_layers: ["x", 0, 0], output_layers: ["m", 0, 0] };
    deep = { class_name: "Functional", name: "m", config, inbound_nodes: [[["x", 0, 0]]] };
  }
  expect(() => fromKerasConfig(deep, "f")).toThrow(/^f: model "m": .*its models lie deeper in each other than 32$/);
  // Each calls the one before it ten times.
  let often: KerasEntry = layer(
    "m",
    Array.from({ length: 10 }, (_, i) => [[i === 0 ? "x" : "m", Math.max(0, i - 1), 0]]),
  );
  for (let depth = 0; depth < 8; depth++) {
    const config = { name: "m", layers: [input("x"), often], input_layers: ["x", 0, 0], output_layers: ["m", 9, 0] };
    const calls = Array.from({ length: 10 }, (_, i) => [[i === 0 ? "x" : "m", Math.max(0, i - 1), 0]]);
    often = { class_name: "Functional", name: "m", config, inbound_nodes: calls };
  }
  expect(() => fromKerasConfig(often, "f")).toThrow(/^f: has more than 100000 calls of layers$/);
});
