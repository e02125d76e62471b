// Optimizer steps in place on parameters w and their slots, several tensors a dispatch: as many as one may bind. A
// parameter, its gradient g and its slots have one shape, f32; a parameter larger than a binding takes a dispatch per
// window. What changes from step to step arrives as numbers: nothing recompiles. Inputs are the gradients [g, g, ...],
// outputs [w, ...slots, w, ...slots, ...], all read and written, no tensor twice. With `scaled` params two more inputs
// follow, [scale f32, nonFinite u32] of a loss scaling (loss-scaling.ts): gradients are divided by the scale, and where
// nonFinite is not 0 nothing changes. With `newAverage` the last slot is the parameters' moving average over the steps,
// which begins as NOT_BEGUN: what a step changes first, it begins with.
// Formulas and defaults as Keras 3: weight decay is decoupled from the gradient, w -= w learningRate weightDecay.
import { type CpuCall, defineKernel } from "../tensor/kernel.js";
import { type Binding, follows, type GpuCall, type GpuView, positionOf } from "../webgpu/program.js";
import { bindableGroups, rolledSegments } from "./rolled.js";

/**
 * Elements of an average before the first step that changes their parameter: the largest float32. Only the device knows
 * which step that is, where steps with gradients that are not finite are left out.
 */
export const NOT_BEGUN = (2 - 2 ** -23) * 2 ** 127;

/** A gradient with the parameter and slots that it changes. */
type Update<View> = readonly [gradient: View, parameter: View, ...slots: View[]];

interface StepParams {
  /** Whether gradients carry a loss scaling's factor. Default false. */
  readonly scaled?: boolean;
  /**
   * Share of the parameters after this step in their average once it has begun, (0, 1]; without it there is no average.
   */
  readonly newAverage?: number;
}

/** The inputs without those of a loss scaling, and its. */
function partsOf<View>(inputs: readonly View[], { scaled }: StepParams) {
  return scaled
    ? { gradients: inputs.slice(0, -2), scale: inputs.at(-2), nonFinite: inputs.at(-1) }
    : { gradients: inputs };
}

function updatesOf<View>(gradients: readonly View[], state: readonly View[]): Update<View>[] {
  const each = state.length / gradients.length;
  return gradients.map(
    (gradient, k) => [gradient, ...state.slice(k * each, (k + 1) * each)] as unknown as Update<View>,
  );
}

type CpuView = CpuCall<StepParams>["outputs"][number];

