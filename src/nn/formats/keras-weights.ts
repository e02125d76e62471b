// Which weights of a Keras file belong to which layer. Files have them in two layouts (io/keras-h5.ts):
//
// - by layer: a group for each layer of the model, in order. The group of a model within the model has the weights of
//   all its layers, those that are trained first, so that their order depends on what is frozen.
// - by place: below each model the layers' classes, numbered in the model's order.
import type { KerasLayerWeights, KerasPlace, KerasWeight } from "../../io/keras-h5.js";
import type { StoredTensor } from "../../io/safetensors.js";
import { DataError } from "../../tensor/errors.js";
import { formatShape } from "../../tensor/shape.js";
import { isChain } from "../graph.js";
import { layerClassOf } from "../layers/registry.js";
import type { Model } from "../model.js";
import { type PlacedLayer, snakeCase } from "../model-shape.js";
import type { KerasLeaf, KerasTree } from "./keras.js";

export interface PlacedIn {
  /** Begins messages: the file. */
  readonly path: string;
  /** What Keras computed with. */
  readonly backend?: string | undefined;
  /** Whether the layers are those of the file, whose names are then the file's, too. */
  readonly own: boolean;
}

/** A layer with weights, and where it is in Keras's model. */
interface Weighted {
  readonly leaf: KerasLeaf;
  readonly placed: PlacedLayer;
}

/** Weights under their names in a model. */
type Weights = Map<string, StoredTensor>;

/**
 * The weights of groups that are one for each layer of the whole model.
 * @throws DataError for a file whose groups are not as many as the layers, or that has other weights
 */
export function weightsOfGroups(
  tree: KerasTree,
  layers: readonly PlacedLayer[],
  groups: readonly KerasLayerWeights[],
  where: PlacedIn,
): Weights {
  const { path, own } = where;
  const byPath = new Map(layers.map((placed) => [placed.name, placed]));
  const members = tree.members
    .map((member) => ({ member, leaves: weighted(member, byPath) }))
    .filter(({ leaves }) => leaves.length > 0);
  const stored = groups.filter(({ weights }) => weights.length > 0);
  if (members.length !== stored.length) {
    throw new DataError(
      `${path}: the model has ${members.length} layers with weights, the file weights of ${stored.length}`,
    );
  }
  // A file's own layers have its names, and branches may stand in another order.
  const byName = new Map(stored.map((group) => [group.name, group]));
  const inOrder = !own && members.every(({ member }) => member.kind === "layer");
  const named = !inOrder && members.every(({ member }) => byName.has(member.name));
  if (!named && members.some(({ member }) => member.kind === "model")) throw untold(path);
  const found: Weights = new Map();
  for (const [i, { member, leaves }] of members.entries()) {
    const { weights } = named ? byName.get(member.name)! : stored[i]!;
    if (member.kind === "layer") addWeights(found, leaves[0]!.placed, weights, where);
    else addInner(found, member.name, leaves, weights, where);
  }
  return found;
}

/** Of weights whose order alone does not tell whose they are. */
export const untold = (path: string) =>
  new DataError(
    `${path}: does not say which of its weights belong to which model within the model; load the whole model from a .keras or .h5 file`,
  );

/** The layers with weights of a part of a model. */
function weighted(member: KerasTree | KerasLeaf, byPath: ReadonlyMap<string, PlacedLayer>): Weighted[] {
  if (member.kind === "model") return member.members.flatMap((part) => weighted(part, byPath));
  const placed = byPath.get(member.path);
  return placed === undefined || placed.weights.length === 0 ? [] : [{ leaf: member, placed }];
}

/** Weights of a model within the model: by the layers' names in theirs, else in Keras's order. */
function addInner(
  to: Weights,
  name: string,
  leaves: readonly Weighted[],
  weights: readonly KerasWeight[],
  where: PlacedIn,
): void {
  const byLayer = new Map(leaves.map((each) => [each.leaf.name, [] as KerasWeight[]]));
  const owners = weights.map((weight) => {
    const parts = weight.name
      .split("/")
      .slice(0, -1)
      .filter((part) => byLayer.has(part));
    return parts.length === 1 ? parts[0] : undefined;
  });
  if (byLayer.size === leaves.length && !owners.includes(undefined)) {
    for (const [i, weight] of weights.entries()) byLayer.get(owners[i]!)!.push(weight);
    for (const { leaf, placed } of leaves) addWeights(to, placed, byLayer.get(leaf.name)!, where);
    return;
  }
  const all = leaves.flatMap(({ leaf, placed }) =>
    placed.weights.map((spec, i) => ({ placed, i, first: leaf.trainable && spec.trainable })),
  );
  if (all.length !== weights.length) {
    throw new DataError(
      `${where.path}: model "${name}" must have ${all.length} weights, has ${weights.length} (${weights
        .map((weight) => weight.name)
        .join(", ")
        .slice(0, 500)})`,
    );
  }
  const order = [...all.filter(({ first }) => first), ...all.filter(({ first }) => !first)];
  const placedAt = new Map(order.map(({ placed, i }, at) => [`${i} ${placed.name}`, weights[at]!]));
  for (const { placed } of leaves) {
    addWeights(
      to,
      placed,
      placed.weights.map((_, i) => placedAt.get(`${i} ${placed.name}`)!),
      where,
    );
  }
}

