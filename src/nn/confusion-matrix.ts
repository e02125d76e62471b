// Which classes a model takes for which, over a data set. The device counts, batch by batch.

import { zeros } from "../autograd/ops/create.js";
import { add, cast, greater, mul, notEqual } from "../autograd/ops/elementwise.js";
import { argmax, sum } from "../autograd/ops/reduce.js";
import { concat, reshape } from "../autograd/ops/transform.js";
import { countKernel } from "../kernels/count.js";
import { KilogradError, ShapeError } from "../tensor/errors.js";
import { checkOptions, instanceOf, number, type Rules } from "../tensor/options.js";
import { formatShape } from "../tensor/shape.js";
import { run, type Tensor } from "../tensor/tensor.js";
import { evaluate } from "./evaluate.js";
import type { Metric } from "./metrics/metric.js";
import { type Model, requireModel } from "./model.js";
import { batchSizeRule, type LabelledData } from "./samples.js";

export interface ConfusionMatrixOptions {
  /** Default 128; a matter of memory and speed only. */
  readonly batchSize?: number;
  /** For a model of one output, which tells two classes apart: above it is class 1; default 0.5. */
  readonly threshold?: number;
  /** Ends it early with the signal's reason. */
  readonly signal?: AbortSignal;
}

const rules: Rules<ConfusionMatrixOptions> = {
  batchSize: batchSizeRule,
  threshold: number(),
  signal: instanceOf(AbortSignal, "an AbortSignal"),
};

/**
 * Counts of samples, `counts[true class][predicted class]`. The predicted class has the largest of the outputs [C], the
 * true one is the sample's id, or has the largest of its targets [C]. `io.confusionMatrix` draws it.
 * @throws ShapeError for a model whose outputs are no row of classes; KilogradError `NON_FINITE` where outputs or
 * targets are NaN, which name no class
 * @example
 * const counts = await nn.confusionMatrix(model, test);
 * report.section("Mistakes", (section) => section.chart(io.confusionMatrix({ labels: test.classNames, counts })));
 */
export async function confusionMatrix(
  model: Model,
  data: LabelledData,
  options: ConfusionMatrixOptions = {},
): Promise<number[][]> {
  requireModel("confusionMatrix", model);
  const { threshold = 0.5, ...others } = checkOptions("confusionMatrix", options, rules);
  const { outputShape } = model;
  if (outputShape.length !== 1) {
    throw new ShapeError(
      `confusionMatrix: needs a model of one row of classes, got outputs of ${formatShape(outputShape)} a sample`,
    );
  }
  const single = outputShape[0] === 1;
  const classes = single ? 2 : outputShape[0]!;
  const classOf = (x: Tensor): Tensor => {
    if (x.dtype !== "f32") return cast(x, "i32");
    return single ? reshape(cast(greater(x, threshold), "i32"), [x.size]) : argmax(x, -1);
  };
  let totals: readonly number[] = [];
  const counts: Metric = {
    name: "counts",
    statistics(prediction, target) {
      const cells = add(mul(classOf(target), classes), classOf(prediction));
      const bins = { shape: [classes * classes], dtype: "u32" } as const;
      const unknown = [prediction, target].map((x) => reshape(sum(cast(notEqual(x, x), "f32")), [1]));
      return concat([cast(run(countKernel, [cells], bins, {}), "f32"), ...unknown]);
    },
    result(all) {
      totals = all;
      return 0;
    },
  };
  const none = (prediction: Tensor) => zeros(prediction.device, []);
  await evaluate(model, data, { loss: none, metrics: [counts], ...others });
  const unknown = totals.at(-2)! + totals.at(-1)!;
  if (unknown > 0) {
    throw new KilogradError(
      "NON_FINITE",
      `confusionMatrix: ${unknown} outputs and targets are NaN, and name no class; look at the data and at the weights`,
    );
  }
  return Array.from({ length: classes }, (_, row) => totals.slice(row * classes, (row + 1) * classes));
}
