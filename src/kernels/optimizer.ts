// Optimizer steps in place on a parameter w and its slots, one dispatch a tensor (per window, beyond a binding). w, the
// gradient g and the slots have one shape, f32. What changes from step to step arrives as numbers: nothing recompiles.
// Formulas and defaults as Keras 3: weight decay is decoupled from the gradient, w -= w learningRate weightDecay.
import { type CpuView, defineKernel } from "../tensor/kernel.js";
import type { Binding, GpuView } from "../tensor/webgpu-program.js";
import { stream } from "./stream.js";

const inPlace = (name: string, view: GpuView): Binding => ({ name, view, type: "vec4f", access: "read_write" });

export interface SgdParams {
  readonly learningRate: number;
  /** Without momentum there is no slot. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
  readonly weightDecay?: number;
}

/**
 * w -= learningRate g; with momentum m <- momentum m - learningRate g, w += m (Nesterov: w += momentum m - learningRate g).
 * Inputs [g], outputs [w] or, with momentum, [w, m], all read and written.
 */
export const sgdKernel = defineKernel<SgdParams>({
  name: "sgd",
  cpu: ({ inputs: [g], outputs: [w, m], params: { learningRate, momentum = 0, nesterov, weightDecay = 0 } }) => {
    for (let i = 0; i < w!.size; i++) {
      const step = -learningRate * g!.data[i]!;
      const decayed = w!.data[i]! * (1 - learningRate * weightDecay);
      if (m !== undefined) m.data[i] = momentum * m.data[i]! + step;
      const velocity = m?.data[i] ?? step;
      w!.data[i] = decayed + (nesterov && m !== undefined ? momentum * velocity + step : velocity);
    }
  },
  webgpu: (call) => {
    const { learningRate, momentum = 0, nesterov, weightDecay = 0 } = call.params;
    const [w, m] = call.outputs;
    const kind = m === undefined ? "plain" : nesterov ? "nesterov" : "momentum";
    stream(call, {
      key: kind,
      bindings: [
        { name: "gradient", view: call.inputs[0]!, type: "vec4f" },
        inPlace("parameter", w!),
        ...(m === undefined ? [] : [inPlace("velocity", m)]),
      ],
      statement: /* wgsl */ `let step = -u.learningRate * gradient[i];
    let decayed = parameter[i] * u.keep;
    ${m === undefined ? "" : "let v = u.momentum * velocity[i] + step; velocity[i] = v;"}
    parameter[i] = decayed + ${{ plain: "step", momentum: "v", nesterov: "(u.momentum * v + step)" }[kind]};`,
      numbers: { learningRate, momentum, keep: 1 - learningRate * weightDecay },
    });
  },
});

export interface AdamParams {
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
 * Inputs [g], outputs [w, m, v], all read and written.
 */
export const adamKernel = defineKernel<AdamParams>({
  name: "adam",
  cpu: ({ inputs: [g], outputs: [w, m, v], params }) => {
    const rate = adamRate(params);
    const { learningRate, beta1, beta2, epsilon, weightDecay } = params;
    for (let i = 0; i < w!.size; i++) {
      const gradient = g!.data[i]!;
      const mean = m!.data[i]! + (gradient - m!.data[i]!) * (1 - beta1);
      const square = v!.data[i]! + (gradient * gradient - v!.data[i]!) * (1 - beta2);
      m!.data[i] = mean;
      v!.data[i] = square;
      w!.data[i] = w!.data[i]! * (1 - learningRate * weightDecay) - (rate * mean) / (Math.sqrt(square) + epsilon);
    }
  },
  webgpu: (call) => {
    const [w, m, v] = call.outputs;
    const { learningRate, beta1, beta2, epsilon, weightDecay } = call.params;
    stream(call, {
      key: "",
      bindings: [
        { name: "gradient", view: call.inputs[0]!, type: "vec4f" },
        inPlace("parameter", w!),
        inPlace("mean", m!),
        inPlace("square", v!),
      ],
      statement: /* wgsl */ `let g = gradient[i];
    var m = mean[i]; m += (g - m) * u.newMean; mean[i] = m;
    var v = square[i]; v += (g * g - v) * u.newSquare; square[i] = v;
    parameter[i] = parameter[i] * u.keep - u.rate * m / (sqrt(v) + u.epsilon);`,
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

export interface ClipParams {
  /** Largest Euclidean norm of all gradients together. */
  readonly maximumNorm: number;
}

/** g *= min(1, maximumNorm / sqrt(squaredNorm)). Inputs [squaredNorm f32, one element], outputs [g], read and written. */
export const clipByNormKernel = defineKernel<ClipParams>({
  name: "clipByNorm",
  cpu: ({ inputs: [squaredNorm], outputs: [g], params: { maximumNorm } }) => {
    const factor = clipFactor(squaredNorm!, maximumNorm);
    for (let i = 0; i < g!.size; i++) g!.data[i]! *= factor;
  },
  webgpu: (call) =>
    stream(call, {
      key: "",
      bindings: [inPlace("gradient", call.outputs[0]!)],
      tables: [{ name: "squaredNorm", view: call.inputs[0]!, type: "f32" }],
      statement: "gradient[i] *= u.maximumNorm / max(sqrt(squaredNorm[0]), u.maximumNorm);",
      numbers: { maximumNorm: call.params.maximumNorm },
    }),
});

function clipFactor(squaredNorm: CpuView, maximumNorm: number): number {
  return maximumNorm / Math.max(Math.sqrt(squaredNorm.data[0]!), maximumNorm);
}
