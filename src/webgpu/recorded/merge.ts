// Dispatches of a recorded step, several as one. What is saved is the time of launching kernels, which on lavapipe is about
// that of 30,000 multiply-adds each and leaves most of a GPU idle. A group of dispatches becomes one of several stages: the
// parts of a stage do not depend on each other, and each computes what it computed alone, on its share of the workgroups.
//
// Several stages are for adapters whose workgroups may wait for each other (`TuningProfile.workers`). A group then has one
// workgroup for each of the adapter's threads, and they deal out the workgroups of its parts among themselves: a counter of a
// stage tells what is next, another how much is done, and only when all of it is does a thread go on to the next stage. Since
// nobody waits for work that nobody has taken, this ends even where the workgroups run one after the other. What one thread
// wrote the others see: on llvmpipe, threads of a processor, an atomic addition is a fence. WGSL promises neither, so other
// adapters get groups of one stage.

import { type DispatchCommand, PARAMETER_BINDING, type Program, withSharedAccess } from "../commands.js";
import type { TuningProfile } from "../family.js";
import { SUBGROUP_LANES } from "../family.js";
import { type Dispatch, type GpuView, GRID_INDEX, MAX_WORKGROUPS, overlap, type ProgramText } from "../program.js";
import { numbersOf, type Place, type SharedBindings, sharedBindings } from "./shared-bindings.js";

/**
 * Seconds that compiling a merged program may take by `compilationSeconds`, so that none takes 2, with something to spare for
 * what else the machine does. The least is chosen that makes as few dispatches as any.
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

/** The commands in an order that gives the same results, as groups that can be one dispatch each: few, if not the fewest. */
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

/** Puts a command into the first group that can take it after all that it depends on, or into one of its own at the end. */
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
function independent(some: readonly Part[], others: readonly Part[]): boolean {
  const clash = (writers: readonly Part[], users: readonly Part[]) => {
    const used = viewsOf(users, false);
    return viewsOf(writers, true).some((written) => used.some((view) => overlap(written, view)));
  };
  return !clash(some, others) && !clash(others, some);
}

const viewsOf = (parts: readonly Part[], writtenOnly: boolean) =>
  parts.flatMap(({ dispatch }) =>
    dispatch.bindings.flatMap(({ view, access }) => (writtenOnly && access !== "read_write" ? [] : [view])),
  );

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
    (!several || (workers !== undefined && lanes(program.text) === SUBGROUP_LANES && group.length <= MOST_STAGES)) &&
    parts.every(({ program: { text } }) => !text.subgroupMatrices && shape(text) === shape(program.text)) &&
    parts.every(({ program: { text } }) => !text.declarations?.includes("var<workgroup>")) &&
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

/**
 * What llvmpipe may need to compile programs as one, in seconds: fitted to 140 merged programs on two cores of an EPYC, in an
 * hour that others disturbed, and scaled to one that was quiet. For each variable in memory of its own (those of the text, and
 * one for every number that is loaded) LLVM's pass for coroutines, which every compute shader goes through there, finds anew
 * how all basic blocks dominate each other.
 */
export function compilationSeconds(programs: readonly Program[]): number {
  const codes = programs.map(codeOf);
  const total = (of: (code: Code) => number) => sum(codes, of);
  const [blocks, variables] = [total(({ blocks }) => blocks), total(({ variables }) => variables)];
  return (
    1.9e-6 * blocks * variables + 0.03 * total(({ loops }) => loops) + 4e-4 * total(({ statements }) => statements)
  );
}

/** Basic blocks and variables of a program as llvmpipe has it. */
interface Code {
  readonly blocks: number;
  readonly variables: number;
  /** Of its text. */
  readonly loops: number;
  readonly statements: number;
}

const codes = new WeakMap<Program, Code>();

/** A load or store has its blocks once for each of eight lanes: for the lane, and for each of its numbers. */
function codeOf(program: Program): Code {
  const known = codes.get(program);
  if (known !== undefined) return known;
  const { declarations = "", body } = program.text;
  const text = `${declarations}${body}`;
  const count = (pattern: string) => text.match(new RegExp(`(?<![.\\w])${pattern}`, "g"))?.length ?? 0;
  let blocks = 0;
  let variables = count("var\\b") + program.parameterNames + GRID_PARAMETERS;
  for (const [, name, type] of program.code.matchAll(/var<storage, \w+> (\w+): array<(\w+)/g)) {
    const numbers = numbersOf(type!);
    const stores = count(`${name}\\[[^;=]*\\] = `);
    const loads = count(`${name}\\[`) - stores;
    blocks += 8 * (loads * (2 + 3 * numbers) + stores * (2 + 2 * numbers));
    variables += loads * numbers;
  }
  const code = { blocks, variables, loops: count("for\\b"), statements: text.split(";").length - 1 };
  codes.set(program, code);
  return code;
}

