// Configurations of models in Keras's words, translated both ways; the words of each layer are in its own file. What
// Keras cannot say, or Kilograd cannot compute, is an error, never left out.
import { array, looseObject } from "valibot";
import { anyObject, parse, text } from "../../io/json.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import { describe } from "../../tensor/options.js";
import { formatShape, type Shape } from "../../tensor/shape.js";
import type { GraphInput } from "../graph.js";
import { definedClasses } from "../layer.js";
import { allClasses, layerClassOf } from "../layers/registry.js";
import type { ModelConfig, StoredLayer } from "../model-config.js";
import { type ModelShape, snakeCase } from "../model-shape.js";
import {
  entryName,
  isFunctional,
  isModel,
  isOperation,
  type KerasCall,
  type KerasEntry,
  type KerasGraph,
  readKerasGraph,
  runKerasGraph,
  toKerasCalls,
} from "./keras-graph.js";
import { modernLayer } from "./keras-old.js";
import { operationLayers } from "./keras-operations.js";
import { Remarks } from "./keras-remarks.js";
import { classNameOf, type Json, type KerasObject, type KerasSetting } from "./keras-words.js";

const kerasLayer = looseObject({ class_name: text, config: anyObject }, "an object");
const kerasLayerList = array(kerasLayer, "a list");

/** A model of Keras as Kilograd's, and what else places its weights. */
export interface KerasTranslation {
  readonly config: ModelConfig;
  /** Which layers lie in which models, in Keras's order. */
  readonly tree: KerasTree;
  /** What the file says of each layer, by its name here. */
  readonly said: ReadonlyMap<string, Json>;
  /** Layers whose inputs must be of one rank: operations that layers stand for. */
  readonly equalRanks: ReadonlySet<string>;
}

/** A layer at its place in a file. */
export interface KerasLeaf {
  readonly kind: "layer";
  /** In the file. */
  readonly name: string;
  /** Here, with the names of the models that it lies in. */
  readonly path: string;
  /** Keras's. */
  readonly className: string;
  /** Whether training changes it. */
  readonly trainable: boolean;
  /** Where its weights lie in the newer layout, from its own place on. */
  readonly within?: string;
}

/** A model at its place in a file. */
export interface KerasTree {
  readonly kind: "model";
  readonly name: string;
  readonly className: string;
  readonly members: readonly (KerasTree | KerasLeaf)[];
}

/** A model in Keras's words. */
interface InKeras {
  readonly config: KerasObject;
  /** Names of layers and inputs here, by those that Keras has, where they differ: Keras 3 takes no slashes. */
  readonly names: ReadonlyMap<string, string>;
}

/** A model's configuration in Keras's words. @throws UsageError naming the layer that it has none for */
export function toKerasModel(given: ModelConfig): InKeras {
  const { config, names } = withoutSlashes(given);
  return { config: toKerasConfig(config), names };
}

/** As {@link toKerasModel}, with the names as they are. */
export function toKerasConfig(config: ModelConfig): KerasObject {
  const { name } = config;
  if (config.className === "Sequential") {
    const input = inputLayer(`${name}_input`, config.inputShape);
    const layers = [input, ...config.layers.map(toKerasLayer)];
    return { class_name: "Sequential", config: { name, layers } };
  }
  const { inbound, inputLayers, outputLayers } = toKerasCalls(config);
  const entry = (layer: KerasObject) => {
    const layerName = layer.config["name"] as string;
    return { ...layer, name: layerName, inbound_nodes: inbound.get(layerName) ?? [] };
  };
  const layers = [
    ...config.inputs.map((input) => inputLayer(input.name, input.shape)),
    ...config.layers.map(toKerasLayer),
  ];
  const functional = { name, layers: layers.map(entry), input_layers: inputLayers, output_layers: outputLayers };
  return { class_name: "Functional", config: functional };
}