/**
 * The weights of a file that has them by place.
 * @throws DataError for weights that are missing, or that no layer has
 */
export function weightsOfPlaces(
  tree: KerasTree,
  layers: readonly PlacedLayer[],
  root: KerasPlace,
  where: PlacedIn,
): Weights {
  const byPath = new Map(layers.map((placed) => [placed.name, placed]));
  const found: Weights = new Map();
  addPlaces(found, tree, root, byPath, where, "");
  return found;
}

/** The places of a model's layers; tf.keras 2.12 and 2.13 had another name for them. */
const placesOf = ({ parts }: KerasPlace) =>
  (parts.get("layers") ?? parts.get("_layer_checkpoint_dependencies"))?.parts ?? new Map<string, KerasPlace>();

function addPlaces(
  to: Weights,
  tree: KerasTree,
  place: KerasPlace,
  byPath: ReadonlyMap<string, PlacedLayer>,
  where: PlacedIn,
  at: string,
): void {
  const { path, own } = where;
  const unclaimed = new Map(placesOf(place));
  const counts = new Map<string, number>();
  const byName = own ? undefined : placesByName(tree, unclaimed, byPath);
  for (const member of tree.members) {
    const base = snakeCase(member.className.split(">").at(-1)!);
    const count = counts.get(base) ?? 0;
    counts.set(base, count + 1);
    const name = byName?.get(member.name) ?? (count === 0 ? base : `${base}_${count}`);
    const stored = unclaimed.get(name);
    unclaimed.delete(name);
    if (own && stored?.name !== undefined && stored.name !== member.name) {
      throw new DataError(`${path}: ${at}${name} is of layer "${stored.name}", must be of "${member.name}"`);
    }
    if (member.kind === "model") {
      addPlaces(to, member, stored ?? { weights: [], parts: new Map() }, byPath, where, `${at}${name}/`);
      continue;
    }
    const placed = byPath.get(member.path);
    if (placed === undefined) continue;
    const parts = layerClassOf(placed.layer.className)?.keras?.parts ?? [];
    // A layer around a layer has its weights within.
    const around = member.within ?? (stored?.weights.length === 0 && stored.parts.has("layer") ? "layer" : undefined);
    const inner = around === undefined ? stored : stored?.parts.get(around);
    const weights = [...(inner?.weights ?? []), ...parts.flatMap((part) => inner?.parts.get(part)?.weights ?? [])];
    addWeights(to, placed, weights, where);
  }
  const extra = [...unclaimed].find(([, stored]) => hasWeights(stored));
  if (extra !== undefined) {
    throw new DataError(`${path}: has weights of ${at}${extra[0]}, which the model does not have`);
  }
}

/**
 * The places of a model's members by their names, where models lie within and the file tells all their names: the order
 * of such layers is another one in a model of Kilograd's.
 */
function placesByName(
  { members }: KerasTree,
  places: ReadonlyMap<string, KerasPlace>,
  byPath: ReadonlyMap<string, PlacedLayer>,
): Map<string, string> | undefined {
  const found = new Map([...places].flatMap(([at, { name }]) => (name === undefined ? [] : [[name, at] as const])));
  const wanted = members.filter((member) => weighted(member, byPath).length > 0);
  return wanted.every(({ name }) => found.has(name)) ? found : undefined;
}

/** Whether a file has models within its model. */
export const holdsModels = (root: KerasPlace): boolean =>
  [...placesOf(root).values()].some((place) => placesOf(place).size > 0);

const hasWeights = ({ weights, parts }: KerasPlace): boolean =>
  weights.length > 0 || [...parts.values()].some(hasWeights);

/**
 * The tree that a model of Kilograd's has in Keras. Layers that are named "encoder/dense" lie in a model "encoder",
 * where `nested`, else beside the others.
 */
