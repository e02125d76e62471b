// Optimizer steps in place on parameters w and their slots, several tensors a dispatch: as many as one may bind. A
// parameter, its gradient g and its slots have one shape, f32; a parameter larger than a binding takes a dispatch per
// window. What changes from step to step arrives as numbers: nothing recompiles. Inputs are the gradients [g, g, ...],
// outputs [w, ...slots, w, ...slots, ...], all read and written, no tensor twice. The rules are in optimizer-rules.ts.
// - Of a loss scaling (loss-scaling.ts) [scale f32, nonFinite] follow the gradients: they are divided by the scale, and
//   where nonFinite is not 0 nothing changes. Gradients without a scale have [nonFinite] alone.
// - With `newAverage` the last slot is the parameters' moving average over the steps, which begins as NOT_BEGUN: what a
//   step changes first, it begins with.
// - Of gradients that are gathered over several steps, all but the last of them are not `due`: nothing changes.
import { type CpuCall, defineKernel, type Kernel } from "../tensor/kernel.js";
import {
  type Binding,
  follows,
  type GpuCall,
  type GpuView,
  MOST_ELEMENTS_TOGETHER,
  positionOf,
} from "../webgpu/program.js";
import { typed, unlessNan } from "./ieee.js";
import { bindableGroups, rolledSegments } from "./rolled.js";

/**
 * Elements of an average before the first step that changes their parameter: the largest float32. Only the device knows
 * which step that is, where steps with gradients that are not finite are left out.
 */
export const NOT_BEGUN = (2 - 2 ** -23) * 2 ** 127;

/** A gradient with the parameter and slots that it changes. */
type Update<View> = readonly [gradient: View, parameter: View, ...slots: View[]];

export interface StepParams {
  /** What of a loss scaling follows the gradients; by default nothing. */
  readonly scaling?: "scale" | "guard";
  /** Whether the step is taken; given where it is not every time. */
  readonly due?: boolean;
  /** Gradients are limited to [-clipValue, clipValue]; by default not. */
  readonly clipValue?: number;
  /**
   * Share of the parameters after this step in their average once it has begun, (0, 1]; without it there is no average.
   */
  readonly newAverage?: number;
}

/** The inputs without those of a loss scaling, and its. */
function partsOf<View>(inputs: readonly View[], { scaling }: StepParams) {
  const others = scaling === undefined ? 0 : scaling === "scale" ? 2 : 1;
  return {
    gradients: inputs.slice(0, inputs.length - others),
    nonFinite: others === 0 ? undefined : inputs.at(-1),
    scale: others < 2 ? undefined : inputs.at(-2),
  };
}

function updatesOf<View>(gradients: readonly View[], state: readonly View[]): Update<View>[] {
  const each = state.length / gradients.length;
  return gradients.map(
    (gradient, k) => [gradient, ...state.slice(k * each, (k + 1) * each)] as unknown as Update<View>,
  );
}

type CpuView = CpuCall<StepParams>["outputs"][number];

/** Changes the slots at i, and gives the parameter after the step. */
type CpuUpdate = (w: number, gradient: number, slots: readonly CpuView[], i: number) => number;

/** Updates every element on the CPU, unless a gradient was not finite. */
function cpuUpdateAll({ inputs, outputs, params }: CpuCall<StepParams>, update: CpuUpdate): void {
  const { gradients, scale, nonFinite } = partsOf(inputs, params);
  const { newAverage, due = true, clipValue = Number.POSITIVE_INFINITY } = params;
  if (nonFinite?.data[0] || !due) return;
  const factor = scale === undefined ? 1 : 1 / scale.data[0]!;
  for (const [g, w, ...rest] of updatesOf(gradients, outputs)) {
    const slots = newAverage === undefined ? rest : rest.slice(0, -1);
    const average = newAverage === undefined ? undefined : rest.at(-1)!.data;
    for (let i = 0; i < w.size; i++) {
      w.data[i] = update(w.data[i]!, Math.min(Math.max(g.data[i]! * factor, -clipValue), clipValue), slots, i);
      if (average === undefined) continue;
      const before = average[i]!;
      average[i] = before === NOT_BEGUN ? w.data[i]! : before + (w.data[i]! - before) * newAverage!;
    }
  }
}

/** The updates, those as one whose tensors lie side by side: one loop and few bindings for all of them. */
function joinedUpdates({ joined }: GpuCall<StepParams>, updates: readonly Update<GpuView>[]): Update<GpuView>[] {
  const idOf = ([, { buffer }]: Update<GpuView>) => buffer.whole?.id ?? 0;
  const inOrder = updates.toSorted((a, b) => idOf(a) - idOf(b) || positionOf(a[1]) - positionOf(b[1]));
  const runs: Update<GpuView>[][] = [];
  for (const update of inOrder) {
    const run = runs.at(-1);
    const [, ...before] = run?.at(-1) ?? [];
    if (run !== undefined && before.every((view, i) => follows(view, update[i + 1]!))) run.push(update);
    else runs.push([update]);
  }
  return runs.flatMap((run) => {
    if (run.length === 1) return run;
    const columns = run[0]!.map((_, i) => joined(run.map((update) => update[i]!)));
    return columns.includes(undefined) ? run : [columns as unknown as Update<GpuView>];
  });
}

