// Kernels of the elementwise tables: unary, binary with broadcasting, their gradients, where, cast, in-place addition.
// Same-shape operands stream through vec4 loops; broadcast operands are read through collapsed strides. Tensors larger
// than a binding are processed in slices where no operand is broadcast.
import type { DType } from "../tensor/dtype.js";
import { defineKernel, type Kernel } from "../tensor/kernel.js";
import { broadcastStrides, type Shape, sizeOf } from "../tensor/shape.js";
import { run, runInto, type Tensor } from "../tensor/tensor.js";
import type { Binding, GpuCall, GpuView } from "../webgpu/program.js";
import { boxLoop } from "./box.js";
import {
  type BinaryName,
  type BinaryRow,
  binaryTable,
  ELEMENTWISE_FUNCTIONS,
  type UnaryName,
  type UnaryRow,
  unaryTable,
} from "./elementwise-table.js";
import { type FloatType, ieeeFunctions, typeAliases } from "./ieee.js";
import { stream } from "./stream.js";

/** Parameters of a unary row. */
export interface UnaryParams {
  readonly p: number;
  readonly q: number;
}

const VECTOR = { f32: "vec4f", i32: "vec4i", u32: "vec4u" } as const satisfies Record<DType, string>;

/** WGSL of an elementwise result, given the vector (or scalar) type of each dtype: `(v) => \`\${v("f32")}(1) - x\``. */
type Expression = (vector: (dtype: DType) => string) => string;

interface ElementwiseOptions {
  /** Type `T` of the expression. */
  readonly type: DType;
  /** Parameters, in scope by their names as `T`; integers where `type` is one. */
  readonly numbers?: Readonly<Record<string, number>>;
  /** Puts the output's old value in scope as `y`. */
  readonly inPlace?: boolean;
}

const vectorOf = (dtype: DType) => VECTOR[dtype];
const scalarOf = (dtype: DType) => dtype;

/** A tensor that an expression reads by name. */
interface Operand {
  readonly name: string;
  readonly view: GpuView;
}

/** y = expression over vec4s of operands that have y's size, or a single element. */
function streamExpression<P>(
  call: GpuCall<P>,
  operands: readonly Operand[],
  expression: Expression,
  { type, numbers = {}, inPlace = false }: ElementwiseOptions,
): void {
  const y = call.outputs[0]!;
  const [whole, single] = [
    operands.filter(({ view }) => view.size === y.size),
    operands.filter(({ view }) => view.size !== y.size),
  ];
  const bind = ({ name, view }: Operand, elementType: string): Binding => ({
    name: `${name}Values`,
    view,
    type: elementType,
  });
  stream(call, {
    key: `stream ${type} ${single.map(({ name }) => name).join()}`,
    bindings: [
      { name: "result", view: y, type: VECTOR[y.dtype], access: "read_write" },
      ...whole.map((operand) => bind(operand, VECTOR[operand.view.dtype])),
    ],
    tables: single.map((operand) => bind(operand, operand.view.dtype)),
    ...(type === "f32" ? { numbers } : { sizes: () => numbers }),
    declarations: declarations(type, vectorOf),
    statement: [
      numberLines(type, numbers),
      ...whole.map(({ name }) => `let ${name} = ${name}Values[i];`),
      ...single.map(({ name, view }) => `let ${name} = ${VECTOR[view.dtype]}(${name}Values[0]);`),
      ...(inPlace ? ["let y = result[i];"] : []),
      `result[i] = ${expression(vectorOf)};`,
    ].join(" "),
  });
}

/** What expressions of `type` may use: its aliases and functions. */
function declarations(type: DType, typeOf: (dtype: DType) => string): string {
  if (type !== "f32") return `alias T = ${typeOf(type)};`;
  const vector = typeOf(type) as FloatType;
  return [typeAliases(vector), ieeeFunctions(vector), ELEMENTWISE_FUNCTIONS].join("\n");
}

