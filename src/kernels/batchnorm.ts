// Batch normalisation over all axes but the last. x is seen as [rows, C]; per channel c:
//
//   mean = sum_r x / rows,  variance = sum_r (x - mean)^2 / rows (biased),  s = 1 / sqrt(variance + epsilon)
//   y = (x - mean) s gamma + beta           gamma = 1 and beta = 0 where there are none
//
//   dbeta = sum_r dy,  dgamma = sum_r dy (x - mean) s
//   dx = gamma s (dy - dbeta / rows - (x - mean) s dgamma / rows)      with statistics of the batch
//   dx = gamma s dy                                                    with frozen statistics
//
// With an activation, y = act(z) of z as above, and dz stands for dy in the gradients. The statistics of a batch are
// one tensor, its moments [2, C]: means, then variances. So all that a gradient reads can be bound.
//
// Statistics stay right for |mean| >> sqrt(variance): a part of the rows sums differences from its own first row. Parts
// are merged by their means and squared deviations (Chan, Golub, LeVeque 1983), never by sums of squares. Sums of many
// rows are made as long-sums.ts has it.
//
// Every pass walks down columns (vec4 along C where C % 4 = 0), so that a channel's parameters are read once per
// invocation. On profile "software" an invocation owns a column of a part; on "hardware" a workgroup of 256 owns a tile
// of columns of a part, and sums are added over its row lanes in shared memory.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import { workgroupLanes } from "../webgpu/family.js";
import { type Binding, type GpuCall, type GpuView, GRID_INDEX, gridOf } from "../webgpu/program.js";
import {
  activationCpu,
  activationGradientCpu,
  activationGradientWgsl,
  activationWgsl,
  type FusedActivation,
  isLinear,
} from "./activation.js";
import { typed, unlessNan } from "./ieee.js";
import { CHAIN, longLoop, ONE } from "./long-sums.js";
import { rolledLoop } from "./rolled.js";

export interface BatchNormParams {
  readonly epsilon: number;
}

/** Which of the two a layer has; the inputs of a kernel are without those that it has not. */
export interface BatchNormScaleParams extends BatchNormParams {
  readonly gamma: boolean;
  readonly beta: boolean;
}

/** What is done to an element. */
export interface BatchNormActivationParams extends BatchNormScaleParams {
  readonly activation: FusedActivation;
}

/** gamma and beta, of the inputs that are them. */
const scaleIn = <View>(inputs: readonly View[], { gamma, beta }: Pick<BatchNormScaleParams, "gamma" | "beta">) => ({
  gamma: gamma ? inputs[0] : undefined,
  beta: beta ? inputs[gamma ? 1 : 0] : undefined,
});

/** What the key of a program says of what is missing. */
const absence = ({ gamma, beta }: Pick<BatchNormScaleParams, "gamma"> & { readonly beta?: boolean }) =>
  `${gamma ? "" : " no gamma"}${beta === false ? " no beta" : ""}`;

/** Means and variances in one view, or in two. */
type MomentViews<View> = readonly [moments: View] | readonly [mean: View, variance: View];

/** A channel's mean and variance on the CPU. */
function momentsAt(views: MomentViews<CpuView>, c: number) {
  const [first, second] = views;
  return second === undefined
    ? { mean: first.data[c]!, variance: first.data[first.size / 2 + c]! }
    : { mean: first.data[c]!, variance: second.data[c]! };
}

/** The same in WGSL, of a channel or column `at`; the views to bind, and the names of the first and the last. */
const momentsWgsl = (views: MomentViews<GpuView>, at = "column", count = "u.columns") => {
  const [first, second] = views;
  return second === undefined
    ? {
        ...{ views: { moments: first }, first: "moments", last: "moments" },
        ...{ mean: `moments[${at}]`, variance: `moments[${count} + ${at}]` },
      }
    : {
        ...{ views: { mean: first, variance: second }, first: "mean", last: "variance" },
        ...{ mean: `mean[${at}]`, variance: `variance[${at}]` },
      };
};

/** WGSL before the rows: what normalises a column. */
const normalising = (
  { mean, variance }: Record<"mean" | "variance", string>,
  { gamma, beta }: NormViews,
) => /* wgsl */ `
  let center = ${mean};
  let scale = ${gamma ? "gamma[column]" : "V(1)"} / sqrt(${variance} + u.epsilon);${beta ? "\n  let shift = beta[column];" : ""}`;
type NormViews = Readonly<Record<"gamma" | "beta", GpuView | undefined>>;

