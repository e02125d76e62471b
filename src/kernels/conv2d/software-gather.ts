// Convolution for software adapters with subgroups of L lanes (8 on lavapipe), one subgroup per workgroup, operands in
// registers. This is the gather that is the forward pass and the input gradient. The kernel gradient is in
// software-kernel-gradient.ts.
//
// A tile is `channels` target channels at L * groups positions. A lane holds one position of every group; the kernel's
// values are broadcast:
//
//   c[q][g] (vec4f: channels 4 q ... 4 q + 3 at the lane's position of group g) += kernel[k][4 q ...] * source[g][k]
//
// No lane is wasted on channels that do not exist, whatever their number: 24 and 36 are nearly as fast as 32. Loads are
// the cost on lavapipe (a vec4f load as much as 36 multiply-adds of 8 lanes): a tile of 64 x 32 loads 12 vec4f per
// 1024.

import { type SubgroupLanes, subgroupLanes } from "../../webgpu/family.js";
import { type GpuCall, type GpuView, GRID_INDEX, gridOf } from "../../webgpu/program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { rolledLoop } from "../rolled.js";
import { repeat } from "../subgroup-tile.js";
import { type Gather, type GatherViews, gatherSizes, usedShare } from "./geometry.js";

/** How a tile is cut and read: what the WGSL of a gather depends on. */
interface GatherShape {
  /** Channels of a tile, a multiple of 4. */
  readonly channels: number;
  readonly lanes: SubgroupLanes;
  /** Groups of a lane's positions of a tile. */
  readonly groups: number;
  /** Source channels are read four at a time. */
  readonly vectorSource: boolean;
  /**
   * Four target channels lie side by side in the kernel: lane l of register r holds channels 4 (L r + l) ... + 3 of one
   * source channel; otherwise channel L r + l.
   */
  readonly vectorWeights: boolean;
  readonly vectorTarget: boolean;
  /** "none": every tap lies inside the source. "strided": positions are divided, too. */
  readonly mask: "none" | "range" | "strided";
  readonly activation: FusedActivation;
  readonly bias: boolean;
}

/** Positions from which on a product is worth transposing the kernel for. */
const TRANSPOSE_ROWS = 512;

export function gatherSoftware<P>(
  call: GpuCall<P>,
  gather: Gather,
  views: GatherViews,
  activation: FusedActivation,
): void {
  const { batch, y, x, sourceChannels, targetChannels } = gather;
  // Positions of the target, padded to whole phases where they are divided.
  const phaseHeight = Math.ceil(y.target / y.divisor);
  const phaseWidth = Math.ceil(x.target / x.divisor);
  const pixels = phaseHeight * phaseWidth * y.divisor * x.divisor;
  const rows = batch * pixels;
  const used = usedShare(y) * usedShare(x);
  const vectorTarget = targetChannels % 4 === 0;
  let { kernelStrides } = gather;
  let { kernel } = views;
  if (vectorTarget && kernelStrides.target !== 1 && rows >= TRANSPOSE_ROWS) {
    kernel = transposeKernel(call, gather, kernel);
    kernelStrides = { source: targetChannels, target: 1 };
  }
  const shape: GatherShape = {
    ...gatherTile(targetChannels),
    lanes: subgroupLanes(call.profile),
    vectorSource: sourceChannels % 4 === 0,
    vectorWeights: kernelStrides.target === 1 && vectorTarget,
    vectorTarget,
    mask: y.divisor * x.divisor > 1 ? "strided" : used < 1 ? "range" : "none",
    activation,
    bias: views.bias !== undefined,
  };
  // Images fastest where much of the kernel lies outside the source: then a tile's positions skip the same taps.
  const imagesFirst = used < 0.9;
  const [tilesX, tilesY] = gridOf(Math.ceil(rows / (shape.lanes * shape.groups)));
  call.dispatch({
    key: `gather ${Object.values(shape).join(" ")}`,
    program: () => ({
      workgroupSize: [shape.lanes],
      subgroups: true,
      declarations: activationWgsl(activation, "vec4f"),
      body: gatherBody(shape),
    }),
    bindings: [
      { name: "source", view: views.source, type: shape.vectorSource ? "vec4f" : "f32" },
      { name: "weights", view: kernel, type: shape.vectorWeights ? "vec4f" : "f32" },
      ...(views.bias ? [{ name: "bias", view: views.bias, type: "vec4f" }] : []),
      { name: "result", view: views.target, type: vectorTarget ? "vec4f" : "f32", access: "read_write" },
    ],
    sizes: {
      rows,
      inner: imagesFirst ? batch : pixels,
      imagesFirst: imagesFirst ? 1 : 0,
      phaseHeight,
      phaseWidth,
      ...gatherSizes({ ...gather, kernelStrides }),
    },
    workgroups: [tilesX, tilesY, Math.ceil(targetChannels / shape.channels)],
  });
}

