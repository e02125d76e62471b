// Tensors of a file of weights alone: under the names that they have in a model, or as PyTorch names and shapes them.
import type { Safetensors, StoredTensor } from "../../io/safetensors.js";
import { DataError, UsageError } from "../../tensor/errors.js";
import type { Model } from "../model.js";
import type { NameMap } from "./format.js";

/**
 * Weights under the names that they have in the model. What has none of these names, or has a map, is a state dict of
 * PyTorch.
 * @throws UsageError listing what does not fit, DataError for a tensor of a type that is not read
 */
export async function byTheirNames(
  model: Model,
  { tensors, skipped }: Pick<Safetensors, "tensors" | "skipped">,
  path: string,
  map: NameMap | undefined,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const wanted = new Set(model.weights().map(({ name }) => name));
  const hasNames = [...tensors.keys(), ...skipped.keys()].some((name) => wanted.has(name)) || wanted.size === 0;
  if (map !== undefined || !hasNames) {
    const { fromStateDict } = await import("./pytorch.js");
    return fromStateDict(model, tensors, path, { map, skipped });
  }
  const without = [...skipped].find(([name]) => wanted.has(name));
  if (without !== undefined) throw new DataError(`${path}: "${without[0]}" cannot be read: ${without[1]}`);
  return tensors;
}

/**
 * Tensors under the names that `map` gives them, without those that it gives null. A record names tensors or modules,
 * whose parts are behind a point or a slash.
 * @throws UsageError for a map that names what is not there, or gives one name twice
 */
export function renamed(
  stored: ReadonlyMap<string, StoredTensor>,
  map: NameMap | undefined,
  path: string,
): Map<string, StoredTensor> {
  const found = new Map<string, StoredTensor>();
  const used = new Set<string>();
  const byRecord = (name: string, record: Exclude<NameMap, (name: string) => unknown>): string | null | undefined => {
    // The name itself, or the longest module that it is in.
    for (let end = name.length; end > 0; end = lastPart(name, end - 1)) {
      const module = name.slice(0, end);
      if (!Object.hasOwn(record, module)) continue;
      used.add(module);
      const target = record[module];
      return target === null || target === undefined ? null : target + name.slice(end);
    }
    return undefined;
  };
  for (const [name, tensor] of stored) {
    const given = typeof map === "function" ? map(name) : map && byRecord(name, map);
    if (given === null) continue;
    if (given !== undefined && typeof given !== "string") {
      throw new UsageError(`loadWeights: map must give a name, null or undefined, gave ${typeof given} for "${name}"`);
    }
    const target = given ?? name;
    if (found.has(target))
      throw new UsageError(`${path}: map gives two tensors the name "${target}", one is "${name}"`);
    found.set(target, tensor);
  }
  const idle = typeof map === "object" ? Object.keys(map).find((name) => !used.has(name)) : undefined;
  if (idle !== undefined) throw new UsageError(`${path}: has no tensor or module "${idle}", which map names`);
  return found;
}

/** Where the last part of the first `end` letters begins; -1: they are one part. */
const lastPart = (name: string, end: number) => Math.max(name.lastIndexOf(".", end), name.lastIndexOf("/", end));
