// Operations of a user's own: a value, and how its gradient becomes gradients of the inputs (TensorFlow's
// custom_gradient, PyTorch's autograd.Function).
import { ShapeError, UsageError } from "../tensor/errors.js";
import { boolean, callable, check, checkOptions, describe, listOf, type Rules, text } from "../tensor/options.js";
import { refusePromise, scope } from "../tensor/scope.js";
import { formatShape, sameShape } from "../tensor/shape.js";
import { requireTensor, requireTensors, Tensor, tensorRule } from "../tensor/tensor.js";
import { linked, noGrad, record } from "./tape.js";

/** What the function of a custom gradient returns. */
export interface CustomResult {
  /** The result of the operation. */
  readonly value: Tensor;
  /**
   * From the gradient of `value`, of its shape, those of the inputs. For one input it gives a tensor, else an array
   * with one for each, null where there is none. It is called with `saved` behind that.
   */
  readonly gradient: (dy: Tensor, ...saved: Tensor[]) => Tensor | readonly (Tensor | null)[];
  /** Tensors that `gradient` reads; kept until the backward pass, and refused there if they changed. Default none. */
  readonly saved?: readonly Tensor[];
}

const resultRules: Rules<CustomResult> = { value: tensorRule, gradient: callable, saved: listOf(tensorRule) };

export interface CustomGradientOptions {
  /** As it appears in errors; default "customGradient". */
  readonly name?: string;
  /**
   * Whether `gradient` has right derivatives itself. It is made of differentiable operations then, of `dy`, of the
   * inputs, and of the inputs and the value among `saved`; what else `fn` computed is a constant in it. Default false:
   * a derivative of the gradient is an error.
   */
  readonly derivable?: boolean;
}

const rules: Rules<CustomGradientOptions> = { name: text, derivable: boolean };

/**
 * An operation with a gradient of its own. `fn` gets the inputs and returns `{ value, gradient, saved }`; what it
 * computes is not recorded. `gradient(dy, ...saved)` is called in the backward pass.
 *
 * @example // log(1 + e^x), whose gradient is right where e^x overflows
 * const log1pexp = customGradient((x) => ({
 *   value: x.exp().add(1).log(), gradient: (dy, x) => dy.mul(x.sigmoid()), saved: [x],
 * }));
 * @throws UsageError for what is no such result; in the backward pass UsageError, ShapeError for what are no gradients
 * of the inputs
 */
export function customGradient<Inputs extends readonly Tensor[]>(
  fn: (...inputs: Inputs) => CustomResult,
  options: CustomGradientOptions = {},
): (...inputs: Inputs) => Tensor {
  check("customGradient", "fn", fn, callable);
  const { name = "customGradient", derivable = false } = checkOptions("customGradient", options, rules);
  return (...inputs) => {
    inputs.forEach((input, i) => {
      requireTensor(name, `input ${i}`, input);
    });
    return scope(() => {
      const given = noGrad(() => fn(...inputs));
      refusePromise(name, given);
      const { value, gradient, saved = [] } = checkOptions(name, given, resultRules, ["value", "gradient"]);
      requireTensor(name, "the value", value);
      requireTensors(name, "saved", saved);
      // What has a history, or may get one, is another operation's.
      const output = value.tracked || inputs.includes(value) ? value.alias() : value;
      return record(output, {
        op: name,
        inputs,
        saved: saved.map((t) => (t === value && !inputs.includes(t) ? output : t)),
        backward: (dy, kept, needed) => {
          let found: readonly (Tensor | null)[] | undefined;
          return inputs.map((input, i) => () => {
            found ??= gradientsIn(name, gradient(dy, ...kept), inputs.length);
            const own = found[i]!;
            if (own === null || !needed[i]) return null;
            requireTensor(name, `the gradient of input ${i}`, own);
            if (own.dtype !== "f32" || !sameShape(own.shape, input.shape) || own.device !== dy.device) {
              throw new ShapeError(
                `${name}: the gradient of input ${i} must be f32 ${formatShape(input.shape)} on its device, got ${own.dtype} ${formatShape(own.shape)} on a ${own.device.kind} one`,
              );
            }
            // It may be dy, or what was saved.
            return linked(own, own);
          });
        },
        ...(derivable && { derivable: true as const }),
      });
    });
  };
}

/** One gradient for each input. */
function gradientsIn(op: string, given: unknown, count: number): readonly (Tensor | null)[] {
  refusePromise(op, given, "gradient");
  const list: unknown = given instanceof Tensor && count === 1 ? [given] : given;
  const fits = Array.isArray(list) && list.length === count && list.every((t) => t === null || t instanceof Tensor);
  if (fits) return list;
  throw new UsageError(
    `${op}: gradient must return ${count === 1 ? "a tensor, or an array of one" : `an array of ${count} tensors, one for each input`}, null where there is none, got ${describe(given)}`,
  );
}
