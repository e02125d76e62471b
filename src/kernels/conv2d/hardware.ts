// Convolution for hardware adapters, right on every adapter. It consists of implicit matrix products, in tiles whose
// operands are staged in workgroup memory (../tiled-product.ts). They run in float32 or, on a device of mixed
// precision, on matrix units. Nothing is copied to columns first; a tile's left operand is gathered from the
// activations while it is staged.
//
//   gather (forward, input gradient): rows = target positions, columns = target channels, k = (tap, source channel)
//   kernel gradient:                  rows = (tap, input channel), columns = output channels, k = output pixel
//
// Where four neighbours of an operand lie side by side, an invocation keeps the coordinates of each of its items. It
// advances them like an odometer: no division in the loop over k.
import { type GpuCall, GRID_INDEX, gridOf } from "../../webgpu/program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { repeat } from "../subgroup-tile.js";
import { planTiles } from "../tile-choice.js";
import { matrixOperand, type Operand, type Tile } from "../tiled-product.js";
import { type Conv2dGeometry, type Gather, type GatherViews, gatherSizes, windowSizes } from "./geometry.js";
import { collectKernelSums, kernelSumsBindings, splitImages } from "./kernel-sums.js";

/** A piece of a kernel gradient's pixels is at least this long. */
const SHORTEST_PIECE = 256;

/** What the WGSL of a gather depends on. */
interface GatherShape {
  readonly vectorSource: boolean;
  /** How the kernel's channels lie: four target channels side by side ("line") or four source channels ("k"). */
  readonly weightsAlong: "line" | "k";
  readonly vectorWeights: boolean;
  readonly vectorTarget: boolean;
  readonly strided: boolean;
  readonly activation: FusedActivation;
  readonly bias: boolean;
}

export function gatherHardware<P>(
  call: GpuCall<P>,
  gather: Gather,
  views: GatherViews,
  activation: FusedActivation,
): void {
  const { batch, y, x, sourceChannels, targetChannels, kernelStrides } = gather;
  const weightsAlong = kernelStrides.target === 1 ? "line" : "k";
  const shape: GatherShape = {
    vectorSource: sourceChannels % 4 === 0,
    weightsAlong,
    vectorWeights: (weightsAlong === "line" ? targetChannels : sourceChannels) % 4 === 0,
    vectorTarget: targetChannels % 4 === 0,
    strided: y.divisor * x.divisor > 1,
    activation,
    bias: views.bias !== undefined,
  };
  const rows = batch * y.target * x.target;
  const depth = y.taps * x.taps * sourceChannels;
  const { tile } = planTiles(call.profile, { rows, columns: targetChannels, depth, batch: 1 });
  const [tilesX, tilesY] = gridOf(Math.ceil(rows / tile.rows));
  const taps = Math.floor(tile.depth / sourceChannels);
  call.dispatch({
    key: `gather ${tile.name} ${Object.values(shape).join(" ")}`,
    program: () =>
      tile.program({
        declarations: activationWgsl(activation, "vec4f"),
        prologue: /* wgsl */ `
  let firstRow = ${GRID_INDEX} * ${tile.rows}u;
  let firstColumn = group.z * ${tile.columns}u;
  let kBegin = 0u;
  let kEnd = u.depth;`,
        left: sourceOperand(shape, tile),
        right: weightsOperand(shape, tile),
        store: storeGather(shape),
      }),
    bindings: [
      { name: "source", view: views.source, type: shape.vectorSource ? "vec4f" : "f32" },
      { name: "weights", view: views.kernel, type: shape.vectorWeights ? "vec4f" : "f32" },
      ...(views.bias ? [{ name: "bias", view: views.bias, type: "vec4f" }] : []),
      { name: "result", view: views.target, type: shape.vectorTarget ? "vec4f" : "f32", access: "read_write" },
    ],
    sizes: {
      rows,
      depth,
      // The tile's depth as (taps y, taps x, channels), by which items advance.
      nextChannel: tile.depth % sourceChannels,
      nextTap: taps,
      nextTapX: taps % x.taps,
      nextTapY: Math.floor(taps / x.taps),
      ...gatherSizes(gather),
    },
    workgroups: [tilesX, tilesY, Math.ceil(targetChannels / tile.columns)],
  });
}

