// Refusing what cannot fit into memory before it is begun: a batch of images with everything that a step keeps of it.
import { totalmem } from "node:os";
import type { Architecture } from "../../../nn/architecture.js";
import type { Model } from "../../../nn/model.js";
import { UsageError } from "../../../tensor/errors.js";
import { sizeOf } from "../../../tensor/shape.js";

const BYTES = 4;
/** Of each weight: itself, its gradient, two momenta. */
const PER_WEIGHT = 4;
/** Of each value of a layer's output: itself and its gradient. */
const PER_VALUE = 2;
/** Steps between two snapshots of an optimisation at most. */
const SNAPSHOT_EVERY = 100;

type Network = Architecture | Model;

/** About what a step takes for a batch of so many images. */
export function stepBytes(network: Network, images: number): number {
  const outputs = network.layers.map((layer) => ("placed" in layer ? layer.placed : layer).outputShape);
  const values = [network.inputShape, ...outputs].reduce((sum, shape) => sum + sizeOf(shape), 0);
  return BYTES * (PER_WEIGHT * network.countParameters().total + PER_VALUE * images * values);
}

const gigabytes = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

/**
 * For a step on a batch of images, and what is kept of each image over the steps of an optimisation.
 * @param option what the user would change: "batch"
 * @param memory bytes that there are; default: this machine's
 * @throws UsageError where that is more than there is
 */
export function checkMemory(
  option: string,
  { network, images, steps = 0 }: { readonly network: Network; readonly images: number; readonly steps?: number },
  memory = totalmem(),
): void {
  const size = sizeOf(network.inputShape) + sizeOf(network.outputShape);
  const kept = BYTES * images * steps * (1 + size / SNAPSHOT_EVERY);
  const needed = stepBytes(network, images) + kept;
  if (needed <= memory) return;
  const most = Math.max(1, Math.floor((images * memory) / needed));
  const over = steps === 0 ? "" : ` over ${steps.toLocaleString("en-US")} steps`;
  throw new UsageError(
    `${option}: ${images.toLocaleString("en-US")} images in one batch of ${network.name}${over} need about ${gigabytes(needed)}, ` +
      `this machine has ${gigabytes(memory)}; use at most about ${most.toLocaleString("en-US")}${steps === 0 ? "" : ", or fewer steps"}`,
  );
}
