// Models of ONNX graphs. What Kilograd has a layer for becomes that layer, so that it trains, freezes, is summarised
// and saved like any other; the rest becomes layers that run operators (layer.ts).
//
// Layout. ONNX has images as [N, C, H, W], Kilograd as [N, H, W, C]. Each value has an `order`: axis k of what is in
// memory is axis order[k] of ONNX's value. Images stay in Kilograd's order from one layer to the next; only an operator
// that needs ONNX's order gets a Permute before it.
import type { StoredTensor } from "../../../io/safetensors.js";
import { DataError } from "../../../tensor/errors.js";
import { type Shape, sameShape, sizeOf } from "../../../tensor/shape.js";
import type { LayerConfig } from "../../layer.js";
import type { FunctionalConfig } from "../../model-config.js";
import { type Analysis, analyse, isOfSamples, type Known } from "./analyse.js";
import type { Graph, Node } from "./graph.js";
import { groupsOf } from "./group.js";
import { type StoredConstant, type StoredNode, storedAttribute, storedNumber } from "./layer.js";
import { makers } from "./layers.js";
import { firstOrder, isElementwise, isSpatial, lastOrder, renumbered } from "./layout.js";
import { isUsersClass, ownLayer, ownWeights } from "./own.js";
import { withPatterns } from "./patterns.js";
import type { Numbers } from "./value.js";

export interface BuiltModel {
  readonly config: FunctionalConfig;
  readonly weights: ReadonlyMap<string, StoredTensor>;
  readonly remarks: readonly string[];
}

/** A value of the model that is being made. */
export interface Made {
  /** Its number in the model. */
  readonly number: number;
  /** Axis k in memory is axis order[k] of ONNX's value; the batch is axis 0 of both. */
  readonly order: readonly number[];
  /**
   * A matrix of flattened images whose columns are in another order: those of [H, W, C] with this shape, where ONNX's
   * are of [C, H, W].
   */
  readonly flattened?: Shape;
}

export interface LayerParts {
  readonly className: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights?: Readonly<Record<string, { readonly shape: Shape; readonly data: Numbers }>>;
}

export class Builder {
  readonly known: Analysis["known"];
  readonly batches: readonly [number, number];
  readonly values = new Map<string, Made>();
  readonly remarks: string[] = [];
  private readonly inputs: { name: string; shape: Shape }[] = [];
  private readonly layers: { className: string; config: LayerConfig }[] = [];
  private readonly calls: { layer: string; inputs: number[] }[] = [];
  private readonly weights = new Map<string, StoredTensor>();
  private readonly names = new Set<string>();
  private readonly orders = new Map<string, Made>();
  private readonly consumers = new Map<string, Node[]>();
  /** Whether an input is taken with its channels last. */
  private turned = false;
  /** Nodes that are no part of a larger group. */
  private readonly alone = new Set<Node>();
  /** Nodes whose result a layer before them gives already. */
  private readonly done = new Set<Node>();
  /** The nodes that are becoming a layer. */
  private becoming: Node[] = [];
  /** Layers with weights by what they are made of. */
  private readonly made = new Map<
    string,
    { readonly layer: string; readonly weights: NonNullable<LayerParts["weights"]> }
  >();
  /** Names of the layers that each constant is a weight of. */
  private readonly uses = new Map<string, Set<string>>();

  constructor(
    readonly graph: Graph,
    readonly analysis: Analysis,
  ) {
    this.known = analysis.known;
    this.batches = analysis.batches;
  }