/** Position `line` of the target and k = (tap, source channel): an element of the source, 0 outside of the image. */
function sourceOperand({ vectorSource, strided }: GatherShape, tile: Tile): Operand {
  /**
   * Statements that assign the element of (tapY, tapX, channel) to `target`. u32 arithmetic wraps: a negative position
   * is a huge one.
   */
  const read = (item: string, target: string, [tapY, tapX, channel]: readonly [string, string, string]) => /* wgsl */ `
        let atY = ${item}Y + ${tapY} * u.stepY;
        let atX = ${item}X + ${tapX} * u.stepX;
        let sourceY = atY${strided ? " / u.divisorY" : ""};
        let sourceX = atX${strided ? " / u.divisorX" : ""};
        if (${tapY} < u.tapsY && sourceY < u.sourceHeight && sourceX < u.sourceWidth${
          strided ? " && sourceY * u.divisorY == atY && sourceX * u.divisorX == atX" : ""
        }) {
          let at = ((${item}Image * u.sourceHeight + sourceY) * u.sourceWidth + sourceX) * u.sourceChannels + ${channel};
          ${target} = source[at${vectorSource ? " / 4u" : ""}];
        }`;
  return {
    along: "k",
    begin: (item, line, k) => /* wgsl */ `
  // Rows past the last are never stored.
  let ${item}Target = min(${line}, u.rows - 1u);
  let ${item}Image = ${item}Target / (u.targetHeight * u.targetWidth);
  let ${item}Y = ${item}Target / u.targetWidth % u.targetHeight * u.scaleY + u.offsetY;
  let ${item}X = ${item}Target % u.targetWidth * u.scaleX + u.offsetX;
  ${
    vectorSource
      ? /* wgsl */ `var ${item}Channel = ${k} % u.sourceChannels;
  var ${item}TapX = ${k} / u.sourceChannels % u.tapsX;
  var ${item}TapY = ${k} / u.sourceChannels / u.tapsX;`
      : `var ${item}K = ${k};`
  }`,
    load: (item) =>
      vectorSource
        ? read(item, "value", [`${item}TapY`, `${item}TapX`, `${item}Channel`])
        : repeat(
            4,
            (i) => /* wgsl */ `{
        let tap = (${item}K + ${i}u) / u.sourceChannels; let tapY = tap / u.tapsX; let tapX = tap % u.tapsX;
        let channel = (${item}K + ${i}u) % u.sourceChannels;
        ${read(item, `value.${"xyzw"[i]}`, ["tapY", "tapX", "channel"])}
      }`,
          ),
    advance: (item) =>
      vectorSource
        ? /* wgsl */ `{
        ${item}Channel += u.nextChannel;
        let wrapped = ${item}Channel >= u.sourceChannels;
        ${item}Channel -= select(0u, u.sourceChannels, wrapped);
        ${item}TapX += u.nextTapX + u32(wrapped);
        let beyond = ${item}TapX >= u.tapsX;
        ${item}TapX -= select(0u, u.tapsX, beyond);
        ${item}TapY += u.nextTapY + u32(beyond);
      }`
        : `${item}K += ${tile.depth}u;`,
  };
}

