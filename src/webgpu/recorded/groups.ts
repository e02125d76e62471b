// Dispatches of a recorded step, several as one. What is saved is the time of launching kernels, which on lavapipe is
// about that of 30,000 multiply-adds each and leaves most of a GPU idle. A group of dispatches becomes one of several
// stages. The parts of a stage do not depend on each other, and each of them computes what it computed alone, on its
// share of the workgroups.
//
// Several stages are for adapters whose workgroups may wait for each other (`TuningProfile.workers`). A group then has
// one workgroup for each of the adapter's threads, and they deal out the workgroups of its parts among themselves. A
// counter of a stage tells what is next, another how much is done. Only when all of it is done does a thread go on to
// the next stage. Since nobody waits for work that nobody has taken, this ends even where the workgroups run one after
// the other. What one thread wrote the others see: on llvmpipe, threads of a processor, an atomic addition is a fence.
// WGSL promises neither, so other adapters get groups of one stage.

import { type DispatchCommand, PARAMETER_BINDING } from "../commands.js";
import { subgroupLanes, type TuningProfile } from "../family.js";
import { type Dispatch, type GpuView, MAX_WORKGROUPS, overlap, type ProgramText } from "../program.js";
import { hasWorkgroupMemory } from "../wgsl-text.js";
import { compilationSeconds, GRID_PARAMETERS } from "./compile-cost.js";
import { type Place, type SharedBindings, sharedBindings } from "./shared-bindings.js";

/**
 * Seconds that compiling a merged program may take by `compilationSeconds`, so that none takes 2, with something to
 * spare for what else the machine does. The least is chosen that makes as few dispatches as any.
 */
const COMPILATION_LIMITS = [1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.35];
/** Characters of WGSL beyond which a GPU's program is not merged: its work is not too small for a launch. */
const LONGEST_PROGRAM = 6300;
/** Parameters of a dispatch, which a binding of them holds. */
const MOST_PARAMETERS = PARAMETER_BINDING / 4;
/** Bytes of a group's counters: two a stage. */
export const COUNTERS_BYTES = 256;
const MOST_STAGES = COUNTERS_BYTES / 8;

type Part = Pick<DispatchCommand, "dispatch" | "program">;

/** Parts that do not depend on each other. */
export type Stage<P extends Part = Part> = readonly P[];

/** Stages of one dispatch. */
export type Group<P extends Part = Part> = readonly Stage<P>[];

/**
 * The commands in an order that gives the same results, as groups that can be one dispatch each: few, if not the
 * fewest.
 */
export function groupsOf<P extends Part>(commands: readonly P[], profile: TuningProfile): Group<P>[] {
  const limits = profile.onProcessor ? COMPILATION_LIMITS : [Number.POSITIVE_INFINITY];
  return limits
    .map((seconds) => grouped(commands, (group) => canMerge(group, profile, seconds)))
    .reduce((best, groups) => (groups.length < best.length ? groups : best));
}

function grouped<P extends Part>(commands: readonly P[], fits: (group: Group<P>) => boolean): Group<P>[] {
  const groups: Group<P>[] = [];
  for (const command of commands) place(command, groups, fits);
  // What could not be hoisted may be put off.
  for (let i = groups.length - 2; i >= 0; i--) {
    for (let j = i + 1; j < groups.length; j++) {
      const together = joined(groups[i]!, groups[j]!);
      if (fits(together)) {
        groups[j] = together;
        groups.splice(i, 1);
        break;
      }
      if (!independent(groups[i]!.flat(), groups[j]!.flat())) break;
    }
  }
  return groups;
}

/**
 * Puts a command into the first group that can take it after all that it depends on, or into one of its own at the end.
 */
