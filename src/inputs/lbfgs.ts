// L-BFGS: a quasi-Newton method for functions without noise, such as "which image gives exactly these activations".
// After PyTorch's LBFGS with line_search_fn="strong_wolfe", with the same defaults and ends. Directions come by the
// two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4). Steps fulfil the strong Wolfe
// conditions (algorithms 3.5 and 3.6). Vectors stay on the device; what the line search needs to know are a few numbers
// of each evaluation, in one read.

import { valueAndGrad } from "../autograd/differentiate.js";
import { zeros } from "../autograd/ops/create.js";
import { abs, add, mul, neg, sub } from "../autograd/ops/elementwise.js";
import { max, sum } from "../autograd/ops/reduce.js";
import { concat, reshape, slice, stack } from "../autograd/ops/transform.js";
import { noGrad } from "../autograd/tape.js";
import { copyKernel } from "../kernels/copy.js";
import { KilogradError, ShapeError, UsageError } from "../tensor/errors.js";
import { callable, check, checkOptions, instanceOf, integer, number, type Rules } from "../tensor/options.js";
import { keep, refusePromise, scope } from "../tensor/scope.js";
import { formatShape } from "../tensor/shape.js";
import { StepPlan } from "../tensor/step-plan.js";
import { checkDevice, requireResult, requireTensor, requireTensors, runInto, type Tensor } from "../tensor/tensor.js";

/** Options of {@link lbfgs}. */
export interface LbfgsOptions {
  /** Most steps; default 20. */
  readonly steps?: number;
  /** Most evaluations of the function; default 5/4 of the steps. */
  readonly evaluations?: number;
  /** Length of the first trial of every step but the first, in units of the direction; default 1. */
  readonly learningRate?: number;
  /** Ends where no element of the gradient is larger; default 1e-7. */
  readonly gradientTolerance?: number;
  /** Ends where neither the value nor any element changes by more; default 1e-9. */
  readonly changeTolerance?: number;
  /** Steps that the curvature is estimated from, each of which takes twice the memory of the tensors; default 100. */
  readonly historySize?: number;
  /** Is told the value after every step. Must be synchronous. */
  readonly onProgress?: (progress: { readonly step: number; readonly value: number }) => void;
  /** Ends it with the signal's reason. */
  readonly signal?: AbortSignal;
}

const rules: Rules<LbfgsOptions> = {
  steps: integer({ from: 1 }),
  evaluations: integer({ from: 1 }),
  learningRate: number({ above: 0 }),
  gradientTolerance: number({ from: 0 }),
  changeTolerance: number({ from: 0 }),
  historySize: integer({ from: 1 }),
  onProgress: callable,
  signal: instanceOf(AbortSignal, "an AbortSignal"),
};

/** What {@link lbfgs} came to. */
export interface Minimum {
  /** Where it ended, a tensor for each start; the caller's to dispose of. */
  readonly x: readonly Tensor[];
  /** The function there. */
  readonly value: number;
  /** At the start, and after every step. */
  readonly values: readonly number[];
  readonly steps: number;
  readonly evaluations: number;
  /** "gradient" and "change": a tolerance was reached; "steps" and "evaluations": there were as many as allowed. */
  readonly ended: "gradient" | "change" | "steps" | "evaluations";
}

/** The function at a length t along the direction. */
interface Point {
  readonly t: number;
  readonly value: number;
  /** Its derivative by t. */
  readonly slope: number;
  /** Of the gradient: its largest element, and the sum of magnitudes. */
  readonly largest: number;
  readonly total: number;
}

/** Armijo's and the curvature's constants of the Wolfe conditions. */
const [SUFFICIENT, CURVATURE] = [1e-4, 0.9];

/**
 * Minimises a function of tensors, from starts that stay as they are. The function gives a scalar, is made of
 * differentiable operations, and has no noise: it is recorded and replayed (see `StepPlan`). It needs few evaluations
 * where it is smooth; relu and pooling leave kinks that shorten steps.
 * @param starts f32 tensors of one device, or one
 * @throws ShapeError, UsageError; KilogradError `NON_FINITE` where the start has a value or gradient that is not finite
 * @example
 * const target = tensor(device, Int32Array.of(3));
 * const { x, value } = await lbfgs((image) => loss.crossEntropy(model.logits(image), target), start, { steps: 50 });
 */