/** WGSL of z at `at`, after `normalising`. */
const normalised = ({ beta }: NormViews) => `(x[at] - center) * scale${beta ? " + shift" : ""}`;

/** gamma and beta to bind, where there are any. */
const bound = ({ gamma, beta }: NormViews) => ({ ...(gamma && { gamma }), ...(beta && { beta }) });

/** dz at a place on the CPU, of the gradient there and x. */
function passedBack(
  { epsilon, activation }: BatchNormActivationParams,
  { gamma, beta }: Readonly<Record<"gamma" | "beta", CpuView | undefined>>,
) {
  const [act, gradient] = [activationCpu(activation), activationGradientCpu(activation)];
  return (c: number, { mean, variance }: ReturnType<typeof momentsAt>) => {
    const scale = (gamma?.data[c] ?? 1) / Math.sqrt(variance + epsilon);
    return (dy: number, x: number) => gradient(dy, act((x - mean) * scale + (beta?.data[c] ?? 0)));
  };
}

/** WGSL that lets `g` be dz at `at`. */
const gradientWgsl = (activation: FusedActivation, views: NormViews) =>
  isLinear(activation) ? "let g = dy[at];" : `let g = activationGradient(dy[at], activation(${normalised(views)}));`;

export interface BatchNormStatisticsParams {
  /** Weight of the old running statistics. */
  readonly momentum: number;
}

/** Inputs by name as the reference reads them: `at(r, c)`. */
function forEachChannel(x: CpuView, visit: (channel: number, rows: readonly number[]) => void): void {
  const channels = x.shape.at(-1)!;
  const rows = x.size / channels;
  for (let c = 0; c < channels; c++) {
    visit(
      c,
      Array.from({ length: rows }, (_, r) => r * channels + c),
    );
  }
}

interface Walk {
  readonly key: string;
  /** Whose functions the text calls. */
  readonly activation?: FusedActivation;
  /** f32 views: [rows, C] or [C], read by `column` or `at`; the ones in `out` are written. */
  readonly views: Readonly<Record<string, GpuView>>;
  readonly out: Readonly<Record<string, GpuView>>;
  readonly numbers?: Readonly<Record<string, number>>;
  /** WGSL before the rows: constants of the channel. In scope: `column`, `part`, `first` and `last` row of the part. */
  readonly before: string;
  /** WGSL for the element `at` of each row; may add to `a` and `b`. */
  readonly each: string;
  /** WGSL after the rows with the part's sums `a` and `b`, run once per column and part. */
  readonly after?: string;
}

/** How the rows of [rows, C] are cut: `parts` of `chunk` rows. */
interface Cut {
  readonly parts: number;
  readonly chunk: number;
}

/** Most invocations of a hardware workgroup, and workgroups that fill a large adapter. */
const HARDWARE_SIZE = 256;
const HARDWARE_WORKGROUPS = 528;

/** Columns are vec4s or scalars; a hardware workgroup covers `across` of them with `rowLanes` invocations each. */
function layout(call: Pick<GpuCall<unknown>, "profile">, x: GpuView) {
  const channels = x.shape.at(-1)!;
  const width = channels % 4 === 0 ? 4 : 1;
  const columns = channels / width;
  const software = call.profile.family === "software";
  const across = software ? 1 : Math.min(32, columns);
  const rowLanes = software ? 1 : 2 ** Math.floor(Math.log2(HARDWARE_SIZE / across));
  return { rows: x.size / channels, channels, width, columns, software, across, rowLanes } as const;
}

/** Parts for sums: enough to fill the device, few enough to merge. */
function cutForSums(call: Pick<GpuCall<unknown>, "profile">, x: GpuView): Cut {
  const { rows, columns, software, across, rowLanes } = layout(call, x);
  const [wanted, shortest] = software
    ? [Math.ceil(256 / columns), 64]
    : [Math.ceil(HARDWARE_WORKGROUPS / Math.ceil(columns / across)), 8 * rowLanes];
  const chunk = Math.ceil(rows / Math.max(1, Math.min(wanted, Math.floor(rows / shortest))));
  return { chunk, parts: Math.ceil(rows / chunk) };
}

/** Parts for passes that write every element. */
function cutForElements(call: Pick<GpuCall<unknown>, "profile">, x: GpuView): Cut {
  const { rows, columns, software, rowLanes } = layout(call, x);
  const chunk = software ? Math.max(1, Math.min(128, Math.ceil((rows * columns) / 256))) : 8 * rowLanes;
  return { chunk, parts: Math.ceil(rows / chunk) };
}

