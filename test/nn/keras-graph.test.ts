// Calls in the configurations of functional Keras models: both forms, any order, and what is refused.
import { expect, test } from "vitest";
import { fromKerasCalls, type KerasEntry, toKerasCalls } from "../../src/nn/formats/keras-graph.js";
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
  expect(fromKerasCalls(lists, ends, "f")).toEqual(expected);
  const args = [
    input("x"),
    layer("d", [
      { args: [tensor("x", 0, 0)], kwargs: { training: false, mask: null } },
      { args: [tensor("d", 0, 0)], kwargs: {} },
    ]),
    layer("sum", [{ args: [[tensor("d", 0, 0), tensor("d", 1, 0)]], kwargs: {} }]),
  ];
  const bare = { input_layers: ["x", 0, 0], output_layers: ["sum", 0, 0] };
  expect(fromKerasCalls(args, bare, "f")).toEqual(expected);
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
  ["a second output", [input("x"), layer("sum", [[["x", 0, 1]]])], ends, /layer "sum" is called on what no layer/],
])("refuses %s", (_, entries, config, message) => {
  const act = () => fromKerasCalls(entries, config as Record<string, unknown>, "f");
  expect(act).toThrow(DataError);
  expect(act).toThrow(message);
});
