// Float32 tiles of the hardware profile: every invocation keeps 8 x 8 or 8 x 4 sums in registers and per k reads as many
// elements of L and R from workgroup memory. No subgroups, so it is right on every adapter.
//
// Both operands are staged k-major, [depth][lines] f32 rows of vec4s that are padded by a vec4. Per k an invocation of the
// large tile reads 4 vec4s for 64 multiply-adds. 32 neighbouring invocations form a block of 8 x 4 sums' corners: their
// reads are 8 vec4s side by side of R and 4 of L that several share, one pass over the banks each. An operand whose vec4s
// run along k is scattered over four staged rows; with 8 k per step and the padding, 32 neighbours (16 lines of 2 k) write
// different banks.
import { repeat } from "./subgroup-tile.js";
import { kLoop, staging, type Tile, type TiledProduct } from "./tiled-product.js";

interface RegisterTileOptions {
  readonly rows: number;
  readonly columns: number;
  /** Sums of an invocation: rows (multiple of 4) x columns (multiple of 4). */
  readonly perInvocation: readonly [number, number];
  readonly depth: number;
  readonly rate: number;
}

function registerTile({ rows, columns, perInvocation, depth, rate }: RegisterTileOptions): Tile {
  const [acrossX, acrossY] = [columns / perInvocation[1], rows / perInvocation[0]];
  const invocations = acrossX * acrossY;
  const pitch = { left: rows / 4 + 1, right: columns / 4 + 1 };
  const size = { left: depth * pitch.left, right: depth * pitch.right };
  const [vectorsY, vectorsX] = [perInvocation[0] / 4, perInvocation[1] / 4];
  const sums = (emit: (v: number, i: number, w: number) => string) =>
    repeat(vectorsY, (v) => repeat(4, (i) => repeat(vectorsX, (w) => emit(v, i, w))));
  return {
    name: `${rows}x${columns}`,
    rows,
    columns,
    depth,
    invocations,
    workgroupBytes: (2 * (size.left + size.right) + invocations) * 16,
    rate,
    program: (product: TiledProduct) => {
      const left = staging("left", product.left, { lines: rows, first: "firstRow", depth, invocations });
      const right = staging("right", product.right, { lines: columns, first: "firstColumn", depth, invocations });
      const write = (side: "left" | "right", along: "k" | "line") => (value: string, line: string, k: string) => {
        const at = (row: string) => `${side}Tile[half * ${size[side]}u + (${row}) * ${pitch[side]}u + ${line} / 4u]`;
        if (along === "line") return `${at(k)} = ${value};`;
        return repeat(4, (i) => `${at(`${k} + ${i}u`)}[${line} % 4u] = ${value}.${"xyzw"[i]};`);
      };
      return {
        workgroupSize: [invocations],
        declarations: `${product.declarations ?? ""}
var<workgroup> leftTile: array<vec4f, ${2 * size.left}>;
var<workgroup> rightTile: array<vec4f, ${2 * size.right}>;
${product.epilogue === undefined ? "" : `var<workgroup> scratch: array<vec4f, ${invocations}>;`}`,
        body: /* wgsl */ `
  ${product.prologue}
  let x = lane % 8u + lane / 32u % ${acrossX / 8}u * 8u;
  let y = lane / 8u % 4u + lane / ${4 * acrossX}u * 4u;
  ${sums((v, i, w) => `var c${v}${i}_${w} = vec4f();`)}
  ${kLoop(depth, {
    stagings: [left, right],
    write: `${left.write(write("left", product.left.along))}\n${right.write(write("right", product.right.along))}`,
    multiply: /* wgsl */ `
    for (var k = 0u; k < ${depth}u; k++) {
      let leftAt = (1u - half) * ${size.left}u + k * ${pitch.left}u + y;
      let rightAt = (1u - half) * ${size.right}u + k * ${pitch.right}u + x;
      ${repeat(vectorsY, (v) => `let a${v} = leftTile[leftAt + ${acrossY * v}u];`)}
      ${repeat(vectorsX, (w) => `let b${w} = rightTile[rightAt + ${acrossX * w}u];`)}
      ${sums((v, i, w) => `c${v}${i}_${w} = fma(vec4f(a${v}.${"xyzw"[i]}), b${w}, c${v}${i}_${w});`)}
    }`,
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

/** Of a core that does 128 multiply-adds a clock; the smaller the tile, the more of its time goes into moving elements. */
export const registerTiles: readonly Tile[] = [
  registerTile({ rows: 64, columns: 64, perInvocation: [8, 4], depth: 8, rate: 80 }),
  registerTile({ rows: 128, columns: 32, perInvocation: [8, 4], depth: 8, rate: 72 }),
  registerTile({ rows: 128, columns: 128, perInvocation: [8, 8], depth: 8, rate: 100 }),
];
