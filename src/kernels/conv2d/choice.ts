// The one place that decides which convolutions go by Winograd's minimal filtering, and in tiles of which size. It also
// decides which of the others go by matrix products over windows.

import { subgroupLanes, type TuningProfile } from "../../webgpu/family.js";
import { type Choice, tuned } from "../../webgpu/tuning.js";
import { vectorWidth } from "../matmul-panel.js";
import { planTiles, streamingClocks } from "../tile-choice.js";
import {
  type Conv2dGeometry,
  forwardGather,
  type Gather,
  inputGradientGather,
  takesAllPixels,
  type WindowAxis,
} from "./geometry.js";
import { fitsPanels, lanesInUse } from "./software-panels.js";
import { type Tiling, tilingOf } from "./tiling.js";
import type { TileSize } from "./winograd-matrices.js";
import { spectrumShape } from "./winograd-transforms.js";

/**
 * Nanoseconds of one core of lavapipe:
 * - A multiply-add of the direct kernels, of panels whose lanes are all in use, and of the matrix products.
 * - An element's way through a transform into its spectrum or out of it. It takes longer in large tiles, whose code
 *   outgrows the instruction cache.
 */
const PRICES = { direct: 0.115, panel: 0.055, product: 0.07, transform: { 2: 1.55, 4: 3.2 } } as const;

/** Which tiles of Winograd's are in the running, by shape class: the prices above are one machine's. */
type WinogradForm = "tiles by price" | "tiles of 2" | "tiles of 4" | "direct";
const TILES: Record<WinogradForm, readonly TileSize[]> = {
  "tiles by price": [2, 4],
  "tiles of 2": [2],
  "tiles of 4": [4],
  direct: [],
};
const winogradChoice = (shapes: string): Choice<WinogradForm> => ({
  name: `conv2d 3 x 3, ${shapes}`,
  options: ["tiles by price", "tiles of 2", "tiles of 4", "direct"],
});
export const FEW_CHANNELS_FORM = winogradChoice("few channels");
export const MANY_CHANNELS_FORM = winogradChoice("many channels");
/** Input and output channels together from which they are many. */
const MANY_CHANNELS = 160;

/** How convolutions without padding that do not go by Winograd are computed. */
export const WINDOWS_FORM: Choice<"products" | "direct"> = {
  name: "conv2d, whole windows",
  options: ["products", "direct"],
};

/** What the additional dispatches of a Winograd pass cost, in the same measure. */
const DISPATCHES = 200_000;

/** The channels that a matrix product computes for these: full vectors of columns. */
function padded(channels: number, profile: TuningProfile): number {
  const width = vectorWidth(subgroupLanes(profile));
  return width * Math.ceil(channels / width);
}

function directPrice({ batch, inputs, outputs, y, x }: Conv2dGeometry): number {
  return batch * y.output * x.output * 9 * inputs * outputs * PRICES.direct;
}

function winogradPrice(
  { geometry: { inputs, outputs }, m, tiles, frequencies }: Tiling,
  profile: TuningProfile,
): number {
  const products = inputs * padded(outputs, profile) * PRICES.product;
  return tiles * frequencies * (products + (inputs + outputs) * PRICES.transform[m]) + DISPATCHES;
}

/** Whether minimal filtering can compute a convolution. */
function canFilter({ batch, y, x }: Conv2dGeometry): boolean {
  const fits = ({ kernel, stride, dilation }: WindowAxis) => kernel === 3 && stride === 1 && dilation === 1;
  return fits(y) && fits(x) && batch > 0;
}

/** Whether a spectrum of so many elements and the transformed kernel can be bound. */
function fitsBinding({ maxBindingBytes }: TuningProfile, { geometry, frequencies }: Tiling, spectrum: number): boolean {
  return 4 * Math.max(spectrum, frequencies * geometry.inputs * geometry.outputs) <= maxBindingBytes;
}

/**
 * How to tile a convolution for Winograd, or undefined where the direct kernels are faster or the only ones:
 * - other kernels than 3 x 3 with stride 1
 * - few or uneven channels
 * - intermediate results that exceed a binding
 * - every adapter but software ones, for which alone this was measured
 *
 * The forward pass decides for its gradients, too.
 */
export function winogradTiling(profile: TuningProfile, geometry: Conv2dGeometry): Tiling | undefined {
  const { inputs, outputs } = geometry;
  if (profile.family !== "software" || !canFilter(geometry)) return undefined;
  if (inputs % 4 !== 0 || outputs % 4 !== 0) return undefined;
  let best: Tiling | undefined;
  let bestPrice = directPrice(geometry);
  const form = tuned(profile, inputs + outputs < MANY_CHANNELS ? FEW_CHANNELS_FORM : MANY_CHANNELS_FORM);
  for (const m of TILES[form]) {
    const tiling = tilingOf(geometry, m);
    const price = winogradPrice(tiling, profile);
    const spectrum = spectrumShape(tiling, Math.max(inputs, outputs))[0]!;
    if (price < bestPrice && fitsBinding(profile, tiling, spectrum)) [best, bestPrice] = [tiling, price];
  }
  return best;
}

/**
 * Whether forward pass and input gradient go by panels of the kernel (software-panels.ts): where these fit, and cost
 * less than Winograd's `tiling`, if there is one.
 */