/** k = (tap, source channel) and target channel `line`: an element of the kernel. */
function weightsOperand({ weightsAlong, vectorWeights }: GatherShape, tile: Tile): Operand {
  if (weightsAlong === "line") {
    // [tap, source, target]: the matrix [k, line] itself.
    return matrixOperand({
      name: "weights",
      along: "line",
      aligned: vectorWeights,
      base: "0u",
      stride: "u.targetChannels",
      limit: "u.targetChannels",
      depth: tile.depth,
    });
  }
  // [tap, target, source].
  const at = (tap: string, channel: string, item: string) =>
    `(${tap} * u.targetChannels + ${item}Line) * u.sourceChannels + ${channel}`;
  return {
    along: "k",
    begin: (item, line, k) => /* wgsl */ `
  let ${item}Line = ${line};
  ${vectorWeights ? `var ${item}Channel = ${k} % u.sourceChannels; var ${item}Tap = ${k} / u.sourceChannels;` : `var ${item}K = ${k};`}`,
    load: (item) =>
      vectorWeights
        ? `if (${item}Line < u.targetChannels && ${item}Tap < u.tapsX * u.tapsY) { value = weights[(${at(`${item}Tap`, `${item}Channel`, item)}) / 4u]; }`
        : `if (${item}Line < u.targetChannels) { ${repeat(4, (i) => {
            const k = `(${item}K + ${i}u)`;
            return `if (${k} < kEnd) { value.${"xyzw"[i]} = weights[${at(`${k} / u.sourceChannels`, `${k} % u.sourceChannels`, item)}]; }`;
          })} }`,
    advance: (item) =>
      vectorWeights
        ? /* wgsl */ `{
        ${item}Channel += u.nextChannel;
        let wrapped = ${item}Channel >= u.sourceChannels;
        ${item}Channel -= select(0u, u.sourceChannels, wrapped);
        ${item}Tap += u.nextTap + u32(wrapped);
      }`
        : `${item}K += ${tile.depth}u;`,
  };
}

function storeGather({ vectorTarget, bias }: GatherShape): string {
  return /* wgsl */ `if (row < u.rows && column < u.targetChannels) {
      let at = row * u.targetChannels + column;
      let z = activation(value${bias ? " + bias[column / 4u]" : ""});
      ${vectorTarget ? "result[at / 4u] = z;" : storeEach("result", "at", "z", "u.targetChannels")}
    }`;
}

/** Stores those of four neighbouring columns that exist. */
function storeEach(array: string, at: string, value: string, limit: string): string {
  return repeat(4, (i) => `if (column + ${i}u < ${limit}) { ${array}[${at} + ${i}u] = ${value}.${"xyzw"[i]}; }`);
}

/** What the WGSL of a kernel gradient depends on. */
interface KernelGradientShape {
  readonly vectorInput: boolean;
  readonly vectorOutput: boolean;
  readonly bias: boolean;
}

/** Inputs x and dz, outputs dkernel and, if wanted, dbias. */
export function kernelGradientHardware(call: GpuCall<Conv2dGeometry>): void {
  const { batch, inputs, outputs, y, x } = call.params;
  const shape: KernelGradientShape = {
    vectorInput: inputs % 4 === 0,
    vectorOutput: outputs % 4 === 0,
    bias: call.outputs.length === 2,
  };
  const elements = y.kernel * x.kernel * inputs;
  const pixels = y.output * x.output;
  const depth = batch * pixels;
  const { tile, splits: wanted } = planTiles(
    call.profile,
    { rows: elements, columns: outputs, depth, batch: 1 },
    Math.ceil(depth / SHORTEST_PIECE),
  );
  const splits = splitImages(call, pixels, wanted);
  collectKernelSums(call, splits.windows.length * splits.count, (sums) => {
    for (const [index, window] of splits.windows.entries())
      call.dispatch({
        key: `kernel gradient ${tile.name} ${Object.values(shape).join(" ")}`,
        program: () =>
          tile.program({
            prologue: /* wgsl */ `
  let firstRow = group.x * ${tile.rows}u;
  let firstColumn = group.y * ${tile.columns}u;
  let kBegin = group.z * u.pixelsPerSplit;
  let kEnd = min(kBegin + u.pixelsPerSplit, u.pixels);
  ${shape.bias ? "var biasSum = vec4f();" : ""}`,
            left: windowOperand(shape, tile),
            right: matrixOperand({
              name: "dy",
              along: "line",
              aligned: shape.vectorOutput,
              base: "0u",
              stride: "u.outputs",
              limit: "u.outputs",
              depth: tile.depth,
              ...(shape.bias && { observe: "biasSum += value;" }),
            }),
            ...(shape.bias && { epilogue: biasEpilogue(shape, tile) }),
            store: /* wgsl */ `if (row < u.elements && column < u.outputs) {
      let at = ((u.firstSplit + group.z) * u.elements + row) * u.outputs + column;
      ${shape.vectorOutput ? "kernelSums[at / 4u] = value;" : storeEach("kernelSums", "at", "value", "u.outputs")}
    }`,
          }),
        bindings: kernelSumsBindings(call, shape, window, sums),
        sizes: {
          pixels: window.count * pixels,
          firstSplit: index * splits.count,
          pixelsPerSplit: splits.rows,
          elements,
          inputs,
          outputs,
          // The tile's depth as (images, rows, columns), by which items advance.
          nextX: tile.depth % x.output,
          nextY: Math.floor(tile.depth / x.output) % y.output,
          nextImage: Math.floor(tile.depth / pixels),
          ...windowSizes({ y, x }),
        },
        workgroups: [Math.ceil(elements / tile.rows), Math.ceil(outputs / tile.columns), splits.count],
      });
  });
}