export async function lbfgs(
  fn: (...x: Tensor[]) => Tensor,
  starts: Tensor | readonly Tensor[],
  options: LbfgsOptions = {},
): Promise<Minimum> {
  check("lbfgs", "fn", fn, callable);
  const list = Array.isArray(starts) ? (starts as readonly Tensor[]) : [starts as Tensor];
  if (Array.isArray(starts)) requireTensors("lbfgs", "starts", list);
  else requireTensor("lbfgs", "starts", starts);
  const given = checkOptions("lbfgs", options, rules);
  const search = new Search(fn, list);
  try {
    return await descend(search, given);
  } finally {
    search.dispose();
  }
}

async function descend(search: Search, options: LbfgsOptions): Promise<Minimum> {
  const { steps = 20, evaluations = Math.floor((steps * 5) / 4), learningRate = 1 } = options;
  const { gradientTolerance = 1e-7, changeTolerance = 1e-9, historySize = 100, onProgress, signal } = options;
  let now = await search.evaluate(0);
  const values = [now.value];
  const end = (ended: Minimum["ended"]): Minimum => ({
    ...{ x: search.results(), value: now.value, values, steps: values.length - 1 },
    ...{ evaluations: search.evaluations, ended },
  });
  if (!Number.isFinite(now.value) || !Number.isFinite(now.total)) {
    throw new KilogradError(
      "NON_FINITE",
      `lbfgs: value and gradient must be finite at the start, got ${now.value} and ${now.total} (its magnitudes' sum)`,
    );
  }
  if (now.largest <= gradientTolerance) return end("gradient");
  for (let step = 1; ; step++) {
    signal?.throwIfAborted();
    if (step > 1) await search.remember(now.t, historySize);
    const { slope, reach } = await search.turn();
    if (slope > -changeTolerance) return end("change");
    const trial = step === 1 ? Math.min(1, 1 / now.total) * learningRate : learningRate;
    const most = evaluations - search.evaluations;
    const previous = now.value;
    now = await lineSearch(search, { ...now, t: 0, slope }, trial, { reach, changeTolerance, most });
    await search.moveTo(now);
    values.push(now.value);
    const told = onProgress?.({ step, value: now.value });
    refusePromise("lbfgs", told, "onProgress", "await after the minimum is found");
    if (step === steps) return end("steps");
    if (search.evaluations >= evaluations) return end("evaluations");
    if (now.largest <= gradientTolerance) return end("gradient");
    if (now.t * reach <= changeTolerance || Math.abs(now.value - previous) < changeTolerance) return end("change");
  }
}

const dot = (a: Tensor, b: Tensor) => sum(mul(a, b));

/** Where the function stands, and the curvature that was found on the way. */
class Search {
  /** All tensors in a row, [n]. */
  private readonly place: Tensor;
  private readonly direction: Tensor;
  /** Gradients of the last evaluation, and of the place before the last step. */
  private readonly gradient: Tensor;
  private readonly before: Tensor;
  private readonly plan: StepPlan;
  /** Steps s and changes y of the gradient, the latest last, with rho = 1 / (y s). */
  private readonly history: { readonly s: Tensor; readonly y: Tensor; readonly rho: number }[] = [];
  /** Of the first estimate of the inverse Hessian, which is diagonal. */
  private scale = 1;
  evaluations = 0;
  /** Length of the last evaluation. */
  private last = 0;

