// The input gradient of a convolution whose windows lie whole inside their images, on software adapters, in one
// dispatch:
//
//   dx[where element e of window m lies] += sum over outputs o of dz[m, o] K[e, o]
//
// dz [N OH OW, Cout], K [kh kw Cin, Cout], windows as in window-rows.ts. A subgroup has some images to itself. It
// clears their dx, and panel by panel of K^T (matmul-panel.ts) adds to it what each window gets. The product dZ K^T is
// nowhere stored.
//
// Windows overlap, so a lane reads what another one has stored for the window before. On llvmpipe the lanes of a
// subgroup run as one thread, whose loads and stores keep their order. WGSL does not promise that, so choice.ts asks
// for a processor.

import { type SubgroupLanes, subgroupLanes } from "../../webgpu/family.js";
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import { fillPanel, multiplyRow, type PanelSize, panelArrays, panelDepth, vectorWidth } from "../matmul-panel.js";
import { repeat } from "../subgroup-tile.js";
import { inWindow, NEXT_WINDOW, startWindows, type WindowRows, windowSizes } from "../window-rows.js";

/**
 * Windows that pay for filling a panel, as far as there are workgroups for the cores; and as many workgroups as are of
 * use.
 */
const LEAST_WINDOWS = 256;
const WANTED_WORKGROUPS = 8;

interface WindowSums {
  readonly dz: GpuView;
  readonly kernel: GpuView;
  readonly dx: GpuView;
  readonly batch: number;
  readonly windows: WindowRows;
  /** Elements of a window, and outputs. */
  readonly elements: number;
  readonly outputs: number;
}

export function addWindows<P>(call: GpuCall<P>, sums: WindowSums): void {
  const { dz, kernel, dx, batch, windows, elements, outputs } = sums;
  const depth = panelDepth(outputs, call.profile);
  const lanes = subgroupLanes(call.profile);
  const all = batch * windows.height * windows.width;
  const { workers = 2 } = call.profile;
  const blocks = Math.min(Math.max(workers, Math.floor(all / LEAST_WINDOWS)), WANTED_WORKGROUPS);
  const images = Math.ceil(batch / blocks);
  call.dispatch({
    key: `add windows ${depth}`,
    program: () => ({ workgroupSize: [lanes], subgroups: true, body: body(depth, lanes) }),
    bindings: [
      { name: "a", view: dz, type: "vec4f" },
      { name: "b", view: kernel, type: "vec4f" },
      { name: "dx", view: dx, type: "vec4f", access: "read_write" },
    ],
    sizes: { ...windowSizes(windows), batch, images, elements, outputs, bStride: outputs, depth },
    workgroups: [Math.ceil(batch / images)],
  });
}

function body(depth: number, lanes: SubgroupLanes): string {
  const size: PanelSize = { depth, vectors: 1, lanes };
  const width = vectorWidth(lanes);
  const loads = Math.ceil(depth / width);
  return /* wgsl */ `
  let firstImage = group.x * u.images;
  let endImage = min(firstImage + u.images, u.batch);
  let mBegin = firstImage * u.windowsDown * u.windowsAcross;
  let mEnd = endImage * u.windowsDown * u.windowsAcross;
  let bBase = 0u;
  let kEnd = u.outputs;
  for (var i = firstImage * u.windowImage + lane; i < endImage * u.windowImage; i += ${lanes}u) { dx[i] = vec4f(); }
  ${panelArrays(size)}
  for (var firstColumn = 0u; firstColumn < u.elements; firstColumn += ${width}u) {
    let column = firstColumn + 4u * lane;
    let stored = column < u.elements;
    let element = ${inWindow("column / 4u")};
    for (var k0 = 0u; k0 < kEnd; k0 += ${depth}u) {
      ${fillPanel(true, size)}
      let kLane = k0 + 4u * lane;
      var row = (mBegin * u.outputs + kLane) / 4u;
      ${startWindows("0u", "mBegin")}
      for (var m = mBegin; m < mEnd; m++) {
        ${repeat(loads, (p) => `let a${p} = select(vec4f(), a[row + ${lanes * p}u], kLane + ${width * p}u < kEnd);`)}
        let before = dx[ia + element];
        ${multiplyRow(size, () => "before")}
        if (stored) { dx[ia + element] = y0; }
        row += u.outputs / 4u;
        ${NEXT_WINDOW}
      }
    }
  }`;
}