/** A configuration whose names have no slashes, and what the names were. */
function withoutSlashes(config: ModelConfig): { readonly config: ModelConfig; readonly names: Map<string, string> } {
  const inputs = config.className === "Functional" ? config.inputs : [];
  const all = [...inputs.map(({ name }) => name), ...config.layers.map((layer) => layer.config.name!)];
  const taken = new Set(all);
  const names = new Map<string, string>();
  const theirs = new Map<string, string>();
  for (const name of all.filter((each) => each.includes("/"))) {
    const base = name.replaceAll("/", "_");
    let free = base;
    for (let i = 1; taken.has(free); i++) free = `${base}_${i}`;
    taken.add(free);
    names.set(free, name);
    theirs.set(name, free);
  }
  const renamed = (name: string) => theirs.get(name) ?? name;
  const layers = config.layers.map((layer) => ({
    ...layer,
    config: { ...layer.config, name: renamed(layer.config.name!) },
  }));
  const name = config.name.replaceAll("/", "_");
  if (config.className === "Sequential") return { config: { ...config, name, layers }, names };
  return {
    config: {
      ...config,
      ...{ name, layers },
      inputs: inputs.map((input) => ({ ...input, name: renamed(input.name) })),
      calls: config.calls.map((call) => ({ ...call, layer: renamed(call.layer) })),
    },
    names,
  };
}

const inputLayer = (name: string, shape: Shape): KerasObject => ({
  class_name: "InputLayer",
  config: { batch_input_shape: [null, ...shape], dtype: "float32", sparse: false, ragged: false, name },
});

/** A setting whose values are the same in both. */
const plainSetting = (name: string): KerasSetting => ({ name, to: (value) => value, from: (value) => value });

/** A layer in Keras's words. @throws UsageError naming it, where Keras has none */
function toKerasLayer({ className, config }: StoredLayer): KerasObject {
  const where = `keras: layer "${config.name}" (${className})`;
  const words = layerClassOf(className)?.keras;
  if (words === undefined) throw new UsageError(`${where}: Keras has no such layer`);
  const settings = Object.entries(words.settings ?? {}).map(([ours, theirs]) => {
    const { name, to } = typeof theirs === "string" ? plainSetting(theirs) : theirs;
    return [name, to(config[ours], where)];
  });
  const common = { name: config.name, trainable: config.trainable ?? true, dtype: "float32" };
  const written = { ...common, ...Object.fromEntries(settings), ...words.fixed, ...words.written };
  const taken = Object.entries(written).filter(([name]) => !words.refused?.includes(name));
  return { class_name: words.className ?? className, config: Object.fromEntries(taken) };
}

/** Models within models, and calls of all layers: models that are called twice in models that are would be many. */
const MOST_DEPTH = 32;
const MOST_CALLS = 100_000;

/**
 * Keras's configuration of a model as Kilograd's. Models within it become part of it: their layers are named
 * "encoder/dense". What only training needs is left out and told to `remarks`. `version` is Keras's, where it wrote the
 * file. `names` are Kilograd's, by those of the file, where it wrote it.
 * @throws DataError naming `source` and the layer
 */
export function fromKerasModel(
  model: unknown,
  source: string,
  remarks = new Remarks(source),
  version?: string,
  names: ReadonlyMap<string, string> = new Map(),
): KerasTranslation {
  const translation = new Translation(source, remarks, version, names);
  const whole = translation.declare(model, { prefix: "", owner: source, depth: 0, trainable: true });
  return translation.whole(whole);
}

/** As {@link fromKerasModel}, the configuration alone. */
export function fromKerasConfig(model: unknown, source: string, remarks?: Remarks, version?: string): ModelConfig {
  return fromKerasModel(model, source, remarks, version).config;
}

/** A layer or a model of a file, before it is called. */
interface Declared {
  readonly name: string;
  /** Names of Kilograd's layers that it is, one after the other. */
  readonly layers: readonly string[];
  readonly model?: DeclaredModel;
}

interface DeclaredModel {
  readonly name: string | undefined;
  readonly tree: KerasTree;
  /** Without inputs, in the order of the file. */
  readonly members: readonly Declared[];
  readonly inputs: readonly GraphInput[];
  /** Absent of chains. */
  readonly graph?: KerasGraph;
}

interface Surroundings {
  /** Begins the names of layers. */
  readonly prefix: string;
  readonly owner: string;
  readonly depth: number;
  readonly trainable: boolean;
}

/** Layers and calls of a model, gathered from the models within it. */
class Translation {
  private readonly layers = new Map<string, StoredLayer>();
  private readonly calls: { readonly layer: string; readonly inputs: readonly number[] }[] = [];
  private readonly said = new Map<string, Json>();
  private readonly equalRanks = new Set<string>();
  private inputCount = 0;

  constructor(
    private readonly source: string,
    private readonly remarks: Remarks,
    private readonly version: string | undefined,
    private readonly names: ReadonlyMap<string, string>,
  ) {}

