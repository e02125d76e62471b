// Derivatives of whole functions, made of gradients: vector-Jacobian and Hessian-vector products, Jacobians, Hessians.
// Names and shapes are those of PyTorch's torch.func and of JAX.
import { DisposedError, ShapeError, UsageError } from "../tensor/errors.js";
import { boolean, callable, check, checkOptions, type Rules } from "../tensor/options.js";
import { scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireTensor, type Tensor, tensor } from "../tensor/tensor.js";
import { differentiated, pulledBack, traced, tracedValue } from "./differentiate.js";
import { mul } from "./ops/elementwise.js";
import { sum } from "./ops/reduce.js";
import { reshape, stack } from "./ops/transform.js";
import { forget, newestNode } from "./tape.js";

export interface DerivativeOptions {
  /**
   * Records how the results are computed, so that they have derivatives themselves. By default true inside of what is
   * being differentiated, else false.
   */
  readonly createGraph?: boolean;
}

const rules: Rules<DerivativeOptions> = { createGraph: boolean };

/** What `vjp` gives: the value, and how gradients of it become gradients of the inputs. */
export interface Pulled<Inputs extends readonly Tensor[]> {
  readonly value: Tensor;
  /**
   * Gradients of sum(value * gradient) with respect to each input; zeros for one that does not matter. As often as one
   * likes, until `dispose` or the end of the scope around vjp.
   * @param gradient f32 of the value's shape
   */
  readonly pullback: (gradient: Tensor) => { [K in keyof Inputs]: Tensor };
  /** Frees what the pullback needs; the value stays, without its history. */
  readonly dispose: () => void;
}

/**
 * Vector-Jacobian products: `vjp(fn)(x)` runs `fn`, which returns a tensor of any shape, and gives
 * `{ value, pullback, dispose }`. `pullback(v)` is v times the Jacobian, an array with one gradient per input.
 *
 * @example const { pullback } = vjp((x) => x.exp())(x); const [gradient] = pullback(v);
 */
export function vjp<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => Tensor,
  options: DerivativeOptions = {},
): (...inputs: Inputs) => Pulled<Inputs> {
  check("vjp", "fn", fn, callable);
  const { createGraph } = checkOptions("vjp", options, rules);
  return (...inputs) => {
    const since = newestNode();
    // Returned, all that the pullback needs belongs to the scope around.
    const { trace, value } = scope(() => {
      const made = traced("vjp", fn, inputs, createGraph);
      return { trace: { ...made }, value: tracedValue(made) };
    });
    let disposed = false;
    return {
      value,
      pullback(gradient) {
        if (disposed) throw new DisposedError("vjp: the pullback was used after dispose(); call vjp again");
        requireTensor("vjp", "the gradient", gradient);
        return scope(() => pulledBack(trace, { gradient, retainTape: true })) as unknown as {
          [K in keyof Inputs]: Tensor;
        };
      },
      dispose() {
        disposed = true;
        forget(trace.output, since);
        for (const t of [...trace.leaves, trace.output]) t.dispose();
      },
    };
  };
}

/** Elements of a result up to which jacobian computes it, a backward pass each. */
const MOST_ROWS = 4096;

/**
 * The Jacobian of `fn` at x: f32 [...fn(x).shape, ...x.shape], with the derivative of element i for element j. One
 * backward pass for each element of fn(x), of which there may be 4096.
 *
 * @example jacobian((x) => x.square())(tensor(device, [1, 2])) // [[2, 0], [0, 4]]
 * @throws UsageError where fn(x) has more elements
 */
export function jacobian(fn: (x: Tensor) => Tensor, options: DerivativeOptions = {}): (x: Tensor) => Tensor {
  check("jacobian", "fn", fn, callable);
  const { createGraph } = checkOptions("jacobian", options, rules);
  return (x) => rows("jacobian", fn, x, createGraph);
}

function rows(op: string, fn: (x: Tensor) => Tensor, x: Tensor, createGraph: boolean | undefined): Tensor {
  return scope(() => {
    const trace = traced(op, fn, [x], createGraph);
    const { output } = trace;
    if (output.size > MOST_ROWS) {
      throw new UsageError(
        `${op}: takes a backward pass for each of at most ${MOST_ROWS} elements, got ${output.size} ${formatShape(output.shape)}; use vjp or hvp for products with a vector`,
      );
    }
    if (output.size === 0) throw new ShapeError(`${op}: needs at least one element, got ${formatShape(output.shape)}`);
    const gradients = Array.from({ length: output.size }, (_, i) => {
      const one = new Float32Array(output.size);
      one[i] = 1;
      return scope(() => {
        const gradient = tensor(output.device, one, { shape: output.shape });
        return pulledBack(trace, { gradient, retainTape: true })[0]!;
      });
    });
    return reshape(stack(gradients), [...output.shape, ...x.shape]);
  });
}

/** Elements of an input up to which hessian computes it. */
const MOST_COLUMNS = 1024;

/**
 * The Hessian at x of `fn`, which returns a scalar: f32 [...x.shape, ...x.shape]. A backward pass through the gradient
 * for each element of x, of which there may be 1024.
 *
 * @example hessian((x) => x.square().sum())(tensor(device, [1, 2])) // [[2, 0], [0, 2]]
 * @throws UsageError where x has more elements; KilogradError `NO_GRADIENT` where an operation's gradient has no
 * derivative
 */
export function hessian(fn: (x: Tensor) => Tensor, options: DerivativeOptions = {}): (x: Tensor) => Tensor {
  check("hessian", "fn", fn, callable);
  const { createGraph } = checkOptions("hessian", options, rules);
  const gradient = differentiated("hessian", fn);
  return (x) => {
    requireTensor("hessian", "x", x);
    if (x.size > MOST_COLUMNS) {
      throw new UsageError(
        `hessian: x must have at most ${MOST_COLUMNS} elements, got ${x.size} ${formatShape(x.shape)}; use hvp for products with a vector`,
      );
    }
    return rows("hessian", (leaf) => gradient(leaf).grad, x, createGraph);
  };
}

/**
 * Hessian-vector products: `hvp(fn)(x, v)` is the Hessian at x of `fn`, which returns a scalar, times v, of x's shape.
 * At the price of two backward passes; the Hessian is nowhere.
 *
 * @example hvp((x) => x.square().sum())(x, v) // 2 v
 * @throws ShapeError where v has another shape; KilogradError `NO_GRADIENT` where an operation's gradient has no
 * derivative
 */
export function hvp(fn: (x: Tensor) => Tensor, options: DerivativeOptions = {}): (x: Tensor, v: Tensor) => Tensor {
  check("hvp", "fn", fn, callable);
  const given = checkOptions("hvp", options, rules);
  const gradient = differentiated("hvp", fn);
  return (x, v) => {
    requireTensor("hvp", "x", x);
    requireTensor("hvp", "v", v);
    if (v.dtype !== "f32" || !sameShape(v.shape, x.shape)) {
      throw new ShapeError(
        `hvp: v must be f32 of x's shape ${formatShape(x.shape)}, got ${v.dtype} ${formatShape(v.shape)}`,
      );
    }
    // Of a linear function the gradient does not depend on x.
    const along = differentiated("hvp", (leaf: Tensor) => sum(mul(gradient(leaf).grad, v)), {
      ...given,
      allowUnused: true,
    });
    return scope(() => along(x).grad);
  };
}
