// Which convolutions go by Winograd's minimal filtering, and in tiles of which size: the one place that decides.
import type { TuningProfile } from "../../tensor/webgpu-profile.js";
import { SUBGROUP_LANES } from "../subgroup-tile.js";
import type { Conv2dGeometry, WindowAxis } from "./geometry.js";
import type { TileSize } from "./winograd-matrices.js";
import { spectrumShape, type Tiling, tilingOf } from "./winograd-transforms.js";

/**
 * Nanoseconds of one core of lavapipe: a multiply-add of the direct kernels and of the matrix products, and an element's
 * way through a transform into its spectrum or out of it, which takes longer in large tiles, whose code outgrows the
 * instruction cache.
 */
const PRICES = { direct: 0.115, product: 0.07, transform: { 2: 1.55, 4: 3.2 } } as const;

/** What the additional dispatches of a Winograd pass cost, in the same measure. */
const DISPATCHES = 200_000;

/** The channels that a matrix product computes for these: full vectors of 32 columns. */
const padded = (channels: number) => 32 * Math.ceil(channels / 32);

function directPrice({ batch, inputs, outputs, y, x }: Conv2dGeometry): number {
  return batch * y.output * x.output * 9 * inputs * outputs * PRICES.direct;
}

function winogradPrice({ geometry: { inputs, outputs }, m, tiles, frequencies }: Tiling): number {
  const products = inputs * padded(outputs) * PRICES.product;
  return tiles * frequencies * (products + (inputs + outputs) * PRICES.transform[m]) + DISPATCHES;
}

/**
 * How to tile a convolution for Winograd, or undefined where the direct kernels are faster or the only ones: other
 * kernels than 3 x 3 with stride 1, few or uneven channels, intermediate results that exceed a binding, and every adapter
 * but software ones, for which alone this was measured. The forward pass decides for its gradients, too.
 */
export function winogradTiling(
  { subgroupSize, maxBindingBytes }: TuningProfile,
  geometry: Conv2dGeometry,
): Tiling | undefined {
  const { batch, inputs, outputs, y, x } = geometry;
  const fits = ({ kernel, stride, dilation }: WindowAxis) => kernel === 3 && stride === 1 && dilation === 1;
  if (subgroupSize !== SUBGROUP_LANES || !fits(y) || !fits(x) || batch === 0) return undefined;
  if (inputs % 4 !== 0 || outputs % 4 !== 0) return undefined;
  let best: Tiling | undefined;
  let bestPrice = directPrice(geometry);
  for (const m of [2, 4] satisfies TileSize[]) {
    const tiling = tilingOf(geometry, m);
    const price = winogradPrice(tiling);
    const bytes = 4 * spectrumShape(tiling, Math.max(inputs, outputs))[0]!;
    if (price < bestPrice && bytes <= maxBindingBytes) [best, bestPrice] = [tiling, price];
  }
  return best;
}
