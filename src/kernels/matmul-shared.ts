// Matrix products of the hardware profile: a workgroup of 256 invocations keeps a tile of C in registers (4 x 4 or 8 x 8
// sums each) and walks over k in steps for which both operands are staged in workgroup memory. No subgroups, so it is
// right on every adapter.
//
// Both operands are staged k-major, as [kTile][size] f32 rows read back as vec4s:
//   stored k-major (A [K, M], B [K, N]): rows are copied;  stored row-major (A [M, K], B [N, K]): four k of a row are read
//   at once and scattered over four staged rows, which are padded by a vec4 against bank conflicts.
// Outside of the matrix zeros are staged; C is stored with guards.
import type { GpuCall } from "../tensor/webgpu-program.js";
import { activationWgsl } from "./activation.js";
import type { MatmulParams } from "./matmul.js";
import { isAligned, PRODUCT_PREAMBLE, type Product, type ProductFamily, productSizes } from "./matmul-product.js";
import { repeat } from "./subgroup-tile.js";

const INVOCATIONS = 256;

/** A square tile of 16 x 16 invocations with `perInvocation` squared sums each. */
interface Tile {
  readonly perInvocation: 4 | 8;
  readonly kTile: 8 | 16;
}

const SMALL: Tile = { perInvocation: 4, kTile: 16 };
const LARGE: Tile = { perInvocation: 8, kTile: 8 };

const sizeOfTile = (tile: Tile) => 16 * tile.perInvocation;

/** The large tile does twice the arithmetic per staged element, but needs a large C to fill the device. */
function tileFor({ m, n, batch }: { readonly m: number; readonly n: number; readonly batch: number }): Tile {
  const size = sizeOfTile(LARGE);
  if (Math.min(m, n) <= sizeOfTile(SMALL)) return SMALL;
  return Math.ceil(m / size) * Math.ceil(n / size) * batch >= 128 ? LARGE : SMALL;
}

/**
 * Statements that stage k in [k0, k0 + kTile) of one operand, of which columns [first, first + size) of `limit`.
 * `name` is the binding (lower case) and names the staged array (`name`Tile).
 */
function stage(
  tile: Tile,
  options: { name: "a" | "b"; kMajor: boolean; aligned: boolean; first: string; limit: string },
) {
  const { name, kMajor, aligned, first, limit } = options;
  const quads = sizeOfTile(tile) / 4;
  const pitch = quads + 1;
  const perRow = kMajor ? quads : tile.kTile / 4;
  const items = (sizeOfTile(tile) * tile.kTile) / 4;
  // Row-major: an item is (column, four k); k-major: (k, four columns).
  const [k, column] = kMajor
    ? [`k0 + item / ${perRow}u`, `${first} + 4u * (item % ${perRow}u)`]
    : [`k0 + 4u * (item % ${perRow}u)`, `${first} + item / ${perRow}u`];
  const at = kMajor ? `${name}Base + k * u.${name}Stride + column` : `${name}Base + column * u.${name}Stride + k`;
  const [along, end] = kMajor ? ["column", limit] : ["k", "kEnd"];
  const inside = kMajor ? "k < kEnd" : `column < ${limit}`;
  const load = aligned
    ? `if (${inside} && ${along} < ${end}) { value = ${name}[(${at}) / 4u]; }`
    : `if (${inside}) { ${repeat(4, (i) => `if (${along} + ${i}u < ${end}) { value.${"xyzw"[i]} = ${name}[${at} + ${i}u]; }`)} }`;
  const store = kMajor
    ? `${name}Tile[(item / ${perRow}u) * ${pitch}u + item % ${perRow}u] = value;`
    : `let row = 4u * (item % ${perRow}u); let staged = item / ${perRow}u;
${repeat(4, (i) => `${name}Tile[(row + ${i}u) * ${pitch}u + staged / 4u][staged % 4u] = value.${"xyzw"[i]};`)}`;
  return repeat(
    Math.ceil(items / INVOCATIONS),
    (round) => /* wgsl */ `{
    let item = lane + ${round * INVOCATIONS}u;
    let k = ${k};
    let column = ${column};
    var value = vec4f();
    ${load}
    ${store}
  }`,
  );
}