  build(): BuiltModel {
    const { graph, analysis } = this;
    const nodes = withPatterns(analysis.nodes, {
      knownOf: (name) => this.knownOf(name),
      constant: (name) => this.constant(name),
      outputs: graph.outputs,
    });
    const live = this.liveNodes(nodes);
    for (const node of live) {
      for (const name of new Set(node.inputs)) this.consumers.set(name, [...(this.consumers.get(name) ?? []), node]);
    }
    const wanted = this.wantedLast(live);
    for (const { name, shape } of analysis.inputs) {
      const last = wanted.has(name);
      const order = last ? lastOrder(shape.length + 1) : firstOrder(shape.length + 1);
      this.inputs.push({ name: this.uniqueName(name), shape: order.slice(1).map((axis) => shape[axis - 1]!) });
      this.values.set(name, { number: this.inputs.length - 1, order });
      if (last) this.turned = true;
      if (last)
        this.remarks.push(
          `input "${name}" is taken with its channels last, [${order.slice(1).map((axis) => shape[axis - 1]!)}]; the file has [${shape}]`,
        );
    }
    const groups = groupsOf(
      live,
      (name) => this.isTensor(name),
      (name) => isOfSamples(this.knownOf(name), this.batches),
      graph.source,
    );
    for (const group of groups) if (group.length === 1) this.alone.add(group[0]!);
    for (const group of groups) {
      if (group.length === 1) this.single(group[0]!);
      else this.grouped(group);
    }
    const outputs = graph.outputs.map((name) => this.output(name));
    const apart = [...this.uses].filter(([, layers]) => layers.size > 1).map(([name]) => `"${name}"`);
    if (apart.length > 0) {
      const others = apart.length > MOST_NAMED ? ` and ${apart.length - MOST_NAMED} more` : "";
      this.remarks.push(
        `what several layers of different kinds share is a weight of each, and trains apart: ${apart.slice(0, MOST_NAMED).join(", ")}${others}`,
      );
    }
    return {
      config: {
        className: "Functional",
        name: this.graph.name.replace(/[^\w.-]+/g, "_") || "model",
        inputs: this.inputs,
        layers: this.layers,
        calls: this.calls,
        outputs,
      },
      weights: this.weights,
      remarks: [...graph.remarks, ...this.remarks],
    };
  }

  refuse(node: Node, what: string): never {
    throw new DataError(`${this.graph.source}: ${node.label}: ${what}`);
  }

  knownOf(name: string): Known {
    const found = this.known.get(name);
    if (found === undefined) throw new DataError(`${this.graph.source}: nothing gives "${name}"`);
    return found;
  }

  /** Whether it is computed from the model's inputs. */
  isTensor(name: string): boolean {
    return name !== "" && this.knownOf(name).hosts === undefined;
  }

  /** The elements of a constant that does not grow with the batch. */
  constant(name: string | undefined): { readonly shape: Shape; readonly data: Numbers } | undefined {
    if (name === undefined || name === "") return undefined;
    const { hosts, shapes } = this.knownOf(name);
    if (hosts === undefined || !sameShape(shapes[0], shapes[1])) return undefined;
    const [a, b] = hosts;
    if (a !== b) for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return undefined;
    return { shape: shapes[0], data: a };
  }

  /** The shape of one sample in ONNX's order. */
  sample(name: string): Shape {
    return this.knownOf(name).shapes[0].slice(1);
  }

  rank(name: string): number {
    return this.knownOf(name).shapes[0].length;
  }

  /** The only node that uses a value, where the value is no output, and that node may be part of another layer. */
  onlyConsumer(name: string): Node | undefined {
    const list = this.consumersOf(name);
    return list.length === 1 && this.canSkip(list[0]!) ? list[0] : undefined;
  }

  /** Whether a node is a layer by itself, so that another layer may do what it does. */
  canSkip(node: Node): boolean {
    return this.alone.has(node);
  }

  consumersOf(name: string): readonly Node[] {
    return this.graph.outputs.includes(name) ? [] : (this.consumers.get(name) ?? []);
  }

  /** Takes a node for done; its output is what another gives. */
  skip(node: Node): void {
    this.done.add(node);
    this.becoming.push(node);
  }

  private uniqueName(wish: string): string {
    const base = wish.replace(/^\/+|\/+$/g, "").replace(/\/{2,}/g, "/") || "layer";
    let name = base;
    for (let k = 1; this.names.has(name); k++) name = `${base}_${k}`;
    this.names.add(name);
    return name;
  }

