// Convolution for hardware adapters, right on every adapter: implicit matrix products with tiles in workgroup memory.
// Nothing is copied to columns first; a tile's left operand is gathered from the activations while it is loaded.
//   gather (forward, input gradient): rows = target positions, columns = target channels, k = (tap, source channel)
//   kernel gradient:                  rows = (tap, input channel), columns = output channels, k = output pixel
// 256 invocations make a tile of 64 x 64, 4 x 4 sums each, in steps of 16 k.
import { type GpuCall, GRID_INDEX, gridOf } from "../../tensor/webgpu-program.js";
import { activationWgsl, type FusedActivation } from "../activation.js";
import { repeat } from "../subgroup-tile.js";
import { type Conv2dGeometry, type Gather, type GatherViews, gatherSizes, windowSizes } from "./geometry.js";
import { collectKernelSums, splitImages } from "./kernel-sums.js";
import { imagesOf } from "./windows.js";

const TILE = 64;
const K_STEP = 16;
const INVOCATIONS = 256;
/** Workgroups that keep a large adapter busy. */
const WORKGROUPS_WANTED = 512;

/** What the WGSL of a gather depends on. */
interface GatherShape {
  readonly vectorSource: boolean;
  /** Four target channels lie side by side in the kernel, and are read at once. */
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
  const shape: GatherShape = {
    vectorSource: sourceChannels % 4 === 0,
    vectorWeights: kernelStrides.target === 1 && targetChannels % 4 === 0,
    vectorTarget: targetChannels % 4 === 0,
    strided: y.divisor * x.divisor > 1,
    activation,
    bias: views.bias !== undefined,
  };
  const rows = batch * y.target * x.target;
  const [tilesX, tilesY] = gridOf(Math.ceil(rows / TILE));
  call.dispatch({
    key: `gather ${Object.values(shape).join(" ")}`,
    program: () => ({
      workgroupSize: [INVOCATIONS],
      declarations: /* wgsl */ `${activationWgsl(activation, "vec4f")}\n${sharedTiles}\n${gatherFunctions(shape)}`,
      body: gatherBody(shape),
    }),
    bindings: [
      { name: "source", view: views.source, type: shape.vectorSource ? "vec4f" : "f32" },
      { name: "weights", view: views.kernel, type: shape.vectorWeights ? "vec4f" : "f32" },
      ...(views.bias ? [{ name: "bias", view: views.bias, type: "vec4f" }] : []),
      { name: "result", view: views.target, type: shape.vectorTarget ? "vec4f" : "f32", access: "read_write" },
    ],
    sizes: {
      rows,
      depth: y.taps * x.taps * sourceChannels,
      ...gatherSizes(gather),
    },
    workgroups: [tilesX, tilesY, Math.ceil(targetChannels / TILE)],
  });
}

/** Left tile: four k of row r at [4 r + k / 4] (gather), or four rows of k at [16 k + r / 4]; right: [16 k + column / 4]. */
const sharedTiles = /* wgsl */ `
var<workgroup> leftTile: array<vec4f, ${(TILE * K_STEP) / 4}>;
var<workgroup> rightTile: array<vec4f, ${(TILE * K_STEP) / 4}>;`;

/** vec4f of four scalars. */
const gatherFour = (scalar: (i: number) => string) => `vec4f(${[0, 1, 2, 3].map(scalar).join(", ")})`;

function gatherFunctions({ vectorSource, vectorWeights, strided }: GatherShape): string {
  // u32 arithmetic wraps: a negative position is a huge one.
  return /* wgsl */ `
fn sourceAt(image: u32, y: u32, x: u32, k: u32) -> ${vectorSource ? "vec4f" : "f32"} {
  let tap = k / u.sourceChannels;
  let atY = y + tap / u.tapsX * u.stepY;
  let atX = x + tap % u.tapsX * u.stepX;
  ${
    strided
      ? /* wgsl */ `
  let sourceY = atY / u.divisorY;
  let sourceX = atX / u.divisorX;
  if (sourceY * u.divisorY != atY || sourceX * u.divisorX != atX) { return ${vectorSource ? "vec4f()" : "0f"}; }`
      : "let sourceY = atY; let sourceX = atX;"
  }
  if (k >= u.depth || sourceY >= u.sourceHeight || sourceX >= u.sourceWidth) { return ${vectorSource ? "vec4f()" : "0f"}; }
  let pixel = (image * u.sourceHeight + sourceY) * u.sourceWidth + sourceX;
  return source[(pixel * u.sourceChannels + k % u.sourceChannels)${vectorSource ? " / 4u" : ""}];
}
fn weightAt(k: u32, channel: u32) -> ${vectorWeights ? "vec4f" : "f32"} {
  if (k >= u.depth || channel >= u.targetChannels) { return ${vectorWeights ? "vec4f()" : "0f"}; }
  let tap = k / u.sourceChannels;
  let at = tap * u.sourceChannels * u.targetChannels + k % u.sourceChannels * u.kernelSource + channel * u.kernelTarget;
  return weights[at${vectorWeights ? " / 4u" : ""}];
}`;
}

