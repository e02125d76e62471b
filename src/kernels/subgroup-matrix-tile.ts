// Tiles of the hardware profile on the adapter's matrix units (WGSL's chromium_experimental_subgroup_matrix). Operands
// are rounded to float16 as they are staged, products are summed in float32. Tensors stay float32. Only with
// `openDevice("webgpu", { precision: "mixed" })`, which asks for what this needs and checks it
// (subgroup-matrix-check.ts).
//
// A fragment is a matrix of the adapter's size (16 x 16 on NVIDIA, 8 x 8 on lavapipe). It is spread over the lanes of a
// subgroup in an order that only the adapter knows. So it can be loaded, multiplied and stored as a whole, nothing
// else. Every subgroup keeps a rectangle of fragments of C. Operands are staged as they are stored (no transposition:
// fragments are loaded row- or column-major). Their rows are padded by 16 bytes, so that 8 rows of a fragment lie in
// different banks. Sums leave through a scratch fragment per subgroup, from which lanes store vec4s with bias,
// activation and bounds.
import type { MatrixUnits } from "../webgpu/family.js";
import { repeat } from "./subgroup-tile.js";
import { kLoop, type Operand, staging, type Tile, type TiledProduct } from "./tiled-product.js";

interface SubgroupMatrixTileOptions {
  /** Subgroups of a workgroup, down and across. */
  readonly subgroups: readonly [number, number];
  /** Fragments of a subgroup, down and across. */
  readonly fragments: readonly [number, number];
  /** Of the staged operands in workgroup memory; see kLoop. */
  readonly copies: 1 | 2;
  readonly rate: number;
  readonly resident: number;
}

/** Fragments in k that a step has. */
const DEPTH_FRAGMENTS = 2;
/** float16 of padding behind a staged row. */
const PADDING = 8;

