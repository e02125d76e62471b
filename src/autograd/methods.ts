// Adds the operations to the Tensor class as methods: `x.mul(2).relu().sum()`. Elementwise methods come from the tables;
// importing this module (the package's index does) puts them on the prototype.
import { binaryTable, unaryTable } from "../kernels/elementwise-table.js";
import type { DType } from "../tensor/dtype.js";
import { Tensor } from "../tensor/tensor.js";
import * as elementwise from "./ops/elementwise.js";
import { type MatmulOptions, matmul } from "./ops/matmul.js";
import * as reduce from "./ops/reduce.js";
import * as transform from "./ops/transform.js";
import { type BackwardOptions, backward, detach } from "./tape.js";

type WithoutParameters = {
  [K in keyof typeof unaryTable]: (typeof unaryTable)[K] extends { parameters: unknown } ? never : K;
}[keyof typeof unaryTable];
type UnaryMethods = { [K in WithoutParameters]: () => Tensor };
type BinaryMethods = { [K in keyof typeof binaryTable]: (other: elementwise.Operand) => Tensor };

declare module "../tensor/tensor.js" {
  interface Tensor extends UnaryMethods, BinaryMethods {
    leakyRelu(options?: { readonly negativeSlope?: number }): Tensor;
    clip(minimum: number, maximum: number): Tensor;
    cast(dtype: DType): Tensor;
    matmul(other: Tensor, options?: MatmulOptions): Tensor;
    sum(options?: reduce.ReduceOptions): Tensor;
    sumSquares(options?: reduce.ReduceOptions): Tensor;
    mean(options?: reduce.ReduceOptions): Tensor;
    max(options?: reduce.ReduceOptions): Tensor;
    min(options?: reduce.ReduceOptions): Tensor;
    argmax(options: reduce.ArgmaxOptions): Tensor;
    logSumExp(options?: reduce.ReduceOptions): Tensor;
    reshape(shape: readonly number[]): Tensor;
    transpose(axes?: readonly number[]): Tensor;
    slice(begin: readonly number[], size: readonly number[]): Tensor;
    detach(): Tensor;
    backward(options?: BackwardOptions): void;
  }
}

const structural = {
  leakyRelu: elementwise.leakyRelu,
  clip: elementwise.clip,
  cast: elementwise.cast,
  matmul,
  sum: reduce.sum,
  sumSquares: reduce.sumSquares,
  mean: reduce.mean,
  max: reduce.max,
  min: reduce.min,
  argmax: reduce.argmax,
  logSumExp: reduce.logSumExp,
  reshape: transform.reshape,
  transpose: transform.transpose,
  slice: transform.slice,
  detach,
  backward,
};

function install(name: string, fn: (self: Tensor, ...rest: never[]) => unknown): void {
  Object.defineProperty(Tensor.prototype, name, {
    value(this: Tensor, ...rest: never[]) {
      return fn(this, ...rest);
    },
    configurable: true,
    writable: true,
  });
}

for (const name of Object.keys(unaryTable) as (keyof typeof unaryTable)[])
  install(name, (x) => elementwise.unary(name, x));
for (const name of Object.keys(binaryTable) as (keyof typeof binaryTable)[]) {
  install(name, (a, b: elementwise.Operand) => elementwise.binary(name, a, b));
}
for (const [name, fn] of Object.entries(structural)) install(name, fn as (self: Tensor, ...rest: never[]) => unknown);