function body(
  tile: Tile,
  product: Product,
  options: { alignedA: boolean; alignedB: boolean; vectorStores: boolean },
): string {
  const size = sizeOfTile(tile);
  const vectors = tile.perInvocation / 4;
  const pitch = size / 4 + 1;
  const { a, b, bias } = product;
  // Invocation (x, y) owns columns n0 + 4 x + 64 v and rows m0 + 4 y + 64 v: neighbours read neighbouring vec4s.
  const sums = (emit: (v: number, i: number, w: number) => string) =>
    repeat(vectors, (v) => repeat(4, (i) => repeat(vectors, (w) => emit(v, i, w))));
  const column = (w: number, i: number) => `column + ${64 * w + i}u`;
  const value = (name: string, w: number) => `activation(${name}${bias === undefined ? "" : ` + bias${w}`})`;
  return /* wgsl */ `
  let m0 = group.y * ${size}u; let n0 = group.x * ${size}u;
  let x = lane % 16u; let y = lane / 16u;
  ${PRODUCT_PREAMBLE}
  ${sums((v, i, w) => `var c${v}${i}_${w} = vec4f();`)}
  for (var k0 = kBegin; k0 < kEnd; k0 += ${tile.kTile}u) {
    ${stage(tile, { name: "a", kMajor: a.transposed, aligned: options.alignedA, first: "m0", limit: "u.m" })}
    ${stage(tile, { name: "b", kMajor: !b.transposed, aligned: options.alignedB, first: "n0", limit: "u.n" })}
    workgroupBarrier();
    for (var k = 0u; k < ${tile.kTile}u; k++) {
      ${repeat(vectors, (v) => `let a${v} = aTile[k * ${pitch}u + y + ${16 * v}u]; let b${v} = bTile[k * ${pitch}u + x + ${16 * v}u];`)}
      ${sums((v, i, w) => `c${v}${i}_${w} = fma(vec4f(a${v}.${"xyzw"[i]}), b${w}, c${v}${i}_${w});`)}
    }
    workgroupBarrier();
  }
  let column = n0 + 4u * x;
  ${
    bias === undefined
      ? ""
      : repeat(
          vectors,
          (w) => `let bias${w} = vec4f(${[0, 1, 2, 3].map((i) => `bias[u.biasOffset + ${column(w, i)}]`).join(", ")});`,
        )
  }
  ${sums((v, i, w) => {
    const at = `cBase + (m0 + 4u * y + ${64 * v + i}u) * u.cStride`;
    const store = options.vectorStores
      ? `if (${column(w, 0)} < u.n) { c[(${at} + ${column(w, 0)}) / 4u] = ${value(`c${v}${i}_${w}`, w)}; }`
      : `let z = ${value(`c${v}${i}_${w}`, w)};
${repeat(4, (j) => `if (${column(w, j)} < u.n) { c[${at} + ${column(w, j)}] = z.${"xyzw"[j]}; }`)}`;
    return `if (m0 + 4u * y + ${64 * v + i}u < u.m) { ${store} }`;
  })}`;
}

export const sharedFamily: ProductFamily = {
  splitsFor({ m, n, k, batch }) {
    // Some 256 workgroups fill the largest devices; a piece is at least 128 k so that adding the pieces costs little.
    const size = sizeOfTile(SMALL);
    const tiles = Math.ceil(m / size) * Math.ceil(n / size) * batch;
    return Math.max(1, Math.min(Math.floor(256 / tiles), Math.floor(k / 128)));
  },
  run(call: GpuCall<MatmulParams>, product: Product): void {
    const { m, n, batch, splits, splitStride, a, b, c, bias, activation } = product;
    const tile = tileFor(product);
    const size = sizeOfTile(tile);
    const alignedA = isAligned(a);
    const alignedB = isAligned(b);
    const vectorStores = isAligned(c) && splitStride % 4 === 0;
    call.dispatch({
      key: `${size}x${size} ${a.transposed ? "T" : "N"}${b.transposed ? "T" : "N"} ${activation}`,
      program: () => ({
        workgroupSize: [INVOCATIONS],
        declarations: `${activationWgsl(activation, "vec4f")}
${["a", "b"].map((name) => `var<workgroup> ${name}Tile: array<vec4f, ${tile.kTile * (size / 4 + 1)}>;`).join("\n")}`,
        body: body(tile, product, { alignedA, alignedB, vectorStores }),
      }),
      bindings: [
        { name: "a", view: a.view, type: alignedA ? "vec4f" : "f32" },
        { name: "b", view: b.view, type: alignedB ? "vec4f" : "f32" },
        ...(bias === undefined ? [] : [{ name: "bias", view: bias.view, type: "f32" }]),
        { name: "c", view: c.view, type: vectorStores ? "vec4f" : "f32", access: "read_write" },
      ],
      sizes: productSizes(product),
      workgroups: [Math.ceil(n / size), Math.ceil(m / size), batch * splits],
    });
  },
};