/**
 * Brings parameters into scope. Integers come as u32, negative ones as two's complement: a float holds 24 bits only.
 */
function numberLines(type: DType, numbers: ElementwiseOptions["numbers"] = {}): string {
  const value = (name: string) => (type === "i32" ? `i32(u.${name})` : `u.${name}`);
  return Object.keys(numbers)
    .map((name) => `let ${name} = T(${value(name)});\n`)
    .join("");
}

/** y = f(x), x: f32[...], y: f32[...]. */
function unaryKernel(name: string, row: UnaryRow): Kernel<UnaryParams> {
  return defineKernel<UnaryParams>({
    name,
    cpu: ({ inputs: [x], outputs: [y], params: { p, q } }) => {
      for (let i = 0; i < y!.size; i++) y!.data[i] = row.cpu(x!.data[i]!, p, q);
    },
    webgpu: (call) =>
      streamExpression(call, [{ name: "x", view: call.inputs[0]! }], () => row.wgsl, {
        type: "f32",
        numbers: { ...call.params },
      }),
  });
}

/** dx = f'(v) dy with v = x or y; inputs [dy, v]. */
function unaryGradientKernel(name: string, row: UnaryRow): Kernel<UnaryParams> {
  const gradient = row.gradient!;
  return defineKernel<UnaryParams>({
    name: `${name}Gradient`,
    cpu: ({ inputs: [dy, v], outputs: [dx], params: { p, q } }) => {
      for (let i = 0; i < dx!.size; i++) dx!.data[i] = gradient.cpu(dy!.data[i]!, v!.data[i]!, p, q);
    },
    webgpu: (call) =>
      streamExpression(
        call,
        [
          { name: "dy", view: call.inputs[0]! },
          { name: gradient.from, view: call.inputs[1]! },
        ],
        () => gradient.wgsl,
        {
          type: "f32",
          numbers: { ...call.params },
        },
      ),
  });
}

function mapTable<Name extends string, Row, Result>(
  table: Readonly<Record<Name, Row>>,
  make: (name: Name, row: Row) => Result,
): Record<Name, Result> {
  return Object.fromEntries(
    Object.keys(table).map((name) => [name, make(name as Name, table[name as Name])]),
  ) as Record<Name, Result>;
}

export const unaryKernels = mapTable<
  UnaryName,
  UnaryRow,
  { forward: Kernel<UnaryParams>; gradient: Kernel<UnaryParams> | null }
>(unaryTable, (name, row) => ({
  forward: unaryKernel(name, row),
  gradient: row.gradient === null ? null : unaryGradientKernel(name, row),
}));

/** Inputs are the tensors among the operands; a number operand comes in `params`. */
export interface BinaryParams {
  readonly a?: number;
  readonly b?: number;
}

