// Where a training stands, as it comes out of a file, checked before a training goes on from it.
import { array, check, exactOptional, type GenericSchema, object, pipe } from "valibot";
import { anyNumber, anyObject, count, recordOf, ruled, text } from "../io/json.js";
import type { Precision } from "../tensor/device.js";
import { boolean, integer, number, object as objectRule, oneOf } from "../tensor/options.js";
import type { TrainingState } from "./model-file.js";
import type { OptimizerConfig } from "./optimizers.js";

const positive = ruled<number>(integer({ from: 1 }));
const sums = object(
  {
    ...{ loss: anyNumber, correct: count, samples: count },
    metrics: exactOptional(recordOf(array(anyNumber, "a list of numbers"))),
  },
  "an object",
);
export const trainingState: GenericSchema<unknown, TrainingState> = pipe(
  object(
    {
      seed: ruled<number>(number()),
      batchSize: exactOptional(positive),
      sampleCount: exactOptional(positive),
      source: exactOptional(text),
      shuffle: ruled<boolean>(boolean),
      precision: exactOptional(ruled<Precision>(oneOf("float32", "mixed"))),
      epoch: count,
      stepInEpoch: count,
      sums,
      outputSums: exactOptional(array(sums, "a list of objects")),
      optimizer: ruled<OptimizerConfig>(objectRule),
      learningRate: ruled<number>(number({ from: 0 })),
      iterations: count,
      gathered: exactOptional(count),
      stopReason: exactOptional(text),
      epochs: array(count, "a list of whole numbers"),
      history: recordOf(array(anyNumber, "a list of numbers")),
      callbacks: recordOf(anyObject),
    },
    "an object",
  ),
  check(
    ({ stepInEpoch, sampleCount = Number.POSITIVE_INFINITY, batchSize = 1 }) =>
      stepInEpoch <= Math.ceil(sampleCount / batchSize),
    "a state whose stepInEpoch is at most sampleCount / batchSize",
  ),
  check(
    ({ sums, sampleCount = Number.POSITIVE_INFINITY }) => sums.samples <= sampleCount,
    "a state whose sums.samples are at most sampleCount",
  ),
);
