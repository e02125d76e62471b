// Activations by name. relu, tanh and sigmoid are applied by matmul and conv2d while they store their result; the
// others are elementwise operations after it, and softmax runs over the last axis.
import { unary } from "../autograd/ops/elementwise-rows.js";
import { softmax } from "../autograd/ops/softmax.js";
import { FUSED_ACTIVATIONS, type FusedActivation } from "../kernels/activation.js";
import { type UnaryName, unaryTable } from "../kernels/elementwise-table.js";
import { oneOf } from "../tensor/options.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * "linear", "softmax", or any operation of one tensor: "relu", "tanh", "sigmoid", "leakyRelu", "gelu", "lecunTanh", ...
 */
export type ActivationName = "linear" | "softmax" | UnaryName;

/** What an option of that may be. */
export const activationRule = oneOf("linear", "softmax", ...Object.keys(unaryTable));

/** What a matrix product applies itself, and what is left to do after it. */
export function splitActivation(name: ActivationName): { fused: FusedActivation; after: ActivationName } {
  const fused = FUSED_ACTIVATIONS.find((candidate) => candidate === name);
  return fused === undefined ? { fused: "linear", after: name } : { fused, after: "linear" };
}

/** The activation of x [N, ...]; softmax over the last axis. */
export function activate(x: Tensor, name: ActivationName): Tensor {
  if (name === "linear") return x;
  return name === "softmax" ? softmax(x) : unary(name, x);
}