export function treeOfLayers(layers: readonly PlacedLayer[], nested: boolean): KerasTree {
  const members: (KerasTree | KerasLeaf)[] = [];
  const models = new Map<string, PlacedLayer[]>();
  const leafOf = (placed: PlacedLayer, name: string): KerasLeaf => {
    const { className, config } = placed.layer;
    const theirs = layerClassOf(className)?.keras?.className ?? className;
    return { kind: "layer", name, path: placed.name, className: theirs, trainable: config.trainable ?? true };
  };
  const gather = (placed: readonly PlacedLayer[], prefix: string, to: (KerasTree | KerasLeaf)[]): void => {
    for (const each of placed) {
      const rest = each.name.slice(prefix.length);
      const [first] = rest.split("/");
      if (!nested || first === rest) {
        to.push(leafOf(each, rest));
        continue;
      }
      const inner = `${prefix}${first}/`;
      if (models.has(inner)) continue;
      const within = placed.filter(({ name }) => name.startsWith(inner));
      models.set(inner, within);
      const parts: (KerasTree | KerasLeaf)[] = [];
      gather(within, inner, parts);
      to.push({ kind: "model", name: first!, className: "Functional", members: parts });
    }
  };
  gather(layers, "", members);
  return { kind: "model", name: "", className: "Functional", members };
}

/**
 * Whether weights of models within a model find their places: by the names that later versions write, or by the order
 * of layers. That is the file's where there is one such model, called once for one output, or several in a chain.
 */
export function findsPlaces(tree: KerasTree, root: KerasPlace, model: Model): boolean {
  const inner = [...placesOf(root)].filter(([, place]) => placesOf(place).size > 0);
  if (inner.every(([, { name }]) => name !== undefined && tree.members.some((member) => member.name === name)))
    return true;
  const classes = new Set(inner.map(([at]) => at.replace(/_\d+$/, "")));
  if (isChain(model)) return classes.size <= 1;
  return inner.length === 1 && tree.members.every((member) => member.kind === "layer" || isInOrder(member, model));
}

/** Whether layers of a model stand in the order that they would have without the others around it. */
function isInOrder({ name }: KerasTree, { layers, calls, inputs, outputs }: Model): boolean {
  const within = calls.map(({ layer }) => layers[layer]!.name.startsWith(`${name}/`));
  const isWithin = (value: number) => within[value - inputs.length] === true;
  const used = new Set([...calls.flatMap((call, i) => (within[i] ? [] : call.inputs)), ...outputs].filter(isWithin));
  return used.size === 1 && calls.every(({ repeat }, i) => !within[i] || repeat === 0);
}

/** Gives the models of a tree the classes that places in a file have, by their names where those are told. */
export function classesOfPlaces(tree: KerasTree, root: KerasPlace): KerasTree {
  const models = [...placesOf(root)].filter(([, place]) => placesOf(place).size > 0);
  const free = models.map(([at, place]) => ({ at, place }));
  const members = tree.members.map((member) => {
    if (member.kind === "layer") return member;
    const index = Math.max(
      0,
      free.findIndex(({ place }) => place.name === member.name),
    );
    const [found] = free.splice(index, 1);
    if (found === undefined) return member;
    const className = found.at.replace(/_\d+$/, "");
    return { ...classesOfPlaces(member, found.place), className };
  });
  return { ...tree, members };
}

function addWeights(
  to: Weights,
  { name: owner, layer, weights: specs }: PlacedLayer,
  found: readonly KerasWeight[],
  { path, backend }: PlacedIn,
): void {
  const words = layerClassOf(layer.className)?.keras;
  const besides = Object.keys(words?.besides ?? {}).length;
  if (found.length !== specs.length && !(specs.length > 0 && found.length === specs.length + besides)) {
    throw new DataError(
      `${path}: layer "${owner}" must have ${specs.length} weights (${specs.map((spec) => spec.name).join(", ")}), ` +
        `has ${found.length} (${found.map((weight) => `${weight.name} ${formatShape(weight.shape)}`).join(", ")})`,
    );
  }
  for (const [j, { name, shape }] of specs.entries()) {
    const { name: theirs, ...tensor } = keras1Kernel(found[j]!, shape.length);
    if (tensor.dtype === "I32") {
      throw new DataError(`${path}: "${theirs}" must be an array of float16, float32 or float64, is of integers`);
    }
    // Theano's convolution turns the kernel around.
    const turned = backend === "theano" && words?.turnedByTheano === true && shape.length > 2;
    to.set(`${owner}/${name}`, turned ? turnedKernel(tensor) : tensor);
  }
}

/** In Keras 1 kernels of Conv1D were [length, 1, in, out]. */
function keras1Kernel(weight: KerasWeight, rank: number): KerasWeight {
  const [length, width, ...rest] = weight.shape;
  if (rank !== 3 || weight.shape.length !== 4 || width !== 1) return weight;
  return { ...weight, shape: [length!, ...rest] };
}

/** A kernel [...sizes, in, out] with all axes but the last two reversed. */
function turnedKernel<T extends StoredTensor>(weight: T): T {
  const cells = weight.shape.slice(0, -2).reduce((product, size) => product * size, 1);
  const size = weight.data.length / cells;
  const data = weight.data.slice();
  for (let cell = 0; cell < cells; cell++) {
    const from = (cells - 1 - cell) * size;
    data.set(weight.data.subarray(from, from + size) as never, cell * size);
  }
  return { ...weight, data };
}
