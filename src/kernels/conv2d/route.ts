// How a convolution's three passes are computed: a route. What a forward pass computes on its way can be kept for the
// gradients, by name. Which route a convolution takes is chosen in routes.ts, that of one with pooling in
// ../conv-pool.ts.
import type { Spec } from "../../tensor/dtype.js";
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import type { FusedActivation } from "../activation.js";

/**
 * Transforms that the gradients would compute again: of x, for the kernel gradient; of the kernel, for the input
 * gradient.
 */
export type KeptName = "x" | "kernel";
export type Kept<T> = { readonly [Name in KeptName]?: T | undefined };

/** What was kept, by name; `names` in the order of the views. */
export function keptByName(names: readonly KeptName[] = [], views: readonly GpuView[]): Kept<GpuView> {
  return Object.fromEntries(names.map((name, i) => [name, views[i]]));
}

/** A convolution's result as it is, [N, OH, OW, Cout]. */
export interface Plain {
  readonly y: GpuView;
}
/** The maximum of its windows of 2 x 2, [N, OH / 2, OW / 2, Cout], and, where gradients are wanted, which cell won. */
export interface Pooled {
  readonly pooled: GpuView;
  readonly winner: GpuView | undefined;
}
export type Result = Plain | Pooled;

/** Where the gradient of a result comes from: dz, or that of what was pooled, before the activation. */
export interface PlainGradient {
  readonly dz: GpuView;
}
export interface PooledGradient {
  readonly dy: GpuView;
  readonly y: GpuView;
  readonly winner: GpuView;
  readonly activation: FusedActivation;
}
export type ResultGradient = PlainGradient | PooledGradient;

export interface ForwardViews<To> {
  readonly x: GpuView;
  readonly kernel: GpuView;
  readonly bias: GpuView | undefined;
  readonly activation: FusedActivation;
  readonly result: To;
  readonly kept: Kept<GpuView>;
}

export interface InputGradientViews<From> {
  readonly gradient: From;
  readonly kernel: GpuView;
  readonly dx: GpuView;
  readonly kept: Kept<GpuView>;
}

export interface KernelGradientViews<From> {
  readonly gradient: From;
  readonly x: GpuView;
  readonly dkernel: GpuView;
  readonly dbias: GpuView | undefined;
  readonly kept: Kept<GpuView>;
}

/** The three passes of one convolution on one adapter. */
export interface Route<To, From> {
  /** For tests and messages. */
  readonly name: string;
  /** Memory for what can be kept; a name that is missing is not worth it. */
  readonly keeps?: Kept<Spec>;
  forward<P>(call: GpuCall<P>, views: ForwardViews<To>): void;
  inputGradient<P>(call: GpuCall<P>, views: InputGradientViews<From>): void;
  kernelGradient<P>(call: GpuCall<P>, views: KernelGradientViews<From>): void;
  /** Both, where they share work; by default one after the other. */
  gradients?<P>(call: GpuCall<P>, views: InputGradientViews<From> & KernelGradientViews<From>): void;
}

export interface ConvolutionRoute extends Route<Plain, PlainGradient> {
  /** The same with windows of 2 x 2 pooled on the way, where it can be. */
  readonly pooled?: Route<Pooled, PooledGradient>;
}

/** The gradients that are wanted: dx needs the kernel, dkernel x. */
export interface WantedGradients<From> {
  readonly gradient: From;
  readonly x?: GpuView | undefined;
  readonly kernel?: GpuView | undefined;
  readonly dx?: GpuView | undefined;
  readonly dkernel?: GpuView | undefined;
  readonly dbias?: GpuView | undefined;
  readonly kept: Kept<GpuView>;
}

/** Computes what is wanted by a route. */
export function computeGradients<P, From>(
  call: GpuCall<P>,
  route: Route<unknown, From>,
  { gradient, x, kernel, dx, dkernel, dbias, kept }: WantedGradients<From>,
): void {
  const input = dx && { gradient, kernel: kernel!, dx, kept };
  const weights = dkernel && { gradient, x: x!, dkernel, dbias, kept };
  if (input && weights && route.gradients) route.gradients(call, { ...input, ...weights });
  else {
    if (input) route.inputGradient(call, input);
    if (weights) route.kernelGradient(call, weights);
  }
}

/** What is kept of a wish. */
export function keptSpecs({ keeps = {} }: Route<never, never>, names: readonly KeptName[] = []): Record<string, Spec> {
  return Object.fromEntries(names.flatMap((name) => (keeps[name] ? [[name, keeps[name]]] : [])));
}
