// Float32 tiles of the hardware profile. Every invocation keeps a block of sums (8 x 8, 8 x 4 or 4 x 4) in registers.
// Per k it reads as many elements of L and R from workgroup memory. No subgroups, so it is right on every adapter.
//
// Both operands are staged k-major, [depth][lines] f32 rows of vec4s that are padded by a vec4. Per k an invocation of
// the largest tile reads 4 vec4s for 64 multiply-adds. Every 32 neighbouring invocations form a block of 8 x 4 sums'
// corners. Their reads are 8 vec4s side by side of R and 4 of L that several share, one pass over the banks each. An
// operand whose vec4s run along k is scattered over four staged rows.
import { repeat } from "./subgroup-tile.js";
import { kLoop, staging, type Tile, type TiledProduct } from "./tiled-product.js";

interface RegisterTileOptions {
  readonly rows: number;
  readonly columns: number;
  /** Sums of an invocation: rows (multiple of 4) x columns (multiple of 4). */
  readonly perInvocation: readonly [number, number];
  readonly rate: number;
  readonly resident: number;
}

/** k of a step. */
const DEPTH = 16;

/** `rolled`: the loop over a step's k is left to the adapter's compiler. */
function registerTile({ rows, columns, perInvocation, rate, resident }: RegisterTileOptions, rolled: boolean): Tile {
  const [acrossX, acrossY] = [columns / perInvocation[1], rows / perInvocation[0]];
  const invocations = acrossX * acrossY;
  const pitch = { left: rows / 4 + 1, right: columns / 4 + 1 };
  const size = { left: DEPTH * pitch.left, right: DEPTH * pitch.right };
  const [vectorsY, vectorsX] = [perInvocation[0] / 4, perInvocation[1] / 4];
  const sums = (emit: (v: number, i: number, w: number) => string) =>
    repeat(vectorsY, (v) => repeat(4, (i) => repeat(vectorsX, (w) => emit(v, i, w))));
  const multiplyAdd = (k: string) => /* wgsl */ `{
      let leftAt = ${k} * ${pitch.left}u + y;
      let rightAt = ${k} * ${pitch.right}u + x;
      ${repeat(vectorsY, (v) => `let a${v} = leftTile[leftAt + ${acrossY * v}u];`)}
      ${repeat(vectorsX, (w) => `let b${w} = rightTile[rightAt + ${acrossX * w}u];`)}
      ${sums((v, i, w) => `c${v}${i}_${w} = fma(vec4f(a${v}.${"xyzw"[i]}), b${w}, c${v}${i}_${w});`)}
    }`;
  return {
    name: `${rows}x${columns}`,
    rows,
    columns,
    depth: DEPTH,
    invocations,
    workgroupBytes: (size.left + size.right + invocations) * 16,
    rate,
    resident,
    program: (product: TiledProduct) => {
      const left = staging("left", product.left, { lines: rows, first: "firstRow", depth: DEPTH, invocations });
      const right = staging("right", product.right, {
        lines: columns,
        first: "firstColumn",
        depth: DEPTH,
        invocations,
      });
      const write = (side: "left" | "right", along: "k" | "line") => (value: string, line: string, k: string) => {
        const at = (row: string) => `${side}Tile[(${row}) * ${pitch[side]}u + ${line} / 4u]`;
        if (along === "line") return `${at(k)} = ${value};`;
        return repeat(4, (i) => `${at(`${k} + ${i}u`)}[${line} % 4u] = ${value}.${"xyzw"[i]};`);
      };
      return {
        workgroupSize: [invocations],
        declarations: `${product.declarations ?? ""}
var<workgroup> leftTile: array<vec4f, ${size.left}>;
var<workgroup> rightTile: array<vec4f, ${size.right}>;
${product.epilogue === undefined ? "" : `var<workgroup> scratch: array<vec4f, ${invocations}>;`}`,
        body: /* wgsl */ `
  ${product.prologue}
  let x = lane % 8u + lane / 32u % ${acrossX / 8}u * 8u;
  let y = lane / 8u % 4u + lane / ${4 * acrossX}u * 4u;
  ${sums((v, i, w) => `var c${v}${i}_${w} = vec4f();`)}
  ${kLoop(DEPTH, {
    stagings: [left, right],
    write: `${left.write(write("left", product.left.along))}\n${right.write(write("right", product.right.along))}`,
    multiply: rolled
      ? `for (var k = 0u; k < ${DEPTH}u; k++) ${multiplyAdd("k")}`
      : repeat(DEPTH, (k) => multiplyAdd(`${k}u`)),
  })}
  ${product.epilogue ?? ""}
  ${sums(
    (v, i, w) => /* wgsl */ `{
    let row = firstRow + 4u * y + ${4 * acrossY * v + i}u; let column = firstColumn + 4u * x + ${4 * acrossX * w}u;
    let value = c${v}${i}_${w};
    ${product.store}
  }`,
  )}`,
      };
    },
  };
}

/**
 * Of a core that does 128 multiply-adds a clock; the smaller the block, the more of its time goes into moving elements.
 */
const TILES: readonly RegisterTileOptions[] = [
  { rows: 32, columns: 32, perInvocation: [4, 4], rate: 54, resident: 12 },
  { rows: 16, columns: 64, perInvocation: [4, 4], rate: 53, resident: 12 },
  { rows: 64, columns: 32, perInvocation: [8, 4], rate: 70, resident: 8 },
  { rows: 64, columns: 64, perInvocation: [8, 4], rate: 80, resident: 4 },
  { rows: 64, columns: 128, perInvocation: [8, 8], rate: 92, resident: 3 },
];

const tiles = {
  rolled: TILES.map((tile) => registerTile(tile, true)),
  unrolled: TILES.map((tile) => registerTile(tile, false)),
};

/**
 * The tiles, from small to large. Unrolled they are faster by up to a quarter on a GPU, whose compiler then loads what
 * the next k needs while one is multiplied; llvmpipe's takes 11 s for the largest instead of 1.4.
 */
export function registerTiles({ rolled }: { readonly rolled: boolean }): readonly Tile[] {
  return rolled ? tiles.rolled : tiles.unrolled;
}