/** y = expression of the operands, each read as y's shape. */
function broadcast<P>(
  call: GpuCall<P>,
  operands: readonly Operand[],
  expression: Expression,
  options: ElementwiseOptions,
): void {
  const y = call.outputs[0]!;
  if (y.size === 0) return;
  if (operands.every(({ view }) => view.size === y.size || view.size === 1)) {
    streamExpression(call, operands, expression, options);
    return;
  }
  const { sizes, strides } = collapse(
    y.shape,
    operands.map(({ view }) => view.shape),
  );
  const axes = sizes.length;
  const inner = sizes.at(-1)!;
  // vec4 along the innermost axis where it allows; an operand that is stretched along it is read once and splatted.
  const vectorised = inner % 4 === 0;
  const step = vectorised ? 4 : 1;
  const typeOf = vectorised ? vectorOf : scalarOf;
  const kinds = strides.map((s) => (s.at(-1) === 0 ? "splat" : "walk"));
  const loop = boxLoop(call.profile, [...sizes.slice(0, -1), inner / step]);
  const parameters: Record<string, number> = { ...loop.sizes };
  for (const [k, { name }] of operands.entries()) {
    for (let axis = 0; axis < axes - 1; axis++) {
      parameters[`${name}Stride${axis}`] = strides[k]![axis]! / (kinds[k] === "walk" ? step : 1);
    }
  }
  call.dispatch({
    key: `broadcast ${options.type} by ${step} over ${axes} ${kinds.join()}`,
    program: () => {
      const loads = operands.map(({ name, view }, k) => {
        const terms = Array.from({ length: axes - 1 }, (_, axis) => `c${axis} * u.${name}Stride${axis}`);
        if (kinds[k] === "splat")
          return `let ${name} = ${typeOf(view.dtype)}(${name}Values[${terms.join(" + ") || "0"}]);`;
        return `let ${name} = ${name}Values[${[...terms, `c${axes - 1}`].join(" + ")}];`;
      });
      return {
        workgroupSize: loop.workgroupSize,
        declarations: declarations(options.type, typeOf),
        body:
          numberLines(options.type, options.numbers) +
          loop.body(`${loads.join("\n    ")}\n    result[i] = ${expression(typeOf)};`),
      };
    },
    bindings: [
      ...operands.map(
        ({ name, view }, k): Binding => ({
          name: `${name}Values`,
          view,
          type: kinds[k] === "walk" ? typeOf(view.dtype) : view.dtype,
        }),
      ),
      { name: "result", view: y, type: typeOf(y.dtype), access: "read_write" },
    ],
    sizes: { ...parameters, ...(options.type === "f32" ? {} : options.numbers) },
    ...(options.type === "f32" && options.numbers && { numbers: options.numbers }),
    workgroups: loop.workgroups,
  });
}

/** Merges neighbouring axes that every operand walks in one stride; outermost first, at least one axis. */
function collapse(shape: Shape, operands: readonly Shape[]): { sizes: number[]; strides: number[][] } {
  const all = operands.map((operand) => broadcastStrides(operand, shape));
  const sizes: number[] = [];
  const strides: number[][] = operands.map(() => []);
  shape.forEach((size, axis) => {
    if (size === 1) return;
    const merges = sizes.length > 0 && all.every((s, k) => strides[k]!.at(-1) === s[axis]! * size);
    if (merges) {
      sizes[sizes.length - 1]! *= size;
      for (const [k, s] of all.entries()) strides[k]![sizes.length - 1] = s[axis]!;
    } else {
      sizes.push(size);
      for (const [k, s] of all.entries()) strides[k]!.push(s[axis]!);
    }
  });
  if (sizes.length === 0) {
    sizes.push(1);
    for (const s of strides) s.push(0);
  }
  return { sizes, strides };
}

/** Element index of each operand for every element of `shape`, on the host. */
function forEachBroadcast(
  shape: Shape,
  operands: readonly Shape[],
  visit: (index: number, operandIndex: readonly number[]) => void,
): void {
  const strides = operands.map((operand) => broadcastStrides(operand, shape));
  const size = sizeOf(shape);
  const position = new Array<number>(shape.length).fill(0);
  const offsets = operands.map(() => 0);
  for (let index = 0; index < size; index++) {
    visit(index, offsets);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      position[axis]!++;
      for (let k = 0; k < strides.length; k++) offsets[k]! += strides[k]![axis]!;
      if (position[axis]! < shape[axis]!) break;
      for (let k = 0; k < strides.length; k++) offsets[k]! -= strides[k]![axis]! * shape[axis]!;
      position[axis] = 0;
    }
  }
}

/** Modulo 2^32, as WGSL's integers. */
const wrapInteger = { f32: (x: number) => x, i32: (x: number) => x | 0, u32: (x: number) => x >>> 0 };