const sum = <T>(items: readonly T[], of: (item: T) => number) => items.reduce((total, item) => total + of(item), 0);

function workgroupsOf({ workgroups: [x, y = 1, z = 1] }: Dispatch): number {
  return x * y * z;
}

/** Width, height and number of a part's workgroups. */
const GRID_PARAMETERS = 3;

/**
 * The dispatch that does the work of a group. Its parameters are those of each part, then the parts' grids.
 * @param counters zeros, COUNTERS_BYTES of them, for a group of several stages
 */
export function mergedDispatch(group: Group, { workers = 1 }: TuningProfile, counters?: GpuView): Dispatch {
  const parts = group.flat();
  const prefixed = (values: Readonly<Record<string, number>> | undefined, k: number) =>
    Object.entries(values ?? {}).map(([name, value]) => [prefix(k) + name, value] as const);
  const { bindings, places } = sharedBindings(parts)!;
  const several = group.length > 1;
  const workgroups = Math.max(...group.map((stage) => sum(stage, ({ dispatch }) => workgroupsOf(dispatch))));
  const programs = group.map((stage) => stage.map(({ program }) => program.key).join(" & ")).join(" > ");
  const bound = places.map((own) => own.map(({ index, start }) => (start > 0 ? `${index}+` : index)).join(","));
  return withSharedAccess({
    key: `${programs} ${bound.join("/")}`,
    program: () =>
      mergedText(
        group.map((stage) => stage.length),
        parts.map(({ dispatch, program }, k) => ({
          text: program.text,
          memory: dispatch.bindings.map(({ name }, i) => {
            const { index, start } = places[k]![i]!;
            return { name, memory: bindings[index]!.name, hasStart: start > 0 };
          }),
        })),
      ),
    bindings: several
      ? [...bindings, { name: "counters", view: counters!, type: "atomic<u32>", access: "read_write" }]
      : bindings,
    sizes: Object.fromEntries([
      ...parts.flatMap(({ dispatch }, k) => prefixed(dispatch.sizes, k)),
      ...parts.flatMap(({ dispatch }, k): [string, number][] => {
        const [x, y = 1] = dispatch.workgroups;
        return [
          [`${prefix(k)}gridX`, x],
          [`${prefix(k)}gridY`, y],
          [`${prefix(k)}workgroups`, workgroupsOf(dispatch)],
        ];
      }),
      ...parts.flatMap(({ dispatch }, k) =>
        places[k]!.flatMap(({ start }, i): [string, number][] =>
          start > 0 ? [[prefix(k) + startName(dispatch.bindings[i]!.name), start]] : [],
        ),
      ),
    ]),
    numbers: Object.fromEntries(parts.flatMap(({ dispatch }, k) => prefixed(dispatch.numbers, k))),
    workgroups: [several ? Math.min(workers, workgroups) : workgroups],
  });
}

const startName = (binding: string) => `start_${binding}`;

const prefix = (k: number) => `part${k}_`;

interface TextOfPart {
  readonly text: ProgramText;
  /** Its bindings, their names in the merged program, and whether they begin within those. */
  readonly memory: readonly { readonly name: string; readonly memory: string; readonly hasStart: boolean }[];
}

/** @param sizes how many of the parts each stage has */
function mergedText(sizes: readonly number[], parts: readonly TextOfPart[]): ProgramText {
  const { workgroupSize } = parts[0]!.text;
  const several = sizes.length > 1;
  let count = 0;
  const stages = sizes.map((size) => Array.from({ length: size }, () => count++));
  return {
    workgroupSize,
    subgroups: several || parts.some(({ text }) => text.subgroups),
    unseenUniformity: several,
    declarations: [...parts.map(partText), ...stages.map(stageText), several ? WORK_SHARING : ""].join("\n"),
    body: several
      ? stages.map((_, s) => stageLoop(s, s === stages.length - 1)).join("\n")
      : `stage0(${GRID_INDEX}, local, lane);`,
  };
}

