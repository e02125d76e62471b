// Calls of layers in Keras's words: which layers a layer is called on. They have the form of Keras 1 and 2 (lists) and
// of Keras 3 (args with tensors that tell where they come from). Models within models are called like layers, and may
// give several values.
import { DataError } from "../../tensor/errors.js";
import { describe } from "../../tensor/options.js";
import { layerClassOf } from "../layer.js";
import type { FunctionalConfig } from "../model-config.js";
import type { Json, KerasObject } from "./keras-words.js";

/** A layer of a functional model as Keras writes it. */
export interface KerasEntry extends KerasObject {
  readonly name?: unknown;
  /** Where Keras has the class; in `.keras` files. */
  readonly module?: unknown;
  /** Of a class that a user registered: "Package>Name". */
  readonly registered_name?: unknown;
  readonly inbound_nodes?: unknown;
}

/** What a tensor is in a file: the layer that gives it, which of its calls, and which of its outputs. */
export type Reference = readonly [layer: string, call: number, output: number];

/** A tensor among the arguments of an operation. */
export class TensorArgument {
  constructor(readonly reference: Reference) {}
}

/** A call of a layer. */
export interface KerasCall {
  /** Tensors that it is called on, in order. */
  readonly from: readonly Reference[];
  /** For operations: arguments with tensors where they stand. */
  readonly args: readonly unknown[];
  /** Further arguments by name: all of an operation's, and switches of a layer's call. */
  readonly words: Json;
}

/** Layers of a functional model with their calls. */
export interface KerasGraph {
  readonly source: string;
  readonly entries: readonly { readonly name: string; readonly calls: readonly KerasCall[] }[];
  readonly inputs: readonly Reference[];
  readonly outputs: readonly Reference[];
}

/** Keras's names of models of the functional API; until 2.2 it was "Model". */
const FUNCTIONAL = ["Functional", "Model"];
export const isFunctional = (className: unknown): boolean => FUNCTIONAL.includes(String(className));
export const isModel = (className: unknown): boolean => className === "Sequential" || isFunctional(className);

/** Operations of TensorFlow on tensors, which tf.keras wraps in layers. */
const TF_OPERATIONS = ["TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"];
/** Classes of operations in Keras 3 that no layer of it is called. */
const OPERATIONS =
  /^(Relu|Relu6|Sigmoid|Tanh|Silu|LeakyRelu|HardSigmoid|HardSilu|Elu|Selu|Gelu|Softplus|Exp|Log|Sqrt)$/;
const MORE_OPERATIONS =
  /^(Square|Abs|Absolute|Negative|Divide|TrueDivide|Mean|Transpose|Cast|ExpandDims|Squeeze|GetItem)$/;

/**
 * Whether an entry is an operation on tensors, and no layer. In `.h5` files of Keras 3 only its arguments tell the
 * operation Add, on two tensors or a number, from the layer, on a list.
 */
export function isOperation({ class_name: className, module, inbound_nodes: nodes }: KerasEntry): boolean {
  if (TF_OPERATIONS.includes(className)) return true;
  if (typeof module === "string") return /^keras\.(src\.)?ops\b/.test(module);
  if (OPERATIONS.test(className) || MORE_OPERATIONS.test(className)) return true;
  const [first] = Array.isArray(nodes) ? nodes : [];
  const { args } = Object(first) as { args?: unknown };
  const merges = /^(Add|Subtract|Multiply|Maximum|Minimum)$/.test(className);
  return merges && Array.isArray(args) && !Array.isArray(args[0]);
}

/** A layer's name. */
export const entryName = ({ config, name, class_name: className }: KerasEntry): string =>
  String(config["name"] ?? name ?? className);

/**
 * For each layer its calls, and the names of inputs and outputs, as tf.keras wrote them and every later version reads.
 * Calls on several arguments are in the form of Keras 3, which does not read the older one.
 */
