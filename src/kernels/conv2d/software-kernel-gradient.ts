// Kernel gradient of a convolution for software adapters with subgroups of L lanes (8 on lavapipe), one subgroup per
// workgroup, operands in registers. Lane l holds kernel elements e = (ky, kx, ci) of every group; dy is broadcast:
//   c[q][g][i] (vec4f: channels 4 q ... 4 q + 3 at element i of the lane's group g) += dy[pixel][4 q ...] * x[pixel +
//   e]
// over the output rows (n, oy) of a split and all ox. Sums of dy over the same loop are the bias gradient.

import { type SubgroupLanes, subgroupLanes } from "../../webgpu/family.js";
import type { GpuCall } from "../../webgpu/program.js";
import { longSum, ONE } from "../long-sums.js";
import { repeat } from "../subgroup-tile.js";
import { type Conv2dGeometry, forwardGather, usedShare, windowSizes } from "./geometry.js";
import { collectKernelSums, kernelSumsBindings, splitImages } from "./kernel-sums.js";
import { broadcastQuad } from "./software-gather.js";

/** What the WGSL of a kernel gradient depends on. */
interface KernelGradientShape {
  /** Output channels of a tile, a multiple of 4. */
  readonly channels: number;
  readonly lanes: SubgroupLanes;
  /** Registers of kernel elements of a tile: 4 L elements each, or L where x is read one channel at a time. */
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
  const { inputs, outputs, y, x } = call.params;
  const { y: gatherY, x: gatherX } = forwardGather(call.params);
  const elements = y.kernel * x.kernel * inputs;
  const lanes = subgroupLanes(call.profile);
  const tile = kernelGradientTile(elements, outputs, { lanes, vectorInput: inputs % 4 === 0 });
  const shape: KernelGradientShape = {
    ...tile,
    lanes,
    vectorInput: inputs % 4 === 0,
    vectorOutput: outputs % 4 === 0,
    masked: usedShare(gatherY) * usedShare(gatherX) < 1,
    bias: call.outputs.length === 2,
  };
  const elementTiles = Math.ceil(elements / (tile.groups * (shape.vectorInput ? 4 * lanes : lanes)));
  const channelTiles = Math.ceil(outputs / tile.channels);
  const splits = splitImages(call, y.output, Math.min(16, Math.ceil(32 / (elementTiles * channelTiles))));
  collectKernelSums(call, splits.windows.length * splits.count, (sums) => {
    for (const [index, window] of splits.windows.entries())
      call.dispatch({
        key: `kernel gradient ${Object.values(shape).join(" ")}`,
        program: () => ({ workgroupSize: [lanes], subgroups: true, body: kernelGradientBody(shape) }),
        bindings: kernelSumsBindings(call, shape, window, sums),
        sizes: {
          rows: window.count * y.output,
          firstSplit: index * splits.count,
          rowsPerSplit: splits.rows,
          elements,
          inputs,
          outputs,
          ...windowSizes({ y, x }),
        },
        numbers: shape.bias ? ONE : {},
        workgroups: [elementTiles, channelTiles, splits.count],
      });
  });
}

/**
 * The cheapest tile of at most 300 registers of sums, by the adapter's prices in nanoseconds:
 * - 12 for a load of eight vec4f
 * - 5 for a load of eight scalars
 * - 0.33 for a multiply-add of eight lanes
 * - 15 for a trip through the loop
 */
function kernelGradientTile(
  elements: number,
  outputs: number,
  { lanes, vectorInput }: { readonly lanes: SubgroupLanes; readonly vectorInput: boolean },
): { channels: number; groups: number } {
  const [perGroup, scalars, load] = vectorInput ? [4 * lanes, 4, 12] : [lanes, 1, 5];
  const quads = Math.ceil(outputs / 4);
  let best = { channels: 4, groups: 1 };
  let bestPrice = Number.POSITIVE_INFINITY;
  for (let channelTiles = Math.ceil(quads / 16); channelTiles <= quads; channelTiles++) {
    const channels = 4 * Math.ceil(quads / channelTiles);
    for (let groups = 1; groups <= 8 && groups * scalars * channels <= 300; groups++) {
      const trip = groups * scalars * channels * 0.33 + groups * load + Math.ceil(channels / (4 * lanes)) * 12 + 15;
      const price = channelTiles * Math.ceil(elements / (groups * perGroup)) * trip;
      if (price < bestPrice) {
        best = { channels, groups };
        bestPrice = price;
      }
    }
  }
  return best;
}

