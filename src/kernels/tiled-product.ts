// Matrix products of the hardware profile: a workgroup computes a tile of C = L R, walking over k in steps for which
// both operands are staged in workgroup memory. A product says how its operands are read and where sums go
// (matmul-shared.ts, conv2d/hardware.ts); a tile says how many sums a workgroup has and how it multiplies
// (register-tile.ts in float32, subgroup-matrix-tile.ts on matrix units); tile-choice.ts chooses. Here are the two
// interfaces and the staging.
import type { ProgramText } from "../webgpu/program.js";
import { repeat } from "./subgroup-tile.js";

/**
 * How L (lines are rows) or R (lines are columns) is read, four elements at a time, by an invocation that stages the
 * items 0, 1, ... Each item is four k of one line or four lines of one k, stays on its line and moves on by the tile's
 * depth in k. Items have variables of their own in WGSL, named by side and number.
 */
export interface Operand {
  readonly along: "k" | "line";
  /** Statements before the loop over k, for the item that begins at `line` and `k` (WGSL expressions, u32). */
  readonly begin: (item: string, line: string, k: string) => string;
  /** Statements that assign the elements inside the matrix to the zeroed `value` (vec4f). */
  readonly load: (item: string) => string;
  /** Statements that move an item on in k. */
  readonly advance: (item: string) => string;
}

export interface TiledProduct {
  /** Statements that define `firstRow`, `firstColumn`, `kBegin` and `kEnd` (u32), where the workgroup's tile lies. */
  readonly prologue: string;
  readonly left: Operand;
  readonly right: Operand;
  /**
   * Statements between the loop over k and the stores; `scratch`, an array of at least one vec4f per invocation, is
   * free.
   */
  readonly epilogue?: string;
  /** Statements that store `value` (vec4f), the sums of `row` at `column` and the three after it, where those exist. */
  readonly store: string;
  readonly declarations?: string;
}

export interface Tile {
  /** Part of dispatch keys. */
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
  /** k of a step. */
  readonly depth: number;
  readonly invocations: number;
  /** Workgroup memory in bytes. */
  readonly workgroupBytes: number;
  /** Multiply-adds of a core per clock where workgroups fill it, and how many it has at a time; see tile-choice.ts. */
  readonly rate: number;
  readonly resident: number;
  readonly program: (product: TiledProduct) => ProgramText;
}

/** WGSL of one operand's staging: `steps` before the loop over k, in it, and into workgroup memory. */
export interface Staging {
  readonly begin: string;
  /** Loads every item into a register. */
  readonly load: string;
  readonly advance: string;
  /** Writes the registers; `write` gets a register and the place of its first element within the tile. */
  readonly write: (write: (value: string, line: string, k: string) => string) => string;
}

/** Staging of `lines` lines, of which the first is `first`. */
export function staging(
  side: "left" | "right",
  operand: Operand,
  { lines, first, depth, invocations }: { lines: number; first: string; depth: number; invocations: number },
): Staging {
  const perRow = (operand.along === "k" ? depth : lines) / 4;
  const items = (lines * depth) / 4;
  const names = Array.from({ length: Math.ceil(items / invocations) }, (_, i) => `${side}${i}`);
  const each = (emit: (name: string) => string) => repeat(names.length, (i) => emit(names[i]!));
  /** The last round may have fewer items than invocations. */
  const guarded = (emit: (name: string) => string) =>
    repeat(names.length, (i) => {
      const text = emit(names[i]!);
      return (i + 1) * invocations > items ? `if (lane < ${items - i * invocations}u) { ${text} }` : text;
    });
  const [line, k] = operand.along === "k" ? ["Row", "Column"] : ["Column", "Row"];
  return {
    begin: repeat(names.length, (i) => {
      const name = names[i]!;
      return /* wgsl */ `
  let ${name}Row = (lane + ${i * invocations}u) / ${perRow}u;
  let ${name}Column = (lane + ${i * invocations}u) % ${perRow}u * 4u;
  var ${name} = vec4f();
  ${operand.begin(name, `(${first} + ${name}${line})`, `(kBegin + ${name}${k})`)}`;
    }),
    load: guarded((name) => `{ var value = vec4f(); ${operand.load(name)} ${name} = value; }`),
    advance: each(operand.advance),
    write: (write) => guarded((name) => write(name, `${name}${line}`, `${name}${k}`)),
  };
}

