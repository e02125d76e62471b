// Salt-and-pepper noise: pixels that say nothing of what they hide.
import type { LabelledImages } from "../../../data/dataset.js";
import { RandomStream } from "../../../tensor/random.js";

/** Changes pixels in place: each is kept with probability 1 - level, otherwise it becomes 0 or 1 with equal chance. */
export function saltAndPepper(pixels: Float32Array, level: number, random: RandomStream): void {
  for (let i = 0; i < pixels.length; i++) {
    const drawn = random.uniform();
    if (drawn < level) pixels[i] = drawn < level / 2 ? 0 : 1;
  }
}

/** A noisy copy of images. It depends on level, seed and `name` alone. */
export function noisyImages(
  images: LabelledImages,
  level: number,
  { seed, name }: { readonly seed: number; readonly name: string },
): LabelledImages {
  const noisy = images.images.slice();
  saltAndPepper(noisy, level, new RandomStream(seed, `noise/${name}/${level}`));
  return { ...images, images: noisy };
}