/** y = f(a, b) with broadcasting; the inputs are those of a and b that are tensors. */
function binaryKernel(name: string, row: BinaryRow): Kernel<BinaryParams> {
  return defineKernel<BinaryParams>({
    name,
    cpu: ({ inputs, outputs: [y], params }) => {
      const wrap = wrapInteger[y!.dtype];
      const compute = inputs[0]!.dtype === "f32" ? row.cpu : (row.integer?.cpu ?? row.cpu);
      if (params.a !== undefined || params.b !== undefined) {
        const [x] = inputs;
        forEachBroadcast(y!.shape, [x!.shape], (i, [ix]) => {
          y!.data[i] = wrap(compute(params.a ?? x!.data[ix!]!, params.b ?? x!.data[ix!]!));
        });
        return;
      }
      const [a, b] = inputs;
      forEachBroadcast(y!.shape, [a!.shape, b!.shape], (i, [ia, ib]) => {
        y!.data[i] = wrap(compute(a!.data[ia!]!, b!.data[ib!]!));
      });
    },
    webgpu: (call) => {
      const operands = tensorNames(["a", "b"], call.params).map((name, k) => ({ name, view: call.inputs[k]! }));
      const type = call.inputs[0]!.dtype;
      const wgsl = type === "f32" ? row.wgsl : (row.integer?.wgsl ?? row.wgsl);
      const expression: Expression = (v) =>
        row.result === "u32" ? `select(${v("u32")}(0), ${v("u32")}(1), ${wgsl})` : wgsl;
      broadcast(call, operands, expression, { type, numbers: { ...call.params } });
    },
  });
}

/** Operands that the gradient of one of them is computed of. */
export function operandsOfGradient(row: BinaryRow, side: "a" | "b"): ("a" | "b")[] {
  return (["a", "b"] as const).filter((name) => new RegExp(`\\b${name}\\b`).test(row.gradient?.[side].wgsl ?? ""));
}

/**
 * Gradient of a or b before it is summed to the operand's shape; inputs [dy, a?, b?]: those tensors that it is computed
 * of.
 */
function binaryGradientKernel(name: string, side: "a" | "b", row: BinaryRow): Kernel<BinaryParams> {
  const gradient = row.gradient![side];
  const read = operandsOfGradient(row, side);
  return defineKernel<BinaryParams>({
    name: `${name}Gradient`,
    cpu: ({ inputs: [dy, ...rest], outputs: [dx], params }) => {
      const names = tensorNames(read, params);
      forEachBroadcast(dx!.shape, [dy!.shape, ...rest.map((t) => t.shape)], (i, [id, ...ids]) => {
        // NaN for what the formula does not read.
        const value = (operand: "a" | "b") =>
          params[operand] ?? rest[names.indexOf(operand)]?.data[ids[names.indexOf(operand)]!] ?? Number.NaN;
        dx!.data[i] = gradient.cpu(dy!.data[id!]!, value("a"), value("b"));
      });
    },
    webgpu: (call) => {
      const [dy, ...rest] = call.inputs;
      const operands = tensorNames(read, call.params).map((operand, k) => ({ name: operand, view: rest[k]! }));
      const numbers = Object.fromEntries(
        Object.entries(call.params).filter(([operand]) => read.includes(operand as "a" | "b")),
      );
      broadcast(call, [{ name: "dy", view: dy! }, ...operands], () => gradient.wgsl, { type: "f32", numbers });
    },
  });
}

function tensorNames<Name extends string>(
  names: readonly Name[],
  numbers: Readonly<Partial<Record<Name, number>>>,
): Name[] {
  return names.filter((name) => numbers[name] === undefined);
}

export const binaryKernels = mapTable<
  BinaryName,
  BinaryRow,
  { forward: Kernel<BinaryParams>; gradient: { a: Kernel<BinaryParams>; b: Kernel<BinaryParams> } | null }
>(binaryTable, (name, row) => ({
  forward: binaryKernel(name, row),
  gradient:
    row.gradient === null
      ? null
      : { a: binaryGradientKernel(`${name}A`, "a", row), b: binaryGradientKernel(`${name}B`, "b", row) },
}));