/**
 * The loop over k. While the tiles of a step are multiplied, the elements of the next are on their way into registers.
 * With one copy of the tiles in workgroup memory, two barriers a step keep writing and multiplying apart. With two, one
 * is enough: `next` (0 or 1) is the copy that is written, and `now` = 1 - next the one that is multiplied, in the step
 * after. They are no variables, so that Dawn sees their range and leaves out bounds checks of workgroup memory: there
 * is none in the inner loop.
 */
export function kLoop(
  depth: number,
  {
    stagings,
    write,
    multiply,
    copies = 1,
  }: { stagings: readonly Staging[]; write: string; multiply: string; copies?: 1 | 2 },
): string {
  const each = (part: "begin" | "load" | "advance") => stagings.map((staging) => staging[part]).join("\n");
  if (copies === 1)
    return /* wgsl */ `
  ${each("begin")}
  ${each("load")}
  for (var k0 = kBegin; k0 < kEnd; k0 += ${depth}u) {
    workgroupBarrier();
    ${write}
    workgroupBarrier();
    ${each("advance")}
    ${each("load")}
    ${multiply}
  }`;
  return /* wgsl */ `
  ${each("begin")}
  for (var k0 = kBegin; k0 < kEnd + ${depth}u; k0 += ${depth}u) {
    let next = (k0 - kBegin) / ${depth}u % 2u;
    let now = 1u - next;
    ${each("load")}
    if (k0 > kBegin) { ${multiply} }
    ${write}
    workgroupBarrier();
    ${each("advance")}
  }`;
}

/** An operand that is a matrix in a buffer. Element (line, k) lies at base + line * lineStride + k * kStride. */
export interface MatrixOperand {
  /** Binding; of vec4f if `aligned`. */
  readonly name: string;
  /** Lines or k lie side by side. */
  readonly along: "k" | "line";
  /** Stored rows begin on multiples of four elements. */
  readonly aligned: boolean;
  /** WGSL expressions: where it begins, from one stored row to the next, end of the lines. k ends at `kEnd`. */
  readonly base: string;
  readonly stride: string;
  readonly limit: string;
  /** The tile's. */
  readonly depth: number;
  /** Statement for each `value` that was loaded. */
  readonly observe?: string;
}

/** An operand that is a matrix in a buffer, read as it is stored. */
export function matrixOperand(options: MatrixOperand): Operand {
  const { name, along, aligned, base, stride, limit, depth, observe = "" } = options;
  const unit = aligned ? " / 4u" : "";
  const [row, column] = along === "k" ? ["line", "k"] : ["k", "line"];
  return {
    along,
    begin: (item, line, k) => {
      const at = { line, k };
      return /* wgsl */ `
  let ${item}Line = ${line};
  var ${item}At = (${base} + ${at[row as "k"]} * ${stride} + ${at[column as "k"]})${unit};
  var ${item}K = ${k};`;
    },
    load: (item) => {
      if (aligned) return `if (${item}K < kEnd && ${item}Line < ${limit}) { value = ${name}[${item}At]; } ${observe}`;
      const inside = (i: number) => (along === "k" ? `${item}K + ${i}u < kEnd` : `${item}Line + ${i}u < ${limit}`);
      return /* wgsl */ `if (${item}K < kEnd && ${item}Line < ${limit}) {
        ${repeat(4, (i) => `if (${inside(i)}) { value.${"xyzw"[i]} = ${name}[${item}At + ${i}u]; }`)}
      } ${observe}`;
    },
    advance: (item) =>
      `${item}K += ${depth}u; ${item}At += ${along === "k" ? `${depth}u` : `${depth}u * ${stride}`}${unit};`,
  };
}