  /** The whole model, of which all others are parts. */
  whole(model: DeclaredModel): KerasTranslation {
    const { inputs, tree, graph } = model;
    this.inputCount = inputs.length;
    const outputs = this.run(
      model,
      inputs.map((_, i) => i),
    );
    const { calls, said, equalRanks } = this;
    const layers = [...this.layers.values()];
    const isChained =
      graph === undefined && layers.length === calls.length && calls.every((call, i) => call.inputs.join() === `${i}`);
    const config: ModelConfig = isChained
      ? { className: "Sequential", name: model.name ?? "sequential", inputShape: inputs[0]!.shape, layers }
      : { className: "Functional", name: model.name ?? "functional", inputs, layers, calls, outputs };
    return { config, tree, said, equalRanks };
  }

  /** Reads a model's layers. */
  declare(model: unknown, { prefix, owner, depth, trainable: outer }: Surroundings): DeclaredModel {
    if (depth > MOST_DEPTH) throw new DataError(`${owner}: its models lie deeper in each other than ${MOST_DEPTH}`);
    const { class_name: className, config: given } = Object(model) as { class_name?: unknown; config?: unknown };
    if (!isModel(className) || typeof given !== "object" || given === null) {
      throw new DataError(`${owner}: must hold a Sequential or functional model, holds ${describe(className ?? null)}`);
    }
    // Before Keras 2.3 the configuration of a chain was the list of its layers.
    const config = (Array.isArray(given) ? { layers: given } : given) as Json;
    const entries = named(parse(kerasLayerList, config["layers"], `${owner}: its layers`));
    if (entries.length === 0) throw new DataError(`${owner}: its model has no layers`);
    const { name } = config;
    const trainable = outer && config["trainable"] !== false;
    const graph = isFunctional(className) ? readKerasGraph(entries, config, owner) : undefined;
    const members: Declared[] = [];
    const parts: (KerasTree | KerasLeaf)[] = [];
    for (const [i, entry] of entries.entries()) {
      if (entry.class_name === "InputLayer") continue;
      const calls = graph === undefined ? [] : graph.entries[i]!.calls;
      const [member, part] = this.member(entry, calls, { prefix, owner, depth, trainable });
      members.push(member);
      if (part !== undefined) parts.push(part);
    }
    const inputs = graph === undefined ? [chainInput(entries, config, members)] : graphInputs(entries, graph);
    for (const { name, shape, said } of inputs) {
      // Only those of the whole model need shapes; the others are called on what has one.
      if (depth === 0 && shape === undefined) throw new DataError(`${owner}: ${name}, has ${said}`);
    }
    return {
      name: typeof name === "string" && name !== "" ? name : undefined,
      tree: { kind: "model", name: String(name ?? className), className: className as string, members: parts },
      members,
      inputs: inputs.map(({ input, shape }) => ({ name: this.named(input), shape: shape ?? [] })),
      ...(graph !== undefined && { graph }),
    };
  }

  private member(
    entry: KerasEntry,
    calls: readonly KerasCall[],
    { prefix, owner, depth, trainable }: Surroundings,
  ): [Declared, KerasTree | KerasLeaf | undefined] {
    const name = entryName(entry);
    const path = this.named(prefix + name);
    if (isModel(entry.class_name)) {
      const inner = { prefix: `${path}/`, owner: `${owner}: model "${name}"`, depth: depth + 1, trainable };
      const model = this.declare(entry, inner);
      return [
        { name, layers: [], model },
        { ...model.tree, name },
      ];
    }
    const where = `${owner}: layer "${name}" (${entry.class_name})`;
    if (isOperation(entry)) {
      const found = calls.map((call) => operationLayers(entry, call, where));
      const [operation] = found;
      if (found.some(({ layers }) => JSON.stringify(layers) !== JSON.stringify(operation!.layers))) {
        throw new DataError(`${where}: must be called with the same arguments each time`);
      }
      const layers = operation!.layers.map(({ className, config }, i) =>
        this.add({ className, config: { ...config, name: i === 0 ? path : `${path}/${i}` } }, where),
      );
      if (found.some(({ from }, i) => from.length !== calls[i]!.from.length)) {
        throw new DataError(`${where}: must be called on tensors in their places`);
      }
      if (operation!.equalRanks === true) this.equalRanks.add(path);
      return [{ name, layers }, undefined];
    }
    const {
      entry: modern,
      after,
      within,
    } = userDefined(entry)
      ? { entry, after: [], within: undefined }
      : modernLayer(entry, where, this.remarks, this.version);
    const own = trainable && modern.config["trainable"] !== false;
    const switches = callSwitches(modern.class_name, calls, where);
    const all = [{ ...modern, config: { ...modern.config, name } }, ...after].map((each, i) => {
      const stored = fromKerasLayer(where, each, this.remarks);
      const full = this.named(prefix + stored.config.name);
      this.said.set(full, each.config);
      return this.add(
        {
          ...stored,
          config: { ...stored.config, ...(i === 0 && switches), name: full, ...(!own && { trainable: false }) },
        },
        where,
      );
    });
    const leaf: KerasLeaf = { kind: "layer", name, path, className: entry.class_name, trainable: own };
    return [
      { name, layers: all },
      { ...leaf, ...(within !== undefined && { within }) },
    ];
  }

