// What a recorded step computes anew in every run though nothing it reads changes. Such are transforms of frozen
// weights, kernels with a normalisation in them, and transposed kernels. These commands run again only when somebody
// has changed what they read. Their results keep memory of their own. So only such count that are not much larger than
// what they are made of.
import type { Storage } from "../../tensor/device.js";
import type { DispatchCommand } from "../commands.js";
import type { PooledBuffer } from "../pool.js";

/** Commands, in their order, and the storages that they read, with the versions of their last run. */
export interface Steady {
  readonly commands: readonly DispatchCommand[];
  readonly sources: Map<Storage, number>;
}

interface Surroundings {
  /** Its numbers are asked for anew in every run. */
  readonly isParameterised: (command: DispatchCommand) => boolean;
  /** The storage of a buffer that was there before the step, which the step does not change. */
  readonly sourceOf: (buffer: PooledBuffer) => Storage | undefined;
  /** Whose results others may hold, and change. */
  readonly outputs: ReadonlySet<PooledBuffer>;
}

/** Bytes of results for each byte that they are made of, and bytes that are always few. */
const MOST_GROWTH = 4;
const FEW_BYTES = 2 ** 16;

/** The commands of a step whose results stay the same. Buffers are those of the recording, one for each result. */
export function steadyCommands(commands: readonly DispatchCommand[], around: Surroundings): Steady {
  const writers = new Map<PooledBuffer, DispatchCommand[]>();
  for (const command of commands) {
    for (const { view, access } of command.dispatch.bindings) {
      if (access !== "read_write") continue;
      const { root } = view.buffer;
      writers.set(root, [...(writers.get(root) ?? []), command]);
    }
  }
  const steady = new Set(commands.filter((command) => !around.isParameterised(command)));
  const isMade = ({ root }: PooledBuffer) => writers.get(root)?.every((writer) => steady.has(writer)) === true;
  const stays = ({ dispatch }: DispatchCommand) => {
    let [read, written] = [0, 0];
    for (const { view, access } of dispatch.bindings) {
      const { buffer, byteLength } = view;
      if (access === "read_write") {
        if (around.outputs.has(buffer.root) || around.sourceOf(buffer) !== undefined || !isMade(buffer)) return false;
        written += byteLength;
      } else {
        const constant = writers.has(buffer.root) ? isMade(buffer) : around.sourceOf(buffer) !== undefined;
        if (!constant) return false;
        read += byteLength;
      }
    }
    return read > 0 && written <= Math.max(FEW_BYTES, MOST_GROWTH * read);
  };
  for (let before = -1; before !== steady.size; ) {
    before = steady.size;
    for (const command of steady) if (!stays(command)) steady.delete(command);
  }
  const sources = new Map<Storage, number>();
  for (const { dispatch } of steady) {
    for (const { view } of dispatch.bindings) {
      const source = around.sourceOf(view.buffer);
      if (source !== undefined) sources.set(source, source.version);
    }
  }
  return { commands: [...steady], sources };
}

/** Whether somebody has changed what steady commands read since they last ran; from now on it counts as read. */
export function isStale({ sources }: Steady): boolean {
  let stale = false;
  for (const [storage, version] of sources) {
    if (storage.version === version) continue;
    stale = true;
    sources.set(storage, storage.version);
  }
  return stale;
}