export function goesByPanels(profile: TuningProfile, geometry: Conv2dGeometry, tiling: Tiling | undefined): boolean {
  if (goesByProducts(profile, geometry)) return false;
  const { batch, inputs, outputs, y, x } = geometry;
  const passes = [forwardGather(geometry), inputGradientGather(geometry)];
  if (!passes.every((pass) => fitsPanels(profile, pass))) return false;
  if (tiling === undefined) return true;
  const products = batch * y.output * x.output * y.kernel * x.kernel * inputs * outputs;
  const price = ({ targetChannels }: Gather) => (products * PRICES.panel) / lanesInUse(targetChannels);
  return passes.reduce((sum, pass) => sum + price(pass), 0) < 2 * winogradPrice(tiling, profile);
}

/**
 * Tiles of a hardware adapter's Winograd (winograd-hardware.ts); "by price" is a model of a large one, see
 * tile-choice.ts.
 */
export const HARDWARE_FORM: Choice<WinogradForm> = {
  name: "conv2d 3 x 3",
  options: ["tiles by price", "tiles of 2", "tiles of 4", "direct"],
};

/** Clocks of the forward pass as one implicit product, and by Winograd. */
function directClocks(profile: TuningProfile, { batch, inputs, outputs, y, x }: Conv2dGeometry): number {
  return planTiles(profile, { rows: batch * y.output * x.output, columns: outputs, depth: 9 * inputs, batch: 1 })
    .clocks;
}
function winogradClocks(profile: TuningProfile, { geometry, tiles, frequencies }: Tiling): number {
  const { batch, inputs, outputs, y, x } = geometry;
  const transform = (image: number, channels: number) =>
    streamingClocks(4 * channels * (batch * image + frequencies * tiles));
  return (
    planTiles(profile, { rows: tiles, columns: outputs, depth: inputs, batch: frequencies }).clocks +
    transform(y.input * x.input, inputs) +
    transform(y.output * x.output, outputs) +
    streamingClocks(4 * inputs * outputs * (9 + frequencies))
  );
}

/**
 * How to tile a convolution for Winograd on a hardware adapter, all three passes; undefined where implicit products are
 * faster.
 */
export function hardwareTiling(profile: TuningProfile, geometry: Conv2dGeometry): Tiling | undefined {
  const { family, matrices } = profile;
  const { batch, inputs, outputs, y, x } = geometry;
  // Float16 has too few digits for transformed tiles.
  if (family !== "hardware" || matrices !== undefined || !canFilter(geometry)) return undefined;
  const form = tuned(profile, HARDWARE_FORM);
  let best: Tiling | undefined;
  let least = form === "tiles by price" ? directClocks(profile, geometry) : Number.POSITIVE_INFINITY;
  for (const m of TILES[form]) {
    const tiling = tilingOf(geometry, m);
    const across = (axis: WindowAxis) => Math.ceil(Math.max(axis.input, axis.output) / m);
    const spectrum = tiling.frequencies * batch * across(y) * across(x) * Math.max(inputs, outputs);
    const clocks = winogradClocks(profile, tiling);
    if (clocks < least && fitsBinding(profile, tiling, spectrum)) [best, least] = [tiling, clocks];
  }
  return best;
}

/**
 * Windows that pay for filling a product's panels, and elements that keep a few cores busy with the kernel gradient. A
 * window of one pixel is a row of a matrix as it lies: fewer pay.
 */
const LEAST = {
  windows: { windows: 128, elements: 128, outputs: 32 },
  pixels: { windows: 32, elements: 16, outputs: 16 },
};

/**
 * Whether a convolution that does not go by Winograd goes by products over windows (products.ts). That takes windows
 * without padding or dilation, channels in fours, enough of both, matrices that fit a binding, and a software adapter.
 */
export function goesByProducts(profile: TuningProfile, geometry: Conv2dGeometry): boolean {
  const { family, maxBindingBytes } = profile;
  if (tuned(profile, WINDOWS_FORM) === "direct") return false;
  const { batch, inputs, outputs, y, x } = geometry;
  const fits = ({ input, output, kernel, stride, dilation, padding }: WindowAxis) =>
    dilation === 1 && padding === 0 && (output - 1) * stride + kernel <= input;
  if (family !== "software" || !fits(y) || !fits(x)) return false;
  const least = y.kernel * x.kernel === 1 ? LEAST.pixels : LEAST.windows;
  if (inputs % 4 !== 0 || outputs % 4 !== 0 || outputs < least.outputs) return false;
  const windows = batch * y.output * x.output;
  const elements = y.kernel * x.kernel * inputs;
  if (windows < least.windows || elements < least.elements) return false;
  const bytes = 4 * Math.max(batch * y.input * x.input * inputs, windows * outputs, elements * outputs);
  return bytes <= maxBindingBytes;
}

/**
 * Whether the input gradient of such a convolution is a product, too: of single pixels, or one whose windows are added
 * up where they lie (window-sums.ts). There an image is one workgroup's, so one alone would keep one core busy. And the
 * lanes of a subgroup must see each other's stores.
 */
export function multipliesForInput(profile: TuningProfile, geometry: Conv2dGeometry): boolean {
  const adds = profile.onProcessor === true && geometry.batch > 1;
  return goesByProducts(profile, geometry) && (adds || takesAllPixels(geometry));
}
