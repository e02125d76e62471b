// Weights of PyTorch: state dicts in safetensors files, read into an architecture and written of one. PyTorch's own
// files, .pt and .pth, are pickles: programs, which nobody should run that comes from elsewhere. They are refused.
import { encodeSafetensors, type StoredTensor } from "../../io/safetensors.js";
import { type FileSource, nameOf, writeAll } from "../../io/source.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import { formatShape, sameShape } from "../../tensor/shape.js";
import type { Model } from "../model.js";
import type { FormatCode, ModelContent, NameMap } from "./format.js";
import { renamed } from "./name-map.js";
import { fromTorch, rowSizeOf, type TorchModule, torchModules, toTorch } from "./pytorch-tensors.js";

/** What a message lists at most. */
const MOST_FAULTS = 30;

/** How many batches a normalisation has seen, which has no part in what it computes. */
const COUNTER = /(^|\.)num_batches_tracked$/;

/** Names that say the same: in PyTorch points lead to a part, here slashes, and in Keras underscores. */
const canonical = (name: string) => name.toLowerCase().replace(/[^a-z0-9]+/g, ".");

const pathOf = ({ layer, part }: TorchModule) => (part === undefined ? layer : `${layer}.${part}`);

/**
 * Weights of a state dict under the names that they have in a model. Modules are found
 * - by `map`, which gives a tensor or a module the name of a layer or weight, or null for what is not needed;
 * - by their names, where layers have the same;
 * - by their shapes, where only one layer can be meant, or numbers in their names say which comes first.
 * @throws UsageError listing tensors that are missing, misshapen or too many, and modules that may be several layers
 */
export function fromStateDict(
  model: Model,
  stored: ReadonlyMap<string, StoredTensor>,
  path: string,
  {
    map,
    skipped = new Map(),
  }: { readonly map?: NameMap | undefined; readonly skipped?: ReadonlyMap<string, string> } = {},
): Map<string, StoredTensor> {
  const { modules, conflicts } = torchModules(model);
  const faults = [...conflicts];
  const left = renamed(stored, map, path);
  for (const name of left.keys()) if (COUNTER.test(name)) left.delete(name);
  const weights = new Map<string, StoredTensor>();
  const assign = (module: TorchModule, found: readonly string[]) => {
    for (const [i, tensor] of module.tensors.entries()) {
      const name = found[i]!;
      const { data, shape, dtype } = left.get(name)!;
      left.delete(name);
      const label = `"${name}" for layer "${module.layer}"`;
      if (dtype !== "F32" && dtype !== "F64") faults.push(`${label} must be of floats, is ${dtype}`);
      else if (!sameShape(shape, tensor.shape)) {
        faults.push(`${label} should be ${formatShape(tensor.shape)}, is ${formatShape(shape)}`);
      } else {
        for (const piece of tensor.pieces) {
          const values = fromTorch(data, piece, rowSizeOf(tensor.shape));
          weights.set(`${module.layer}/${piece.weight}`, { dtype: "F32", shape: [values.length], data: values });
        }
      }
    }
  };
  const open: TorchModule[] = [];
  const byName = new Map([...left.keys()].map((name) => [canonical(name), name]));
  for (const module of modules) {
    const found = module.tensors.map(
      (tensor) => byName.get(canonical(`${pathOf(module)}.${tensor.name}`)) ?? own(module, tensor, byName),
    );
    if (found.every((name) => name !== undefined && left.has(name))) assign(module, found as string[]);
    else open.push(module);
  }
  faults.push(...byShape(open, left, assign));
  for (const module of open) {
    for (const { name, shape, pieces } of module.tensors) {
      if (weights.has(`${module.layer}/${pieces[0]!.weight}`)) continue;
      const reason = skipped.get(`${pathOf(module)}.${name}`);
      faults.push(
        `"${pathOf(module)}.${name}" ${formatShape(shape)} for layer "${module.layer}" (${module.className}) ` +
          (reason === undefined ? "is missing" : `cannot be read: ${reason}`),
      );
    }
  }
  for (const [name, tensor] of left) faults.push(`"${name}" ${formatShape(tensor.shape)} belongs to no layer`);
  if (faults.length > 0) {
    const more = faults.length > MOST_FAULTS ? [`and ${faults.length - MOST_FAULTS} more`] : [];
    throw new UsageError(
      `${path}: does not fit "${model.name}": ${[...faults.slice(0, MOST_FAULTS), ...more].join("; ")}. ` +
        'Give nn.loadWeights the option map, such as { "features.0": "conv2d", "head": null }',
    );
  }
  for (const { name, tensor } of model.weights()) {
    const found = weights.get(name)!;
    weights.set(name, { ...found, shape: tensor.shape } as StoredTensor);
  }
  return weights;
}

/** A weight under the layer's own word for it, or that of a layer of one weight under the layer's name. */
function own(module: TorchModule, { pieces }: TorchModule["tensors"][number], names: ReadonlyMap<string, string>) {
  const [piece] = pieces;
  if (pieces.length > 1) return undefined;
  const found = names.get(canonical(`${module.layer}/${piece!.weight}`));
  return found ?? (module.tensors.length === 1 ? names.get(canonical(module.layer)) : undefined);
}

