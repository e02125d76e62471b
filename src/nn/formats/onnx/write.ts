// Models as ONNX files that ONNX Runtime takes: float32, weights inside, opset 18 of IR version 8, or newer ones where
// operators that came from a file need them. Inputs and outputs have Kilograd's shapes and names: images are [N,
// height, width, channels], as in what Keras and tf2onnx export. The batch is the symbolic size "N". What a training
// needs, such as optimizers, initialisers and dropout, is left out.
import { writeAll } from "../../../io/source.js";
import { VERSION } from "../../../io/version.js";
import { UsageError } from "../../../tensor/errors.js";
import { check, text } from "../../../tensor/options.js";
import type { Shape } from "../../../tensor/shape.js";
import { type LayerConfig, layerClassOf } from "../../layer.js";
import type { Model } from "../../model.js";
import type { ModelContent } from "../format.js";
import { DATA_TYPE, type Draft, encodeModel, type ValueInfoProto } from "./proto.js";
import { GraphWriter, type Numbers, type Value } from "./write-graph.js";
import { LayerCall, layerWriters } from "./write-layers.js";
import { neededOpset, OPSET } from "./write-operators.js";

/** The first version of the format that has an operator set, from the newest to that which all models have. */
const IR_VERSIONS = [
  ...([
    [28, 14],
    [25, 13],
    [24, 12],
    [23, 11],
    [21, 10],
    [19, 9],
  ] as const),
  [OPSET, 8],
] as const;

/**
 * The bytes of an ONNX file of a model.
 * @throws UsageError naming the first layer of a class that ONNX has no operators for, and for trainings
 */
export async function encodeOnnx(owner: string, model: Model, content: ModelContent): Promise<Uint8Array> {
  const { training, slots, callbackTensors, notes } = content;
  if (training !== undefined || slots.length + callbackTensors.length > 0) {
    throw new UsageError(`${owner}: format "onnx" has no place for a training; save it as "safetensors"`);
  }
  requireWriters(owner, model);
  const opset = Math.max(OPSET, ...model.layers.map(({ placed: { layer } }) => neededOpset(layer)));
  const graph = new GraphWriter(opset);
  const inputNames = model.inputs.map(({ name }) => graph.unique(name));
  const outputNames = model.outputNames.map((name) => graph.unique(name));
  const values: Value[] = model.inputs.map(({ shape }, i) => ({
    ...{ shape, layout: "last" },
    names: { last: inputNames[i]! },
  }));
  const weights = await weightsOf(model);
  for (const { layer, inputs, shape } of model.calls) {
    const { name, placed } = model.layers[layer]!;
    const { className, config } = placed.layer;
    const given = inputs.map((value) => values[value]!);
    const settings = new Settings(config);
    const call = new LayerCall(graph, name, settings.watched, weights[layer]!, given, shape);
    const write = Object.hasOwn(layerWriters, className) ? layerWriters[className] : undefined;
    values.push(write === undefined ? ownLayer(owner, call, className) : write(call));
    const unread = write === undefined ? [] : settings.unread();
    if (unread.length === 0) continue;
    throw new UsageError(
      `${owner}: layer "${name}" (${className}) has settings that are not written to ONNX, ${unread.join(", ")}; save the model as "safetensors"`,
    );
  }
  for (const [i, value] of model.outputs.entries()) {
    const output = values[value]!;
    const given = graph.as(output, "last");
    const isFloat = (output.type ?? "float32") === "float32";
    // All outputs are declared as float32, as they are given here.
    graph.name(
      outputNames[i]!,
      isFloat ? given : graph.op(outputNames[i]!, "Cast", [given], { to: { int: DATA_TYPE.f32 } }),
    );
  }
  return encodeModel({
    irVersion: IR_VERSIONS.find(([since]) => since <= opset)![1],
    producerName: "kilograd",
    producerVersion: VERSION,
    opsetImport: [{ domain: "", version: opset }],
    graph: {
      name: model.name,
      node: graph.nodes,
      initializer: [...graph.initializers.values()],
      input: model.inputs.map(({ shape }, i) => valueInfo(inputNames[i]!, shape)),
      output: model.outputShapes.map((shape, i) => valueInfo(outputNames[i]!, shape)),
    },
    metadataProps: Object.keys(notes).length === 0 ? [] : [{ key: "notes", value: JSON.stringify(notes) }],
  });
}

/** Writes an ONNX file, whole or not at all. @throws as {@link encodeOnnx}, KilogradError `FILE_WRITE` */
export async function writeOnnx(owner: string, path: string, model: Model, content: ModelContent): Promise<void> {
  await writeAll(owner, path, await encodeOnnx(owner, model, content));
}

/** Settings that only training needs, and those that sizes of weights and outputs tell. */
const NOT_NEEDED = new RegExp(
  "Initializer$|L2$|^(name|trainable|rate|stddev|dropout|noiseShape|useBias|center|scale|filters|units|inputDim|outputDim|" +
    "depthMultiplier|size|height|width|targetShape|sharedAxes)$",
);

/** A layer's settings, and which of them its nodes were made with: what is passed over would be computed otherwise. */
class Settings {
  private readonly read = new Set<string>();
  readonly watched: LayerConfig;

  constructor(private readonly config: LayerConfig) {
    this.watched = new Proxy(config, {
      get: (target, name: string) => {
        this.read.add(name);
        return target[name];
      },
    });
  }

  unread = (): string[] => Object.keys(this.config).filter((name) => !this.read.has(name) && !NOT_NEEDED.test(name));
}

/** A layer of a user's own, by what its definition says. */
function ownLayer(owner: string, call: LayerCall, className: string): Value {
  const { graph, config, inputs } = call;
  const output = layerClassOf(className)!.onnx!({
    config,
    inputs: inputs.map((value) => graph.as(value, "last")),
    inputShapes: inputs.map(({ shape }) => shape),
    op: (opType, names, attributes) => call.op(opType, names, attributes),
    weight: (name) => {
      if (Object.hasOwn(call.weights, name)) return call.weight(name);
      throw new UsageError(
        `${owner}: layer "${call.name}" (${className}) has no weight "${name}", which its onnx wants`,
      );
    },
    number: call.number,
    integers: call.integers,
  });
  check(owner, `what onnx of ${className} gives`, output, text);
  return call.value("last", output);
}

function requireWriters(owner: string, model: Model): void {
  for (const { name, placed } of model.layers) {
    const { className } = placed.layer;
    if (Object.hasOwn(layerWriters, className) || layerClassOf(className)?.onnx !== undefined) continue;
    throw new UsageError(
      `${owner}: layer "${name}" is of a class of your own, ${className}; say its ONNX operators in nn.defineLayer({ onnx }), or save the model as "safetensors"`,
    );
  }
}

/** Of each layer, by their names within it, as float32. */
function weightsOf(model: Model): Promise<Readonly<Record<string, Numbers>>[]> {
  return Promise.all(
    model.layers.map(async ({ weights }) => {
      const read = Object.entries(weights).map(async ([name, tensor]) => {
        return [name, { shape: tensor.shape, data: Float32Array.from(await tensor.data()) }] as const;
      });
      return Object.fromEntries(await Promise.all(read));
    }),
  );
}

const valueInfo = (name: string, shape: Shape): Draft<ValueInfoProto> => ({
  name,
  type: {
    tensorType: {
      elemType: DATA_TYPE.f32,
      shape: { dim: [{ dimParam: "N" }, ...shape.map((size) => ({ dimValue: size }))] },
    },
  },
});
