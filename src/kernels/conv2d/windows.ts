// Activations larger than a binding: runs of images that fit.
import type { TuningProfile } from "../../webgpu/family.js";
import { type GpuView, sliceOf } from "../../webgpu/program.js";

/** Images [first, first + count). */
export interface ImageWindow {
  readonly first: number;
  readonly count: number;
}

/**
 * Windows over the batch so that `views` ([batch, ...]) fit bindings, all but the last of equal length. A single one
 * where everything fits, or where not even the shortest window that starts on a 256-byte boundary does (the device then
 * says so).
 */
export function imageWindows(profile: TuningProfile, batch: number, views: readonly GpuView[]): ImageWindow[] {
  if (views.every(({ byteLength }) => byteLength <= profile.maxBindingBytes)) return [{ first: 0, count: batch }];
  const perImage = views.map(({ size }) => size / batch);
  const fitting = Math.floor(profile.maxBindingBytes / 4 / Math.max(...perImage));
  let alignment = 1;
  while (perImage.some((size) => (size * alignment) % 64 !== 0)) alignment *= 2;
  const count = Math.floor(fitting / alignment) * alignment;
  if (count === 0) return [{ first: 0, count: batch }];
  const windows: ImageWindow[] = [];
  for (let first = 0; first < batch; first += count) windows.push({ first, count: Math.min(count, batch - first) });
  return windows;
}

/** The window's part of a view [batch, ...]. */
export function imagesOf(view: GpuView, batch: number, { first, count }: ImageWindow): GpuView {
  if (count === batch) return view;
  const perImage = view.size / batch;
  return sliceOf(view, first * perImage, count * perImage);
}