export function toKerasCalls({ inputs, layers, calls, outputs }: FunctionalConfig) {
  const byName = new Map(layers.map((layer) => [layer.config.name, layer]));
  const counts = new Map<string, number>();
  const references: Reference[] = inputs.map(({ name }) => [name, 0, 0]);
  const inbound = new Map<string, unknown[]>();
  for (const { layer, inputs: from } of calls) {
    const count = counts.get(layer) ?? 0;
    counts.set(layer, count + 1);
    const given = from.map((value) => references[value]!);
    const { className = "", config } = byName.get(layer) ?? {};
    const words = layerClassOf(className)?.keras;
    const { inputs: positional, namedInputs = [], callSettings = {} } = words ?? {};
    const settings = Object.entries(callSettings).flatMap(([ours, theirs]) =>
      config?.[ours] ? [[theirs, config[ours]] as const] : [],
    );
    const named = given
      .slice(positional?.length)
      .map((reference, i) => [namedInputs[i]!, kerasTensor(reference)] as const);
    const call =
      positional === undefined
        ? given.map((each) => [...each, {}])
        : {
            args: given.slice(0, positional.length).map(kerasTensor),
            kwargs: Object.fromEntries([...named, ...settings]),
          };
    inbound.set(layer, [...(inbound.get(layer) ?? []), call]);
    references.push([layer, count, 0]);
  }
  return { inbound, inputLayers: references.slice(0, inputs.length), outputLayers: outputs.map((v) => references[v]!) };
}

/** Keras 3 looks at where a tensor comes from; its shape is found anew. */
const kerasTensor = (history: Reference) => ({
  class_name: "__keras_tensor__",
  config: { shape: [null], dtype: "float32", keras_history: history },
});

/**
 * The calls of a functional model. Calls of each layer are counted from 0, whatever the version counts from.
 * @throws DataError naming the file and the layer, for what is no such model
 */
export function readKerasGraph(entries: readonly KerasEntry[], config: Json, source: string): KerasGraph {
  const read = entries.map((entry) => {
    const name = entryName(entry);
    const calls = entry.class_name === "InputLayer" ? [] : callsOf(entry, `${source}: layer "${name}"`);
    return { name, entry, calls };
  });
  const names = new Set<string>();
  for (const { name } of read) {
    if (names.has(name)) throw new DataError(`${source}: two layers have the name "${name}"`);
    names.add(name);
  }
  const inputs = referencesIn(config["input_layers"], `${source}: its input_layers`);
  const outputs = referencesIn(config["output_layers"], `${source}: its output_layers`);
  const first = firstCalls(read, outputs);
  const counted = ([layer, call, output]: Reference): Reference => [
    layer,
    call - (first.calls.get(layer) ?? 0),
    output,
  ];
  const counting = (part: unknown): unknown => {
    if (part instanceof TensorArgument) return new TensorArgument(counted(part.reference));
    return Array.isArray(part) ? part.map(counting) : part;
  };
  return {
    source,
    entries: read.map(({ name, calls }) => ({
      name,
      calls: calls.map(({ from, args, words }) => ({
        from: from.map(counted),
        args: args.map(counting),
        words: Object.fromEntries(Object.entries(words).map(([key, value]) => [key, counting(value)])),
      })),
    })),
    inputs,
    outputs: outputs.map(([layer, call, output]) => [layer, call - (first.outputs.get(layer) ?? 0), output]),
  };
}

/**
 * What the first call of a model within the model has as its number; for layers it is 0.
 *
 * - Keras 1 and 2: 1 of models that were called when they were made, else 0. Since every call is used by another or is
 *   an output, it is the smallest number that occurs.
 * - Keras 3: 0 in calls, and 1 of functional models where they are outputs.
 */
function firstCalls(
  read: readonly { readonly name: string; readonly entry: KerasEntry; readonly calls: readonly KerasCall[] }[],
  outputs: readonly Reference[],
) {
  const models = read.filter(({ entry }) => isModel(entry.class_name));
  const three = read.some(({ entry }) => Array.isArray(entry.inbound_nodes) && entry.inbound_nodes.some(isCallOfThree));
  if (three) {
    const functional = models.filter(({ entry }) => isFunctional(entry.class_name));
    return { calls: new Map<string, number>(), outputs: new Map(functional.map(({ name }) => [name, 1])) };
  }
  const smallest = new Map<string, number>();
  for (const [layer, call] of [...read.flatMap(({ calls }) => calls.flatMap(({ from }) => from)), ...outputs]) {
    smallest.set(layer, Math.min(call, smallest.get(layer) ?? Number.POSITIVE_INFINITY));
  }
  const first = new Map(models.map(({ name }) => [name, smallest.get(name) ?? 0]));
  return { calls: first, outputs: first };
}

