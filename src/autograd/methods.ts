// Adds the operations to the Tensor class as methods: `x.mul(2).relu().sum()`. Elementwise methods come from the
// tables; importing this module (the package's index does) puts them on the prototype.
import { type BinaryName, binaryTable, type UnaryName, unaryTable } from "../kernels/elementwise-table.js";
import type { AxesOptions } from "../tensor/axes.js";
import type { DType } from "../tensor/dtype.js";
import type { Axes } from "../tensor/shape.js";
import { Tensor } from "../tensor/tensor.js";
import * as elementwise from "./ops/elementwise.js";
import type { Operand, UnaryOptions } from "./ops/elementwise-rows.js";
import { type MatmulOptions, matmul } from "./ops/matmul.js";
import * as reduce from "./ops/reduce.js";
import * as transform from "./ops/transform.js";
import { type BackwardOptions, backward, detach } from "./tape.js";

/** Rows whose parameters have places of their own, not names. */
type Positional = "clip";
type UnaryMethods = {
  [K in Exclude<UnaryName, Positional>]: UnaryOptions<K> extends undefined
    ? () => Tensor
    : (options?: UnaryOptions<K>) => Tensor;
};
type BinaryMethods = { [K in BinaryName]: (other: Operand) => Tensor };

declare module "../tensor/tensor.js" {
  interface Tensor extends UnaryMethods, BinaryMethods {
    clip(minimum: number, maximum: number): Tensor;
    cast(dtype: DType): Tensor;
    matmul(other: Tensor, options?: MatmulOptions): Tensor;
    sum(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    sumSquares(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    mean(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    max(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    min(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    argmax(axis: number | reduce.ArgmaxOptions, options?: reduce.ArgmaxOptions): Tensor;
    logSumExp(axes?: Axes | reduce.ReduceOptions, options?: reduce.ReduceOptions): Tensor;
    reshape(shape: readonly number[]): Tensor;
    transpose(axes?: readonly number[] | AxesOptions<readonly number[]>): Tensor;
    slice(begin: readonly number[], size: readonly number[]): Tensor;
    detach(): Tensor;
    backward(options?: BackwardOptions): void;
  }
}

const structural = {
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

// Every row has a function of its name, which takes what the method takes.
const rows: Readonly<Record<UnaryName | BinaryName, (self: Tensor, ...rest: never[]) => Tensor>> = elementwise;
for (const name of [...Object.keys(unaryTable), ...Object.keys(binaryTable)] as (UnaryName | BinaryName)[]) {
  install(name, rows[name]);
}
for (const [name, fn] of Object.entries(structural)) install(name, fn as (self: Tensor, ...rest: never[]) => unknown);