function walk(call: GpuCall<unknown>, x: GpuView, { chunk, parts }: Cut, text: Walk): void {
  const { activation = "linear" } = text;
  const { rows, width, columns, software, across, rowLanes } = layout(call, x);
  const size = workgroupLanes(call.profile, across * rowLanes);
  const type = width === 4 ? "vec4f" : "f32";
  const tiles = Math.ceil(columns / across);
  const items = software ? columns * parts : tiles * parts;
  const long = text.after !== undefined && chunk / rowLanes > CHAIN;
  const rowLoop = {
    index: "row",
    first: `(first + ${rowLanes === 1 ? "0u" : `lane / ${across}u`})`,
    end: "last",
    step: rowLanes,
  };
  const statement = `let at = row * u.columns + column;
    ${text.each}`;
  const sums = longLoop(["a", "b"], type, rowLoop, statement);
  call.dispatch({
    key: `${text.key} ${across}${long ? " long" : ""}${isLinear(activation) ? "" : ` ${activation}`}`,
    program: () => ({
      workgroupSize: [size],
      declarations: `alias V = ${type};${
        isLinear(activation) ? "" : `\n${activationWgsl(activation, type)}\n${activationGradientWgsl(activation, type)}`
      }${
        software || text.after === undefined
          ? ""
          : `\nvar<workgroup> sums_a: array<V, ${size}>;\nvar<workgroup> sums_b: array<V, ${size}>;`
      }`,
      body: /* wgsl */ `
  let item = ${GRID_INDEX}${software ? ` * ${size} + lane` : ""};
  let column = ${software ? "item % u.columns" : `item % u.tiles * ${across} + lane % ${across}`};
  let part = item / ${software ? "u.columns" : "u.tiles"};
  let first = part * u.chunk;
  let last = select(0, min(first + u.chunk, u.rows), column < u.columns && part < u.parts);
  ${text.before}
  ${
    long
      ? `${sums.loop}
  let a = ${sums.values[0]};
  let b = ${sums.values[1]};`
      : `var a = V(0);
  var b = V(0);
  for (var row = ${rowLoop.first}; row < last; row += ${rowLanes}u) { ${statement} }`
  }
  ${
    text.after === undefined
      ? ""
      : software
        ? /* wgsl */ `if (first < last) { ${text.after} }`
        : /* wgsl */ `
  sums_a[lane] = a;
  sums_b[lane] = b;
  workgroupBarrier();
  for (var rest = ${rowLanes / 2}u; rest > 0; rest /= 2) {
    if (lane < rest * ${across}) {
      sums_a[lane] += sums_a[lane + rest * ${across}];
      sums_b[lane] += sums_b[lane + rest * ${across}];
    }
    workgroupBarrier();
  }
  if (lane < ${across} && first < last) {
    let a = sums_a[lane];
    let b = sums_b[lane];
    ${text.after}
  }`
  }`,
    }),
    bindings: [
      ...Object.entries(text.views).map(([name, view]): Binding => ({ name, view, type })),
      ...Object.entries(text.out).map(([name, view]): Binding => ({ name, view, type, access: "read_write" })),
    ],
    sizes: { rows, columns, tiles, parts, chunk },
    numbers: { ...text.numbers, ...(long && ONE) },
    workgroups: gridOf(software ? Math.ceil(items / size) : items),
  });
}

/** Channels and parts that a hardware workgroup merges at a time. */
const MERGED_CHANNELS = 8;
const MERGED_PARTS = 32;

/** WGSL of a merge: adds up `each` over the parts `k` as `name`. */
type Total = (name: string, each: string) => string;

