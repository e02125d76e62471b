// Dispatches of a recorded step that do not depend on each other, as one: each part computes what it computed alone, on its
// share of the workgroups. What is saved is the time of launching a kernel, which on lavapipe is about that of 30,000
// multiply-adds and on a GPU leaves most of it idle. Only dispatches with short programs are merged: theirs is the work that is
// too small for its launch, and the merged program, which must be compiled as well, costs little.
import type { DispatchCommand } from "./webgpu-commands.js";
import type { TuningProfile } from "./webgpu-profile.js";
import { type Binding, type Dispatch, GRID_INDEX, MAX_WORKGROUPS, type ProgramText } from "./webgpu-program.js";

/** Characters of WGSL beyond which a program is not merged. */
const LONGEST_PROGRAM = 6300;
/** Parameters of a dispatch, which a binding of them holds. */
const MOST_PARAMETERS = 64;

type Part = Pick<DispatchCommand, "dispatch" | "program">;

/**
 * The commands in an order that gives the same results, those that can be merged in one group: each is hoisted, or else put
 * off, to where another one stands that it can be merged with.
 */
export function groupsOf<P extends Part>(commands: readonly P[], profile: TuningProfile): P[][] {
  const groups: P[][] = [];
  for (const command of commands) {
    const hoisted = partnerOf([command], groups, groups.length - 1, -1, profile);
    if (hoisted === undefined) groups.push([command]);
    else hoisted.push(command);
  }
  for (let i = groups.length - 2; i >= 0; i--) {
    const later = partnerOf(groups[i]!, groups, i + 1, 1, profile);
    if (later === undefined) continue;
    later.push(...groups[i]!);
    groups.splice(i, 1);
  }
  return groups;
}

/** The first group from `start` on, in steps of `step`, that `group` fits, as long as it depends on none before that. */
function partnerOf<P extends Part>(
  group: readonly P[],
  groups: readonly P[][],
  start: number,
  step: 1 | -1,
  profile: TuningProfile,
): P[] | undefined {
  for (let i = start; i >= 0 && i < groups.length; i += step) {
    const other = groups[i]!;
    if (!independent(group, other)) return undefined;
    if (canMerge([...other, ...group], profile)) return other;
  }
  return undefined;
}

/** Whether no buffer that one side writes is used by the other. */
function independent(some: readonly Part[], others: readonly Part[]): boolean {
  const writes = (parts: readonly Part[]) => new Set(buffersOf(parts, true));
  const [written, overwritten] = [writes(some), writes(others)];
  return (
    buffersOf(others, false).every((buffer) => !written.has(buffer)) &&
    buffersOf(some, false).every((buffer) => !overwritten.has(buffer))
  );
}

const buffersOf = (parts: readonly Part[], writtenOnly: boolean) =>
  parts.flatMap(({ dispatch }) =>
    dispatch.bindings.flatMap(({ view, access }) => (writtenOnly && access !== "read_write" ? [] : [view.buffer])),
  );

/** Whether programs can stand in one dispatch. */
function canMerge(parts: readonly Part[], profile: TuningProfile): boolean {
  const shape = ({ workgroupSize: [x, y = 1, z = 1] }: ProgramText) => `${x} ${y} ${z}`;
  const [first] = parts;
  return (
    parts.every(({ program }) => program.code.length <= LONGEST_PROGRAM) &&
    parts.every(({ program: { text } }) => !text.subgroupMatrices && shape(text) === shape(first!.program.text)) &&
    parts.every(({ program: { text } }) => !text.declarations?.includes("var<workgroup>")) &&
    sum(parts, ({ dispatch }) => dispatch.bindings.length) <= profile.maxStorageBuffers &&
    sum(parts, ({ program }) => program.parameterNames + GRID_PARAMETERS) <= MOST_PARAMETERS &&
    sum(parts, ({ dispatch }) => workgroupsOf(dispatch)) <= MAX_WORKGROUPS
  );
}

const sum = <T>(items: readonly T[], of: (item: T) => number) => items.reduce((total, item) => total + of(item), 0);