/** Assigns modules that only one layer can be, by the shapes of what they have. Gives what is ambiguous. */
function byShape(
  open: readonly TorchModule[],
  left: ReadonlyMap<string, StoredTensor>,
  assign: (module: TorchModule, found: readonly string[]) => void,
): string[] {
  const ambiguous: string[] = [];
  const groups = new Map<string, Map<string, string>>();
  for (const name of left.keys()) {
    const { module, rest } = modulePath(name);
    groups.set(module, (groups.get(module) ?? new Map<string, string>()).set(rest, name));
  }
  const bySignature = <T>(all: readonly T[], of: (each: T) => readonly string[]) => {
    const found = new Map<string, T[]>();
    for (const each of all) {
      const key = [...of(each)].sort().join(", ");
      found.set(key, [...(found.get(key) ?? []), each]);
    }
    return found;
  };
  const theirs = bySignature([...groups], ([, tensors]) =>
    [...tensors].map(([rest, name]) => `${rest} ${formatShape(left.get(name)!.shape)}`),
  );
  const ours = bySignature(open, ({ tensors }) => tensors.map(({ name, shape }) => `${name} ${formatShape(shape)}`));
  for (const [signature, layers] of ours) {
    const modules = theirs.get(signature) ?? [];
    if (modules.length !== layers.length) continue;
    const sorted = inOrder(modules.map(([name]) => name));
    if (sorted === undefined) {
      ambiguous.push(
        `${modules.map(([name]) => `"${name}"`).join(", ")} (${signature}) may each be any of the layers ` +
          `${layers.map(({ layer }) => `"${layer}"`).join(", ")}`,
      );
      continue;
    }
    for (const [i, module] of layers.entries()) {
      const tensors = groups.get(sorted[i]!)!;
      assign(
        module,
        module.tensors.map(({ name }) => tensors.get(name)!),
      );
    }
  }
  return ambiguous;
}

/** The module that a tensor belongs to: attention has one within it, which has no sense alone. */
function modulePath(name: string): { module: string; rest: string } {
  const [, module = "", rest = name] =
    /^(?:(.*)\.)?(in_proj_(?:weight|bias)|[qkv]_proj_weight|out_proj\.(?:weight|bias))$/.exec(name) ??
    /^(?:(.*)\.)?([^.]*)$/.exec(name)!;
  return { module, rest };
}

/** Names in the order that their numbers say; undefined where two of them differ in more. */
function inOrder(names: readonly string[]): string[] | undefined {
  const stem = (name: string) => name.replace(/\d+/g, "#");
  if (new Set(names.map(stem)).size > 1) return undefined;
  const numbers = (name: string) => [...name.matchAll(/\d+/g)].map(([digits]) => Number(digits));
  return [...names].sort((a, b) => {
    const [x, y] = [numbers(a), numbers(b)];
    const first = x.findIndex((value, i) => value !== y[i]);
    return first < 0 ? 0 : x[first]! - y[first]!;
  });
}

/** A model's weights as a state dict, under the names of its layers. @throws UsageError for what PyTorch cannot say */
export async function toStateDict(owner: string, model: Model): Promise<Map<string, StoredTensor>> {
  const { modules, conflicts } = torchModules(model);
  if (conflicts.length > 0) throw new UsageError(`${owner}: PyTorch has channels first, and ${conflicts.join("; ")}`);
  const byLayer = new Map(model.layers.map((layer) => [layer.name, layer]));
  const state = new Map<string, StoredTensor>();
  for (const module of modules) {
    for (const tensor of module.tensors) {
      const name = `${pathOf(module)}.${tensor.name}`.replaceAll("/", ".");
      if (state.has(name)) throw new UsageError(`${owner}: two tensors would be "${name}"; rename a layer`);
      const data = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1));
      for (const piece of tensor.pieces) {
        const weight = byLayer.get(module.layer)!.weights[piece.weight]!;
        toTorch(data, await weight.data(), piece, rowSizeOf(tensor.shape));
      }
      state.set(name, { dtype: "F32", shape: tensor.shape, data });
    }
  }
  return state;
}

async function bytesOf(owner: string, model: Model, content: ModelContent): Promise<Uint8Array> {
  const { training, slots, callbackTensors, notes } = content;
  if (training !== undefined || slots.length + callbackTensors.length > 0) {
    throw new UsageError(`${owner}: format "pytorch" has no place for a training; save it as "safetensors"`);
  }
  const texts = Object.entries(notes).map(([name, note]) => [
    name,
    typeof note === "string" ? note : JSON.stringify(note),
  ]);
  return encodeSafetensors(await toStateDict(owner, model), { ...Object.fromEntries(texts), format: "pt" });
}

/** @throws DataError with the lines of Python that make safetensors of such a file */
function refuse(source: FileSource): never {
  const path = nameOf(source);
  const file = typeof source === "string" ? source : "model.pt";
  const target = file.replace(/\.\w+$/, ".safetensors");
  throw new DataError(
    `${path}: is a pickle of PyTorch, which may hold any program and is not read. Convert it in Python: ` +
      `state = torch.load(${JSON.stringify(file)}, map_location="cpu", weights_only=True); ` +
      `safetensors.torch.save_file({k: v.contiguous().clone() for k, v in state.items()}, ${JSON.stringify(target)}); ` +
      "then nn.loadWeights(model, path)",
  );
}

export const pytorchFormat: FormatCode = {
  read: async (source) => refuse(source),
  readWeights: async (_, source) => refuse(source),
  async write(path, model, content) {
    if (/\.(pt|pth)$/i.test(path)) {
      throw new UsageError(
        `saveModel: PyTorch's own files are pickles and not written; name it .safetensors, got ${path}`,
      );
    }
    await writeAll("saveModel", path, await bytesOf("saveModel", model, content));
  },
  encode: (model, content) => bytesOf("encodeModel", model, content),
};