  private readonly named = (name: string) => this.names.get(name) ?? name;

  private add(layer: StoredLayer, where: string): string {
    const name = layer.config.name!;
    if (this.layers.has(name)) throw new DataError(`${where}: two layers have the name "${name}"`);
    this.layers.set(name, layer);
    return name;
  }

  /** Calls a model: values of its outputs. */
  private run({ members, graph, tree }: DeclaredModel, given: readonly number[]): number[] {
    const { source } = this;
    const called = (member: Declared, from: readonly number[]): number[] => {
      if (member.model !== undefined) {
        const { inputs } = member.model;
        if (inputs.length === from.length) return this.run(member.model, from);
        throw new DataError(
          `${source}: model "${member.name}" has ${inputs.length} inputs, is called on ${from.length}`,
        );
      }
      let values = from;
      for (const layer of member.layers) {
        if (this.calls.length === MOST_CALLS)
          throw new DataError(`${source}: has more than ${MOST_CALLS} calls of layers`);
        this.calls.push({ layer, inputs: values });
        values = [this.inputCount + this.calls.length - 1];
      }
      return [...values];
    };
    if (graph !== undefined) {
      const byName = new Map(members.map((member) => [member.name, member]));
      return runKerasGraph(graph, given, (layer, from) => called(byName.get(layer)!, from));
    }
    let values = given;
    for (const member of members) {
      values = called(member, values);
      if (values.length !== 1) {
        throw new DataError(
          `${source}: "${member.name}" in "${tree.name}" must give one value, gives ${values.length}`,
        );
      }
    }
    return [...values];
  }
}

/** Settings that the calls of a layer give. @throws DataError where one call is not as the other */
function callSwitches(className: string, calls: readonly KerasCall[], where: string): Json {
  const given = Object.entries(layerClassOf(className)?.keras?.callSettings ?? {}).map(([ours, theirs]) => {
    const values = new Set(calls.map(({ words }) => words[theirs] ?? false));
    if (values.size > 1) throw new DataError(`${where}: must be called with the same ${theirs} each time`);
    return [ours, [...values][0]] as const;
  });
  return Object.fromEntries(given.filter(([, value]) => value));
}

/** Entries with names: those without are numbered by class, as Keras does it. */
function named(entries: readonly KerasEntry[]): KerasEntry[] {
  const own = ({ config, name }: KerasEntry) => config["name"] ?? name;
  const taken = new Set(entries.map(own));
  return entries.map((entry) => {
    const base = snakeCase(entry.class_name);
    let name = own(entry);
    for (let i = 0; typeof name !== "string" || name === ""; i++) {
      const free = i === 0 ? base : `${base}_${i}`;
      if (!taken.has(free)) taken.add((name = free));
    }
    return { ...entry, config: { ...entry.config, name } };
  });
}

/** Whether somebody has defined a layer for this class. */
const userDefined = ({ class_name: theirs, registered_name: registered }: KerasEntry): boolean =>
  definedClasses().some(
    ({ keras }) => keras?.className !== undefined && [theirs, registered].includes(keras.className),
  );

interface ReadInput {
  readonly input: string;
  /** In messages, with its verb. */
  readonly name: string;
  readonly shape: Shape | undefined;
  readonly said: string;
}

function shapeIn(config: Json, key: string): { readonly shape: Shape | undefined; readonly said: string } {
  const given = config["batch_input_shape"] ?? config["batch_shape"] ?? config[key];
  const shape = Array.isArray(given) ? given.slice(1) : undefined;
  const fixed = shape?.every((size) => Number.isSafeInteger(size) && size > 0) === true;
  return { shape: fixed ? shape : undefined, said: JSON.stringify(given ?? null) };
}