function gatherBody({ vectorSource, vectorWeights, vectorTarget, bias }: GatherShape): string {
  return /* wgsl */ `
  let firstRow = ${GRID_INDEX} * ${TILE}u;
  let firstChannel = group.z * ${TILE}u;
  // Loading: 4 k of one row, 4 channels of one k.
  let loadRow = min(firstRow + lane / 4u, u.rows - 1u);
  let loadK = lane % 4u * 4u;
  let pixel = loadRow % (u.targetHeight * u.targetWidth);
  let image = loadRow / (u.targetHeight * u.targetWidth);
  let y = pixel / u.targetWidth * u.scaleY + u.offsetY;
  let x = pixel % u.targetWidth * u.scaleX + u.offsetX;
  let weightK = lane / 16u;
  let weightChannel = firstChannel + lane % 16u * 4u;
  // Computing: rows 4 tileY ..., channels 4 tileX ....
  let tileX = lane % 16u;
  let tileY = lane / 16u;
  ${repeat(4, (i) => `var c${i} = vec4f();`)}
  for (var k = 0u; k < u.depth; k += ${K_STEP}u) {
    leftTile[lane] = ${vectorSource ? "sourceAt(image, y, x, k + loadK)" : gatherFour((i) => `sourceAt(image, y, x, k + loadK + ${i}u)`)};
    rightTile[lane] = ${vectorWeights ? "weightAt(k + weightK, weightChannel)" : gatherFour((i) => `weightAt(k + weightK, weightChannel + ${i}u)`)};
    workgroupBarrier();
    for (var k4 = 0u; k4 < ${K_STEP / 4}u; k4++) {
      ${repeat(4, (j) => `let b${j} = rightTile[(k4 * 4u + ${j}u) * 16u + tileX];`)}
      ${repeat(
        4,
        (i) => `let a${i} = leftTile[(tileY * 4u + ${i}u) * 4u + k4];
      ${repeat(4, (j) => `c${i} = fma(vec4f(a${i}[${j}]), b${j}, c${i});`)}`,
      )}
    }
    workgroupBarrier();
  }
  let channel = firstChannel + tileX * 4u;
  if (channel >= u.targetChannels) { return; }
  ${bias ? "let shift = bias[channel / 4u];" : ""}
  ${repeat(4, (i) => {
    const value = `activation(c${i}${bias ? " + shift" : ""})`;
    const at = `(firstRow + tileY * 4u + ${i}u) * u.targetChannels + channel`;
    return `if (firstRow + tileY * 4u + ${i}u < u.rows) { ${
      vectorTarget
        ? `result[(${at}) / 4u] = ${value};`
        : `let v = ${value};\n${repeat(4, (j) => `if (channel + ${j}u < u.targetChannels) { result[${at} + ${j}u] = v[${j}]; }`)}`
    } }`;
  })}
`;
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
  const elementTiles = Math.ceil(elements / TILE);
  const channelTiles = Math.ceil(outputs / TILE);
  const pixels = y.output * x.output;
  const wanted = Math.min(
    Math.ceil(WORKGROUPS_WANTED / (elementTiles * channelTiles)),
    Math.ceil((batch * pixels) / 256),
  );
  const splits = splitImages(call, pixels, wanted);
  const type = shape.vectorOutput ? "vec4f" : "f32";
  collectKernelSums(call, splits.windows.length * splits.count, (kernelSums, biasSums) => {
    for (const [index, window] of splits.windows.entries())
      call.dispatch({
        key: `kernel gradient ${Object.values(shape).join(" ")}`,
        program: () => ({
          workgroupSize: [INVOCATIONS],
          declarations: /* wgsl */ `${sharedTiles}\n${kernelGradientFunctions(shape)}`,
          body: kernelGradientBody(shape),
        }),
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
          pixels: window.count * pixels,
          firstSplit: index * splits.count,
          pixelsPerSplit: splits.rows,
          elements,
          inputs,
          outputs,
          ...windowSizes({ y, x }),
        },
        workgroups: [elementTiles, channelTiles, splits.count],
      });
  });
}