/** Merges the partial results of all parts for each channel `i`. */
function mergeParts(
  call: GpuCall<unknown>,
  x: GpuView,
  { chunk, parts }: Cut,
  text: {
    readonly views: Readonly<Record<string, GpuView>>;
    readonly out: Readonly<Record<string, GpuView>>;
    readonly numbers: Readonly<Record<string, number>>;
    readonly totals: (total: Total) => string;
    /** WGSL that writes the channel's results. */
    readonly store: string;
  },
): void {
  const { rows, channels, software } = layout(call, x);
  const loop = rolledLoop(call.profile, channels);
  const size = MERGED_CHANNELS * MERGED_PARTS;
  const long = software && parts > CHAIN;
  const addParts: Total = (name, each) => {
    const { loop, values } = longLoop(
      [name],
      "f32",
      { index: "k", first: "0u", end: "u.parts", step: 1 },
      `${name} += ${each};`,
    );
    return long
      ? `${loop}
    let ${name} = ${values[0]};`
      : `var ${name} = 0.0;
    for (var k = 0u; k < u.parts; k++) { ${name} += ${each}; }`;
  };
  call.dispatch({
    key: long ? "merge long" : "merge",
    program: () =>
      software
        ? {
            workgroupSize: loop.workgroupSize,
            body: loop.body(`${text.totals(addParts)}
    ${text.store}`),
          }
        : {
            workgroupSize: [size],
            declarations: `var<workgroup> sums: array<f32, ${size}>;`,
            body: /* wgsl */ `
  let channel = group.x * ${MERGED_CHANNELS} + lane % ${MERGED_CHANNELS};
  let i = min(channel, u.channels - 1);
  ${text.totals(
    (name, each) => /* wgsl */ `
  var ${name} = 0.0;
  for (var k = lane / ${MERGED_CHANNELS}; k < u.parts; k += ${MERGED_PARTS}) { ${name} += ${each}; }
  sums[lane] = ${name};
  workgroupBarrier();
  for (var rest = ${size / 2}u; rest >= ${MERGED_CHANNELS}; rest /= 2) {
    if (lane < rest) { sums[lane] += sums[lane + rest]; }
    workgroupBarrier();
  }
  ${name} = sums[lane % ${MERGED_CHANNELS}];
  workgroupBarrier();`,
  )}
  if (lane < ${MERGED_CHANNELS} && channel < u.channels) { ${text.store} }`,
          },
    bindings: [
      ...Object.entries(text.views).map(([name, view]): Binding => ({ name, view, type: "f32" })),
      ...Object.entries(text.out).map(([name, view]): Binding => ({ name, view, type: "f32", access: "read_write" })),
    ],
    sizes: { ...loop.sizes, rows, channels, parts, chunk },
    numbers: { ...text.numbers, ...(long && ONE) },
    workgroups: software ? loop.workgroups : [Math.ceil(channels / MERGED_CHANNELS)],
  });
}

/**
 * Inputs [x [..., C]], outputs [moments [2, C], running mean [C], running variance [C]]; the last two are updated in
 * place: running = momentum * running + (1 - momentum) * batch.
 */
export const batchNormStatisticsKernel = defineKernel<BatchNormStatisticsParams>({
  name: "batchNormStatistics",
  cpu({ inputs: [x], outputs, params: { momentum } }) {
    const [moments, runningMean, runningVariance] = outputs.map((view) => view.data);
    forEachChannel(x!, (c, rows) => {
      const mean = rows.reduce((total, at) => total + x!.data[at]!, 0) / rows.length;
      const variance = rows.reduce((total, at) => total + (x!.data[at]! - mean) ** 2, 0) / rows.length;
      moments![c] = mean;
      moments![runningMean!.length + c] = variance;
      runningMean![c] = momentum * runningMean![c]! + (1 - momentum) * mean;
      runningVariance![c] = momentum * runningVariance![c]! + (1 - momentum) * variance;
    });
  },
  webgpu(call) {
    const [x] = call.inputs as [GpuView];
    const [moments, running_mean, running_variance] = call.outputs as [GpuView, GpuView, GpuView];
    const cut = cutForSums(call, x);
    const partial = { shape: [cut.parts, x.shape.at(-1)!], dtype: "f32" } as const;
    const [means, deviations] = [call.scratch(partial), call.scratch(partial)];
    walk(call, x, cut, {
      key: "statistics",
      views: { x },
      out: { means, deviations },
      before: "let shift = x[first * u.columns + column];",
      each: "let d = x[at] - shift; a += d; b += d * d;",
      after: /* wgsl */ `
    let n = f32(last - first);
    means[part * u.columns + column] = shift + a / n;
    let squares = b - a * a / n;
    deviations[part * u.columns + column] = ${typed(unlessNan("max(squares, V(0))", "squares"), x.shape.at(-1)! % 4 === 0 ? "vec4f" : "f32")};`,
    });
    const { momentum } = call.params;
    mergeParts(call, x, cut, {
      views: { means, deviations },
      out: { moments, running_mean, running_variance },
      numbers: { momentum, share: 1 - momentum },
      totals: (total) => {
        const n = "f32(min(u.chunk, u.rows - k * u.chunk))";
        const mean = "means[k * u.channels + i]";
        // Relative to the first part's mean, whose size would drown the differences.
        return /* wgsl */ `
    ${total("offset", `${n} * (${mean} - means[i])`)}
    let batch_mean = means[i] + offset / f32(u.rows);
    ${total("squares", `deviations[k * u.channels + i] + ${n} * (${mean} - batch_mean) * (${mean} - batch_mean)`)}`;
      },
      store: /* wgsl */ `
    let batch_variance = squares / f32(u.rows);
    moments[i] = batch_mean;
    moments[u.channels + i] = batch_variance;
    running_mean[i] = u.momentum * running_mean[i] + u.share * batch_mean;
    running_variance[i] = u.momentum * running_variance[i] + u.share * batch_variance;`,
    });
  },
});

