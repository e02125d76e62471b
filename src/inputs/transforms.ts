// Changes of the images at every step, before the model sees them: what is found has to bear them (Mordvintsev, Olah,
// Tyka, 2015). What a step draws is drawn on the host, so that recorded steps differ in it.
import { gather } from "../autograd/ops/gather.js";
import { pad } from "../autograd/ops/transform.js";
import { check, integer } from "../tensor/options.js";
import type { HostTensor } from "../tensor/step-plan.js";
import { requireImages } from "./images.js";
import type { Transform } from "./parts.js";

/**
 * Shifts images [N, H, W, C] by up to `distance` whole pixels each way, all of a step alike, and fills with 0.
 * @throws ShapeError where the model's inputs are not images
 */
export function jitter(distance: number): Transform {
  check("jitter", "distance", distance, integer({ from: 1 }));
  const border = [distance, distance];
  return {
    name: "jitter",
    draw({ shape, random }) {
      const [, height, width] = requireImages("jitter", shape);
      // Rows and columns to take of the images with a border.
      const from = (size: number): HostTensor => {
        const first = random.integer(2 * distance + 1);
        return { values: Int32Array.from({ length: size }, (_, i) => first + i), shape: [size] };
      };
      return [from(height), from(width)];
    },
    apply: (x, [rows, columns]) => gather(gather(pad(x, [[0, 0], border, border, [0, 0]]), rows!, 1), columns!, 2),
  };
}