/** `wgsl` with a parameter added to each index of a binding. */
function withStart(wgsl: string, name: string): string {
  const uses = [...wgsl.matchAll(new RegExp(`(?<![.\\w])${name}\\[`, "g"))].reverse();
  return uses.reduce((text, { index, 0: { length } }) => {
    const begin = index + length;
    let end = begin;
    for (let depth = 1; depth > 0; end++) depth += Number(text[end] === "[") - Number(text[end] === "]");
    return `${text.slice(0, begin)}u.${startName(name)} + u32(${text.slice(begin, end - 1)})${text.slice(end - 1)}`;
  }, wgsl);
}

/** A part is a function. */
function partText({ text, memory }: TextOfPart, k: number): string {
  const [x, y = 1, z = 1] = text.workgroupSize;
  const { declarations = "", body } = text;
  const declared = [...declarations.matchAll(/\b(?:fn|const|alias|struct|override)\s+(\w+)/g)].map(([, name]) => name!);
  const renamed = new Map([
    ...declared.map((name) => [name, prefix(k) + name] as const),
    ...memory.map(({ name, memory }) => [name, memory] as const),
  ]);
  const moved = memory.filter(({ hasStart }) => hasStart);
  const own = new RegExp(`(?<![.\\w])(${[...renamed.keys()].join("|")})\\b`, "g");
  const rename = (wgsl: string) =>
    moved
      .reduce((text, { name }) => withStart(text, name), wgsl)
      .replace(own, (name) => renamed.get(name)!)
      .replace(/(?<![.\w])u\.(?=\w)/g, `u.${prefix(k)}`);
  return /* wgsl */ `${rename(declarations)}
fn ${prefix(k)}main(global: vec3u, local: vec3u, group: vec3u, groups: vec3u, lane: u32) {
${rename(body)}
}
fn ${prefix(k)}run(index: u32, local: vec3u, lane: u32) {
  let area = u.${prefix(k)}gridX * u.${prefix(k)}gridY;
  let groups = vec3u(u.${prefix(k)}gridX, u.${prefix(k)}gridY, u.${prefix(k)}workgroups / area);
  let group = vec3u(index % groups.x, index % area / groups.x, index / area);
  ${prefix(k)}main(group * vec3u(${x}, ${y}, ${z}) + local, local, group, groups, lane);
}`;
}

/**
 * Workgroups of a stage's parts take turns as evenly as their numbers allow, since an adapter may give each of its threads a
 * stretch of them: of `rest` workgroups, of which `own` are this part's, the first `at` hold floor(at own / rest) of them.
 */
function stageText(parts: readonly number[], s: number): string {
  const run = (k: number, index: string) => `${prefix(k)}run(${index}, local, lane);`;
  return /* wgsl */ `
fn total${s}() -> u32 { return ${parts.map((k) => `u.${prefix(k)}workgroups`).join(" + ")}; }
fn stage${s}(index: u32, local: vec3u, lane: u32) {
  var at = index;
  var rest = total${s}();
${parts
  .slice(0, -1)
  .map(
    (k) => /* wgsl */ `
  let own${k} = u.${prefix(k)}workgroups;
  let before${k} = at * own${k} / rest;
  if ((at + 1u) * own${k} / rest > before${k}) {
    ${run(k, `before${k}`)}
    return;
  }
  at -= before${k};
  rest -= own${k};`,
  )
  .join("")}
  ${run(parts.at(-1)!, "at")}
}`;
}

/** Functions of a subgroup, which is a workgroup: counter 2 s is what was taken of stage s, 2 s + 1 what is done. */
const WORK_SHARING = /* wgsl */ `
fn take(stage: u32, lane: u32) -> u32 {
  var index = 0u;
  if (lane == 0u) { index = atomicAdd(&counters[2u * stage], 1u); }
  return subgroupBroadcastFirst(index);
}
fn finish(stage: u32, lane: u32) {
  if (lane == 0u) { atomicAdd(&counters[2u * stage + 1u], 1u); }
}
// A plain load might be taken out of the loop.
fn waitFor(stage: u32, total: u32, lane: u32) {
  if (lane == 0u) { while (atomicAdd(&counters[2u * stage + 1u], 0u) < total) {} }
}`;

const stageLoop = (s: number, last: boolean) => /* wgsl */ `
  for (var index = take(${s}u, lane); index < total${s}(); index = take(${s}u, lane)) {
    stage${s}(index, local, lane);
    finish(${s}u, lane);
  }
  ${last ? "" : `waitFor(${s}u, total${s}(), lane);`}`;