const isCallOfThree = (node: unknown) => !Array.isArray(node) && typeof node === "object" && node !== null;

/**
 * Calls the layers of a graph in an order that computes.
 * @param given values of the inputs
 * @param call what a call of a layer gives: one value, or those of a model
 * @throws DataError naming the file and the layer, for calls in a circle and tensors that no layer gives
 */
export function runKerasGraph<V extends {}>(
  { source, entries, inputs, outputs }: KerasGraph,
  given: readonly V[],
  call: (layer: string, from: readonly V[]) => readonly V[],
): V[] {
  const values = new Map(inputs.map(([name], i) => [keyOf([name, 0, 0]), given[i]!]));
  let left = entries.flatMap(({ name, calls }) => calls.map((each, i) => ({ name, i, each })));
  while (left.length > 0) {
    const later = left.filter(({ name, i, each }) => {
      const from = each.from.map((reference) => values.get(keyOf(reference)));
      if (from.some((value) => value === undefined)) return true;
      for (const [output, value] of call(name, from as V[]).entries()) values.set(keyOf([name, i, output]), value);
      return false;
    });
    if (later.length === left.length) {
      throw new DataError(
        `${source}: layer "${later[0]!.name}" is called on what no layer before it gives, or on itself`,
      );
    }
    left = later;
  }
  return outputs.map((reference) => {
    const value = values.get(keyOf(reference));
    if (value !== undefined) return value;
    throw new DataError(`${source}: its output ${JSON.stringify(reference)} is given by no layer`);
  });
}

const keyOf = ([layer, call, output]: Reference) => JSON.stringify([layer, call, output]);

/** One reference, a list of them, or an object of them, which Keras orders by their names. */
function referencesIn(value: unknown, owner: string): Reference[] {
  if (Array.isArray(value) && value.length > 0) {
    return typeof value[0] === "string" ? [referenceOf(value, owner)] : value.map((part) => referenceOf(part, owner));
  }
  const named = Array.isArray(value) || typeof value !== "object" || value === null ? [] : Object.entries(value);
  if (named.length === 0) throw new DataError(`${owner} must be a list, is ${describe(value)}`);
  return named.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, part]) => referenceOf(part, owner));
}

const isReference = (value: unknown): value is readonly [string, number?, number?] =>
  Array.isArray(value) && typeof value[0] === "string" && value.slice(1, 3).every(Number.isSafeInteger);

function referenceOf(value: unknown, owner: string): Reference {
  if (isReference(value)) return [value[0], Number(value[1] ?? 0), Number(value[2] ?? 0)];
  throw new DataError(`${owner} must name a layer, its call and its output, is ${JSON.stringify(value)?.slice(0, 80)}`);
}

