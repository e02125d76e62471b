// Losses as operators: negative log-likelihood, and cross-entropy of softmax.

import { full } from "../../../../autograd/ops/create.js";
import { add, cast, div, equal, mul, neg, sub, where } from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { sum } from "../../../../autograd/ops/reduce.js";
import { logSoftmax } from "../../../../autograd/ops/softmax.js";
import { expandDims } from "../../../../autograd/ops/transform.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";

/** -weight[t] logs[n, t, ...] of targets t [N, ...], and 0 of one that is ignored; or their weighted mean, or sum. */
function likelihood(call: OperatorCall, logs: Tensor): Value {
  const targets = cast(call.tensor(1), "i32");
  const weights = call.optional(2);
  const classes = logs.shape[1]!;
  const ignored = call.given("ignore_index") ? call.number("ignore_index") : undefined;
  const zero = full(logs.device, [], 0);
  const hot = cast(
    equal(
      expandDims(targets, 1),
      tensor(
        logs.device,
        Int32Array.from({ length: classes }, (_, k) => k),
        { shape: [1, classes, ...targets.shape.slice(1).map(() => 1)] },
      ),
    ),
    "f32",
  );
  const picked = sum(mul(logs, hot), [1]);
  const valid = ignored === undefined ? undefined : sub(1, cast(equal(targets, ignored), "f32"));
  let each: Tensor = full(logs.device, targets.shape, 1);
  if (weights !== undefined) {
    const safe =
      ignored === undefined ? targets : where(equal(targets, ignored), full(logs.device, [], 0, "i32"), targets);
    each = gather(weights, safe, 0);
  }
  if (valid !== undefined) each = mul(each, valid);
  const losses = neg(mul(picked, each));
  const reduction = call.choice("reduction", ["none", "mean", "sum"], "mean");
  if (reduction === "none") return call.like(0, losses);
  const total = add(sum(losses), zero);
  return call.like(0, reduction === "sum" ? total : div(total, sum(each)));
}

export const losses: Operators = {
  NegativeLogLikelihoodLoss: (call) => likelihood(call, call.float(0)),
  SoftmaxCrossEntropyLoss: (call) => {
    const logs = logSoftmax(call.float(0), 1);
    return [likelihood(call, logs), call.like(0, logs)];
  },
};