function kernelGradientBody(shape: KernelGradientShape): string {
  const { channels, groups, lanes, vectorInput, vectorOutput, masked, bias } = shape;
  const quads = channels / 4;
  const [perLane, zero] = vectorInput ? [4, "vec4f()"] : [1, "0f"];
  const parts = vectorInput ? [".x", ".y", ".z", ".w"] : [""];
  const each = (emit: (g: number) => string) => repeat(groups, emit);
  const registers = Math.ceil(channels / (vectorOutput ? 4 * lanes : lanes));
  const eachRegister = (emit: (r: number) => string) => repeat(registers, emit);
  const eachPart = (emit: (q: number, g: number, i: number) => string) =>
    repeat(quads, (q) => each((g) => repeat(parts.length, (i) => emit(q, g, i))));
  // A row's sum is one part.
  const biasSums = Array.from({ length: bias ? registers : 0 }, (_, r) =>
    longSum(`sum${r}`, vectorOutput ? "vec4f" : "f32"),
  );
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
  let element = group.x * ${groups * lanes * perLane}u + ${perLane}u * lane;
  let firstChannel = group.y * ${channels}u;
  let stride = u.outputs${vectorOutput ? " / 4u" : ""};
  let first = firstChannel${vectorOutput ? " / 4u" : ""};
  let depth = u.inputs${divide};
  let step = u.strideX * depth;
  ${each(
    (g) => /* wgsl */ `
  let element${g} = element + ${g * lanes * perLane}u;
  let tap${g} = element${g} / u.inputs;
  let tapY${g} = tap${g} / u.kernelWidth * u.dilationY - u.paddingY;
  let tapX${g} = tap${g} % u.kernelWidth * u.dilationX - u.paddingX;
  let offset${g} = (tapY${g} * u.inputWidth + tapX${g}) * depth + element${g} % u.inputs${divide};`,
  )}
  ${eachPart((q, g, i) => `var c${q}_${g}_${i} = vec4f();`)}
  ${biasSums.map(({ begin }) => begin).join("\n")}
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
    ${biasSums.map(({ part }) => part).join(" ")}
    for (var ox = 0u; ox < u.outputWidth; ox++) {
      ${each((g) =>
        masked
          ? `let a${g} = select(${zero}, activations[at${g}], okY${g} && x${g} < u.inputWidth); x${g} += u.strideX; at${g} += step;`
          : `let a${g} = activations[at${g}]; at${g} += step;`,
      )}
      ${eachRegister((r) => `let b${r} = dy[dyAt + ${r * lanes}u];`)}
      dyAt += stride;
      ${repeat(
        quads,
        (q) =>
          `{ let b = ${broadcastQuad("b", q, vectorOutput, lanes)};
${each((g) => repeat(parts.length, (i) => `c${q}_${g}_${i} = fma(b, vec4f(a${g}${parts[i]}), c${q}_${g}_${i});`))}
}`,
      )}
      ${bias ? eachRegister((r) => `sum${r} += b${r};`) : ""}
    }
    ${biasSums.map(({ add }) => add).join("\n")}
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
      const at = `${r * lanes}u + lane`;
      const inTile = `${vectorOutput ? `4u * (${at})` : at}`;
      return `if (${inTile} < ${channels}u && firstChannel + ${inTile} < u.outputs) { biasSums[(u.firstSplit + group.z) * stride + first + ${at}] = ${biasSums[r]!.value}; }`;
    })}
  }`
      : ""
  }
`;
}
