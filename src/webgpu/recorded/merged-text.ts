// The program of a group: its parts become functions of one text, and its workgroups deal out theirs (see groups.ts).
import { withSharedAccess } from "../commands.js";
import type { TuningProfile } from "../family.js";
import { type Dispatch, type GpuView, GRID_INDEX, type ProgramText } from "../program.js";
import { declaredNames, withIndexOffset, withNames, withParameterPrefix } from "../wgsl-text.js";
import { type Group, sum, workgroupsOf } from "./groups.js";
import { sharedBindings } from "./shared-bindings.js";

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

/** A part is a function. */
function partText({ text, memory }: TextOfPart, k: number): string {
  const [x, y = 1, z = 1] = text.workgroupSize;
  const { declarations = "", body } = text;
  const names = new Map([
    ...declaredNames(declarations).map((name) => [name, prefix(k) + name] as const),
    ...memory.map(({ name, memory }) => [name, memory] as const),
  ]);
  const rename = (wgsl: string) => {
    const moved = memory
      .filter(({ hasStart }) => hasStart)
      .reduce((text, { name }) => withIndexOffset(text, name, `u.${startName(name)}`), wgsl);
    return withParameterPrefix(withNames(moved, names), prefix(k));
  };
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
 * Workgroups of a stage's parts take turns as evenly as their numbers allow, since an adapter may give each of its
 * threads a stretch of them. Of `rest` workgroups, of which `own` are this part's, the first `at` hold floor(at own /
 * rest) of them.
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
