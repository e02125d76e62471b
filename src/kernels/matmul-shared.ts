// Matrix products of the hardware profile, in tiles whose operands are staged in workgroup memory (tiled-product.ts).
// They run in float32 or, on a device of mixed precision, on matrix units.
import type { GpuCall } from "../webgpu/program.js";
import { activationWgsl } from "./activation.js";
import {
  isAligned,
  type MatmulParams,
  PRODUCT_PREAMBLE,
  type Product,
  type ProductFamily,
  productBindings,
  productSizes,
} from "./matmul-product.js";
import { repeat } from "./subgroup-tile.js";
import { planTiles } from "./tile-choice.js";
import { matrixOperand } from "./tiled-product.js";

/** A piece of k is at least this long. */
const SHORTEST_PIECE = 128;

export const sharedFamily: ProductFamily = {
  splitsFor({ m, n, k, batch }, profile) {
    return planTiles(profile, { rows: m, columns: n, depth: k, batch }, Math.floor(k / SHORTEST_PIECE)).splits;
  },
  sumsColumns: () => false,
  run(call: GpuCall<MatmulParams>, product: Product): void {
    const { m, n, kStep, batch, splits, splitStride, a, b, c, bias, activation } = product;
    const { tile } = planTiles(call.profile, { rows: m, columns: n, depth: kStep, batch: batch * splits });
    const alignedA = isAligned(a);
    const alignedB = isAligned(b);
    const vectorStores = isAligned(c) && splitStride % 4 === 0;
    const each = (emit: (i: number) => string) => repeat(4, emit);
    call.dispatch({
      key: `${tile.name} ${a.transposed ? "T" : "N"}${b.transposed ? "T" : "N"} ${activation}`,
      program: () =>
        tile.program({
          declarations: activationWgsl(activation, "vec4f"),
          prologue: `let firstRow = group.y * ${tile.rows}u; let firstColumn = group.x * ${tile.columns}u;${PRODUCT_PREAMBLE}`,
          left: matrixOperand({
            name: "a",
            along: a.transposed ? "line" : "k",
            aligned: alignedA,
            base: "aBase",
            stride: "u.aStride",
            limit: "u.m",
            depth: tile.depth,
          }),
          right: matrixOperand({
            name: "b",
            along: b.transposed ? "k" : "line",
            aligned: alignedB,
            base: "bBase",
            stride: "u.bStride",
            limit: "u.n",
            depth: tile.depth,
          }),
          store: /* wgsl */ `if (row < u.m && column < u.n) {
      let at = cBase + row * u.cStride + column;
      let z = activation(value${bias === undefined ? "" : ` + vec4f(${[0, 1, 2, 3].map((i) => `bias[u.biasOffset + column + ${i}u]`).join(", ")})`});
      ${vectorStores ? "c[at / 4u] = z;" : each((i) => `if (column + ${i}u < u.n) { c[at + ${i}u] = z.${"xyzw"[i]}; }`)}
    }`,
        }),
      bindings: productBindings(product, { alignedA, alignedB, vectorStores }),
      sizes: productSizes(product),
      workgroups: [Math.ceil(n / tile.columns), Math.ceil(m / tile.rows), batch * splits],
    });
  },
};