  /** Adds a layer and its call; of the same constants and settings there is one layer, which is called again. */
  add(wish: string, parts: LayerParts, inputs: readonly number[]): number {
    const constants = parts.weights === undefined ? [] : this.becoming.flatMap((node) => this.weightsIn(node));
    const key = JSON.stringify([parts.className, parts.config, constants]);
    const before = constants.length > 0 ? this.made.get(key) : undefined;
    if (before !== undefined && sameWeights(before.weights, parts.weights!)) {
      this.calls.push({ layer: before.layer, inputs: [...inputs] });
      return this.inputs.length + this.calls.length - 1;
    }
    const name = this.uniqueName(wish);
    if (constants.length > 0) this.made.set(key, { layer: name, weights: parts.weights! });
    for (const constant of constants) this.uses.set(constant, (this.uses.get(constant) ?? new Set()).add(name));
    this.layers.push({ className: parts.className, config: { ...parts.config, name } });
    for (const [key, { shape, data }] of Object.entries(parts.weights ?? {})) {
      this.weights.set(`${name}/${key}`, {
        dtype: "F32",
        shape: [...shape],
        data: Float32Array.from(data as ArrayLike<number>),
      });
    }
    this.calls.push({ layer: name, inputs: [...inputs] });
    return this.inputs.length + this.calls.length - 1;
  }

  /** A value in an order, by a Permute where it is in another. */
  as(name: string, order: readonly number[]): Made {
    const given = this.straight(name);
    if (sameShape(given.order, order)) return given;
    const key = `${name} ${order}`;
    const found = this.orders.get(key);
    if (found !== undefined) return found;
    const dims = order.slice(1).map((axis) => given.order.indexOf(axis));
    const number = this.add(`${name}/permute`, { className: "Permute", config: { dims } }, [given.number]);
    const made = { number, order };
    this.orders.set(key, made);
    return made;
  }

  /** As it is in memory. */
  raw(name: string): Made {
    const made = this.values.get(name);
    if (made === undefined) throw new DataError(`${this.graph.source}: "${name}" is used before anything gives it`);
    return made;
  }

  /** The value with the columns of a flattened matrix in ONNX's order. */
  straight(name: string): Made {
    const made = this.raw(name);
    if (made.flattened === undefined) return made;
    const key = `${name} straight`;
    const found = this.orders.get(key);
    if (found !== undefined) return found;
    const rank = made.flattened.length;
    const images = this.add(`${name}/images`, { className: "Reshape", config: { targetShape: made.flattened } }, [
      made.number,
    ]);
    const dims = [rank, ...firstOrder(rank).slice(1)];
    const turned = this.add(`${name}/permute`, { className: "Permute", config: { dims } }, [images]);
    const number = this.add(`${name}/flatten`, { className: "Flatten", config: {} }, [turned]);
    const result = { number, order: made.order };
    this.orders.set(key, result);
    return result;
  }

  set(name: string, made: Made): void {
    if (name !== "") this.values.set(name, made);
  }

  /** Nodes that outputs depend on, without those whose results are known. */
  private liveNodes(nodes: readonly Node[]): Node[] {
    const needed = new Set(this.graph.outputs);
    const live: Node[] = [];
    for (const node of nodes.toReversed()) {
      if (!node.outputs.some((name) => needed.has(name) && this.isTensor(name))) continue;
      live.push(node);
      for (const name of node.inputs) if (name !== "") needed.add(name);
    }
    return live.reverse();
  }

  /** Values that some operator of images wants with their channels last, though perhaps by way of others. */
  private wantedLast(live: readonly Node[]): Set<string> {
    const wanted = new Set<string>();
    for (const node of live.toReversed()) {
      const [first] = node.inputs;
      if (isSpatial(node.op) && first !== undefined && this.rank(first) >= 3) wanted.add(first);
      else if (
        (isElementwise(node.op) || node.op === "Pad" || node.op === "Concat") &&
        node.outputs.some((name) => wanted.has(name))
      ) {
        for (const name of node.inputs)
          if (name !== "" && this.isTensor(name) && this.rank(name) >= 3) wanted.add(name);
      }
    }
    return wanted;
  }

