// Inverted dropout. Whether a model is training is its caller's business: this always drops.
import { type DropoutParams, dropoutKernel } from "../../kernels/dropout.js";
import type { Changing } from "../../tensor/device.js";
import { ShapeError } from "../../tensor/errors.js";
import { checkOptions, number, type Rules } from "../../tensor/options.js";
import type { RandomKey } from "../../tensor/random.js";
import { formatShape } from "../../tensor/shape.js";
import { requireTensor, run, type Tensor } from "../../tensor/tensor.js";
import { drawnKey } from "../draws.js";
import { record, renamed } from "../tape.js";
import { changingKeyRule, keyNow, offsetRule, type RandomOptions } from "./random.js";

export interface DropoutOptions extends RandomOptions {
  /** Probability of dropping an element, in [0, 1). */
  readonly rate: number;
  /** A function where the op is part of a step that is recorded and must drop others each time. */
  readonly key: Changing<RandomKey>;
}

const rules: Rules<DropoutOptions> = {
  rate: number({ from: 0, below: 1 }),
  key: changingKeyRule,
  offset: offsetRule,
};

/**
 * x times a mask that is 0 with probability `rate`, else 1 / (1 - rate); a dropped NaN or infinity is NaN, as in
 * PyTorch. The mask depends on key and offset alone: advance the offset by `randomCounters(x.size)` for the next step.
 * With rate 0 it is x itself.
 */
export function dropout(x: Tensor, options: DropoutOptions): Tensor {
  requireTensor("dropout", "x", x);
  const { rate, key, offset = 0 } = checkOptions("dropout", options, rules, ["rate", "key"]);
  if (x.dtype !== "f32") {
    throw new ShapeError(`dropout: needs an f32 tensor, got ${x.dtype} ${formatShape(x.shape)}; use cast(x, "f32")`);
  }
  if (rate === 0) return renamed("dropout", x);
  // Asked once a step: the gradient must drop what was dropped.
  let params: DropoutParams;
  const ask = drawnKey(() => keyNow("dropout", key));
  const drawn = () => {
    params = { rate, key: ask(), offset };
    return params;
  };
  return dropped(x, drawn, () => params);
}

/** x times a mask, and its gradient times the same. */
function dropped(x: Tensor, params: () => DropoutParams, same: () => DropoutParams): Tensor {
  return record(run(dropoutKernel, [x], x, params), {
    op: "dropout",
    inputs: [x],
    backward: (dy) => [() => dropped(dy, same, same)],
    derivable: true,
  });
}
