// Kernels of a user's own: what one element of the result is, in WGSL for WebGPU and in JavaScript for the float64
// reference. Loops, slices and parameters are the library's (kernels/rolled.ts); so is the place on the tape.
import { dispatchStatements, type StatementParams } from "../kernels/statements.js";
import { type Changing, valueNow } from "../tensor/device.js";
import { dtypeRule, type Spec } from "../tensor/dtype.js";
import { KilogradError, UsageError } from "../tensor/errors.js";
import { defineKernel } from "../tensor/kernel.js";
import {
  anything,
  array,
  callable,
  check,
  checkOptions,
  integer,
  listOf,
  number,
  object,
  type Rule,
  type Rules,
  string,
  text,
} from "../tensor/options.js";
import { refusePromise } from "../tensor/scope.js";
import { checkShape } from "../tensor/shape.js";
import { requireTensors, run, type Tensor } from "../tensor/tensor.js";
import { customGradient } from "./custom-gradient.js";

/** Parameters of a kernel, which its formulas know as `u.NAME`. */
export type KernelNumbers = Readonly<Record<string, number>>;

/** What {@link customKernel} takes. */
export interface CustomKernelOptions {
  /** As it appears in errors and profiles. */
  readonly name: string;
  /** Names of the inputs in the formulas. */
  readonly inputs: readonly string[];
  /** Names of numbers that each call is given: f32, `u.NAME`. Default none. */
  readonly numbers?: readonly string[];
  /** Whole numbers from 0 that follow from the inputs' shapes: u32, `u.NAME`. Default none. */
  readonly sizes?: (...inputs: Spec[]) => KernelNumbers;
  /** Shape and element type of the result; by default the first input's. */
  readonly output?: (...inputs: Spec[]) => Spec;
  /**
   * Statements of WGSL that write element `i` of the result: `y[i] = x[i] * u.slope;`. In scope are `i` (u32), the
   * inputs by name, each a row-major array, `y`, and `u`. They run once for each element, in any order, at the same
   * time, and write no other element.
   */
  readonly wgsl: string;
  /** Functions and constants of WGSL that the statements use. Default none. */
  readonly declarations?: string;
  /** The same for the reference: gives element `i`. f32 inputs are a `Float64Array`. */
  readonly cpu: (i: number, inputs: Readonly<Record<string, ArrayLike<number>>>, u: KernelNumbers) => number;
  /**
   * From the gradient of the result those of the inputs: a tensor for one input, else an array, null where there is
   * none. Default: a derivative is an error.
   */
  readonly gradient?: (
    dy: Tensor,
    inputs: readonly Tensor[],
    numbers: KernelNumbers,
  ) => Tensor | readonly (Tensor | null)[];
}

/** Words that a program has already. */
const TAKEN = ["y", "u", "i", "first", "end", "lane", "global", "local", "group", "groups", "count", "trips"];
const name: Rule = {
  expected: `a name of letters and digits, none of ${TAKEN.join(", ")}`,
  accepts: (value) => typeof value === "string" && /^[a-zA-Z][a-zA-Z0-9]*$/.test(value) && !TAKEN.includes(value),
};
const rules: Rules<CustomKernelOptions> = {
  name: text,
  inputs: listOf(name, { from: 1 }),
  numbers: listOf(name),
  sizes: callable,
  output: callable,
  wgsl: text,
  declarations: string,
  cpu: callable,
  gradient: callable,
};
const specRules: Rules<Spec> = { shape: anything, dtype: dtypeRule };
const size = integer({ from: 0, to: 2 ** 32 - 1 });