  /** Names of a node's constants that may be weights. */
  private weightsIn({ inputs }: Node): string[] {
    return inputs.filter((name) => {
      if (name === "" || this.isTensor(name)) return false;
      const { type, hosts } = this.knownOf(name);
      return type.includes("float") && hosts![0].length > 1;
    });
  }

  private single(node: Node): void {
    if (this.done.has(node)) return;
    this.becoming = [node];
    const maker = Object.hasOwn(makers, node.op) ? makers[node.op] : undefined;
    if (maker?.(this, node)) return;
    if (isUsersClass(node.op)) {
      this.own(node);
      return;
    }
    this.operator([node]);
  }

  /** A layer of a user's own: see own.ts. */
  private own(node: Node): void {
    const given = node.inputs.filter((name) => name !== "");
    const tensors = given.filter((name) => this.isTensor(name));
    const constants = given.flatMap((name) => {
      if (this.isTensor(name)) return [];
      return [this.constant(name) ?? this.refuse(node, `"${name}" has a shape that grows with the batch`)];
    });
    const layer = ownLayer(node);
    const weights = ownWeights(
      `${this.graph.source}: ${node.label}`,
      layer,
      tensors.map((name) => this.sample(name)),
      constants,
    );
    const numbers = tensors.map((name) => this.as(name, firstOrder(this.rank(name))).number);
    const output = node.outputs[0]!;
    const number = this.add(output, { className: node.op, config: layer.config, weights }, numbers);
    this.set(output, { number, order: firstOrder(this.rank(output)) });
  }

  private grouped(group: readonly Node[]): void {
    for (const node of group) this.done.add(node);
    this.becoming = [...group];
    this.operator(group);
  }

  /** Nodes, and before them those that give constants whose shapes grow with the batch. */
  private withGrowing(nodes: readonly Node[]): Node[] {
    const all = [...nodes];
    for (let i = 0; i < all.length; i++) {
      for (const name of all[i]!.inputs) {
        if (name === "" || this.isTensor(name)) continue;
        const { shapes } = this.knownOf(name);
        if (sameShape(shapes[0], shapes[1])) continue;
        const producer = this.analysis.nodes.find(({ outputs }) => outputs.includes(name));
        if (producer === undefined) this.refuse(all[i]!, `"${name}" has a shape that grows with the batch`);
        if (!all.includes(producer)) all.push(producer);
      }
    }
    const place = new Map(this.analysis.nodes.map((node, k) => [node, k]));
    return [...all.slice(nodes.length).sort((a, b) => place.get(a)! - place.get(b)!), ...nodes];
  }