/** A chain says the shape of its input in its first layer, or in the first layer of the model that it begins with. */
function chainInput(entries: readonly KerasEntry[], config: Json, members: readonly Declared[]): ReadInput {
  const first = shapeIn(entries[0]!.config, "");
  const within = members[0]?.model?.inputs;
  const known = { input: "input", name: "needs a fixed input shape", said: first.said };
  if (first.shape !== undefined) return { ...known, shape: first.shape };
  const { shape } = shapeIn(config, "build_input_shape");
  if (shape !== undefined) return { ...known, shape };
  return { ...known, shape: within?.length === 1 && within[0]!.shape.length > 0 ? within[0]!.shape : undefined };
}

function graphInputs(entries: readonly KerasEntry[], { inputs }: KerasGraph): ReadInput[] {
  const byName = new Map(entries.map((entry) => [entryName(entry), entry]));
  return inputs.map(([input]) => {
    const entry = byName.get(input);
    const read = entry?.class_name === "InputLayer" ? shapeIn(entry.config, "") : { shape: undefined, said: "null" };
    return { input, name: `input "${input}" needs a fixed shape`, ...read };
  });
}

/** A layer of Keras's words. @throws DataError beginning with `where`, where it cannot be computed */
function fromKerasLayer(
  where: string,
  { class_name: theirs, registered_name: registered, config: given }: KerasEntry,
  remarks: Remarks,
): StoredLayer {
  const name = typeof given["name"] === "string" ? given["name"] : theirs;
  const kerasName = ({ className, keras }: ReturnType<typeof allClasses>[number]) => keras?.className ?? className;
  const known = allClasses().filter(({ keras }) => keras !== undefined);
  const found = known.find((each) => kerasName(each) === theirs || kerasName(each) === registered);
  if (found === undefined) {
    throw new DataError(
      `${where}: the class must be one of ${known.map(kerasName).join(", ")}, or one of nn.defineLayer with Keras's words`,
    );
  }
  const { className } = found;
  const words = found.keras!;
  for (const [key, value] of Object.entries({ ...words.fixed, ...words.fixedIfGiven })) {
    if (given[key] === undefined || given[key] === value) continue;
    throw new DataError(`${where}: ${key} must be ${JSON.stringify(value)}, is ${JSON.stringify(given[key])}`);
  }
  const policy = policyOf(given["dtype"]);
  if (policy !== undefined && policy !== "float32") remarks.computes(name, policy);
  const read = new Set<string>();
  const settings = Object.entries(words.settings ?? {}).flatMap(([ours, setting]) => {
    const { name: current, formerly, from } = typeof setting === "string" ? plainSetting(setting) : setting;
    const key = formerly !== undefined && given[current] === undefined ? formerly : current;
    read.add(key);
    const value = from(given[key], { where, layer: name, remarks });
    return value === undefined || value === null ? [] : [[ours, value] as const];
  });
  for (const [key, value] of Object.entries(given).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (read.has(key)) continue;
    if (/_(regularizer|constraint)$/.test(key) && value) remarks.lacks(name, `${key} ${classNameOf(value)}`);
  }
  return {
    className,
    config: {
      ...(typeof given["name"] === "string" && { name }),
      ...(given["trainable"] === false && { trainable: false }),
      ...Object.fromEntries(settings),
    },
  };
}

/** "float32", or the name of a policy: a text, or an object with a name in its configuration. */
function policyOf(dtype: unknown): string | undefined {
  if (typeof dtype === "string") return dtype;
  const name = (dtype as { config?: { name?: unknown } } | null | undefined)?.config?.name;
  return typeof name === "string" ? name : undefined;
}

/**
 * What a file says of layers that only their place in the model shows to be another function.
 * @throws DataError naming the file and the layer
 */
export function checkPlaces({ said, equalRanks }: KerasTranslation, { layers, calls }: ModelShape, path: string): void {
  for (const placed of layers) {
    const words = layerClassOf(placed.layer.className)?.keras;
    words?.check?.(said.get(placed.name) ?? {}, placed, `${path}: layer "${placed.name}"`);
  }
  for (const { layer, inputShapes } of calls) {
    const { name } = layers[layer]!;
    if (!equalRanks.has(name) || new Set(inputShapes.map(({ length }) => length)).size === 1) continue;
    throw new DataError(
      `${path}: the operation "${name}" must be on tensors of one rank, is on ${inputShapes.map(formatShape).join(", ")}`,
    );
  }
}