function workgroupsOf({ workgroups: [x, y = 1, z = 1] }: Dispatch): number {
  return x * y * z;
}

/** Width, height and number of a part's workgroups. */
const GRID_PARAMETERS = 3;

/** The dispatch that does the work of `parts`. Its parameters are those of each part, then the parts' grids. */
export function mergedDispatch(parts: readonly Part[]): Dispatch {
  const prefixed = (values: Readonly<Record<string, number>> | undefined, k: number) =>
    Object.entries(values ?? {}).map(([name, value]) => [prefix(k) + name, value] as const);
  return {
    key: parts.map(({ program }) => program.key).join(" & "),
    program: () =>
      mergedText(parts.map(({ dispatch, program }) => ({ text: program.text, bindings: dispatch.bindings }))),
    bindings: parts.flatMap(({ dispatch }, k) =>
      dispatch.bindings.map((binding) => ({ ...binding, name: prefix(k) + binding.name })),
    ),
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
    ]),
    numbers: Object.fromEntries(parts.flatMap(({ dispatch }, k) => prefixed(dispatch.numbers, k))),
    workgroups: [sum(parts, ({ dispatch }) => workgroupsOf(dispatch))],
  };
}

const prefix = (k: number) => `part${k}_`;

interface TextOfPart {
  readonly text: ProgramText;
  readonly bindings: readonly Binding[];
}

/**
 * Each part is a function. Workgroups of the parts take turns as evenly as their numbers allow, since an adapter may give each
 * of its threads a stretch of them: of `rest` workgroups, of which `own` are this part's, the first `at` hold floor(at own / rest) of them.
 */
function mergedText(parts: readonly TextOfPart[]): ProgramText {
  const renamed = parts.map(renamedText);
  const { workgroupSize } = parts[0]!.text;
  const [x, y = 1, z = 1] = workgroupSize;
  const last = parts.length - 1;
  return {
    workgroupSize,
    subgroups: parts.some(({ text }) => text.subgroups),
    declarations: renamed
      .map(
        ({ declarations, body }, k) => /* wgsl */ `${declarations}
fn ${prefix(k)}main(global: vec3u, local: vec3u, group: vec3u, groups: vec3u, lane: u32) {
${body}
}
fn ${prefix(k)}run(index: u32, local: vec3u, lane: u32) {
  let area = u.${prefix(k)}gridX * u.${prefix(k)}gridY;
  let groups = vec3u(u.${prefix(k)}gridX, u.${prefix(k)}gridY, u.${prefix(k)}workgroups / area);
  let group = vec3u(index % groups.x, index % area / groups.x, index / area);
  ${prefix(k)}main(group * vec3u(${x}, ${y}, ${z}) + local, local, group, groups, lane);
}`,
      )
      .join("\n"),
    body: /* wgsl */ `
  var at = ${GRID_INDEX};
  var rest = ${parts.map((_, k) => `u.${prefix(k)}workgroups`).join(" + ")};
${parts
  .slice(0, last)
  .map(
    (_, k) => /* wgsl */ `
  {
    let own = u.${prefix(k)}workgroups;
    let before = at * own / rest;
    if ((at + 1u) * own / rest > before) {
      ${prefix(k)}run(before, local, lane);
      return;
    }
    at -= before;
    rest -= own;
  }`,
  )
  .join("")}
  ${prefix(last)}run(at, local, lane);`,
  };
}

/** A program's text with its bindings, its parameters and what it declares renamed. */
function renamedText({ text, bindings }: TextOfPart, k: number): { declarations: string; body: string } {
  const { declarations = "", body } = text;
  const declared = [...declarations.matchAll(/\b(?:fn|const|alias|struct|override)\s+(\w+)/g)].map(([, name]) => name!);
  const names = [...bindings.map(({ name }) => name), ...declared];
  const own = new RegExp(`(?<![.\\w])(${names.join("|")})\\b`, "g");
  const rename = (wgsl: string) =>
    wgsl.replace(own, `${prefix(k)}$1`).replace(/(?<![.\w])u\.(?=\w)/g, `u.${prefix(k)}`);
  return { declarations: rename(declarations), body: rename(body) };
}