/** What each call of a layer is called on. */
function callsOf(entry: KerasEntry, owner: string): KerasCall[] {
  const { inbound_nodes: nodes, class_name: className } = entry;
  if (!Array.isArray(nodes) || nodes.length === 0) {
    throw new DataError(`${owner}: inbound_nodes must be a list of calls, is ${describe(nodes)}`);
  }
  if (isOperation(entry)) return nodes.map((node) => operationCall(node, owner));
  const {
    inputs = [],
    namedInputs = [],
    inputDefaults = {},
    callSettings = {},
    passedOver = [],
  } = layerClassOf(String(className))?.keras ?? {};
  const names = [...inputs, ...namedInputs];
  /** What stands in the call, with inputs that are named in their order behind those that are not. */
  const callOf = (positional: readonly Reference[], given: unknown): KerasCall => {
    const { values, rest } = split(given, names);
    const { values: words, rest: others } = split(rest, Object.values(callSettings));
    // Whatever else is named must be nothing.
    checkArguments(split(others, passedOver).rest, owner);
    const from = [...positional];
    const last = names.findLastIndex((name) => values[name] !== undefined);
    for (const name of names.slice(positional.length, last + 1)) {
      const before = from[names.indexOf(inputDefaults[name] ?? "")];
      from.push(
        values[name] === undefined && before !== undefined
          ? before
          : oneReference(values[name], `${owner}: its ${name}`),
      );
    }
    return { from, args: [], words };
  };
  return nodes.map((node) => {
    if (Array.isArray(node)) {
      const list = typeof node[0] === "string" ? [node] : node;
      const parts = list.map((part) => referenceOf(part, owner));
      const words = list.map((part) => (Array.isArray(part) ? part[3] : undefined));
      return callOf(parts, Object.assign({}, ...words));
    }
    const { args, kwargs } = Object(node) as { args?: unknown; kwargs?: unknown };
    const call = callOf(tensorsIn(args ?? [], owner), kwargs);
    if (call.from.length > 0) return call;
    throw new DataError(`${owner}: must be called on other layers, is called on ${JSON.stringify(args)?.slice(0, 80)}`);
  });
}

/** A call of an operation, on tensors and constants. */
function operationCall(node: unknown, owner: string): KerasCall {
  const from: Reference[] = [];
  const taken = (reference: Reference) => {
    from.push(reference);
    return new TensorArgument(reference);
  };
  /** References are lists in the form of Keras 2, objects in that of Keras 3. */
  const argument = (part: unknown, lists: boolean): unknown => {
    if (lists && isReference(part) && part.length >= 3) {
      return part[0] === "_CONSTANT_VALUE" ? part[2] : taken(referenceOf(part, owner));
    }
    if (isKerasTensor(part)) return taken(referenceOf(part.config?.["keras_history"], owner));
    return Array.isArray(part) ? part.map((each) => argument(each, lists)) : part;
  };
  if (!Array.isArray(node)) {
    const { args, kwargs } = Object(node) as { args?: unknown; kwargs?: unknown };
    const list = Array.isArray(args) ? args.map((part) => argument(part, false)) : [];
    const words = Object.entries(Object(kwargs)).map(([key, value]) => [key, argument(value, false)]);
    return { from, args: list, words: Object.fromEntries(words) };
  }
  // One tensor or constant with the other arguments behind it, or a list of them.
  const single = typeof node[0] === "string";
  const first = single
    ? node[0] === "_CONSTANT_VALUE"
      ? node[2]
      : taken(referenceOf(node, owner))
    : node.map((part) => taken(referenceOf(part, owner)));
  const given = single ? node[3] : Array.isArray(node[0]) ? node[0][3] : undefined;
  const words = Object.entries(Object(given)).map(([key, value]) => [key, argument(value, true)]);
  return { from, args: [first], words: Object.fromEntries(words) };
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
    if ([value].flat(4).every((part) => part === null || part === false)) continue;
    throw new DataError(
      `${owner}: is called with ${name} of ${JSON.stringify(value)?.slice(0, 80)}, which is not known`,
    );
  }
}

const isKerasTensor = (value: unknown): value is { readonly config?: Json } =>
  (Object(value) as { class_name?: unknown }).class_name === "__keras_tensor__";

/** Tensors in the arguments of a call of Keras 3, which may be in lists, or in objects that order them by name. */
function tensorsIn(args: unknown, owner: string): Reference[] {
  if (Array.isArray(args)) return args.flatMap((part) => tensorsIn(part, owner));
  if (isKerasTensor(args)) return [referenceOf(args.config?.["keras_history"], owner)];
  const named = typeof args === "object" && args !== null ? Object.entries(args) : [];
  if (named.length > 0 && named.every(([, part]) => isKerasTensor(part))) {
    return named.sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([, part]) => tensorsIn(part, owner));
  }
  throw new DataError(`${owner}: is called on ${JSON.stringify(args)?.slice(0, 80)}, which is no output of a layer`);
}