/**
 * Inputs [x [..., C], moments [2, C], gamma [C]?, beta [C]?], or the two of `moments` as mean [C] and variance [C];
 * outputs [y like x].
 */
export const batchNormKernel = defineKernel<BatchNormActivationParams & { readonly running: boolean }>({
  name: "batchNorm",
  cpu({ inputs: [x, ...rest], outputs: [y], params }) {
    const { epsilon, activation, running } = params;
    const moments = rest.splice(0, running ? 2 : 1) as unknown as MomentViews<CpuView>;
    const { gamma, beta } = scaleIn(rest, params);
    const act = activationCpu(activation);
    forEachChannel(x!, (c, rows) => {
      const { mean, variance } = momentsAt(moments, c);
      const scale = (gamma?.data[c] ?? 1) / Math.sqrt(variance + epsilon);
      for (const at of rows) y!.data[at] = act((x!.data[at]! - mean) * scale + (beta?.data[c] ?? 0));
    });
  },
  webgpu(call) {
    const { epsilon, activation, running } = call.params;
    const [x, ...rest] = call.inputs as [GpuView, ...GpuView[]];
    const moments = momentsWgsl(rest.splice(0, running ? 2 : 1) as unknown as MomentViews<GpuView>);
    const views = scaleIn(rest, call.params);
    walk(call, x, cutForElements(call, x), {
      key: `normalise${running ? " running" : ""}${absence(call.params)}`,
      activation,
      views: { x, ...moments.views, ...bound(views) },
      out: { y: call.outputs[0]! },
      numbers: { epsilon },
      before: normalising(moments, views),
      each: `y[at] = ${isLinear(activation) ? normalised(views) : `activation(${normalised(views)})`};`,
    });
  },
});

/**
 * Inputs [dy [..., C], x like dy, moments [2, C], gamma [C]?, beta [C]?], or the two of `moments` as mean [C] and
 * variance [C]; outputs [dgamma [C], dbeta [C]].
 */
export const batchNormSumsKernel = defineKernel<BatchNormActivationParams & { readonly running: boolean }>({
  name: "batchNormSums",
  cpu({ inputs: [dy, x, ...rest], outputs: [dgamma, dbeta], params }) {
    const moments = rest.splice(0, params.running ? 2 : 1) as unknown as MomentViews<CpuView>;
    const back = passedBack(params, scaleIn(rest, params));
    forEachChannel(x!, (c, rows) => {
      const { mean, variance } = momentsAt(moments, c);
      const dz = back(c, { mean, variance });
      const scale = 1 / Math.sqrt(variance + params.epsilon);
      dbeta!.data[c] = rows.reduce((total, at) => total + dz(dy!.data[at]!, x!.data[at]!), 0);
      dgamma!.data[c] = rows.reduce(
        (total, at) => total + dz(dy!.data[at]!, x!.data[at]!) * (x!.data[at]! - mean) * scale,
        0,
      );
    });
  },
  webgpu(call) {
    const { epsilon, activation, running } = call.params;
    const [dy, x, ...rest] = call.inputs as [GpuView, GpuView, ...GpuView[]];
    const [dgamma, dbeta] = call.outputs as [GpuView, GpuView];
    const given = rest.splice(0, running ? 2 : 1) as unknown as MomentViews<GpuView>;
    const moments = momentsWgsl(given);
    const linear = isLinear(activation);
    const views = scaleIn(rest, call.params);
    const cut = cutForSums(call, x);
    const partial = { shape: [cut.parts, x.shape.at(-1)!], dtype: "f32" } as const;
    const [products, gradients] = [call.scratch(partial), call.scratch(partial)];
    walk(call, x, cut, {
      key: `sums${running ? " running" : ""}${linear ? "" : absence(call.params)}`,
      activation,
      views: { dy, x, ...(linear ? { [moments.first]: given[0] } : { ...moments.views, ...bound(views) }) },
      out: { products, gradients },
      numbers: linear ? {} : { epsilon },
      before: linear ? `let center = ${moments.mean};` : normalising(moments, views),
      each: `${gradientWgsl(activation, views)} a += g; b += g * (x[at] - center);`,
      after: /* wgsl */ `
    gradients[part * u.columns + column] = a;
    products[part * u.columns + column] = b;`,
    });
    mergeParts(call, x, cut, {
      views: { products, gradients, [moments.last]: given.at(-1)! },
      out: { dgamma, dbeta },
      numbers: { epsilon },
      totals: (total) => `${total("product", "products[k * u.channels + i]")}
    ${total("sum", "gradients[k * u.channels + i]")}`,
      store: /* wgsl */ `
    dgamma[i] = product / sqrt(${momentsWgsl(given, "i", "u.channels").variance} + u.epsilon);
    dbeta[i] = sum;`,
    });
  },
});

