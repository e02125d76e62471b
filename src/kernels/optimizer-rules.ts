// The rules of optimizers: how a parameter w and its slots change by a gradient g, element by element (optimizer.ts has
// the rest). Formulas and defaults as Keras 3. Weight decay is decoupled from the gradient: first w <- keep w, with
// keep = 1 - learningRate weightDecay.
import { RELU, typed, unlessNan } from "./ieee.js";
import { defineUpdate, type StepParams } from "./optimizer.js";

export interface RuleParams extends StepParams {
  readonly learningRate: number;
  /** Number of this step, from 1. */
  readonly step?: number;
  /** Default 0. */
  readonly weightDecay?: number;
}

const keepOf = ({ learningRate, weightDecay = 0 }: RuleParams) => 1 - learningRate * weightDecay;

/** max(x, 0), NaN where x is. */
const positive = (x: string) => `${typed(RELU, "vec4f").replace(/\bx\b/g, x)}`;

export interface SgdParams extends RuleParams {
  /** Without momentum there is no slot. */
  readonly momentum?: number;
  readonly nesterov?: boolean;
}

/**
 * w -= learningRate g; with momentum m <- momentum m - learningRate g, w += m (Nesterov: w += momentum m - learningRate
 * g). Slots: none or, with momentum, [m].
 */
export const sgdKernel = defineUpdate<SgdParams>(
  "sgd",
  (params) => {
    const { learningRate, momentum = 0, nesterov } = params;
    const keep = keepOf(params);
    return (w, gradient, [m], i) => {
      const step = -learningRate * gradient;
      if (m !== undefined) m.data[i] = momentum * m.data[i]! + step;
      const velocity = m?.data[i] ?? step;
      return w * keep + (nesterov && m !== undefined ? momentum * velocity + step : velocity);
    };
  },
  (params) => {
    const { learningRate, momentum = 0, nesterov } = params;
    const plain = momentum === 0;
    const kind = plain ? "plain" : nesterov ? "nesterov" : "momentum";
    return {
      key: kind,
      state: plain ? ["w"] : ["w", "m"],
      statement: /* wgsl */ `let step = -u.learningRate * g;
      ${plain ? "" : "m = u.momentum * m + step;"}
      w = w * u.keep + ${{ plain: "step", momentum: "m", nesterov: "(u.momentum * m + step)" }[kind]};`,
      numbers: { learningRate, momentum, keep: keepOf(params) },
    };
  },
);