function subgroupMatrixTile(
  units: MatrixUnits,
  { subgroups, fragments, copies, rate, resident }: SubgroupMatrixTileOptions,
): Tile {
  const { m, n, k, lanes } = units;
  const [down, across] = fragments;
  const rows = subgroups[0] * down * m;
  const columns = subgroups[1] * across * n;
  const depth = DEPTH_FRAGMENTS * k;
  const invocations = subgroups[0] * subgroups[1] * lanes;
  const fragmentVectors = (m * n) / 4;
  const each = (emit: (i: number, j: number) => string) => repeat(down, (i) => repeat(across, (j) => emit(i, j)));
  /** Staged rows of an operand, in vec4<f16>: [line][k] or [k][line]. */
  const layout = (along: Operand["along"], lines: number) => {
    const [stagedRows, length] = along === "k" ? [lines, depth] : [depth, lines];
    const pitch = (length + PADDING) / 4;
    return { pitch, size: stagedRows * pitch };
  };
  /** Where the copy that is written (`next`) or multiplied (`now`) begins. */
  const copyAt = (copy: "next" | "now", size: number) => (copies === 1 ? "" : `${copy} * ${size}u + `);
  const largest = (lines: number) => Math.max(layout("k", lines).size, layout("line", lines).size);
  const scratchVectors = Math.max(subgroups[0] * subgroups[1] * fragmentVectors, invocations);
  return {
    name: `f16 ${rows}x${columns} by ${m}x${n}x${k}`,
    rows,
    columns,
    depth,
    invocations,
    workgroupBytes: copies * 8 * (largest(rows) + largest(columns)) + 16 * scratchVectors,
    rate,
    resident,
    program: (product: TiledProduct) => {
      const left = staging("left", product.left, { lines: rows, first: "firstRow", depth, invocations });
      const right = staging("right", product.right, { lines: columns, first: "firstColumn", depth, invocations });
      const [leftLayout, rightLayout] = [layout(product.left.along, rows), layout(product.right.along, columns)];
      const write =
        (side: string, along: Operand["along"], { pitch, size }: { pitch: number; size: number }) =>
        (value: string, line: string, at: string) => {
          const [row, column] = along === "k" ? [line, at] : [at, line];
          return `${side}Tile[${copyAt("next", size)}${row} * ${pitch}u + ${column} / 4u] = vec4<f16>(${value});`;
        };
      /** Fragment whose first line is `line` and first k is `at`, both multiples of 4. */
      const fragment = (side: "left" | "right", line: string, at: number) => {
        const { along } = product[side];
        const { pitch, size } = side === "left" ? leftLayout : rightLayout;
        const offset = along === "k" ? `(${line}) * ${pitch}u + ${at / 4}u` : `${at * pitch}u + (${line}) / 4u`;
        // The matrix type has columns before rows; L's rows are its lines, R's are k.
        const [type, lineMajor, kMajor] =
          side === "left"
            ? [`subgroup_matrix_left<f16, ${k}, ${m}>`, "row_major", "col_major"]
            : [`subgroup_matrix_right<f16, ${n}, ${k}>`, "col_major", "row_major"];
        return `subgroupMatrixLoad<${type}, ${along === "k" ? lineMajor : kMajor}>(&${side}Tile, ${copyAt("now", size)}${offset}, ${pitch}u)`;
      };
      return {
        workgroupSize: [invocations],
        subgroupMatrices: true,
        declarations: `${product.declarations ?? ""}
var<workgroup> leftTile: array<vec4<f16>, ${copies * leftLayout.size}>;
var<workgroup> rightTile: array<vec4<f16>, ${copies * rightLayout.size}>;
var<workgroup> scratch: array<vec4f, ${scratchVectors}>;`,
        body: /* wgsl */ `
  ${product.prologue}
  let tileRow = subgroup / ${subgroups[1]}u * ${down * m}u;
  let tileColumn = subgroup % ${subgroups[1]}u * ${across * n}u;
  ${each((i, j) => `var c${i}_${j}: subgroup_matrix_result<f32, ${n}, ${m}>;`)}
  ${kLoop(depth, {
    copies,
    stagings: [left, right],
    write: `${left.write(write("left", product.left.along, leftLayout))}
${right.write(write("right", product.right.along, rightLayout))}`,
    multiply: repeat(
      DEPTH_FRAGMENTS,
      (step) => /* wgsl */ `{
      ${repeat(down, (i) => `let a${i} = ${fragment("left", `tileRow + ${i * m}u`, step * k)};`)}
      ${repeat(across, (j) => `let b${j} = ${fragment("right", `tileColumn + ${j * n}u`, step * k)};`)}
      ${each((i, j) => `c${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, c${i}_${j});`)}
    }`,
    ),
  })}
  ${product.epilogue ?? ""}
  let scratchAt = subgroup * ${fragmentVectors}u;
  ${each(
    (i, j) => /* wgsl */ `
  workgroupBarrier();
  subgroupMatrixStore<row_major>(&scratch, scratchAt, c${i}_${j}, ${n / 4}u);
  workgroupBarrier();
  for (var at = subgroupLane; at < ${fragmentVectors}u; at += ${lanes}u) {
    let row = firstRow + tileRow + ${i * m}u + at / ${n / 4}u;
    let column = firstColumn + tileColumn + ${j * n}u + at % ${n / 4}u * 4u;
    let value = scratch[scratchAt + at];
    ${product.store}
  }`,
  )}`,
      };
    },
  };
}

/**
 * Tiles for an adapter's matrix units. With 16 x 16 x 16 fragments and 32 lanes: 64 x 64 by 4 subgroups, 128 x 32 by 4,
 * 128 x 128 by 8. An H200's core does 2048 multiply-adds a clock by its data sheet, about half of them by this kind of
 * instruction; what these tiles reach of it is measured. Two copies are worth their memory in the large tile alone.
 */
export function subgroupMatrixTiles(units: MatrixUnits): readonly Tile[] {
  return [
    subgroupMatrixTile(units, { subgroups: [2, 2], fragments: [2, 2], copies: 1, rate: 225, resident: 4 }),
    subgroupMatrixTile(units, { subgroups: [4, 1], fragments: [2, 2], copies: 1, rate: 145, resident: 4 }),
    subgroupMatrixTile(units, { subgroups: [4, 2], fragments: [2, 4], copies: 2, rate: 300, resident: 2 }),
  ];
}