/** A scratch copy [taps, source, target] of a kernel [taps, target, source]; target channels are a multiple of 4. */
export function transposeKernel<P>(call: GpuCall<P>, gather: Gather, kernel: GpuView): GpuView {
  const { y, x, sourceChannels, targetChannels } = gather;
  // Columns may be more than the kernel has, then not equal to its size.
  const size = y.taps * x.taps * sourceChannels * targetChannels;
  const transposed = call.scratch({ shape: [size], dtype: "f32" });
  const loop = rolledLoop(call.profile, size / 4);
  call.dispatch({
    key: "transpose kernel",
    program: () => ({
      workgroupSize: loop.workgroupSize,
      body: loop.body(/* wgsl */ `
    let row = i / u.quads;
    let at = (row / u.sourceChannels * u.quads * 4u + i % u.quads * 4u) * u.sourceChannels + row % u.sourceChannels;
    transposed[i] = vec4f(weights[at], weights[at + u.sourceChannels], weights[at + 2u * u.sourceChannels],
      weights[at + 3u * u.sourceChannels]);`),
    }),
    bindings: [
      { name: "weights", view: kernel, type: "f32" },
      { name: "transposed", view: transposed, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...loop.sizes, sourceChannels, quads: targetChannels / 4 },
    workgroups: loop.workgroups,
  });
  return transposed;
}

/**
 * Channels spread evenly over tiles of at most 64, and as many positions as give at most 288 registers of sums: more
 * fall out of the cache.
 */
export function gatherTile(targetChannels: number): { channels: number; groups: number } {
  const quads = Math.ceil(targetChannels / 4);
  const channels = 4 * Math.ceil(quads / Math.ceil(quads / 16));
  return { channels, groups: Math.min(8, Math.floor(288 / channels)) };
}

/**
 * WGSL of the vec4f of channels 4 q ... 4 q + 3, broadcast from the lane registers `name`0, ...: lane l of register r
 * holds channels 4 (L r + l) ... + 3 (`vector`) or channel L r + l.
 */
export function broadcastQuad(name: string, q: number, vector: boolean, lanes: SubgroupLanes): string {
  const scalar = (channel: number) => `subgroupBroadcast(${name}${Math.floor(channel / lanes)}, ${channel % lanes}u)`;
  return vector ? scalar(q) : `vec4f(${[0, 1, 2, 3].map((i) => scalar(4 * q + i)).join(", ")})`;
}

function gatherBody(shape: GatherShape): string {
  const { channels, groups, lanes, vectorSource, vectorWeights, vectorTarget, mask, bias } = shape;
  const quads = channels / 4;
  const each = (emit: (g: number) => string) => repeat(groups, emit);
  const eachSum = (emit: (q: number, g: number) => string) => repeat(quads, (q) => each((g) => emit(q, g)));
  const loadWeights = `${repeat(
    Math.ceil(channels / (vectorWeights ? 4 * lanes : lanes)),
    (r) => `let w${r} = weights[weightIndex + ${r * lanes}u${vectorWeights ? "" : " * u.kernelTarget"}];`,
  )}
      weightIndex += weightStep;`;
  const multiply = (a: (g: number) => string) =>
    repeat(
      quads,
      (q) =>
        `{ let w = ${broadcastQuad("w", q, vectorWeights, lanes)};\n${each((g) => `c${q}_${g} = fma(w, vec4f(${a(g)}), c${q}_${g});`)}\n}`,
    );
  const read = (g: number) => {
    const zero = vectorSource ? "vec4f()" : "0f";
    return mask === "none" ? `source[at${g} + k]` : `select(${zero}, source[at${g} + k], ok${g})`;
  };
  const inner = vectorSource
    ? /* wgsl */ `
        ${each((g) => `var a${g} = ${read(g)};`)}
        for (var j = 0u; j < 4u; j++) {
          ${loadWeights}
          ${multiply((g) => `a${g}.x`)}
          ${each((g) => `a${g} = a${g}.yzwx;`)}
        }`
    : /* wgsl */ `
        ${each((g) => `let a${g} = ${read(g)};`)}
        ${loadWeights}
        ${multiply((g) => `a${g}`)}`;
  const locate = (g: number) => /* wgsl */ `
  let row${g} = first + ${g * lanes}u;
  let outer${g} = row${g} / u.inner;
  let rest${g} = row${g} - outer${g} * u.inner;
  let image${g} = select(outer${g}, rest${g}, imagesFirst);
  let pixel${g} = select(rest${g}, outer${g}, imagesFirst);
  ${
    mask === "strided"
      ? /* wgsl */ `
  let phase${g} = pixel${g} / (u.phaseHeight * u.phaseWidth);
  let inPhase${g} = pixel${g} % (u.phaseHeight * u.phaseWidth);
  let targetY${g} = inPhase${g} / u.phaseWidth * u.divisorY + phase${g} / u.divisorX;
  let targetX${g} = inPhase${g} % u.phaseWidth * u.divisorX + phase${g} % u.divisorX;`
      : /* wgsl */ `
  let targetY${g} = pixel${g} / u.targetWidth;
  let targetX${g} = pixel${g} - targetY${g} * u.targetWidth;`
  }
  let inside${g} = row${g} < u.rows && targetY${g} < u.targetHeight && targetX${g} < u.targetWidth;
  let y${g} = targetY${g} * u.scaleY + u.offsetY;
  let x${g} = targetX${g} * u.scaleX + u.offsetX;
  ${mask === "strided" ? "" : `let base${g} = ((image${g} * u.sourceHeight + y${g}) * u.sourceWidth + x${g}) * depth;`}`;
  // u32 arithmetic wraps: a negative position is a huge one.
  const tap = (g: number) => {
    switch (mask) {
      case "none":
        return `let at${g} = base${g} + tapOffset;`;
      case "range":
        return /* wgsl */ `
      let ok${g} = inside${g} && y${g} + tapY < u.sourceHeight && x${g} + tapX < u.sourceWidth;
      let at${g} = base${g} + tapOffset;`;
      case "strided":
        return /* wgsl */ `
      let sourceY${g} = (y${g} + tapY) / u.divisorY;
      let sourceX${g} = (x${g} + tapX) / u.divisorX;
      let ok${g} = inside${g} && sourceY${g} < u.sourceHeight && sourceX${g} < u.sourceWidth
        && sourceY${g} * u.divisorY == y${g} + tapY && sourceX${g} * u.divisorX == x${g} + tapX;
      let at${g} = ((image${g} * u.sourceHeight + sourceY${g}) * u.sourceWidth + sourceX${g}) * depth;`;
    }
  };
  const weightStart = vectorWeights
    ? "(tap * u.sourceChannels * u.targetChannels + firstChannel) / 4u + lane"
    : "tap * u.sourceChannels * u.targetChannels + (firstChannel + lane) * u.kernelTarget";
  const store = (g: number) => {
    const value = `activation(c0_${g}${bias ? " + shift" : ""})`;
    return `if (inside${g}) { ${
      vectorTarget
        ? `result[(to${g} + channel) / 4u] = ${value};`
        : `let v = ${value};\n${repeat(4, (i) => `if (channel + ${i}u < u.targetChannels) { result[to${g} + channel + ${i}u] = v[${i}]; }`)}`
    } }`;
  };
  return /* wgsl */ `
  let first = ${GRID_INDEX} * ${groups * lanes}u + lane;
  let firstChannel = group.z * ${channels}u;
  let imagesFirst = u.imagesFirst == 1u;
  let depth = u.sourceChannels${vectorSource ? " / 4u" : ""};
  let weightStep = u.kernelSource${vectorWeights ? " / 4u" : ""};
  ${each(locate)}
  ${eachSum((q, g) => `var c${q}_${g} = vec4f();`)}
  for (var ky = 0u; ky < u.tapsY; ky++) {
    @diagnostic(off, subgroup_uniformity)
    for (var kx = 0u; kx < u.tapsX; kx++) {
      let tap = ky * u.tapsX + kx;
      let tapY = ky * u.stepY;
      let tapX = kx * u.stepX;
      let tapOffset = (tapY * u.sourceWidth + tapX) * depth;
      ${each(tap)}
      ${mask === "none" ? "" : `if (!subgroupAny(${Array.from({ length: groups }, (_, g) => `ok${g}`).join(" || ")})) { continue; }`}
      var weightIndex = ${weightStart};
      for (var k = 0u; k < depth; k++) {
        ${inner}
      }
    }
  }
  ${each(
    (g) =>
      `let to${g} = ((image${g} * u.targetHeight + targetY${g}) * u.targetWidth + targetX${g}) * u.targetChannels;`,
  )}
  // One quad at a time moves to the front, so that the store's code (large on lavapipe) is there once per group. The
  // bound depends on parameters, or else the driver unrolls the loop.
  let endChannel = min(firstChannel + ${channels}u, u.targetChannels);
  for (var channel = firstChannel; channel < endChannel; channel += 4u) {
    ${bias ? "let shift = bias[channel / 4u];" : ""}
    ${each(store)}
    ${repeat(quads - 1, (q) => each((g) => `c${q}_${g} = c${q + 1}_${g};`))}
  }
`;
}
