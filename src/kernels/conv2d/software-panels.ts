// Convolution of stride 1 for software adapters (lavapipe) with subgroups of eight lanes. These are the forward pass
// and the input gradient of kernels that are wider than a pixel, where neither is worth Winograd's transforms.
//
// The kernel stays in the subgroup's private memory as a panel (see matmul-panel.ts), while pixels go by along the rows
// of the target, one a trip. The lanes are `rows` times `8 / rows` quads of target channels: with 16 channels, two rows
// go by side by side. A panel has all taps of `block` source channels:
//
//   trip x:  y[x][q] += sum over kx, ky, c of a[x + kx][ky, c] * panel[kx, ky, c][q]
//
// What a trip sees of a column of pixels lies in registers of the lanes of its row, a shuffle from which is the factor
// of four sums. The next trip sees the same columns, but for one: it loads that one, and moves the others on.
import { subgroupLanes, type TuningProfile } from "../../webgpu/family.js";
import { type GpuCall, GRID_INDEX, gridOf } from "../../webgpu/program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { repeat } from "../subgroup-tile.js";
import type { Gather, GatherAxis, GatherViews } from "./geometry.js";
import { transposeKernel } from "./software-gather.js";

/** Lanes for which this is written: with four there is nothing to share between rows. */
export const LANES = 8;

/** What the WGSL of a panel depends on. */
interface PanelShape {
  /** Rows of the target that go by side by side: 1, 2 or 4. */
  readonly rows: number;
  readonly taps: readonly [number, number];
  /** Source channels of a panel, a multiple of 4. */
  readonly block: number;
  /** One panel takes all source channels: the sums need not be read back. */
  readonly single: boolean;
  readonly activation: FusedActivation;
  readonly bias: boolean;
}

/** Most k of a panel: 18 KiB, more than half of a first-level cache. */
const MOST_DEPTH = 144;
/** Rows, in groups, that pay for filling a panel; and workgroups that a few cores share evenly. */
const LEAST_GROUPS = 4;
const WANTED_WORKGROUPS = 16;

/** Source channels of a panel: as many as fit, in equal blocks. */
function blockOf({ y, x, sourceChannels }: Gather): number {
  const most = Math.floor(MOST_DEPTH / (y.taps * x.taps) / 4) * 4;
  if (most === 0) return 0;
  return 4 * Math.ceil(sourceChannels / 4 / Math.ceil(sourceChannels / most));
}

/** Columns of channels that rows leave for one tile. */
export const tileQuads = (rows: number) => LANES / rows;

/** Eights of lanes that a pixel takes, with so many rows side by side. */
const lanesOf = (targetChannels: number, rows: number) => Math.ceil(targetChannels / 4 / tileQuads(rows)) / rows;

/** Rows that go by side by side: those that waste the fewest lanes, the fewest rows among them. */
export function rowsOf(targetChannels: number): number {
  return [1, 2, 4].reduce((best, rows) =>
    lanesOf(targetChannels, rows) < 0.9 * lanesOf(targetChannels, best) ? rows : best,
  );
}

/** The share of lanes that have channels. */
export function lanesInUse(targetChannels: number): number {
  return targetChannels / 4 / LANES / lanesOf(targetChannels, rowsOf(targetChannels));
}

/** Whether panels compute a gather. */
export function fitsPanels(profile: TuningProfile, gather: Gather): boolean {
  const { batch, y, x, sourceChannels, targetChannels } = gather;
  const fits = ({ scale, step, divisor }: GatherAxis) => scale === 1 && divisor === 1 && Math.abs(step) === 1;
  if (profile.family !== "software" || subgroupLanes(profile) !== LANES) return false;
  if (!fits(y) || !fits(x) || y.step !== x.step || x.taps < 2) return false;
  if (sourceChannels % 4 !== 0 || targetChannels % 4 !== 0 || blockOf(gather) === 0) return false;
  return batch * y.target >= rowsOf(gather.targetChannels) * LEAST_GROUPS * 2;
}

export function gatherPanels<P>(
  call: GpuCall<P>,
  gather: Gather,
  views: GatherViews,
  activation: FusedActivation,
): void {
  const { batch, y, x, sourceChannels, targetChannels } = gather;
  const flipped = x.step < 0;
  const kernel = gather.kernelStrides.target === 1 ? views.kernel : transposeKernel(call, gather, views.kernel);
  const block = blockOf(gather);
  const rows = rowsOf(targetChannels);
  const shape: PanelShape = {
    ...{ rows, taps: [y.taps, x.taps], block, single: block >= sourceChannels, activation },
    bias: views.bias !== undefined,
  };
  const tiles = Math.ceil(targetChannels / 4 / tileQuads(rows));
  const groups = Math.ceil((batch * y.target) / rows);
  const each = Math.max(LEAST_GROUPS, Math.ceil(groups / Math.ceil(WANTED_WORKGROUPS / tiles)));
  const [across, down] = gridOf(Math.ceil(groups / each));
  call.dispatch({
    key: `panels ${Object.values(shape).join(" ")}`,
    program: () => ({
      workgroupSize: [LANES],
      subgroups: true,
      declarations: activationWgsl(activation, "vec4f"),
      body: panelBody(shape),
    }),
    bindings: [
      { name: "source", view: views.source, type: "vec4f" },
      { name: "weights", view: kernel, type: "vec4f" },
      ...(views.bias ? [{ name: "bias", view: views.bias, type: "vec4f" } as const] : []),
      { name: "result", view: views.target, type: "vec4f", access: "read_write" },
    ],
    sizes: {
      ...{ groups, each, rows: batch * y.target },
      ...{ sourceHeight: y.source, sourceWidth: x.source, targetHeight: y.target, targetWidth: x.target },
      // The first pixel that the first one of the target sees, and the tap there.
      ...{ offsetY: flipped ? y.offset - (y.taps - 1) : y.offset },
      ...{ offsetX: flipped ? x.offset - (x.taps - 1) : x.offset },
      ...{ firstTap: flipped ? y.taps * x.taps - 1 : 0, tapStep: flipped ? -1 : 1 },
      ...{ depth: sourceChannels / 4, targetQuads: targetChannels / 4 },
      ...{ panel: y.taps * x.taps * block },
    },
    workgroups: [across, down, tiles],
  });
}

