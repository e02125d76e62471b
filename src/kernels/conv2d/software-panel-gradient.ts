// Kernel gradient of the convolutions that software-panels.ts computes, in the same arrangement. Lanes are `rows` times
// `8 / rows` quads of output channels. The sums of one row of taps, and of `block` input channels, stay in private
// memory while pixels go by along the rows of dz, several a trip:
//
//   sums[kx, c][q] += sum over t of x[t + kx][c] * dz[t][q]
//
// So a sum is loaded and stored once for several products, and a column of x is loaded once for all kw taps. Lanes of
// other rows have sums of their own, which are added at the end.
import type { GpuCall } from "../../webgpu/program.js";
import { longSum, ONE } from "../long-sums.js";
import { repeat } from "../subgroup-tile.js";
import { type Conv2dGeometry, windowSizes } from "./geometry.js";
import { collectKernelSums, kernelSumsBindings, splitImages } from "./kernel-sums.js";
import { LANES, rowsOf, tileQuads } from "./software-panels.js";

/** What the WGSL of such a gradient depends on. */
interface GradientShape {
  /** Rows of dz that go by side by side: 1, 2 or 4. */
  readonly rows: number;
  /** Taps along a row. */
  readonly taps: number;
  /** Input channels of the sums, a multiple of 4. */
  readonly block: number;
  /** Pixels of a trip. */
  readonly pixels: number;
  readonly bias: boolean;
}

/** Most sums of a lane, in vec4s. */
const MOST_SUMS = 48;
/** Pixels of a chain of sums, and workgroups that a few cores share evenly. */
const MOST_CHAIN = 2048;
const WANTED_WORKGROUPS = 16;
/** What one pixel by itself costs, beside one of a trip of several. */
const SINGLE = 1.5;

/**
 * Pixels of a trip, so that few are left at the end of a row. More than three outgrow the instruction cache: eight take
 * 1.4 times as long as four, two 0.87 times.
 */
function pixelsOf(width: number): number {
  const price = (pixels: number) => width - (width % pixels) + (width % pixels) * SINGLE + 0.02 * width * (pixels - 2);
  return price(3) < price(2) ? 3 : 2;
}

/** Inputs x and dz, outputs dkernel and, if wanted, dbias, of a convolution whose forward pass goes by panels. */
export function kernelGradientPanels(call: GpuCall<Conv2dGeometry>): void {
  const { inputs, outputs, y, x } = call.params;
  const rows = rowsOf(outputs);
  const most = Math.max(4, Math.floor(MOST_SUMS / x.kernel / 4) * 4);
  const blocks = Math.ceil(inputs / most);
  const block = 4 * Math.ceil(inputs / 4 / blocks);
  const tiles = Math.ceil(outputs / 4 / tileQuads(rows));
  const shape: GradientShape = {
    ...{ rows, taps: x.kernel, block, pixels: pixelsOf(x.output) },
    bias: call.outputs.length === 2,
  };
  const chains = (call.params.batch * y.output * x.output) / rows / MOST_CHAIN;
  const wanted = Math.max(Math.ceil(WANTED_WORKGROUPS / (y.kernel * blocks * tiles)), Math.ceil(chains));
  const splits = splitImages(call, y.output, wanted);
  collectKernelSums(call, splits.windows.length * splits.count, (sums) => {
    for (const [index, window] of splits.windows.entries())
      call.dispatch({
        key: `kernel gradient by panels ${Object.values(shape).join(" ")}`,
        program: () => ({ workgroupSize: [LANES], subgroups: true, body: gradientBody(shape) }),
        bindings: kernelSumsBindings(call, { vectorInput: true, vectorOutput: true }, window, sums),
        sizes: {
          rows: window.count * y.output,
          firstSplit: index * splits.count,
          rowsPerSplit: splits.rows,
          ...{ blocks, depth: inputs / 4, outputQuads: outputs / 4, sums: x.kernel * block },
          ...windowSizes({ y, x }),
          kernelHeight: y.kernel,
        },
        numbers: shape.bias ? ONE : {},
        workgroups: [y.kernel * blocks, tiles, splits.count],
      });
  });
}

