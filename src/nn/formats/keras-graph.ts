// Calls of layers in Keras's words: which layers a layer is called on. They have the form of Keras 1 and 2 (lists) and
// of Keras 3 (args with tensors that tell where they come from). Models within models are refused: they would be
// layers.
import { DataError, UsageError } from "../../tensor/errors.js";
import { describe } from "../../tensor/options.js";
import type { GraphInput } from "../graph.js";
import { layerClassOf } from "../layer.js";
import type { FunctionalConfig } from "../model-config.js";
import type { Json, KerasObject } from "./keras-words.js";

/** A layer of a functional model as Keras writes it. */
export interface KerasEntry extends KerasObject {
  readonly name?: unknown;
  /** Of a class that a user registered: "Package>Name". */
  readonly registered_name?: unknown;
  readonly inbound_nodes?: unknown;
}

/** What a tensor is in a file: the layer that gives it, which of its calls, and which of its outputs. */
type Reference = readonly [layer: string, call: number, output: number];

/**
 * For each layer its calls, and the names of inputs and outputs, as tf.keras wrote them and every later version reads.
 * Calls on several arguments are in the form of Keras 3, which does not read the older one.
 */
export function toKerasCalls({ inputs, layers, calls, outputs }: FunctionalConfig) {
  const classes = new Map(layers.map(({ className, config }) => [config.name, className]));
  const counts = new Map<string, number>();
  const references: Reference[] = inputs.map(({ name }) => [name, 0, 0]);
  const inbound = new Map<string, unknown[]>();
  for (const { layer, inputs: from } of calls) {
    const count = counts.get(layer) ?? 0;
    counts.set(layer, count + 1);
    const given = from.map((value) => references[value]!);
    const names = argumentsOf(classes.get(layer));
    if (names !== undefined && given.length > names.length) {
      throw new UsageError(`keras: layer "${layer}" is called on a mask, which is not written to files of Keras`);
    }
    const call =
      names === undefined ? given.map((each) => [...each, {}]) : { args: given.map(kerasTensor), kwargs: {} };
    inbound.set(layer, [...(inbound.get(layer) ?? []), call]);
    references.push([layer, count, 0]);
  }
  return { inbound, inputLayers: references.slice(0, inputs.length), outputLayers: outputs.map((v) => references[v]!) };
}

/**
 * Inputs, calls in an order that computes, and outputs of a functional model.
 * @throws DataError naming the file and the layer, for what is no such model, calls in a circle, or inputs of open
 * sizes
 */
export function fromKerasCalls(
  entries: readonly KerasEntry[],
  config: Json,
  source: string,
): Pick<FunctionalConfig, "inputs" | "calls" | "outputs"> {
  const nameOf = (entry: KerasEntry) => String(entry.config["name"] ?? entry.name);
  const byName = new Map(entries.map((entry) => [nameOf(entry), entry]));
  const inputNames = referencesIn(config["input_layers"], `${source}: its input_layers`).map(([name]) => name);
  const inputs = inputNames.map((name) => inputOf(byName.get(name), name, source));
  const values = new Map<string, number>(inputNames.map((name, i) => [keyOf([name, 0, 0]), i]));
  const waiting = entries
    .filter(({ class_name: className }) => className !== "InputLayer")
    .flatMap((entry) =>
      callsOf(entry, `${source}: layer "${nameOf(entry)}"`).map((call, i) => ({ ...call, entry, i })),
    );
  const calls: { layer: string; inputs: number[] }[] = [];
  for (let left = waiting; left.length > 0; ) {
    const later = left.filter(({ entry, i, from }) => {
      const numbers = from.map((reference) => values.get(keyOf(reference)));
      if (numbers.some((value) => value === undefined)) return true;
      const layer = nameOf(entry);
      values.set(keyOf([layer, i, 0]), inputs.length + calls.length);
      calls.push({ layer, inputs: numbers as number[] });
      return false;
    });
    if (later.length === left.length) {
      throw new DataError(
        `${source}: layer "${nameOf(later[0]!.entry)}" is called on what no layer before it gives, or on itself`,
      );
    }
    left = later;
  }
  const outputs = referencesIn(config["output_layers"], `${source}: its output_layers`).map((reference) => {
    const value = values.get(keyOf(reference));
    if (value !== undefined) return value;
    throw new DataError(`${source}: its output ${JSON.stringify(reference)} is given by no layer`);
  });
  return { inputs, calls, outputs };
}

/** Names of the inputs of a class whose layers are called on several arguments. */
const argumentsOf = (className: unknown) => layerClassOf(String(className))?.keras?.inputs;

/** Keras 3 looks at where a tensor comes from; its shape is found anew. */
const kerasTensor = (history: Reference) => ({
  class_name: "__keras_tensor__",
  config: { shape: [null], dtype: "float32", keras_history: history },
});

