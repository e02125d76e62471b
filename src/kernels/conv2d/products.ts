// Convolutions whose windows lie whole inside their images, as matrix products on software adapters. The matrix of
// windows X [N OH OW, kh kw Cin] is read where it lies in x (window-rows.ts). K [kh kw Cin, Cout] and dZ [N OH OW,
// Cout] are the tensors themselves:
//
//   y = act(X K + bias)        dK = X^T dZ        dX = dZ K^T
//
// Where windows are all single pixels, dX is the input gradient. Else it is added up in the images, at the places of
// the windows (window-sums.ts). For small images of many channels, of which Winograd's tiles waste too much.
import type { GpuCall, GpuView } from "../../webgpu/program.js";
import type { Matrix } from "../matmul-product.js";
import { runWhole, stored } from "../matmul-subgroup.js";
import type { WindowRows } from "../window-rows.js";
import { type Conv2dGeometry, takesAllPixels } from "./geometry.js";
import type { ForwardViews, Plain } from "./route.js";
import { addWindows } from "./window-sums.js";

function windowsOf({ inputs, y, x }: Conv2dGeometry): WindowRows {
  const line = x.input * inputs;
  return {
    ...{ height: y.output, width: x.output },
    ...{ step: x.stride * inputs, rowStep: y.stride * line, imageStep: y.input * line },
    ...{ segment: x.kernel * inputs, segmentStep: line },
  };
}

/** X, or its transpose. */
const windowMatrix = (geometry: Conv2dGeometry, view: GpuView, transposed: boolean): Matrix => ({
  ...stored(view, 0, transposed),
  windows: windowsOf(geometry),
});

const sizesOf = ({ batch, inputs, outputs, y, x }: Conv2dGeometry) => ({
  windows: batch * y.output * x.output,
  elements: y.kernel * x.kernel * inputs,
  outputs,
});

/** y = act(x * kernel + bias). */
export function forwardByProduct<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  views: Omit<ForwardViews<Plain>, "result" | "kept"> & Plain,
): void {
  const { windows, elements, outputs } = sizesOf(geometry);
  const { x, kernel, bias, y, activation } = views;
  runWhole(call, {
    ...{ m: windows, n: outputs, k: elements },
    a: windowMatrix(geometry, x, false),
    ...{ b: stored(kernel, outputs), c: stored(y, outputs) },
    ...{ bias: bias && { view: bias, offset: 0 }, activation },
  });
}

/** dx from dz. */
export function inputGradientByProduct<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  { dz, kernel, dx }: { readonly dz: GpuView; readonly kernel: GpuView; readonly dx: GpuView },
): void {
  const { windows, elements, outputs } = sizesOf(geometry);
  if (takesAllPixels(geometry)) {
    runWhole(call, {
      ...{ m: windows, n: elements, k: outputs },
      ...{ a: stored(dz, outputs), b: stored(kernel, outputs, true), c: stored(dx, elements) },
    });
    return;
  }
  addWindows(call, { dz, kernel, dx, batch: geometry.batch, windows: windowsOf(geometry), elements, outputs });
}

/** dkernel and, if wanted, dbias from x and dz. */
export function kernelGradientByProduct<P>(
  call: GpuCall<P>,
  geometry: Conv2dGeometry,
  views: { readonly x: GpuView; readonly dz: GpuView; readonly dkernel: GpuView; readonly dbias: GpuView | undefined },
): void {
  const { windows, elements, outputs } = sizesOf(geometry);
  const { x, dz, dkernel, dbias } = views;
  runWhole(call, {
    ...{ m: elements, n: outputs, k: windows },
    a: windowMatrix(geometry, x, true),
    ...{ b: stored(dz, outputs), c: stored(dkernel, outputs), columnSums: dbias },
  });
}