export interface AdamParams extends RuleParams {
  readonly step: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
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
export const adamKernel = defineUpdate<AdamParams>(
  "adam",
  (params) => {
    const [rate, keep] = [adamRate(params), keepOf(params)];
    const { beta1, beta2, epsilon } = params;
    return (w, gradient, [m, v], i) => {
      const mean = m!.data[i]! + (gradient - m!.data[i]!) * (1 - beta1);
      const square = v!.data[i]! + (gradient * gradient - v!.data[i]!) * (1 - beta2);
      m!.data[i] = mean;
      v!.data[i] = square;
      return w * keep - (rate * mean) / (Math.sqrt(square) + epsilon);
    };
  },
  (params) => {
    const { beta1, beta2, epsilon } = params;
    return {
      key: "",
      state: ["w", "m", "v"],
      statement: /* wgsl */ `m += (g - m) * u.newMean;
      v += (g * g - v) * u.newSquare;
      w = w * u.keep - u.rate * m / (sqrt(v) + u.epsilon);`,
      numbers: { newMean: 1 - beta1, newSquare: 1 - beta2, rate: adamRate(params), epsilon, keep: keepOf(params) },
    };
  },
);

/** Products of Nadam's momenta up to a step, by beta1: the last asked for, from which the next ones follow. */
const products = new Map<number, { step: number; product: number }>();

/** beta1 (1 - 0.96^step / 2) */
const nadamMomentum = (beta1: number, step: number) => beta1 * (1 - 0.5 * 0.96 ** step);

/** Product of the momenta of steps 1 to `step`, in their order. */
function nadamProduct(beta1: number, step: number): number {
  let known = products.get(beta1);
  if (known === undefined || known.step > step) known = { step: 0, product: 1 };
  while (known.step < step) {
    known.step++;
    known.product *= nadamMomentum(beta1, known.step);
  }
  products.set(beta1, known);
  return known.product;
}

/** Factors of the mean, of the gradient and of the mean square. */
function nadamFactors({ learningRate, step, beta1, beta2 }: AdamParams) {
  const [now, next] = [nadamMomentum(beta1, step), nadamMomentum(beta1, step + 1)];
  const product = nadamProduct(beta1, step);
  return {
    ofMean: (learningRate * next) / (1 - product * next),
    ofGradient: (learningRate * (1 - now)) / (1 - product),
    ofSquare: 1 / (1 - beta2 ** step),
  };
}

/**
 * Nadam (Dozat 2016), with m and v as Adam's, the momentum u_t = beta1 (1 - 0.96^t / 2) and its products U_t:
 * w -= learningRate (u_(t+1) m / (1 - U_(t+1)) + (1 - u_t) g / (1 - U_t)) / (sqrt(v / (1 - beta2^t)) + epsilon).
 * Slots: [m, v].
 */
export const nadamKernel = defineUpdate<AdamParams>(
  "nadam",
  (params) => {
    const { ofMean, ofGradient, ofSquare } = nadamFactors(params);
    const { beta1, beta2, epsilon } = params;
    const keep = keepOf(params);
    return (w, gradient, [m, v], i) => {
      const mean = m!.data[i]! + (gradient - m!.data[i]!) * (1 - beta1);
      const square = v!.data[i]! + (gradient * gradient - v!.data[i]!) * (1 - beta2);
      m!.data[i] = mean;
      v!.data[i] = square;
      return w * keep - (ofMean * mean + ofGradient * gradient) / (Math.sqrt(square * ofSquare) + epsilon);
    };
  },
  (params) => ({
    key: "",
    state: ["w", "m", "v"],
    statement: /* wgsl */ `m += (g - m) * u.newMean;
      v += (g * g - v) * u.newSquare;
      w = w * u.keep - (u.ofMean * m + u.ofGradient * g) / (sqrt(v * u.ofSquare) + u.epsilon);`,
    numbers: {
      ...nadamFactors(params),
      ...{ newMean: 1 - params.beta1, newSquare: 1 - params.beta2, epsilon: params.epsilon, keep: keepOf(params) },
    },
  }),
);

/**
 * Adamax (Kingma, Ba, 2015, section 7.1): m as Adam's, the norm u <- max(beta2 u, |g|),
 * w -= learningRate / (1 - beta1^step) m / (u + epsilon). Slots: [m, u].
 */
export const adamaxKernel = defineUpdate<AdamParams>(
  "adamax",
  (params) => {
    const { learningRate, step, beta1, beta2, epsilon } = params;
    const [rate, keep] = [learningRate / (1 - beta1 ** step), keepOf(params)];
    return (w, gradient, [m, norm], i) => {
      m!.data[i]! += (gradient - m!.data[i]!) * (1 - beta1);
      norm!.data[i] = Math.max(beta2 * norm!.data[i]!, Math.abs(gradient));
      return w * keep - (rate * m!.data[i]!) / (norm!.data[i]! + epsilon);
    };
  },
  (params) => {
    const { learningRate, step, beta1, beta2, epsilon } = params;
    // A NaN stays in the mean, and so comes into the parameter.
    return {
      key: "",
      state: ["w", "m", "norm"],
      statement: /* wgsl */ `m += (g - m) * u.newMean;
      norm = ${typed(unlessNan("max(u.beta2 * norm, abs(g))", "g"), "vec4f")};
      w = w * u.keep - u.rate * m / (norm + u.epsilon);`,
      numbers: {
        ...{ newMean: 1 - beta1, beta2, epsilon },
        ...{ rate: learningRate / (1 - beta1 ** step), keep: keepOf(params) },
      },
    };
  },
);

export interface RmspropParams extends RuleParams {
  /** Share of the mean square that is kept. */
  readonly rho: number;
  /** Without momentum there is no slot of it. */
  readonly momentum: number;
  readonly epsilon: number;
  /** Divides by the variance instead of the mean square, with one more slot. */
  readonly centered: boolean;
}

/**
 * RMSprop (Tieleman, Hinton 2012): v <- rho v + (1 - rho) g^2, step = learningRate g / sqrt(v + epsilon), w -= step;
 * with momentum m <- momentum m + step, w -= m; centered a <- rho a + (1 - rho) g, and v - a^2 in the place of v, which
 * rounding cannot make negative. Slots: [v, m, a], without those that are not used.
 */
export const rmspropKernel = defineUpdate<RmspropParams>(
  "rmsprop",
  (params) => {
    const { learningRate, rho, momentum, epsilon, centered } = params;
    const keep = keepOf(params);
    return (w, gradient, [v, ...others], i) => {
      const m = momentum === 0 ? undefined : others[0];
      const mean = centered ? others.at(-1) : undefined;
      v!.data[i] = rho * v!.data[i]! + (1 - rho) * gradient * gradient;
      if (mean !== undefined) mean.data[i] = rho * mean.data[i]! + (1 - rho) * gradient;
      const spread = mean === undefined ? v!.data[i]! : Math.max(v!.data[i]! - mean.data[i]! ** 2, 0);
      const step = (learningRate * gradient) / Math.sqrt(spread + epsilon);
      if (m !== undefined) m.data[i] = momentum * m.data[i]! + step;
      return w * keep - (m?.data[i] ?? step);
    };
  },
  (params) => {
    const { learningRate, rho, momentum, epsilon, centered } = params;
    const moves = momentum !== 0;
    return {
      key: `${moves ? "momentum" : ""} ${centered ? "centered" : ""}`,
      state: ["w", "v", ...(moves ? ["m"] : []), ...(centered ? ["mean"] : [])],
      statement: /* wgsl */ `v = u.rho * v + u.newSquare * g * g;
      ${centered ? "mean = u.rho * mean + u.newSquare * g; let variance = v - mean * mean;" : ""}
      let step = u.learningRate * g / sqrt(${centered ? positive("variance") : "v"} + u.epsilon);
      ${moves ? "m = u.momentum * m + step;" : ""}
      w = w * u.keep - ${moves ? "m" : "step"};`,
      numbers: { learningRate, rho, newSquare: 1 - rho, momentum, epsilon, keep: keepOf(params) },
    };
  },
);

export interface AdagradParams extends RuleParams {
  readonly epsilon: number;
}

/**
 * Adagrad (Duchi et al. 2011): v <- v + g^2, w -= learningRate g / sqrt(v + epsilon). Slots: [v], which begins above 0.
 */
export const adagradKernel = defineUpdate<AdagradParams>(
  "adagrad",
  (params) => {
    const { learningRate, epsilon } = params;
    const keep = keepOf(params);
    return (w, gradient, [v], i) => {
      v!.data[i]! += gradient * gradient;
      return w * keep - (learningRate * gradient) / Math.sqrt(v!.data[i]! + epsilon);
    };
  },
  (params) => ({
    key: "",
    state: ["w", "v"],
    statement: /* wgsl */ `v += g * g;
      w = w * u.keep - u.learningRate * g / sqrt(v + u.epsilon);`,
    numbers: { learningRate: params.learningRate, epsilon: params.epsilon, keep: keepOf(params) },
  }),
);

export interface AdadeltaParams extends RuleParams {
  readonly rho: number;
  readonly epsilon: number;
}

/**
 * Adadelta (Zeiler 2012): v <- rho v + (1 - rho) g^2, d = -sqrt(x + epsilon) / sqrt(v + epsilon) g,
 * x <- rho x + (1 - rho) d^2, w += learningRate d. Slots: [v, x].
 */
export const adadeltaKernel = defineUpdate<AdadeltaParams>(
  "adadelta",
  (params) => {
    const { learningRate, rho, epsilon } = params;
    const keep = keepOf(params);
    return (w, gradient, [v, x], i) => {
      v!.data[i] = rho * v!.data[i]! + (1 - rho) * gradient * gradient;
      const change = (-Math.sqrt(x!.data[i]! + epsilon) * gradient) / Math.sqrt(v!.data[i]! + epsilon);
      x!.data[i] = rho * x!.data[i]! + (1 - rho) * change * change;
      return w * keep + learningRate * change;
    };
  },
  (params) => {
    const { learningRate, rho, epsilon } = params;
    return {
      key: "",
      state: ["w", "v", "x"],
      statement: /* wgsl */ `v = u.rho * v + u.newSquare * g * g;
      let change = -sqrt(x + u.epsilon) * g / sqrt(v + u.epsilon);
      x = u.rho * x + u.newSquare * change * change;
      w = w * u.keep + u.learningRate * change;`,
      numbers: { learningRate, rho, newSquare: 1 - rho, epsilon, keep: keepOf(params) },
    };
  },
);

export interface LionParams extends RuleParams {
  readonly beta1: number;
  readonly beta2: number;
}

/**
 * Lion (Chen et al. 2023): w -= learningRate sign(beta1 m + (1 - beta1) g), m <- beta2 m + (1 - beta2) g. Slots: [m].
 */
export const lionKernel = defineUpdate<LionParams>(
  "lion",
  (params) => {
    const { learningRate, beta1, beta2 } = params;
    const keep = keepOf(params);
    return (w, gradient, [m], i) => {
      const direction = Math.sign(beta1 * m!.data[i]! + (1 - beta1) * gradient);
      m!.data[i] = beta2 * m!.data[i]! + (1 - beta2) * gradient;
      return w * keep - learningRate * direction;
    };
  },
  (params) => {
    const { learningRate, beta1, beta2 } = params;
    return {
      key: "",
      state: ["w", "m"],
      statement: /* wgsl */ `let mixed = u.beta1 * m + u.newInMixed * g;
      m = u.beta2 * m + u.newInMean * g;
      w = w * u.keep - u.learningRate * ${typed(unlessNan("sign(mixed)", "mixed"), "vec4f")};`,
      numbers: { learningRate, beta1, newInMixed: 1 - beta1, beta2, newInMean: 1 - beta2, keep: keepOf(params) },
    };
  },
);