  constructor(
    private readonly fn: (...x: Tensor[]) => Tensor,
    private readonly starts: readonly Tensor[],
  ) {
    const [first] = starts;
    if (first === undefined) throw new UsageError("lbfgs: needs at least one tensor to start with, got none");
    for (const start of starts) {
      checkDevice("lbfgs", first.device, start);
      if (start.dtype === "f32" && start.size > 0) continue;
      throw new ShapeError(`lbfgs: starts must be f32 and not empty, got ${start.dtype} ${formatShape(start.shape)}`);
    }
    this.place = keep(noGrad(() => scope(() => mul(concat(starts.map((start) => reshape(start, [start.size]))), 1))));
    const { device, shape } = this.place;
    [this.direction, this.gradient, this.before] = [0, 0, 0].map(() => keep(zeros(device, shape))) as Vectors;
    this.plan = new StepPlan(device, (t) => [this.evaluated(noGrad(() => sum(t!)))]);
  }

  /** The tensors of a vector. */
  parts(vector: Tensor): Tensor[] {
    let next = 0;
    return this.starts.map(({ shape, size }) => {
      const part = this.starts.length === 1 ? vector : slice(vector, [next], [size]);
      next += size;
      return reshape(part, shape);
    });
  }

  /** Where it stands, as tensors of their own. */
  results(): Tensor[] {
    return noGrad(() => scope(() => this.parts(this.place).map((part) => mul(part, 1))));
  }

  /** Numbers of a point, in the order of `evaluate`; leaves the gradient. */
  private evaluated(t: Tensor): Tensor {
    const at = noGrad(() => add(this.place, mul(this.direction, t)));
    const { value, grad } = valueAndGrad((vector: Tensor) => {
      const result: unknown = this.fn(...this.parts(vector));
      requireResult("lbfgs", result);
      return result;
    })(at);
    runInto(copyKernel, [grad], [this.gradient], {});
    return noGrad(() => stack([value, dot(grad, this.direction), max(abs(grad)), sum(abs(grad))]));
  }

  async evaluate(t: number): Promise<Point> {
    this.evaluations++;
    this.last = t;
    // In two parts, whose sum the float64 reference takes for what it is.
    const [numbers] = this.plan.run({ values: Float32Array.of(t, t - Math.fround(t)), shape: [2] });
    const [value, slope, largest, total] = Array.from(await numbers!.data()) as [number, number, number, number];
    return { t, value, slope, largest, total };
  }

  /** Goes to a point that was evaluated, and has its gradient. */
  async moveTo({ t }: Point): Promise<void> {
    if (t !== this.last) {
      // PyTorch keeps the gradients of two points instead, and does not count this one.
      await this.evaluate(t);
      this.evaluations--;
    }
    const there = noGrad(() => scope(() => add(this.place, mul(this.direction, t))));
    runInto(copyKernel, [there], [this.place], {});
    there.dispose();
  }

  /** Takes the last step, of length t, into the history. */
  async remember(t: number, historySize: number): Promise<void> {
    const [s, y] = noGrad(() =>
      scope(() => [keep(mul(this.direction, t)), keep(sub(this.gradient, this.before))] as const),
    );
    const [ys, yy] = await numbersOf(() => [dot(y, s), dot(y, y)]);
    // Without positive curvature the estimate would be no descent any more.
    if (!(ys! > 1e-10)) {
      for (const vector of [s, y]) vector.dispose();
      return;
    }
    this.history.push({ s, y, rho: 1 / ys! });
    this.scale = ys! / yy!;
    if (this.history.length > historySize) this.forget(this.history.shift()!);
  }

  private forget({ s, y }: (typeof this.history)[number]): void {
    for (const vector of [s, y]) vector.dispose();
  }

  /**
   * Takes the direction -H g, with the estimate H of the inverse Hessian.
   * @returns the slope along it, and its largest element
   */
  async turn(): Promise<{ readonly slope: number; readonly reach: number }> {
    noGrad(() =>
      scope(() => {
        const shares: Tensor[] = [];
        let q = neg(this.gradient);
        for (const { s, y, rho } of this.history.toReversed()) {
          const share = mul(dot(s, q), rho);
          shares.push(share);
          q = sub(q, mul(y, share));
        }
        q = mul(q, this.scale);
        for (const { s, y, rho } of this.history) q = add(q, mul(s, sub(shares.pop()!, mul(dot(y, q), rho))));
        runInto(copyKernel, [q], [this.direction], {});
        runInto(copyKernel, [this.gradient], [this.before], {});
      }),
    );
    const [slope, reach] = await numbersOf(() => [dot(this.gradient, this.direction), max(abs(this.direction))]);
    return { slope: slope!, reach: reach! };
  }