function place<P extends Part>(command: P, groups: Group<P>[], fits: (group: Group<P>) => boolean): void {
  let [first, stage] = [0, 0];
  search: for (let g = groups.length - 1; g >= 0; g--) {
    for (let s = groups[g]!.length - 1; s >= 0; s--) {
      if (independent([command], groups[g]![s]!)) continue;
      [first, stage] = [g, s + 1];
      break search;
    }
  }
  for (let g = first; g < groups.length; g++) {
    const at = g === first ? stage : 0;
    const group = groups[g]!;
    const together =
      at < group.length ? group.map((parts, s) => (s === at ? [...parts, command] : parts)) : [...group, [command]];
    if (!fits(together)) continue;
    groups[g] = together;
    return;
  }
  groups.push([[command]]);
}

/** Two groups as one, the first ones' parts in the others' first stage if they can be. */
function joined<P extends Part>(some: Group<P>, others: Group<P>): Group<P> {
  const [next, ...rest] = others;
  const side = some.length === 1 && independent(some[0]!, next!);
  return side ? [[...next!, ...some[0]!], ...rest] : [...some, ...others];
}

/** Whether no memory that one side writes is used by the other. */
export function independent(some: readonly Part[], others: readonly Part[]): boolean {
  return some.every((part) =>
    others.every((other) => !writesWhatIsUsed(part, other) && !writesWhatIsUsed(other, part)),
  );
}

function writesWhatIsUsed(writer: Part, user: Part): boolean {
  const { used } = memoryOf(user);
  return memoryOf(writer).written.some((written) => used.some((view) => overlap(written, view)));
}

interface Memory {
  readonly used: readonly GpuView[];
  readonly written: readonly GpuView[];
}

const memories = new WeakMap<Dispatch, Memory>();

/** Kept: for a recording of some hundred dispatches it is asked for millions of times. */
function memoryOf({ dispatch }: Part): Memory {
  let memory = memories.get(dispatch);
  if (memory === undefined) {
    const viewsOf = (bindings: Dispatch["bindings"]) => bindings.map(({ view }) => view);
    const written = dispatch.bindings.filter(({ access }) => access === "read_write");
    memory = { used: viewsOf(dispatch.bindings), written: viewsOf(written) };
    memories.set(dispatch, memory);
  }
  return memory;
}

/** Whether the parts of a group of more than one can stand in one dispatch. */
function canMerge(group: Group, profile: TuningProfile, seconds: number): boolean {
  const { onProcessor, workers, maxStorageBuffers, maxBindingBytes } = profile;
  const parts = group.flat();
  const several = group.length > 1;
  const lanes = ({ workgroupSize: [x, y = 1, z = 1] }: ProgramText) => x * y * z;
  const shape = ({ workgroupSize: [x, y = 1, z = 1] }: ProgramText) => `${x} ${y} ${z}`;
  const [{ program }] = parts as [Part];
  return (
    (onProcessor
      ? compilationSeconds(parts.map(({ program }) => program)) <= seconds
      : parts.every(({ program }) => program.code.length <= LONGEST_PROGRAM)) &&
    (!several ||
      (workers !== undefined && lanes(program.text) === subgroupLanes(profile) && group.length <= MOST_STAGES)) &&
    parts.every(({ program: { text } }) => !text.subgroupMatrices && shape(text) === shape(program.text)) &&
    parts.every(({ program: { text } }) => !hasWorkgroupMemory(text.declarations ?? "")) &&
    group.every((stage) => sum(stage, ({ dispatch }) => workgroupsOf(dispatch)) <= MAX_WORKGROUPS) &&
    canBind(sharedBindings(parts))
  );

  function canBind(shared: SharedBindings | undefined): boolean {
    return (
      shared !== undefined &&
      shared.bindings.length + (several ? 1 : 0) <= maxStorageBuffers &&
      shared.bindings.every(({ view }) => view.byteLength <= maxBindingBytes) &&
      sum(parts, ({ program }) => program.parameterNames + GRID_PARAMETERS) + sum(shared.places, startsIn) <=
        MOST_PARAMETERS
    );
  }
}

const startsIn = (places: readonly Place[]) => places.filter(({ start }) => start > 0).length;

export const sum = <T>(items: readonly T[], of: (item: T) => number) =>
  items.reduce((total, item) => total + of(item), 0);

export function workgroupsOf({ workgroups: [x, y = 1, z = 1] }: Dispatch): number {
  return x * y * z;
}