  /** A layer that runs nodes, in the order of the images that go in where that is possible. */
  private operator(own: readonly Node[]): void {
    const nodes = this.withGrowing(own);
    const inside = new Set(nodes.flatMap(({ outputs }) => outputs));
    const given = [...new Set(nodes.flatMap(({ inputs }) => inputs))].filter(
      (name) => name !== "" && !inside.has(name),
    );
    const tensors = given.filter((name) => this.isTensor(name));
    const group = new Set(nodes);
    const outputs = [...inside].filter(
      (name) =>
        name !== "" &&
        this.isTensor(name) &&
        (this.graph.outputs.includes(name) || (this.consumers.get(name) ?? []).some((user) => !group.has(user))),
    );
    const first = own[0];
    const last = nodes.length === 1 ? this.lastFor(first!, tensors) : undefined;
    const constants: Record<string, StoredConstant> = {};
    const weights: { name: string; shape: Shape; trainable: boolean }[] = [];
    const data: Record<string, { shape: Shape; data: Numbers }> = {};
    const names = new Map<string, string>();
    /** The name of a node's input within the layer; a constant is moved to it. */
    const named = (node: Node, i: number): string => {
      const name = node.inputs[i]!;
      if (name === "" || inside.has(name) || this.isTensor(name)) return name;
      // With its axes in another order it is another constant at each place.
      const key = last === undefined ? name : `${name}#${i}`;
      const found = names.get(key);
      if (found !== undefined) return found;
      const { type, hosts, shapes } = this.knownOf(name);
      const fixed = this.constant(name);
      const value = fixed !== undefined && last !== undefined ? last.constant(i, fixed) : fixed;
      const isWeight =
        value !== undefined &&
        type.includes("float") &&
        value.data.length > 1 &&
        !(ON_HOST.get(node.op) ?? none).includes(i) &&
        allFinite(value.data);
      if (!isWeight && hosts![0].length > MOST_STORED) {
        this.refuse(node, `"${name}" must have at most ${MOST_STORED} elements to be a constant, has [${shapes[0]}]`);
      }
      const local = isWeight ? `w${weights.length}` : key;
      names.set(key, local);
      if (isWeight) {
        weights.push({ name: local, shape: value.shape, trainable: true });
        data[local] = value;
      } else if (value !== undefined) {
        constants[local] = {
          type,
          shape: [...value.shape],
          data: Array.from(value.data as ArrayLike<number>, storedNumber),
        };
      } else {
        constants[local] = { type, shape: [...shapes[0]], data: this.ofBatch(node, name, hosts!) };
      }
      return local;
    };
    const stored = nodes.map((node): StoredNode => {
      const { op, opset, outputs: results, attributes } = last === undefined ? node : last.node;
      return {
        ...{ op, opset, outputs: results },
        inputs: node.inputs.map((_, i) => named(node, i)),
        attributes: Object.entries(attributes).map(([name, value]) => [name, storedAttribute(value)] as const),
      };
    });
    const anchored = tensors.length > 0 ? tensors : [this.graph.inputs[0]!.name];
    const inputs = anchored.map((name) => ({ name: tensors.length > 0 ? name : "", type: this.knownOf(name).type }));
    const numbers = anchored.map(
      (name) =>
        (last === undefined ? this.as(name, firstOrder(this.rank(name))) : this.as(name, last.order(this.rank(name))))
          .number,
    );
    const config = { nodes: stored, inputs, outputs, constants, weights, channelsLast: last?.channelsLast ?? false };
    const wish = first!.outputs.find((name) => name !== "") ?? first!.op;
    for (const name of outputs) {
      if (!isOfSamples(this.knownOf(name), this.batches)) {
        this.refuse(
          first!,
          `"${name}" must have the batch as its first axis, has [${this.knownOf(name).shapes[0]}] for a batch of ${this.batches[0]}`,
        );
      }
    }
    const number = this.add(
      wish,
      { className: "OnnxGraph", config, ...(weights.length > 0 && { weights: data }) },
      numbers,
    );
    if (outputs.length === 1) {
      const order = last === undefined ? firstOrder(this.rank(outputs[0]!)) : last.result(this.rank(outputs[0]!));
      this.set(outputs[0]!, { number, order });
      return;
    }
    let begin = 0;
    for (const name of outputs) {
      const order = last === undefined ? firstOrder(this.rank(name)) : last.result(this.rank(name));
      const shape = order.slice(1).map((axis) => this.sample(name)[axis - 1]!);
      const end = begin + sizeOf(shape);
      const part = this.part(name, [begin, end], shape);
      this.set(name, { number: this.add(name, part, [number]), order });
      begin = end;
    }
  }

  /** Elements of rows [N, ...] as [N, ...shape]. */
  private part(name: string, [begin, end]: readonly [number, number], shape: Shape): LayerParts {
    const int = (data: number[]): StoredConstant => ({ type: "int64", shape: [data.length], data });
    const node = (op: string, inputs: string[], output: string): StoredNode => ({
      op,
      opset: 18,
      inputs,
      outputs: [output],
      attributes: [],
    });
    return {
      className: "OnnxGraph",
      config: {
        nodes: [node("Slice", ["all", "begin", "end", "axis"], "rows"), node("Reshape", ["rows", "shape"], name)],
        inputs: [{ name: "all", type: "float32" }],
        outputs: [name],
        constants: { begin: int([begin]), end: int([end]), axis: int([1]), shape: int([0, ...shape]) },
        weights: [],
        channelsLast: false,
      },
    };
  }