  dispose(): void {
    this.plan.dispose();
    for (const vector of [this.place, this.direction, this.gradient, this.before]) vector.dispose();
    for (const pair of this.history) this.forget(pair);
  }
}

type Vectors = [Tensor, Tensor, Tensor];

/** Values of scalars, in one read. */
async function numbersOf(fn: () => Tensor[]): Promise<number[]> {
  const numbers = noGrad(() => scope(() => stack(fn())));
  try {
    return Array.from(await numbers.data());
  } finally {
    numbers.dispose();
  }
}

/**
 * A point that fulfils the strong Wolfe conditions, or the best of `most` evaluations. First lengths are tried until
 * two of them have such a point between them. Then what is between gets smaller.
 */
async function lineSearch(
  search: Search,
  start: Point,
  trial: number,
  { reach, changeTolerance, most }: { readonly reach: number; readonly changeTolerance: number; readonly most: number },
): Promise<Point> {
  // Also where it is not finite.
  const rises = ({ t, value }: Point) => !(value <= start.value + SUFFICIENT * t * start.slope);
  const isFlat = ({ slope }: Point) => Math.abs(slope) <= -CURVATURE * start.slope;
  let [before, now] = [start, await search.evaluate(trial)];
  let tries = 0;
  let bracket: [Point, Point] | undefined;
  for (; tries < most && bracket === undefined; tries++) {
    if (rises(now) || (tries > 1 && now.value >= before.value)) bracket = [before, now];
    else if (isFlat(now)) return now;
    else if (now.slope >= 0) bracket = [before, now];
    if (bracket !== undefined) break;
    const length = cubicMinimum(before, now, [now.t + 0.01 * (now.t - before.t), now.t * 10]);
    before = now;
    now = await search.evaluate(length);
  }
  bracket ??= [start, now];
  // The better one first.
  let [low, high] = bracket[1].value < bracket[0].value ? [bracket[1], bracket[0]] : bracket;
  let stuck = false;
  for (; tries < most; tries++) {
    const [least, longest] = [Math.min(low.t, high.t), Math.max(low.t, high.t)];
    if ((longest - least) * reach < changeTolerance) break;
    let t = cubicMinimum(low, high, [least, longest]);
    // Near an end twice, or at it, a point well inside is taken.
    const margin = 0.1 * (longest - least);
    const near = Math.min(longest - t, t - least) < margin;
    if (near && (stuck || t >= longest || t <= least)) {
      t = Math.abs(t - longest) < Math.abs(t - least) ? longest - margin : least + margin;
      stuck = false;
    } else stuck = near;
    const inside = await search.evaluate(t);
    if (rises(inside) || inside.value >= low.value) {
      high = inside;
      if (high.value < low.value) [low, high] = [high, low];
      continue;
    }
    if (isFlat(inside)) return inside;
    if (inside.slope * (high.t - low.t) >= 0) high = low;
    low = inside;
  }
  return low;
}

/** Where the cubic through two points with their slopes has its minimum, within bounds; their middle without one. */
function cubicMinimum(a: Point, b: Point, [least, most]: readonly [number, number]): number {
  const [left, right] = a.t <= b.t ? [a, b] : [b, a];
  const slope = left.slope + right.slope - (3 * (left.value - right.value)) / (left.t - right.t);
  const square = slope * slope - left.slope * right.slope;
  if (!(square >= 0)) return (least + most) / 2;
  const root = Math.sqrt(square);
  const found = right.t - ((right.t - left.t) * (right.slope + root - slope)) / (right.slope - left.slope + 2 * root);
  return Number.isFinite(found) ? Math.min(Math.max(found, least), most) : (least + most) / 2;
}