/** Programs are put together from texts whose comments would hide code. */
const withoutComments = (wgsl: string) => wgsl.replace(/\/\/.*$/gm, "").replace(/\/\*.*?\*\//gs, "");

/**
 * An operation that a kernel of your own computes, on WebGPU and on the reference. Gives a function of the inputs, and
 * of the kernel's numbers where it has some. In a recorded step these may be a function that gives them anew.
 *
 * @example // each row times its own factor
 * const scaleRows = customKernel({
 *   name: "scaleRows",
 *   inputs: ["x", "factor"],
 *   sizes: (x) => ({ columns: x.shape[1] }),
 *   wgsl: "y[i] = x[i] * factor[i / u.columns];",
 *   cpu: (i, { x, factor }, u) => x[i] * factor[Math.floor(i / u.columns)],
 * });
 * const scaled = scaleRows([tensor(device, [[1, 2], [3, 4]]), tensor(device, [10, 100])]); // [[10, 20], [300, 400]]
 * @throws UsageError for what is no such kernel, and for other inputs or numbers than it names; DeviceError
 * "VALIDATION", as soon as the device says so, for WGSL that does not compile
 */
export function customKernel(
  options: CustomKernelOptions,
): (inputs: readonly Tensor[], numbers?: Changing<KernelNumbers>) => Tensor {
  const given = checkOptions("customKernel", options, rules, ["name", "inputs", "wgsl", "cpu"]);
  const { name: op, inputs: names, numbers: numberNames = [], output = (first: Spec) => first } = given;
  const { sizes = () => ({}), cpu, gradient } = given;
  const all = [...names, ...numberNames];
  const twice = all.find((each, i) => all.indexOf(each) < i);
  if (twice !== undefined) throw new UsageError(`${op}: every name must be there once, got "${twice}" twice`);
  const [wgsl, declarations] = [withoutComments(given.wgsl), withoutComments(given.declarations ?? "")];
  const kernel = defineKernel<StatementParams>({
    name: op,
    cpu: ({ inputs, outputs: [y], params }) => {
      const arrays = Object.fromEntries(names.map((each, k) => [each, inputs[k]!.data]));
      const u = { ...params.numbers, ...params.sizes };
      for (let i = 0; i < y!.size; i++) y!.data[i] = cpu(i, arrays, u);
    },
    webgpu: (call) => dispatchStatements(call, { names, wgsl, declarations }),
  });
  const numberRules: Rules<Record<string, number>> = Object.fromEntries(numberNames.map((each) => [each, number()]));
  const checkedNumbers = (numbers: KernelNumbers) => checkOptions(op, numbers, numberRules, numberNames);

  return (inputs, numbers = {}) => {
    requireTensors(op, "inputs", inputs);
    if (inputs.length !== names.length) {
      throw new UsageError(`${op}: needs ${names.length} inputs (${names.join(", ")}), got ${inputs.length}`);
    }
    const specs = inputs.map(({ shape, dtype }) => ({ shape, dtype }));
    const spec = output(...specs);
    refusePromise(op, spec, "output");
    checkOptions(`${op}: what output returns`, spec, specRules, ["shape", "dtype"]);
    check(`${op}: what output returns`, "shape", spec.shape, array);
    checkShape(op, spec.shape);
    const lengths = sizes(...specs);
    check(op, "what sizes returns", lengths, object);
    for (const [each, value] of Object.entries(lengths)) {
      check(`${op}: sizes`, "its names", each, name);
      check(`${op}: sizes`, each, value, size);
      if (all.includes(each)) throw new UsageError(`${op}: every name must be there once, got "${each}" twice`);
    }
    checkedNumbers(valueNow(numbers));
    const params = (): StatementParams => ({ numbers: checkedNumbers(valueNow(numbers)), sizes: lengths });
    return customGradient(
      (...tensors: Tensor[]) => ({
        value: run(kernel, tensors, { shape: spec.shape, dtype: spec.dtype }, params),
        saved: gradient === undefined ? [] : tensors,
        gradient: (dy, ...saved) => {
          if (gradient !== undefined) return gradient(dy, saved, valueNow(numbers));
          throw new KilogradError(
            "NO_GRADIENT",
            `backward: "${op}" has no gradient; give customKernel one, or detach() its inputs`,
          );
        },
      }),
      { name: op },
    )(...inputs);
  };
}