const keyOf = ([layer, call, output]: Reference) => JSON.stringify([layer, call, output]);

function inputOf(entry: KerasEntry | undefined, name: string, source: string): GraphInput {
  const batchShape = entry?.config["batch_input_shape"] ?? entry?.config["batch_shape"];
  const shape = Array.isArray(batchShape) ? batchShape.slice(1) : undefined;
  if (entry?.class_name === "InputLayer" && shape?.every((size) => Number.isSafeInteger(size) && size > 0)) {
    return { name, shape };
  }
  throw new DataError(`${source}: input "${name}" needs a fixed shape, has ${JSON.stringify(batchShape ?? null)}`);
}

/** One reference, or a list of them. */
function referencesIn(value: unknown, owner: string): Reference[] {
  const list = Array.isArray(value) && typeof value[0] === "string" ? [value] : value;
  if (Array.isArray(list) && list.length > 0) return list.map((part) => referenceOf(part, owner));
  throw new DataError(`${owner} must be a list, is ${describe(value)}`);
}

function referenceOf(value: unknown, owner: string): Reference {
  if (Array.isArray(value) && typeof value[0] === "string" && value.slice(1, 3).every(Number.isSafeInteger)) {
    return [value[0], Number(value[1] ?? 0), Number(value[2] ?? 0)];
  }
  throw new DataError(`${owner} must name a layer, its call and its output, is ${JSON.stringify(value)?.slice(0, 80)}`);
}

/** What each call of a layer is called on. */
function callsOf(entry: KerasEntry, owner: string): { readonly from: Reference[] }[] {
  const { inbound_nodes: nodes, class_name: className } = entry;
  if (!Array.isArray(nodes) || nodes.length === 0) {
    throw new DataError(`${owner}: inbound_nodes must be a list of calls, is ${describe(nodes)}`);
  }
  const names = argumentsOf(className) ?? [];
  const passedOver = layerClassOf(String(className))?.keras?.passedOver ?? [];
  /** Inputs that are named, in their order behind those that are not; whatever else is named must be nothing. */
  const named = (before: number, given: unknown): Reference[] => {
    const { values, rest } = split(given, names);
    checkArguments(split(rest, passedOver).rest, owner);
    const places = names.slice(before);
    const last = places.findLastIndex((name) => values[name] !== undefined);
    return places.slice(0, last + 1).map((name) => oneReference(values[name], `${owner}: its ${name}`));
  };
  return nodes.map((node) => {
    if (Array.isArray(node)) {
      const parts = node.map((part) => referenceOf(part, owner));
      const words = node.map((part) => (Array.isArray(part) ? part[3] : undefined));
      return { from: [...parts, ...words.flatMap((given) => named(parts.length, given))] };
    }
    const { args, kwargs } = Object(node) as { args?: unknown; kwargs?: unknown };
    const positional = tensorsIn(args ?? [], owner);
    const from = [...positional, ...named(positional.length, kwargs)];
    if (from.length > 0) return { from };
    throw new DataError(`${owner}: must be called on other layers, is called on ${JSON.stringify(args)?.slice(0, 80)}`);
  });
}

/** Members of these names that are not null, and all others. */
function split(given: unknown, names: readonly string[]) {
  const entries = Object.entries(Object(given) as Json).filter(([, value]) => value !== null);
  const [values, rest] = [true, false].map((wanted) =>
    Object.fromEntries(entries.filter(([name]) => names.includes(name) === wanted)),
  );
  return { values: values!, rest: rest! };
}

/** A tensor as Keras 3 writes it, or a list as Keras 2 does. */
function oneReference(value: unknown, owner: string): Reference {
  return Array.isArray(value) ? referenceOf(value, owner) : tensorsIn([value], owner)[0]!;
}

/** Arguments of a call besides tensors: none, but what it is not or does not do, such as training and masks. */
function checkArguments(given: unknown, owner: string): void {
  for (const [name, value] of Object.entries(Object(given))) {
    if (value === null || value === false) continue;
    throw new DataError(
      `${owner}: is called with ${name} of ${JSON.stringify(value)?.slice(0, 80)}, which is not known`,
    );
  }
}

/** Tensors in the arguments of a call of Keras 3, which may be in lists. */
function tensorsIn(args: unknown, owner: string): Reference[] {
  if (Array.isArray(args)) return args.flatMap((part) => tensorsIn(part, owner));
  const { class_name: className, config } = Object(args) as { class_name?: unknown; config?: Json };
  if (className === "__keras_tensor__") return [referenceOf(config?.["keras_history"], owner)];
  throw new DataError(`${owner}: is called on ${JSON.stringify(args)?.slice(0, 80)}, which is no output of a layer`);
}
