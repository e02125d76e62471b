// What compiling a merged program costs on lavapipe, before it is compiled.
import type { Program } from "../commands.js";
import { countsOf } from "../wgsl-text.js";

/** Parameters that a part of a merged program has besides its own: width, height and number of its workgroups. */
export const GRID_PARAMETERS = 3;

/**
 * What llvmpipe may need to compile programs as one, in seconds. It was fitted to 140 merged programs on two cores of
 * an EPYC, in an hour that others disturbed, and scaled to one that was quiet. Every compute shader goes through LLVM's
 * pass for coroutines there. For each variable in memory of its own, that pass finds anew how all basic blocks dominate
 * each other. Such variables are those of the text, and one for every number that is loaded.
 */
export function compilationSeconds(programs: readonly Program[]): number {
  const codes = programs.map(codeOf);
  const total = (of: (code: Code) => number) => codes.reduce((sum, code) => sum + of(code), 0);
  const [blocks, variables] = [total(({ blocks }) => blocks), total(({ variables }) => variables)];
  return (
    1.9e-6 * blocks * variables + 0.03 * total(({ loops }) => loops) + 4e-4 * total(({ statements }) => statements)
  );
}

/** Basic blocks and variables of a program as llvmpipe has it. */
interface Code {
  readonly blocks: number;
  readonly variables: number;
  /** Of its text. */
  readonly loops: number;
  readonly statements: number;
}

const codes = new WeakMap<Program, Code>();

/** A load or store has its blocks once for each of eight lanes: for the lane, and for each of its numbers. */
function codeOf(program: Program): Code {
  const known = codes.get(program);
  if (known !== undefined) return known;
  const { declarations = "", body } = program.text;
  const { variables: declared, loops, statements, arrays } = countsOf(`${declarations}${body}`, program.code);
  let blocks = 0;
  let variables = declared + program.parameterNames + GRID_PARAMETERS;
  for (const { numbers, loads, stores } of arrays) {
    blocks += 8 * (loads * (2 + 3 * numbers) + stores * (2 + 2 * numbers));
    variables += loads * numbers;
  }
  const code = { blocks, variables, loops, statements };
  codes.set(program, code);
  return code;
}