function panelBody({ rows, taps, block, single, bias }: PanelShape): string {
  const [kh, kw] = taps;
  const quads = tileQuads(rows);
  /** k of a column of pixels, and the loads of a lane for them: each is 4 quads of them. */
  const column = kh * block;
  const loads = Math.ceil(column / (4 * quads));
  const panel = kw * column;
  const eachLoad = (emit: (i: number) => string) => repeat(loads, emit);
  const load = (kx: number, x: string) =>
    eachLoad(
      (i) => `a${kx}_${i} = select(vec4f(), source[at${i} + (${x}) * u.depth], ok${i} && (${x}) < u.sourceWidth);`,
    );
  // Lane by lane, so that a shuffle's index serves several in a row.
  const laneOf = (k: number) => ((k % column) >> 2) % quads;
  const products = Array.from({ length: panel }, (_, k) => k)
    .sort((a, b) => laneOf(a) - laneOf(b))
    .map((k, step) => {
      const within = k % column;
      const register = `a${Math.floor(k / column)}_${Math.floor(within / (4 * quads))}.${"xyzw"[k % 4]}`;
      const from = rows === 1 ? `${laneOf(k)}u` : `firstLane + ${laneOf(k)}u`;
      const sum = `s${step % 2}`;
      return `${sum} = fma(vec4f(subgroupShuffle(${register}, ${from})), vec4f(b0[${k}], b1[${k}], b2[${k}], b3[${k}]), ${sum});`;
    });
  return /* wgsl */ `
  let index = ${GRID_INDEX};
  let own = lane % ${quads}u;
  let firstLane = lane - own;
  let quad = group.z * ${quads}u + own;
  let begin = index * u.each;
  let end = min(begin + u.each, u.groups);
  ${repeat(4, (i) => `var b${i}: array<f32, ${panel}>;`)}
  ${bias ? "let start = bias[min(quad, u.targetQuads - 1u)];" : "let start = vec4f();"}
  ${single ? "{ let firstQuad = 0u;" : `for (var firstQuad = 0u; firstQuad < u.depth; firstQuad += ${block / 4}u) {`}
    // The panel: k is kx, ky and the channel. Its size is a parameter, or the loop would be unrolled.
    for (var k = 0u; k < u.panel; k++) {
      let channel = firstQuad * 4u + k % ${block}u;
      let tap = u.firstTap + (k / ${block}u % ${kh}u * ${kw}u + k / ${column}u) * u.tapStep;
      let v = select(vec4f(), weights[(tap * u.depth * 4u + channel) * u.targetQuads + quad], channel < u.depth * 4u && quad < u.targetQuads);
      ${repeat(4, (i) => `b${i}[k] = v.${"xyzw"[i]};`)}
    }
    ${eachLoad(
      (i) => /* wgsl */ `
    let k${i} = (own + ${i * quads}u) * 4u;
    let tap${i} = k${i} / ${block}u;
    let quad${i} = firstQuad + k${i} % ${block}u / 4u;
    let is${i} = tap${i} < ${kh}u && quad${i} < u.depth;`,
    )}
    for (var each = begin; each < end; each++) {
      let row = each * ${rows}u + lane / ${quads}u;
      let image = row / u.targetHeight;
      // u32 arithmetic wraps: a negative position is a huge one.
      let y = row - image * u.targetHeight + u.offsetY;
      ${eachLoad(
        (i) => /* wgsl */ `
      let ok${i} = is${i} && row < u.rows && y + tap${i} < u.sourceHeight;
      let at${i} = (image * u.sourceHeight + y + tap${i}) * u.sourceWidth * u.depth + quad${i};`,
      )}
      ${repeat(kw, (kx) => eachLoad((i) => `var a${kx}_${i} = vec4f();`))}
      ${repeat(kw - 1, (kx) => load(kx + 1, `u.offsetX + ${kx}u`))}
      var to = row * u.targetWidth * u.targetQuads + quad;
      let stored = row < u.rows && quad < u.targetQuads;
      for (var x = 0u; x < u.targetWidth; x++) {
        ${repeat(kw - 1, (kx) => eachLoad((i) => `a${kx}_${i} = a${kx + 1}_${i};`))}
        ${load(kw - 1, `x + u.offsetX + ${kw - 1}u`)}
        var before = start;
        ${single ? "" : "if (firstQuad > 0u) { before = result[to]; }"}
        var s0 = before;
        var s1 = vec4f();
        ${products.join("\n")}
        var sum = s0 + s1;
        ${single ? "if (u.depth > 0u)" : `if (firstQuad + ${block / 4}u >= u.depth)`} { sum = activation(sum); }
        if (stored) { result[to] = sum; }
        to += u.targetQuads;
      }
    }
  }
`;
}