/** y = condition != 0 ? a : b with broadcasting; condition u32, i32 or f32, of which NaN is not 0. */
export const whereKernel = defineKernel<Record<never, never>>({
  name: "where",
  cpu: ({ inputs: [condition, a, b], outputs: [y] }) => {
    forEachBroadcast(y!.shape, [condition!.shape, a!.shape, b!.shape], (i, [ic, ia, ib]) => {
      y!.data[i] = condition!.data[ic!] !== 0 ? a!.data[ia!]! : b!.data[ib!]!;
    });
  },
  webgpu: (call) => {
    const [c, a, b] = call.inputs;
    broadcast(
      call,
      [
        { name: "c", view: c! },
        { name: "a", view: a! },
        { name: "b", view: b! },
      ],
      (v) => `select(b, a, (bitcast<${v("u32")}>(c) << ${v("u32")}(${c!.dtype === "f32" ? 1 : 0})) != ${v("u32")}(0))`,
      { type: a!.dtype },
    );
  },
});

/** The rule of `cast`, by the dtypes from and to; the others take every value as it is. */
const CASTS: Partial<
  Record<`${DType} ${DType}`, { cpu: (x: number) => number; wgsl: (v: (dtype: DType) => string) => string }>
> = {
  "f32 i32": {
    cpu: (x) => Math.trunc(Math.min(Math.max(x, -(2 ** 31)), 2 ** 31 - 1)) || 0,
    // 2^31 has the bits 0x4f000000; as integers, positive floats are in order.
    wgsl: (v) => saturated(v("i32"), "0x7fffffff", "0x4f000000"),
  },
  "f32 u32": {
    cpu: (x) => Math.trunc(Math.min(Math.max(x, 0), 2 ** 32 - 1)) || 0,
    wgsl: (v) => saturated(v("u32"), "0xffffffffu", "0x4f800000"),
  },
};

/** Floats from `beyond` (its bits) on are `largest`, NaNs 0. What lies below the range WGSL itself puts into it. */
function saturated(integer: string, largest: string, beyond: string): string {
  return `select(select(${integer}(x), ${integer}(${largest}), bitcast<I>(x) >= I(${beyond})), ${integer}(0), isNan(x))`;
}

/**
 * y = x in another dtype. Floats are truncated towards 0, what lies outside the integers' range becomes their nearest
 * end, NaN becomes 0. Integers keep their 32 bits: -1 becomes 4294967295 and that becomes -1.
 */
export const castKernel = defineKernel<Record<never, never>>({
  name: "cast",
  cpu: ({ inputs: [x], outputs: [y] }) => {
    const convert = CASTS[`${x!.dtype} ${y!.dtype}`]?.cpu ?? wrapInteger[y!.dtype];
    for (let i = 0; i < y!.size; i++) y!.data[i] = convert(x!.data[i]!);
  },
  webgpu: (call) => {
    const [from, to] = [call.inputs[0]!.dtype, call.outputs[0]!.dtype];
    const expression: Expression = (v) => CASTS[`${from} ${to}`]?.wgsl(v) ?? `${v(to)}(x)`;
    streamExpression(call, [{ name: "x", view: call.inputs[0]! }], expression, { type: from });
  },
});

/** y += x in place, same shapes. */
const accumulateKernel = defineKernel<Record<never, never>>({
  name: "accumulate",
  cpu: ({ inputs: [x], outputs: [y] }) => {
    for (let i = 0; i < y!.size; i++) y!.data[i]! += x!.data[i]!;
  },
  webgpu: (call) =>
    streamExpression(call, [{ name: "x", view: call.inputs[0]! }], () => "y + x", {
      type: call.outputs[0]!.dtype,
      inPlace: true,
    }),
});

/** a + b of equal shapes: in the memory of `a` where only this handle sees it (then `a` is returned), else anew. */
export function addInto(a: Tensor, b: Tensor): Tensor {
  if (a.storage.exclusive) {
    runInto(accumulateKernel, [b], [a], {});
    return a;
  }
  return run(binaryKernels.add.forward, [a, b], a, {});
}