/** Updates every element on the CPU, unless a gradient was not finite. */
function cpuUpdateAll(
  { inputs, outputs, params }: CpuCall<StepParams>,
  /** Gives the parameter after the step. */
  update: (w: number, gradient: number, slots: readonly CpuView[], i: number) => number,
): void {
  const { gradients, scale, nonFinite } = partsOf(inputs, params);
  const { newAverage } = params;
  if (nonFinite?.data[0]) return;
  const factor = scale === undefined ? 1 : 1 / scale.data[0]!;
  for (const [g, w, ...rest] of updatesOf(gradients, outputs)) {
    const slots = newAverage === undefined ? rest : rest.slice(0, -1);
    const average = newAverage === undefined ? undefined : rest.at(-1)!.data;
    for (let i = 0; i < w.size; i++) {
      w.data[i] = update(w.data[i]!, g.data[i]! * factor, slots, i);
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

interface UpdateText {
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

/** Runs a statement on every vec4 of all parameters. */
function updateAll(call: GpuCall<StepParams>, text: UpdateText): void {
  const { key, state, statement, numbers } =
    call.params.newAverage === undefined ? text : averaged(text, call.params.newAverage);
  const names = ["g", ...state];
  const { gradients, scale, nonFinite } = partsOf(call.inputs, call.params);
  const scaling: Binding[] =
    scale === undefined || nonFinite === undefined
      ? []
      : [
          { name: "scale", view: scale, type: "f32" },
          { name: "nonFinite", view: nonFinite, type: "u32" },
        ];
  // The first layer's gradients are the last to be there: theirs is the smaller group, which may join what made them.
  const updates = joinedUpdates(call, updatesOf(gradients, call.outputs)).toReversed();
  for (const group of bindableGroups(call.profile, updates, scaling.length)) {
    const loop = rolledSegments(
      call.profile,
      group.map(({ views: [gradient] }) => Math.ceil(gradient!.size / 4)),
    );
    call.dispatch({
      key: `${key} ${group.length}`,
      program: () => ({
        workgroupSize: loop.workgroupSize,
        body: `${scaling.length === 0 ? "" : "if (nonFinite[0] != 0u) { return; }\n  let unscale = 1f / scale[0];"}${loop.body(
          (k) => /* wgsl */ `
      let g = g${k}[i]${scaling.length === 0 ? "" : " * unscale"};
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
      numbers,
      workgroups: loop.workgroups,
    });
  }
}

export interface SgdParams extends StepParams {
  readonly learningRate: number;
  /** Without momentum there is no slot. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
}

/**
 * w -= learningRate g; with momentum m <- momentum m - learningRate g, w += m (Nesterov: w += momentum m - learningRate
 * g). Slots: none or, with momentum, [m].
 */
export const sgdKernel = defineKernel<SgdParams>({
  name: "sgd",
  cpu: (call) => {
    const { learningRate, momentum = 0, nesterov, weightDecay = 0 } = call.params;
    cpuUpdateAll(call, (w, gradient, [m], i) => {
      const step = -learningRate * gradient;
      const decayed = w * (1 - learningRate * weightDecay);
      if (m !== undefined) m.data[i] = momentum * m.data[i]! + step;
      const velocity = m?.data[i] ?? step;
      return decayed + (nesterov && m !== undefined ? momentum * velocity + step : velocity);
    });
  },
  webgpu: (call) => {
    const { learningRate, momentum = 0, nesterov, weightDecay = 0 } = call.params;
    const plain = momentum === 0;
    const kind = plain ? "plain" : nesterov ? "nesterov" : "momentum";
    updateAll(call, {
      key: kind,
      state: plain ? ["w"] : ["w", "m"],
      statement: /* wgsl */ `let step = -u.learningRate * g;
      ${plain ? "" : "m = u.momentum * m + step;"}
      w = w * u.keep + ${{ plain: "step", momentum: "m", nesterov: "(u.momentum * m + step)" }[kind]};`,
      numbers: { learningRate, momentum, keep: 1 - learningRate * weightDecay },
    });
  },
});

export interface AdamParams extends StepParams {
  readonly learningRate: number;
  /** Number of this step, from 1. */
  readonly step: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** AdamW where it is not 0. */
  readonly weightDecay: number;
}

/** Step size with both bias corrections, in float64. */
function adamRate({ learningRate, step, beta1, beta2 }: AdamParams): number {
  return (learningRate * Math.sqrt(1 - beta2 ** step)) / (1 - beta1 ** step);
}

/**
 * Adam (Kingma, Ba, 2015, section 2, last paragraph): m += (g - m)(1 - beta1), v += (g^2 - v)(1 - beta2),
 * w -= rate m / (sqrt(v) + epsilon), rate = learningRate sqrt(1 - beta2^step) / (1 - beta1^step).
 * Slots: [m, v].
 */
export const adamKernel = defineKernel<AdamParams>({
  name: "adam",
  cpu: (call) => {
    const rate = adamRate(call.params);
    const { learningRate, beta1, beta2, epsilon, weightDecay } = call.params;
    cpuUpdateAll(call, (w, gradient, [m, v], i) => {
      const mean = m!.data[i]! + (gradient - m!.data[i]!) * (1 - beta1);
      const square = v!.data[i]! + (gradient * gradient - v!.data[i]!) * (1 - beta2);
      m!.data[i] = mean;
      v!.data[i] = square;
      return w * (1 - learningRate * weightDecay) - (rate * mean) / (Math.sqrt(square) + epsilon);
    });
  },
  webgpu: (call) => {
    const { learningRate, beta1, beta2, epsilon, weightDecay } = call.params;
    updateAll(call, {
      key: "",
      state: ["w", "m", "v"],
      statement: /* wgsl */ `m += (g - m) * u.newMean;
      v += (g * g - v) * u.newSquare;
      w = w * u.keep - u.rate * m / (sqrt(v) + u.epsilon);`,
      numbers: {
        newMean: 1 - beta1,
        newSquare: 1 - beta2,
        rate: adamRate(call.params),
        epsilon,
        keep: 1 - learningRate * weightDecay,
      },
    });
  },
});
