// Changes of the images at every step, before the model sees them: what is found has to bear them (Mordvintsev, Olah,
// Tyka, 2015). What a step draws is drawn on the host, so that recorded steps differ in it.
import { affineSample } from "../autograd/ops/affine-sample.js";
import { arange } from "../autograd/ops/create.js";
import { add, cast, floor, minimum, mul } from "../autograd/ops/elementwise.js";
import { gather } from "../autograd/ops/gather.js";
import { pad as padTensor, slice } from "../autograd/ops/transform.js";
import { ShapeError } from "../tensor/errors.js";
import { check, checkOptions, integer, number, type Rules } from "../tensor/options.js";
import { formatShape } from "../tensor/shape.js";
import type { HostTensor } from "../tensor/step-plan.js";
import type { Tensor } from "../tensor/tensor.js";
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
    apply: (x, [rows, columns]) =>
      gather(gather(padTensor(x, [[0, 0], border, border, [0, 0]]), rows!, 1), columns!, 2),
  };
}

/** Options of {@link pad}. */
export interface PadOptions {
  /** What is put around the images; default 0.5, grey. */
  readonly value?: number;
}

const padRules: Rules<PadOptions> = { value: number() };

/**
 * Adds a border of `width` pixels around images [N, H, W, C], which what comes after may move into sight; {@link crop}
 * takes it away again.
 * @throws ShapeError where the model's inputs are not images
 */
export function pad(width: number, options: PadOptions = {}): Transform {
  check("pad", "width", width, integer({ from: 1 }));
  const { value = 0.5 } = checkOptions("pad", options, padRules);
  const border = [width, width];
  return {
    name: "pad",
    draw({ shape }) {
      requireImages("pad", shape);
      return [];
    },
    apply: (x) => padTensor(x, [[0, 0], border, border, [0, 0]], value),
  };
}

/**
 * Cuts images of the model's size out of larger ones, of a step all at the same place, each as likely.
 * @throws ShapeError where they are smaller
 */
export function crop(): Transform {
  return {
    name: "crop",
    draw({ shape, random }) {
      const [, height, width] = requireImages("crop", shape);
      // The sizes are told by the shapes of what is drawn.
      const sizes = [height, width].map((size): HostTensor => ({ values: new Float32Array(size), shape: [size] }));
      return [{ values: Float32Array.of(random.uniform(), random.uniform()), shape: [2] }, ...sizes];
    },
    apply(x, [shares, ...sizes]) {
      return sizes.reduce((images, { size }, k) => {
        const room = images.shape[k + 1]! - size;
        if (room < 0) {
          throw new ShapeError(`crop: needs images of at least ${size} on axis ${k + 1}, got ${formatShape(x.shape)}`);
        }
        const first = cast(minimum(floor(mul(slice(shares!, [k], [1]), room + 1)), room), "i32");
        return gather(images, add(arange(x.device, size, { dtype: "i32" }), first), k + 1);
      }, x);
    },
  };
}

/**
 * Turns images [N, H, W, C] around their middles by up to `degrees` each way, all of a step alike, bilinearly; beyond
 * the edges is 0.
 * @throws ShapeError where the model's inputs are not images
 */
export function rotate(degrees: number): Transform {
  check("rotate", "degrees", degrees, number({ above: 0, to: 180 }));
  return affine("rotate", (share) => {
    const angle = ((2 * share - 1) * degrees * Math.PI) / 180;
    const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
    return [cosine, sine, 0, -sine, cosine, 0];
  });
}

/** Options of {@link scale}. */
export interface ScaleOptions {
  /** Smallest and largest factor; above 1 enlarges. */
  readonly from: number;
  readonly to: number;
}

const scaleRules: Rules<ScaleOptions> = { from: number({ above: 0 }), to: number({ above: 0 }) };

/**
 * Enlarges images [N, H, W, C] around their middles by a factor between two, all of a step alike, bilinearly; the size
 * stays, and beyond the edges is 0.
 * @throws UsageError for factors out of range, ShapeError where the model's inputs are not images
 */
export function scale(options: ScaleOptions): Transform {
  const { from, to } = checkOptions("scale", options, scaleRules, ["from", "to"]);
  return affine("scale", (share) => {
    const step = 1 / (from + share * (to - from));
    return [step, 0, 0, 0, step, 0];
  });
}

/** A linear map of places, of one random number; see `affineSample`. */
function affine(name: string, matrixOf: (share: number) => readonly number[]): Transform {
  return {
    name,
    draw({ shape, random }) {
      requireImages(name, shape);
      return [{ values: Float32Array.from(matrixOf(random.uniform())), shape: [6] }];
    },
    apply: (x: Tensor, [matrix]) => affineSample(x, matrix!),
  };
}
