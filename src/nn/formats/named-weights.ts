// Tensors of a file of weights alone: under the names that they have in a model, or as PyTorch names and shapes them.
import type { Safetensors, StoredTensor } from "../../io/safetensors.js";
import { DataError } from "../../tensor/errors.js";
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