  /** Numbers that grow with the batch, as multiples of it. */
  private ofBatch(node: Node, name: string, [a, b]: readonly [Numbers, Numbers]) {
    const [n, m] = this.batches;
    return Array.from(a as ArrayLike<number>, (value, i) => {
      if (Object.is(value, b[i])) return storedNumber(value);
      const factor = (b[i]! - value) / (m - n);
      if (!Number.isInteger(factor))
        this.refuse(node, `"${name}" depends on the size of the batch in another way than by multiples`);
      return [factor, value - factor * n] as const;
    });
  }

  /** How a node runs on images with channels last, where their order is that already; undefined where it cannot. */
  private lastFor(node: Node, tensors: readonly string[]): ReturnType<typeof renumbered> {
    const isLast = tensors.some((name) => {
      const { order } = this.raw(name);
      return order.length >= 3 && sameShape(order, lastOrder(order.length));
    });
    if (!isLast && !isSpatial(node.op)) return undefined;
    return renumbered(node, {
      rankOf: (name) => this.rank(name),
      constant: (name) => this.constant(name),
      isTensor: (name) => this.isTensor(name),
    });
  }

  private output(name: string): number {
    const known = this.knownOf(name);
    if (known.hosts !== undefined)
      throw new DataError(`${this.graph.source}: output "${name}" does not depend on the inputs`);
    if (!isOfSamples(known, this.batches)) {
      throw new DataError(
        `${this.graph.source}: output "${name}" must have the batch as its first axis, has [${known.shapes[0]}] for a batch of ${this.batches[0]}`,
      );
    }
    const rank = this.rank(name);
    const isLast = rank >= 3 && sameShape(this.raw(name).order, lastOrder(rank));
    // Images come out as they go in: an input of images that has its channels last in the file leaves outputs as there.
    const asInMemory = isLast && (this.turned || this.analysis.inputs.every(({ shape }) => shape.length < 2));
    const made = isLast && !asInMemory ? this.as(name, firstOrder(rank)) : this.straight(name);
    if (asInMemory) {
      this.remarks.push(`output "${name}" is given with its channels last; the file has [${this.sample(name)}]`);
    }
    if (made.number < this.inputs.length) {
      // A model has layers.
      return this.add(`${name}/identity`, { className: "Activation", config: { activation: "linear" } }, [made.number]);
    }
    if (known.type.includes("float")) return made.number;
    const cast: StoredNode = { op: "Cast", opset: 18, inputs: ["x"], outputs: ["y"], attributes: [["to", 1]] };
    const config = {
      nodes: [cast],
      inputs: [{ name: "x", type: known.type }],
      outputs: ["y"],
      constants: {},
      weights: [],
      channelsLast: false,
    };
    return this.add(`${name}/float`, { className: "OnnxGraph", config }, [made.number]);
  }
}

/** Most elements of a constant that is kept in a model's configuration, as JSON. */
const MOST_STORED = 2 ** 20;

/** How many names a remark has at most. */
const MOST_NAMED = 5;

/** Whether weights have the same elements. */
function sameWeights(a: NonNullable<LayerParts["weights"]>, b: NonNullable<LayerParts["weights"]>): boolean {
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  return names.every((name) => {
    const [x, y] = [a[name]!, b[name]];
    if (y === undefined || !sameShape(x.shape, y.shape)) return false;
    for (let i = 0; i < x.data.length; i++) if (!Object.is(x.data[i], y.data[i])) return false;
    return true;
  });
}

/** Inputs of floats that operators read before they compute. */
const ON_HOST: ReadonlyMap<string, readonly number[]> = new Map([
  ...(["Resize", "Upsample", "Pad", "Range"] as const).map((op) => [op, [1, 2, 3]] as const),
]);
const none: readonly number[] = [];

function allFinite(data: Numbers): boolean {
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i]!)) return false;
  return true;
}

/** A model of a graph. @throws DataError naming the node that it cannot be made of */
export function buildModel(graph: Graph): BuiltModel {
  return new Builder(graph, analyse(graph)).build();
}