function gradientBody({ rows, taps, block, pixels, bias }: GradientShape): string {
  const quads = tileQuads(rows);
  const loads = Math.ceil(block / (4 * quads));
  const eachLoad = (emit: (i: number) => string) => repeat(loads, emit);
  const load = (to: number, x: string) =>
    eachLoad(
      (i) => `a${to}_${i} = select(vec4f(), activations[at${i} + (${x}) * u.depth], ok${i} && (${x}) < u.inputWidth);`,
    );
  const element = (name: string, kx: number, c: number) => [0, 1, 2, 3].map((i) => `${name}${i}[${kx * block + c}]`);
  /** The products of `count` pixels, whose dz lie in d0, d1, ... and whose columns in a0, a1, ... */
  const products = (count: number) => {
    const lane = (c: number) => (c >> 2) % quads;
    return Array.from({ length: block }, (_, c) => c)
      .sort((a, b) => lane(a) - lane(b))
      .map((c) => {
        const from = rows === 1 ? `${lane(c)}u` : `firstLane + ${lane(c)}u`;
        const register = (j: number) => `a${j}_${Math.floor(c / (4 * quads))}.${"xyzw"[c % 4]}`;
        return `{ ${repeat(count + taps - 1, (j) => `let f${j} = vec4f(subgroupShuffle(${register(j)}, ${from}));`)}
        ${repeat(taps, (kx) => {
          let sum = `vec4f(${element("b", kx, c).join(", ")})`;
          for (let t = 0; t < count; t++) sum = `fma(f${t + kx}, d${t}, ${sum})`;
          return `{ let s = ${sum}; ${element("b", kx, c)
            .map((name, i) => `${name} = s.${"xyzw"[i]};`)
            .join(" ")} }`;
        })} }`;
      })
      .join("\n");
  };
  const trip = (count: number) => /* wgsl */ `
        ${repeat(count, (t) => `let d${t} = select(vec4f(), dy[dyAt + ${t}u * u.outputQuads], stored);`)}
        ${repeat(count, (t) => load(taps - 1 + t, `x + ${taps - 1 + t}u - u.paddingX`))}
        ${products(count)}
        ${bias ? `sum0 += ${Array.from({ length: count }, (_, t) => `d${t}`).join(" + ")};` : ""}
        ${repeat(taps - 1, (j) => eachLoad((i) => `a${j}_${i} = a${j + count}_${i};`))}
        dyAt += ${count}u * u.outputQuads;`;
  const biasSum = longSum("sum0", "vec4f");
  /** Lanes of the same quad in other rows. */
  const others = { 1: [], 2: [4], 4: [2, 4] }[rows as 1 | 2 | 4];
  const addOthers = (name: string) =>
    others.map((by) => `${name} += subgroupShuffle(${name}, lane ^ ${by}u);`).join(" ");
  return /* wgsl */ `
  let own = lane % ${quads}u;
  let firstLane = lane - own;
  let quad = group.y * ${quads}u + own;
  let ky = group.x / u.blocks;
  let firstQuad = group.x % u.blocks * ${block / 4}u;
  ${repeat(4, (i) => `var b${i}: array<f32, ${taps * block}>;`)}
  ${repeat(pixels + taps - 1, (j) => eachLoad((i) => `var a${j}_${i} = vec4f();`))}
  ${eachLoad(
    (i) => `let quad${i} = firstQuad + own + ${i * quads}u;
  let is${i} = own + ${i * quads}u < ${block / 4}u && quad${i} < u.depth;`,
  )}
  ${bias ? biasSum.begin : ""}
  let firstRow = group.z * u.rowsPerSplit;
  let endRow = min(firstRow + u.rowsPerSplit, u.rows);
  for (var first = firstRow; first < endRow; first += ${rows}u) {
    let row = first + lane / ${quads}u;
    let image = row / u.outputHeight;
    // u32 arithmetic wraps: a negative position is a huge one.
    let y = row - image * u.outputHeight + ky - u.paddingY;
    let stored = row < endRow && quad < u.outputQuads;
    ${eachLoad(
      (i) => `let ok${i} = is${i} && row < endRow && y < u.inputHeight;
    let at${i} = (image * u.inputHeight + y) * u.inputWidth * u.depth + quad${i};`,
    )}
    var dyAt = row * u.outputWidth * u.outputQuads + quad;
    ${bias ? biasSum.part : ""}
    ${repeat(taps - 1, (j) => load(j, `${j}u - u.paddingX`))}
    var x = 0u;
    for (; x + ${pixels}u <= u.outputWidth; x += ${pixels}u) {
      ${trip(pixels)}
    }
    for (; x < u.outputWidth; x++) {
      ${trip(1)}
    }
    ${bias ? biasSum.add : ""}
  }
  let to = ((u.firstSplit + group.z) * u.kernelHeight + ky) * ${taps}u;
  for (var e = 0u; e < u.sums; e++) {
    var s = vec4f(b0[e], b1[e], b2[e], b3[e]);
    ${addOthers("s")}
    let channel = firstQuad * 4u + e % ${block}u;
    if (lane < ${quads}u && quad < u.outputQuads && channel < u.depth * 4u) {
      kernelSums[((to + e / ${block}u) * u.depth * 4u + channel) * u.outputQuads + quad] = s;
    }
  }
  ${
    bias
      ? /* wgsl */ `
  var total = ${biasSum.value};
  ${addOthers("total")}
  if (group.x == 0u && lane < ${quads}u && quad < u.outputQuads) {
    biasSums[(u.firstSplit + group.z) * u.outputQuads + quad] = total;
  }`
      : ""
  }
`;
}
