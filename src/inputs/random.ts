// Random numbers of what is done to inputs. They are others for every image, the same for one in batches of any size,
// and other ones in every run of a recorded step.
import { randomCounters } from "../autograd/ops/random.js";
import { randomNormalKernel, randomUniformKernel } from "../kernels/random.js";
import { type Changing, type Device, valueNow } from "../tensor/device.js";
import { randomKey } from "../tensor/random.js";
import { type Shape, sizeOf } from "../tensor/shape.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";

/**
 * Where random numbers of a batch come from: a stream of a seed, and how many images took theirs from it before.
 */
export interface StartStream {
  readonly seed: number;
  readonly stream: string;
  readonly image: number;
}

/** Uniform random numbers in [low, high) for a batch [n, ...]. */
export function uniform(
  { device }: { readonly device: Device },
  shape: Shape,
  start: Changing<StartStream>,
  [low, high]: readonly [number, number],
): Tensor {
  const values = empty(device, shape);
  runInto(randomUniformKernel, [], [values], () => ({ ...draw(start, "/uniform", shape), low, high }));
  return values;
}

/** Normal random numbers of mean 0 for a batch [n, ...]. */
export function normal(
  { device }: { readonly device: Device },
  shape: Shape,
  start: Changing<StartStream>,
  standardDeviation = 1,
): Tensor {
  const values = empty(device, shape);
  runInto(randomNormalKernel, [], [values], () => ({ ...draw(start, "", shape), mean: 0, standardDeviation }));
  return values;
}

/** Where the numbers for a batch begin. Images of an even number of values get the same ones in batches of any size. */
function draw(start: Changing<StartStream>, suffix: string, shape: Shape) {
  const { seed, stream, image } = valueNow(start);
  return { key: randomKey(seed, stream + suffix), offset: randomCounters(image * sizeOf(shape.slice(1))) };
}