/** A rule in WGSL. */
export interface UpdateText {
  readonly key: string;
  /** Names of the vec4s that the statement reads and changes: parameter, slots. */
  readonly state: readonly string[];
  /** WGSL that changes them by the gradient `g`. */
  readonly statement: string;
  readonly numbers: Readonly<Record<string, number>>;
}

const averaged = ({ key, state, statement, numbers }: UpdateText, newAverage: number): UpdateText => ({
  key: `${key} averaged`,
  state: [...state, "average"],
  statement: `${statement}
      average = select(average + (w - average) * u.newAverage, w, average == vec4f(0x1.fffffep+127f));`,
  numbers: { ...numbers, newAverage },
});

const clipped = ({ key, state, statement, numbers }: UpdateText, clipValue: number): UpdateText => ({
  key: `${key} clipped`,
  state,
  statement: `g = ${typed(unlessNan("clamp(g, T(-u.clipValue), T(u.clipValue))", "g"), "vec4f")};
      ${statement}`,
  numbers: { ...numbers, clipValue },
});

/** Runs a statement on every vec4 of all parameters. */
function updateAll(call: GpuCall<StepParams>, text: UpdateText): void {
  const { newAverage, clipValue, due } = call.params;
  const limited = clipValue === undefined ? text : clipped(text, clipValue);
  const { key, state, statement, numbers } = newAverage === undefined ? limited : averaged(limited, newAverage);
  const names = ["g", ...state];
  const { gradients, scale, nonFinite } = partsOf(call.inputs, call.params);
  const scaling: Binding[] = [
    ...(scale === undefined ? [] : [{ name: "scale", view: scale, type: "f32" }]),
    ...(nonFinite === undefined ? [] : [{ name: "nonFinite", view: nonFinite, type: "u32" }]),
  ];
  const before = [
    ...(due === undefined ? [] : ["if (u.due == 0f) { return; }"]),
    ...(nonFinite === undefined ? [] : ["if (nonFinite[0] != 0u) { return; }"]),
    ...(scale === undefined ? [] : ["let unscale = 1f / scale[0];"]),
  ].join("\n  ");
  // The first layer's gradients are the last to be there: theirs is the smaller group, which may join what made them.
  const updates = joinedUpdates(call, updatesOf(gradients, call.outputs)).toReversed();
  const isLarge = ([gradient]: Update<GpuView>) => gradient.size > MOST_ELEMENTS_TOGETHER;
  // A large one by itself: it may be changed as soon as its gradient is there.
  const lists = [...updates.filter(isLarge).map((update) => [update]), updates.filter((update) => !isLarge(update))];
  for (const group of lists.flatMap((list) => bindableGroups(call.profile, list, scaling.length))) {
    const loop = rolledSegments(
      call.profile,
      group.map(({ views: [gradient] }) => Math.ceil(gradient!.size / 4)),
    );
    call.dispatch({
      key: `${key} ${group.length}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: `${before}${loop.body(
          (k) => /* wgsl */ `
      ${clipValue === undefined ? "let" : "var"} g = g${k}[i]${scale === undefined ? "" : " * unscale"};
      ${state.map((name) => `var ${name} = ${name}${k}[i];`).join(" ")}
      ${statement}
      ${state.map((name) => `${name}${k}[i] = ${name};`).join(" ")}`,
        )}`,
      }),
      bindings: [
        ...scaling,
        ...group.flatMap(({ views }, k) =>
          views.map(
            (view, j): Binding => ({
              name: `${names[j]}${k}`,
              view,
              type: "vec4f",
              access: j === 0 ? "read" : "read_write",
            }),
          ),
        ),
      ],
      sizes: loop.sizes,
      numbers: due === undefined ? numbers : { ...numbers, due: Number(due) },
      workgroups: loop.workgroups,
    });
  }
}

/** The kernel of a rule: its float64 definition, and its WGSL with the numbers that this reads as `u.NAME`. */
export function defineUpdate<Params extends StepParams>(
  name: string,
  cpu: (params: Params) => CpuUpdate,
  webgpu: (params: Params) => UpdateText,
): Kernel<Params> {
  return defineKernel<Params>({
    name,
    cpu: (call) => cpuUpdateAll(call, cpu(call.params)),
    webgpu: (call) => updateAll(call, webgpu(call.params)),
  });
}

export interface AccumulateParams extends StepParams {
  /** Whether what was gathered before is used up. */
  readonly first: boolean;
  /** Factor of the gradients. */
  readonly share: number;
}

/** sum <- sum + g share, or g share if it is the first. Outputs are the sums, one for each gradient. */
export const accumulateKernel = defineUpdate<AccumulateParams>(
  "accumulate",
  ({ first, share }) =>
    (sum, gradient) =>
      first ? gradient * share : sum + gradient * share,
  ({ first, share }) => ({
    key: "",
    state: ["sum"],
    statement: "sum = select(sum + g * u.share, g * u.share, u.first != 0f);",
    numbers: { first: Number(first), share },
  }),
);
