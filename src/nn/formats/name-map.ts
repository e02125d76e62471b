// Names of stored weights, as a user's map changes them.
import type { StoredTensor } from "../../io/safetensors.js";
import { UsageError } from "../../tensor/errors.js";
import type { NameMap } from "./format.js";

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
