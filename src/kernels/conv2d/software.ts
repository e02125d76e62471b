// Convolution for software adapters (lavapipe) with subgroups of eight lanes, one subgroup per workgroup, operands in
// registers.
//
// Gather (forward and input gradient): a tile is `channels` target channels at 8 * groups positions. A lane holds one
// position of every group; the kernel's values are broadcast:
//   c[q][g] (vec4f: channels 4 q ... 4 q + 3 at the lane's position of group g) += kernel[k][4 q ...] * source[g][k]
// No lane is wasted on channels that do not exist, whatever their number: 24 and 36 are as fast as 32. Loads are the
// cost on lavapipe (a vec4f load as much as 36 multiply-adds of 8 lanes): a tile of 32 x 64 loads 12 vec4f per 1024.
import { type GpuCall, type GpuView, GRID_INDEX, gridOf } from "../../tensor/webgpu-program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { rolledLoop } from "../rolled.js";
import { repeat } from "../subgroup-tile.js";
import { type Conv2dGeometry, forwardGather, type Gather, type GatherViews, usedShare } from "./geometry.js";
import { collectKernelSums, splitImages } from "./kernel-sums.js";
import { imagesOf } from "./windows.js";

const LANES = 8;

/** How a tile is cut and read: what the WGSL of a gather depends on. */
interface GatherShape {
  /** Channels of a tile, a multiple of 4. */
  readonly channels: number;
  /** Groups of 8 positions of a tile. */
  readonly groups: number;
  /** Source channels are read four at a time. */
  readonly vectorSource: boolean;
  /**
   * Four target channels lie side by side in the kernel: lane l of register r holds channels 32 r + 4 l ... + 3 of one
   * source channel; otherwise channel 8 r + l.
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
    vectorSource: sourceChannels % 4 === 0,
    vectorWeights: kernelStrides.target === 1 && vectorTarget,
    vectorTarget,
    mask: y.divisor * x.divisor > 1 ? "strided" : used < 1 ? "range" : "none",
    activation,
    bias: views.bias !== undefined,
  };
  // Images fastest where much of the kernel lies outside the source: then a tile's positions skip the same taps.
  const imagesFirst = used < 0.9;
  const [tilesX, tilesY] = gridOf(Math.ceil(rows / (LANES * shape.groups)));
  call.dispatch({
    key: `gather ${Object.values(shape).join(" ")}`,
    program: () => ({
      workgroupSize: [LANES],
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
      batch,
      pixels,
      imageStride: imagesFirst ? 1 : pixels,
      pixelStride: imagesFirst ? batch : 1,
      phaseHeight,
      phaseWidth,
      sourceHeight: y.source,
      sourceWidth: x.source,
      sourceChannels,
      targetHeight: y.target,
      targetWidth: x.target,
      targetChannels,
      tapsY: y.taps,
      tapsX: x.taps,
      scaleY: y.scale,
      scaleX: x.scale,
      offsetY: y.offset,
      offsetX: x.offset,
      stepY: y.step,
      stepX: x.step,
      divisorY: y.divisor,
      divisorX: x.divisor,
      kernelSource: kernelStrides.source,
      kernelTarget: kernelStrides.target,
    },
    workgroups: [tilesX, tilesY, Math.ceil(targetChannels / shape.channels)],
  });
}

/** A scratch copy [taps, source, target] of a kernel [taps, target, source]; target channels are a multiple of 4. */
function transposeKernel<P>(call: GpuCall<P>, gather: Gather, kernel: GpuView): GpuView {
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
function gatherTile(targetChannels: number): { channels: number; groups: number } {
  const quads = Math.ceil(targetChannels / 4);
  const channels = 4 * Math.ceil(quads / Math.ceil(quads / 16));
  return { channels, groups: Math.min(8, Math.floor(288 / channels)) };
}

function gatherBody({ channels, groups, vectorSource, vectorWeights, vectorTarget, mask, bias }: GatherShape): string {
  const quads = channels / 4;
  const each = (emit: (g: number) => string) => repeat(groups, emit);
  const eachSum = (emit: (q: number, g: number) => string) => repeat(quads, (q) => each((g) => emit(q, g)));
  const weight = (q: number) =>
    vectorWeights
      ? `subgroupBroadcast(w${q >> 3}, ${q & 7}u)`
      : `vec4f(${[0, 1, 2, 3]
          .map((i) => 4 * q + i)
          .map((channel) => `subgroupBroadcast(w${channel >> 3}, ${channel & 7}u)`)
          .join(", ")})`;
  const loadWeights = `${repeat(
    Math.ceil(channels / (vectorWeights ? 32 : LANES)),
    (r) => `let w${r} = weights[weightIndex + ${r * LANES}u${vectorWeights ? "" : " * u.kernelTarget"}];`,
  )}
      weightIndex += weightStep;`;
  const multiply = (a: (g: number) => string) =>
    repeat(
      quads,
      (q) => `{ let w = ${weight(q)};\n${each((g) => `c${q}_${g} = fma(w, vec4f(${a(g)}), c${q}_${g});`)}\n}`,
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
  let row${g} = first + ${g * LANES}u;
  let image${g} = row${g} / u.imageStride % u.batch;
  let pixel${g} = row${g} / u.pixelStride % u.pixels;
  ${
    mask === "strided"
      ? /* wgsl */ `
  let phase${g} = pixel${g} / (u.phaseHeight * u.phaseWidth);
  let targetY${g} = pixel${g} / u.phaseWidth % u.phaseHeight * u.divisorY + phase${g} / u.divisorX;
  let targetX${g} = pixel${g} % u.phaseWidth * u.divisorX + phase${g} % u.divisorX;`
      : /* wgsl */ `
  let targetY${g} = pixel${g} / u.targetWidth;
  let targetX${g} = pixel${g} % u.targetWidth;`
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
  let first = ${GRID_INDEX} * ${groups * LANES}u + lane;
  let firstChannel = group.z * ${channels}u;
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

/** What the WGSL of a kernel gradient depends on. */
interface KernelGradientShape {
  /** Output channels of a tile, a multiple of 4. */
  readonly channels: number;
  /** Registers of kernel elements of a tile: 32 elements each, or 8 where x is read one channel at a time. */
  readonly groups: number;
  readonly vectorInput: boolean;
  /** Output channels are a multiple of 4. */
  readonly vectorOutput: boolean;
  /** Some taps lie outside the input. */
  readonly masked: boolean;
  readonly bias: boolean;
}

/** Inputs x and dz, outputs dkernel and, if wanted, dbias. */
export function kernelGradientSoftware(call: GpuCall<Conv2dGeometry>): void {
  const { batch, inputs, outputs, y, x } = call.params;
  const { y: gatherY, x: gatherX } = forwardGather(call.params);
  const elements = y.kernel * x.kernel * inputs;
  const tile = kernelGradientTile(elements, outputs, inputs % 4 === 0);
  const shape: KernelGradientShape = {
    ...tile,
    vectorInput: inputs % 4 === 0,
    vectorOutput: outputs % 4 === 0,
    masked: usedShare(gatherY) * usedShare(gatherX) < 1,
    bias: call.outputs.length === 2,
  };
  const elementTiles = Math.ceil(elements / (tile.groups * (shape.vectorInput ? 32 : 8)));
  const channelTiles = Math.ceil(outputs / tile.channels);
  const splits = splitImages(call, y.output, Math.min(16, Math.ceil(32 / (elementTiles * channelTiles))));
  const type = shape.vectorOutput ? "vec4f" : "f32";
  collectKernelSums(call, splits.windows.length * splits.count, (kernelSums, biasSums) => {
    for (const [index, window] of splits.windows.entries())
      call.dispatch({
        key: `kernel gradient ${Object.values(shape).join(" ")}`,
        program: () => ({ workgroupSize: [LANES], subgroups: true, body: kernelGradientBody(shape) }),
        bindings: [
          {
            name: "activations",
            view: imagesOf(call.inputs[0]!, batch, window),
            type: shape.vectorInput ? "vec4f" : "f32",
          },
          { name: "dy", view: imagesOf(call.inputs[1]!, batch, window), type },
          { name: "kernelSums", view: kernelSums, type, access: "read_write" },
          ...(biasSums ? [{ name: "biasSums", view: biasSums, type, access: "read_write" } as const] : []),
        ],
        sizes: {
          rows: window.count * y.output,
          firstSplit: index * splits.count,
          rowsPerSplit: splits.rows,
          elements,
          inputs,
          outputs,
          kernelWidth: x.kernel,
          inputHeight: y.input,
          inputWidth: x.input,
          outputHeight: y.output,
          outputWidth: x.output,
          strideY: y.stride,
          strideX: x.stride,
          dilationY: y.dilation,
          dilationX: x.dilation,
          paddingY: y.padding,
          paddingX: x.padding,
        },
        workgroups: [elementTiles, channelTiles, splits.count],
      });
  });
}

/**
 * The cheapest tile of at most 300 registers of sums, by the adapter's prices in nanoseconds: a load of eight vec4f 12, of
 * eight scalars 5, a multiply-add of eight lanes 0.33, and a trip through the loop 15.
 */
function kernelGradientTile(
  elements: number,
  outputs: number,
  vectorInput: boolean,
): { channels: number; groups: number } {
  const [perGroup, scalars, load] = vectorInput ? [32, 4, 12] : [8, 1, 5];
  const quads = Math.ceil(outputs / 4);
  let best = { channels: 4, groups: 1 };
  let bestPrice = Number.POSITIVE_INFINITY;
  for (let channelTiles = Math.ceil(quads / 16); channelTiles <= quads; channelTiles++) {
    const channels = 4 * Math.ceil(quads / channelTiles);
    for (let groups = 1; groups <= 8 && groups * scalars * channels <= 300; groups++) {
      const trip = groups * scalars * channels * 0.33 + groups * load + Math.ceil(channels / 32) * 12 + 15;
      const price = channelTiles * Math.ceil(elements / (groups * perGroup)) * trip;
      if (price < bestPrice) {
        best = { channels, groups };
        bestPrice = price;
      }
    }
  }
  return best;
}

// Kernel gradient: lane l holds kernel elements e = (ky, kx, ci) of every group; dy is broadcast:
//   c[q][g][i] (vec4f: channels 4 q ... 4 q + 3 at element i of the lane's group g) += dy[pixel][4 q ...] * x[pixel + e]
// over the output rows (n, oy) of this split and all ox. Sums of dy over the same loop are the bias gradient.
function kernelGradientBody(shape: KernelGradientShape): string {
  const { channels, groups, vectorInput, vectorOutput, masked, bias } = shape;
  const quads = channels / 4;
  const [perLane, zero] = vectorInput ? [4, "vec4f()"] : [1, "0f"];
  const parts = vectorInput ? [".x", ".y", ".z", ".w"] : [""];
  const each = (emit: (g: number) => string) => repeat(groups, emit);
  const registers = Math.ceil(channels / (vectorOutput ? 32 : LANES));
  const eachRegister = (emit: (r: number) => string) => repeat(registers, emit);
  const gradient = (q: number) =>
    vectorOutput
      ? `subgroupBroadcast(b${q >> 3}, ${q & 7}u)`
      : `vec4f(${[0, 1, 2, 3]
          .map((i) => 4 * q + i)
          .map((c) => `subgroupBroadcast(b${c >> 3}, ${c & 7}u)`)
          .join(", ")})`;
  const eachPart = (emit: (q: number, g: number, i: number) => string) =>
    repeat(quads, (q) => each((g) => repeat(parts.length, (i) => emit(q, g, i))));
  const divide = vectorInput ? " / 4u" : "";
  const store = (g: number, i: number) =>
    vectorOutput
      ? `kernelSums[(to${g} + channel) / 4u + ${i}u * stride] = c0_${g}_${i};`
      : repeat(
          4,
          (j) =>
            `if (channel + ${j}u < u.outputs) { kernelSums[to${g} + ${i}u * stride + channel + ${j}u] = c0_${g}_${i}[${j}]; }`,
        );
  return /* wgsl */ `
  let element = group.x * ${groups * LANES * perLane}u + ${perLane}u * lane;
  let firstChannel = group.y * ${channels}u;
  let stride = u.outputs${vectorOutput ? " / 4u" : ""};
  let first = firstChannel${vectorOutput ? " / 4u" : ""};
  let depth = u.inputs${divide};
  let step = u.strideX * depth;
  ${each(
    (g) => /* wgsl */ `
  let element${g} = element + ${g * LANES * perLane}u;
  let tap${g} = element${g} / u.inputs;
  let tapY${g} = tap${g} / u.kernelWidth * u.dilationY - u.paddingY;
  let tapX${g} = tap${g} % u.kernelWidth * u.dilationX - u.paddingX;
  let offset${g} = (tapY${g} * u.inputWidth + tapX${g}) * depth + element${g} % u.inputs${divide};`,
  )}
  ${eachPart((q, g, i) => `var c${q}_${g}_${i} = vec4f();`)}
  ${bias ? eachRegister((r) => `var sum${r} = ${vectorOutput ? "vec4f()" : "0f"};`) : ""}
  let firstRow = group.z * u.rowsPerSplit;
  let endRow = min(firstRow + u.rowsPerSplit, u.rows);
  for (var row = firstRow; row < endRow; row++) {
    let image = row / u.outputHeight;
    let rowY = row % u.outputHeight * u.strideY;
    let rowStart = (image * u.inputHeight + rowY) * u.inputWidth * depth;
    ${each(
      (g) => /* wgsl */ `
    var at${g} = rowStart + offset${g};
    ${
      masked
        ? `let okY${g} = element${g} < u.elements && rowY + tapY${g} < u.inputHeight;
var x${g} = tapX${g};`
        : ""
    }`,
    )}
    var dyAt = row * u.outputWidth * stride + first + lane;
    for (var ox = 0u; ox < u.outputWidth; ox++) {
      ${each((g) =>
        masked
          ? `let a${g} = select(${zero}, activations[at${g}], okY${g} && x${g} < u.inputWidth); x${g} += u.strideX; at${g} += step;`
          : `let a${g} = activations[at${g}]; at${g} += step;`,
      )}
      ${eachRegister((r) => `let b${r} = dy[dyAt + ${r * LANES}u];`)}
      dyAt += stride;
      ${repeat(
        quads,
        (q) =>
          `{ let b = ${gradient(q)};
${each((g) => repeat(parts.length, (i) => `c${q}_${g}_${i} = fma(b, vec4f(a${g}${parts[i]}), c${q}_${g}_${i});`))}
}`,
      )}
      ${bias ? eachRegister((r) => `sum${r} += b${r};`) : ""}
    }
  }
  ${each((g) => `let to${g} = ((u.firstSplit + group.z) * u.elements + element${g}) * u.outputs;`)}
  let endChannel = min(firstChannel + ${channels}u, u.outputs);
  for (var channel = firstChannel; channel < endChannel; channel += 4u) {
    ${each((g) => `if (element${g} < u.elements) {\n${repeat(parts.length, (i) => store(g, i))}\n}`)}
    ${repeat(quads - 1, (q) => each((g) => repeat(parts.length, (i) => `c${q}_${g}_${i} = c${q + 1}_${g}_${i};`)))}
  }
  ${
    bias
      ? /* wgsl */ `if (group.x == 0u) {
    ${eachRegister((r) => {
      const at = `${r * LANES}u + lane`;
      const inTile = `${vectorOutput ? `4u * (${at})` : at}`;
      return `if (${inTile} < ${channels}u && firstChannel + ${inTile} < u.outputs) { biasSums[(u.firstSplit + group.z) * stride + first + ${at}] = sum${r}; }`;
    })}
  }`
      : ""
  }
`;
}
