// Differentiable matrix products with optional bias and activation: dense layers in one pass.
import {
  activationGradientKernel,
  type FusedActivation,
  fusedActivationRule,
  isLinear,
} from "../../kernels/activation.js";
import { matmulKernel } from "../../kernels/matmul.js";
import type { Spec } from "../../tensor/dtype.js";
// Devices of mixed precision are checked by it as they are opened.
import "../../kernels/mixed-check.js";
import { ShapeError } from "../../tensor/errors.js";
import { boolean, checkOptions, type Rules } from "../../tensor/options.js";
import { broadcastShapes, formatShape, sizeOf } from "../../tensor/shape.js";
import { requireTensor, run, runMany, type Tensor, tensorRule } from "../../tensor/tensor.js";
import { record } from "../tape.js";
import { sumTo, throughActivation } from "./elementwise-rows.js";

export interface MatmulOptions {
  /** a is stored as [..., K, M]. */
  readonly transposeA?: boolean;
  /** b is stored as [..., N, K]. */
  readonly transposeB?: boolean;
  /** [N], added to every row. */
  readonly bias?: Tensor;
  /** Applied after the bias; default "linear". */
  readonly activation?: FusedActivation;
}

const rules: Rules<MatmulOptions> = {
  transposeA: boolean,
  transposeB: boolean,
  bias: tensorRule,
  activation: fusedActivationRule,
};

/**
 * y = activation(a b + bias): a [..., M, K], b [..., K, N] -> [..., M, N]. Batch axes "..." broadcast.
 *
 * Backward, with dz = dy * activation'(z): da = dz b^T and db = a^T dz, summed over batch axes that were broadcast;
 * dbias = sum of dz over all axes but the last.
 *
 * @example matmul(x, kernel, { bias, activation: "relu" })
 * @throws ShapeError when the inner sizes differ, the batch axes do not broadcast, or an operand has fewer than two
 * axes
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  requireTensor("matmul", "a", a);
  requireTensor("matmul", "b", b);
  const given = checkOptions("matmul", options, rules);
  const { transposeA = false, transposeB = false, bias, activation = "linear" } = given;
  const shape = resultShape(a, b, { transposeA, transposeB });
  const n = shape.at(-1)!;
  if (bias !== undefined && (bias.rank !== 1 || bias.size !== n || bias.dtype !== "f32")) {
    throw new ShapeError(`matmul: bias must be f32 of shape [${n}], got ${bias.dtype} ${formatShape(bias.shape)}`);
  }
  const inputs = bias === undefined ? [a, b] : [a, b, bias];
  const y = run(matmulKernel, inputs, { shape, dtype: "f32" }, { transposeA, transposeB, activation });
  const linear = isLinear(activation);
  return record(y, {
    op: "matmul",
    inputs,
    saved: linear ? [a, b] : [a, b, y],
    backward: (dy, [a, b, y], [, kernelNeeded, biasNeeded]) => {
      const [dz, dbias] = linear ? [dy] : activationGradients(dy, y!, activation, bias);
      // Of a matrix b as it is stored: the bias's sums come with its product.
      const along = kernelNeeded && biasNeeded && dbias === undefined && b!.rank === 2 && !transposeA && !transposeB;
      let both: readonly Tensor[] | undefined;
      const products = () => {
        both ??= runMany(matmulKernel, [asMatrix(a!), asMatrix(dz)], [b!, bias!], {
          ...{ transposeA: true, transposeB: false, activation: "linear" },
        });
        return both;
      };
      return [
        () => {
          const da = transposeA
            ? product(b!, dz, { transposeA: transposeB, transposeB: true })
            : product(dz, b!, { transposeA: false, transposeB: !transposeB });
          return sumTo(da, a!.shape);
        },
        () => {
          if (along) return products()[0]!;
          // One matrix b for a whole batch of a: the sum over the batch is part of the product.
          const [x, g] = b!.rank === 2 && !transposeA ? [asMatrix(a!), asMatrix(dz)] : [a!, dz];
          const db = transposeB
            ? product(g, x, { transposeA: true, transposeB: transposeA })
            : product(x, g, { transposeA: !transposeA, transposeB: false });
          return sumTo(db, b!.shape);
        },
        () => (along ? products()[1]! : (dbias ?? sumTo(dz, [n]))),
      ].slice(0, inputs.length);
    },
    derivable: (dy, [a, b, y]) => {
      const dz = throughActivation(activation, dy, y);
      return [
        () => {
          const da = transposeA
            ? matmul(b!, dz, { transposeA: transposeB, transposeB: true })
            : matmul(dz, b!, { transposeB: !transposeB });
          return sumTo(da, a!.shape);
        },
        () => {
          const db = transposeB
            ? matmul(dz, a!, { transposeA: true, transposeB: transposeA })
            : matmul(a!, dz, { transposeA: !transposeA });
          return sumTo(db, b!.shape);
        },
        () => sumTo(dz, [n]),
      ].slice(0, inputs.length);
    },
  });
}

/** dz = dy * activation'(z), and its sums for a bias, which are nearly free in the same pass. */
function activationGradients(dy: Tensor, y: Tensor, activation: FusedActivation, bias: Tensor | undefined) {
  const specs: Spec[] = bias?.tracked ? [dy, bias] : [dy];
  return runMany(activationGradientKernel, [dy, y], specs, { activation }) as [dz: Tensor, dbias?: Tensor];
}

/** All axes but the last as one. */
function asMatrix(x: Tensor): Tensor {
  return x.alias([sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]);
}

interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

function product(a: Tensor, b: Tensor, transposes: Transposes): Tensor {
  const spec = { shape: resultShape(a, b, transposes), dtype: "f32" as const };
  return run(matmulKernel, [a, b], spec, { ...transposes, activation: "linear" });
}

function resultShape(a: Tensor, b: Tensor, { transposeA, transposeB }: Transposes): number[] {
  if (a.rank < 2 || b.rank < 2) {
    throw new ShapeError(
      `matmul: operands must have at least two axes, got ${formatShape(a.shape)} and ${formatShape(b.shape)}; reshape a vector to [1, n] or [n, 1]`,
    );
  }
  if (a.dtype !== "f32" || b.dtype !== "f32") {
    throw new ShapeError(`matmul: operands must be f32, got ${a.dtype} and ${b.dtype}; use cast()`);
  }
  const [m, ka] = (transposeA ? [a.shape.at(-1), a.shape.at(-2)] : a.shape.slice(-2)) as [number, number];
  const [kb, n] = (transposeB ? [b.shape.at(-1), b.shape.at(-2)] : b.shape.slice(-2)) as [number, number];
  if (ka !== kb) {
    const side = (shape: readonly number[], transposed: boolean) => `${formatShape(shape)}${transposed ? "^T" : ""}`;
    const hint =
      ka === (transposeB ? b.shape.at(-2) : b.shape.at(-1))
        ? `did you mean { transposeB: ${!transposeB} }?`
        : m === kb
          ? `did you mean { transposeA: ${!transposeA} }?`
          : "reshape one of them";
    throw new ShapeError(
      `matmul: inner sizes must be equal, got ${ka} and ${kb} in ${side(a.shape, transposeA)} x ${side(b.shape, transposeB)}; ${hint}`,
    );
  }
  return [...broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2)), m, n];
}