function kernelGradientFunctions({ vectorInput, vectorOutput }: KernelGradientShape): string {
  return /* wgsl */ `
fn inputAt(image: u32, y: u32, x: u32, element: u32) -> ${vectorInput ? "vec4f" : "f32"} {
  let tap = element / u.inputs;
  let atY = y + tap / u.kernelWidth * u.dilationY - u.paddingY;
  let atX = x + tap % u.kernelWidth * u.dilationX - u.paddingX;
  if (element >= u.elements || atY >= u.inputHeight || atX >= u.inputWidth) { return ${vectorInput ? "vec4f()" : "0f"}; }
  return activations[(((image * u.inputHeight + atY) * u.inputWidth + atX) * u.inputs + element % u.inputs)${vectorInput ? " / 4u" : ""}];
}
fn gradientAt(pixel: u32, channel: u32) -> ${vectorOutput ? "vec4f" : "f32"} {
  if (channel >= u.outputs) { return ${vectorOutput ? "vec4f()" : "0f"}; }
  return dy[(pixel * u.outputs + channel)${vectorOutput ? " / 4u" : ""}];
}`;
}

function kernelGradientBody({ vectorInput, vectorOutput, bias }: KernelGradientShape): string {
  return /* wgsl */ `
  let tileX = lane % 16u;
  let tileY = lane / 16u;
  let loadElement = group.x * ${TILE}u + tileX * 4u;
  let channel = group.y * ${TILE}u + tileX * 4u;
  ${repeat(4, (i) => `var c${i} = vec4f();`)}
  ${bias ? "var biasSum = vec4f();" : ""}
  let end = min((group.z + 1u) * u.pixelsPerSplit, u.pixels);
  for (var first = group.z * u.pixelsPerSplit; first < end; first += ${K_STEP}u) {
    // Loading: 4 kernel elements and 4 channels of one pixel.
    let pixel = first + tileY;
    let image = pixel / (u.outputHeight * u.outputWidth);
    let inputY = pixel / u.outputWidth % u.outputHeight * u.strideY;
    let inputX = pixel % u.outputWidth * u.strideX;
    var left = vec4f();
    var right = vec4f();
    if (pixel < end) {
      left = ${vectorInput ? "inputAt(image, inputY, inputX, loadElement)" : gatherFour((i) => `inputAt(image, inputY, inputX, loadElement + ${i}u)`)};
      right = ${vectorOutput ? "gradientAt(pixel, channel)" : gatherFour((i) => `gradientAt(pixel, channel + ${i}u)`)};
    }
    leftTile[lane] = left;
    rightTile[lane] = right;
    ${bias ? "biasSum += right;" : ""}
    workgroupBarrier();
    for (var k = 0u; k < ${K_STEP}u; k++) {
      let a = leftTile[k * 16u + tileY];
      let b = rightTile[k * 16u + tileX];
      ${repeat(4, (i) => `c${i} = fma(vec4f(a[${i}]), b, c${i});`)}
    }
    workgroupBarrier();
  }
  let element = group.x * ${TILE}u + tileY * 4u;
  ${repeat(4, (i) => storeChannels("kernelSums", `(u.firstSplit + group.z) * u.elements + element + ${i}u`, `c${i}`, `element + ${i}u < u.elements`, vectorOutput))}
  ${
    bias
      ? /* wgsl */ `
  rightTile[lane] = biasSum;
  workgroupBarrier();
  if (group.x == 0u && tileY == 0u) {
    for (var k = 1u; k < ${K_STEP}u; k++) { biasSum += rightTile[k * 16u + tileX]; }
    ${storeChannels("biasSums", "u.firstSplit + group.z", "biasSum", "true", vectorOutput)}
  }`
      : ""
  }
`;
}

/** Stores four channels of `row`, those that exist. */
function storeChannels(array: string, row: string, value: string, condition: string, vector: boolean): string {
  return vector
    ? `if (${condition} && channel < u.outputs) { ${array}[((${row}) * u.outputs + channel) / 4u] = ${value}; }`
    : repeat(
        4,
        (j) =>
          `if (${condition} && channel + ${j}u < u.outputs) { ${array}[(${row}) * u.outputs + channel + ${j}u] = ${value}[${j}]; }`,
      );
}