/**
 * Gradient of x with the batch's statistics. Inputs [dy, x, moments [2, C], dgamma [C], dbeta [C], gamma [C]?, beta
 * [C]?], outputs [dx].
 */
export const batchNormGradientKernel = defineKernel<BatchNormActivationParams>({
  name: "batchNormGradient",
  cpu({ inputs: [dy, x, moments, dgamma, dbeta, ...rest], outputs: [dx], params }) {
    const views = scaleIn(rest, params);
    const back = passedBack(params, views);
    forEachChannel(x!, (c, rows) => {
      const { mean, variance } = momentsAt([moments!], c);
      const dz = back(c, { mean, variance });
      const scale = 1 / Math.sqrt(variance + params.epsilon);
      for (const at of rows) {
        const normalised = (x!.data[at]! - mean) * scale;
        dx!.data[at] =
          (views.gamma?.data[c] ?? 1) *
          scale *
          (dz(dy!.data[at]!, x!.data[at]!) - (dbeta!.data[c]! + normalised * dgamma!.data[c]!) / rows.length);
      }
    });
  },
  webgpu(call) {
    const { epsilon, activation } = call.params;
    const [dy, x, moments, dgamma, dbeta, ...rest] = call.inputs as [
      ...[GpuView, GpuView, GpuView, GpuView, GpuView],
      ...GpuView[],
    ];
    const { gamma, beta } = scaleIn(rest, call.params);
    // Without an activation, beta plays no part.
    const views = { gamma, beta: isLinear(activation) ? undefined : beta };
    walk(call, x, cutForElements(call, x), {
      key: `gradient${absence({ gamma: call.params.gamma, beta: views.beta !== undefined })}`,
      activation,
      views: { dy, x, moments, ...bound(views), dgamma, dbeta },
      out: { dx: call.outputs[0]! },
      numbers: { epsilon },
      before: /* wgsl */ `${normalising(momentsWgsl([moments]), views)}
  let constant = dbeta[column] / f32(u.rows);
  let slope = dgamma[column] / (sqrt(moments[u.columns + column] + u.epsilon) * f32(u.rows));`,
      each: `${gradientWgsl(activation, views)} dx[at] = scale * (g - constant - (x[at] - center) * slope);`,
    });
  },
});

/** Gradient of x with frozen statistics. Inputs [dy, variance [C], gamma [C]?], outputs [dx]. */
export const batchNormFrozenGradientKernel = defineKernel<Omit<BatchNormScaleParams, "beta">>({
  name: "batchNormFrozenGradient",
  cpu({ inputs: [dy, variance, gamma], outputs: [dx], params: { epsilon } }) {
    forEachChannel(dy!, (c, rows) => {
      const scale = (gamma?.data[c] ?? 1) / Math.sqrt(variance!.data[c]! + epsilon);
      for (const at of rows) dx!.data[at] = dy!.data[at]! * scale;
    });
  },
  webgpu(call) {
    const [dy, variance, gamma] = call.inputs as [GpuView, GpuView, GpuView?];
    walk(call, dy, cutForElements(call, dy), {
      key: `frozen${absence(call.params)}`,
      views: { dy, variance, ...(gamma && { gamma }) },
      out: { dx: call.outputs[0]! },
      numbers: { epsilon: call.params.epsilon },
      before: `let scale = ${gamma ? "gamma[column]" : "V(1)"} / sqrt(variance[column] + u.epsilon);`,
      each: "dx[at] = dy[at] * scale;",
    });
  },
});
