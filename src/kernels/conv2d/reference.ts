// The float64 reference of the three convolution passes: the definition, as plain loops over images, positions and
// taps. What the inner loops read and write has names of its own and one type, which V8 computes about six times as
// fast.
import type { CpuView } from "../../tensor/kernel.js";
import type { Conv2dGeometry } from "./geometry.js";

/** Float tensors hold float64 on the reference. */
const floatsOf = (view: CpuView) => view.data as Float64Array;

/** Calls `visit` with the flat offsets (of channel 0) of every product: x pixel, kernel tap, y pixel. */
function eachProduct(geometry: Conv2dGeometry, visit: (x: number, kernel: number, y: number) => void): void {
  const { batch, inputs, outputs, y, x } = geometry;
  for (let n = 0; n < batch; n++) {
    for (let oy = 0; oy < y.output; oy++) {
      for (let ox = 0; ox < x.output; ox++) {
        for (let ky = 0; ky < y.kernel; ky++) {
          const iy = oy * y.stride - y.padding + ky * y.dilation;
          if (iy < 0 || iy >= y.input) continue;
          for (let kx = 0; kx < x.kernel; kx++) {
            const ix = ox * x.stride - x.padding + kx * x.dilation;
            if (ix < 0 || ix >= x.input) continue;
            visit(
              ((n * y.input + iy) * x.input + ix) * inputs,
              (ky * x.kernel + kx) * inputs * outputs,
              ((n * y.output + oy) * x.output + ox) * outputs,
            );
          }
        }
      }
    }
  }
}

/** y[n, oy, ox, co] = act(bias[co] + sum over ky, kx, ci of x[n, iy, ix, ci] * kernel[ky, kx, ci, co]). */
export function conv2dReference(
  geometry: Conv2dGeometry,
  x: CpuView,
  kernel: CpuView,
  bias: CpuView | undefined,
  y: CpuView,
  activation: (z: number) => number,
): void {
  const { inputs, outputs } = geometry;
  const [xs, weights, ys] = [floatsOf(x), floatsOf(kernel), floatsOf(y)];
  for (let i = 0; i < ys.length; i++) ys[i] = bias === undefined ? 0 : bias.data[i % outputs]!;
  eachProduct(geometry, (xAt, kernelAt, yAt) => {
    for (let ci = 0; ci < inputs; ci++) {
      const value = xs[xAt + ci]!;
      const row = kernelAt + ci * outputs;
      for (let co = 0; co < outputs; co++) ys[yAt + co]! += value * weights[row + co]!;
    }
  });
  for (let i = 0; i < ys.length; i++) ys[i] = activation(ys[i]!);
}

export interface GradientOptions {
  /** Where dy is 0 the result had no part in anything: times an infinite factor that is 0, not NaN. Default false. */
  readonly zerosHaveNoPart?: boolean;
}

/** dx[n, iy, ix, ci] = sum over taps and co of dy[n, oy, ox, co] * kernel[ky, kx, ci, co]. */
export function inputGradientReference(
  geometry: Conv2dGeometry,
  dy: CpuView,
  kernel: CpuView,
  dx: CpuView,
  { zerosHaveNoPart = false }: GradientOptions = {},
): void {
  const { inputs, outputs } = geometry;
  const [gradient, weights, sums] = [floatsOf(dy), floatsOf(kernel), floatsOf(dx)];
  sums.fill(0);
  eachProduct(geometry, (xAt, kernelAt, yAt) => {
    for (let ci = 0; ci < inputs; ci++) {
      const row = kernelAt + ci * outputs;
      let sum = 0;
      for (let co = 0; co < outputs; co++) {
        const dyHere = gradient[yAt + co]!;
        if (zerosHaveNoPart && dyHere === 0) continue;
        sum += dyHere * weights[row + co]!;
      }
      sums[xAt + ci]! += sum;
    }
  });
}

/** dkernel[ky, kx, ci, co] = sum over n, oy, ox of x[n, iy, ix, ci] * dy[n, oy, ox, co]; dbias[co] = sum of dy. */
export function kernelGradientReference(
  geometry: Conv2dGeometry,
  x: CpuView,
  dy: CpuView,
  dkernel: CpuView,
  dbias: CpuView | undefined,
  { zerosHaveNoPart = false }: GradientOptions = {},
): void {
  const { inputs, outputs } = geometry;
  const [xs, gradient, sums] = [floatsOf(x), floatsOf(dy), floatsOf(dkernel)];
  sums.fill(0);
  eachProduct(geometry, (xAt, kernelAt, yAt) => {
    for (let ci = 0; ci < inputs; ci++) {
      const value = xs[xAt + ci]!;
      const row = kernelAt + ci * outputs;
      for (let co = 0; co < outputs; co++) {
        const dyHere = gradient[yAt + co]!;
        if (zerosHaveNoPart && dyHere === 0) continue;
        sums[row + co]! += dyHere * value;
      }
    }
  });
  if (dbias === undefined) return;
  dbias.data.fill(0);
  for (let i = 0; i < dy.size; i++) dbias.data[i % outputs]! += dy.data[i]!;
}