/**
 * Kernel element `line` = (tap, input channel) and output pixel k: the input that they meet, 0 outside of the image.
 */
function windowOperand({ vectorInput }: KernelGradientShape, tile: Tile): Operand {
  /** Statements that assign the input under one kernel element to `target`. u32 arithmetic wraps. */
  const read = (item: string, target: string, element: string) => /* wgsl */ `
        let atY = ${item}Y * u.strideY + ${element}OffsetY;
        let atX = ${item}X * u.strideX + ${element}OffsetX;
        if (${element}Exists && ${item}K < kEnd && atY < u.inputHeight && atX < u.inputWidth) {
          let at = ((${item}Image * u.inputHeight + atY) * u.inputWidth + atX) * u.inputs + ${element}Channel;
          ${target} = activations[at${vectorInput ? " / 4u" : ""}];
        }`;
  const elements = vectorInput ? [""] : ["0", "1", "2", "3"];
  return {
    along: "line",
    begin: (item, line, k) => /* wgsl */ `
  var ${item}K = ${k};
  var ${item}X = ${k} % u.outputWidth;
  var ${item}Y = ${k} / u.outputWidth % u.outputHeight;
  var ${item}Image = ${k} / u.outputWidth / u.outputHeight;
  ${elements
    .map((suffix) => {
      const element = `${item}Element${suffix}`;
      return /* wgsl */ `
  let ${element} = ${line}${suffix === "" ? "" : ` + ${suffix}u`};
  let ${element}Exists = ${element} < u.elements;
  let ${element}Channel = ${element} % u.inputs;
  let ${element}OffsetY = ${element} / u.inputs / u.kernelWidth * u.dilationY - u.paddingY;
  let ${element}OffsetX = ${element} / u.inputs % u.kernelWidth * u.dilationX - u.paddingX;`;
    })
    .join("")}`,
    load: (item) =>
      elements
        .map((suffix, i) => {
          const target = vectorInput ? "value" : `value.${"xyzw"[i]}`;
          return `{ ${read(item, target, `${item}Element${suffix}`)} }`;
        })
        .join("\n"),
    advance: (item) => /* wgsl */ `{
        ${item}K += ${tile.depth}u;
        ${item}X += u.nextX;
        let wrapped = ${item}X >= u.outputWidth;
        ${item}X -= select(0u, u.outputWidth, wrapped);
        ${item}Y += u.nextY + u32(wrapped);
        let beyond = ${item}Y >= u.outputHeight;
        ${item}Y -= select(0u, u.outputHeight, beyond);
        ${item}Image += u.nextImage + u32(beyond);
      }`,
  };
}

/**
 * Adds the sums of dz that invocations have seen, each of the four channels that all of its items have, in a fixed
 * order; the tiles of the first kernel elements store them.
 */
function biasEpilogue({ vectorOutput }: KernelGradientShape, tile: Tile): string {
  const quads = tile.columns / 4;
  return /* wgsl */ `
  scratch[lane] = biasSum;
  workgroupBarrier();
  if (group.x == 0u && lane < ${quads}u) {
    for (var i = lane + ${quads}u; i < ${tile.invocations}u; i += ${quads}u) { biasSum += scratch[i]; }
    let column = firstColumn + lane * 4u;
    let at = (u.firstSplit + group.z) * u.outputs + column;
    ${
      vectorOutput
        ? "if (column < u.outputs) { biasSums[at / 4u] = biasSum; }"
        : storeEach("biasSums", "at", "biasSum", "u.outputs")
    }
  }
  workgroupBarrier();`;
}
