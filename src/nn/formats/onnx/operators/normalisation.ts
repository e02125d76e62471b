// Operators that normalise: by statistics of batches, samples or groups, by norms, and softmax.
import { batchNorm } from "../../../../autograd/ops/batchnorm.js";
import { full, zeros } from "../../../../autograd/ops/create.js";
import {
  abs,
  add,
  cast,
  div,
  equal,
  maximum,
  mul,
  rsqrt,
  sqrt,
  square,
  sub,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { oneHot } from "../../../../autograd/ops/gather.js";
import { norm } from "../../../../autograd/ops/norm.js";
import { argmax, mean } from "../../../../autograd/ops/reduce.js";
import { logSoftmax, softmax } from "../../../../autograd/ops/softmax.js";
import { reshape, transpose } from "../../../../autograd/ops/transform.js";
import { sizeOf } from "../../../../tensor/shape.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { Operator, OperatorCall, Operators } from "./call.js";
import { backFrom, imagesOf } from "./windows.js";

/** (x - mean) / sqrt(variance + epsilon) over axes. */
function standard(x: Tensor, axes: readonly number[], epsilon: number) {
  const centre = mean(x, { axes, keepDims: true });
  const centred = sub(x, centre);
  const inverse = rsqrt(add(mean(square(centred), { axes, keepDims: true }), epsilon));
  return { y: mul(centred, inverse), centre, inverse };
}

function ofBatch(call: OperatorCall): Value | Value[] {
  const x = imagesOf(call);
  const [gamma, beta, runningMean, runningVariance] = [call.float(1), call.float(2), call.float(3), call.float(4)];
  const epsilon = call.number("epsilon", 1e-5);
  if (call.opset < 9 && !call.flag("spatial", 1)) call.refuse("must be of channels; spatial 0 is not read");
  const training = call.opset >= 14 ? call.flag("training_mode") : false;
  if (!training) return backFrom(call, batchNorm(x, { gamma, beta, runningMean, runningVariance, training, epsilon }));
  const axes = x.shape.map((_, axis) => axis).slice(0, -1);
  const centre = mean(x, axes);
  const variance = mean(square(sub(x, centre)), axes);
  const y = add(mul(mul(sub(x, centre), rsqrt(add(variance, epsilon))), gamma), beta);
  const m = call.number("momentum", 0.9);
  const moved = (old: Tensor, now: Tensor) => add(mul(old, m), mul(now, 1 - m));
  const statistics = [call.like(0, moved(runningMean, centre)), call.like(0, moved(runningVariance, variance))];
  return [backFrom(call, y), ...statistics];
}

function ofInstances(call: OperatorCall): Value {
  const x = imagesOf(call);
  const axes = x.shape.map((_, axis) => axis).slice(1, -1);
  const { y } = standard(x, axes, call.number("epsilon", 1e-5));
  return backFrom(call, add(mul(y, call.float(1)), call.float(2)));
}

function ofGroups(call: OperatorCall): Value {
  const x = imagesOf(call);
  const [groups, channels] = [call.number("num_groups"), x.shape.at(-1)!];
  const grouped = reshape(x, [...x.shape.slice(0, -1), groups, channels / groups]);
  const axes = grouped.shape.flatMap((_, axis) => (axis === 0 || axis === grouped.rank - 2 ? [] : [axis]));
  const { y } = standard(grouped, axes, call.number("epsilon", 1e-5));
  const [scale, bias] = [call.float(1), call.float(2)];
  if (call.opset < 21 && scale.size === groups && groups !== channels) {
    const each = (t: Tensor) => reshape(t, [groups, 1]);
    return backFrom(call, reshape(add(mul(y, each(scale)), each(bias)), x.shape));
  }
  return backFrom(call, add(mul(reshape(y, x.shape), scale), bias));
}

function ofLayers(call: OperatorCall): Value[] {
  const x = call.float(0);
  const axis = call.axis(call.number("axis", -1), x.rank);
  const axes = x.shape.map((_, k) => k).slice(axis);
  const { y, centre, inverse } = standard(x, axes, call.number("epsilon", 1e-5));
  const scaled = mul(y, call.float(1));
  const bias = call.optional(2);
  return [
    call.like(0, bias === undefined ? scaled : add(scaled, bias)),
    call.make("float32", centre),
    call.make("float32", inverse),
  ];
}

function byRoots(call: OperatorCall): Value {
  const x = call.float(0);
  const axis = call.axis(call.number("axis", -1), x.rank);
  const axes = x.shape.map((_, k) => k).slice(axis);
  const power = mean(square(x), { axes, keepDims: true });
  return call.like(0, mul(mul(x, rsqrt(add(power, call.number("epsilon", 1e-5)))), call.float(1)));
}

function byVariance(call: OperatorCall): Value {
  const x = call.float(0);
  const axes = call.numbers("axes") ?? [0, 2, 3];
  const centred = sub(x, mean(x, { axes, keepDims: true }));
  const deviation = sqrt(mean(square(centred), { axes, keepDims: true }));
  return call.like(0, div(centred, add(deviation, 1e-9)));
}

function byNorm(call: OperatorCall): Value {
  const x = call.float(0);
  const axis = call.axis(call.number("axis", -1), x.rank);
  const size = norm(x, { axis, order: call.number("p", 2), keepDims: true });
  // Where all is 0, the result is 0.
  const zero = full(x.device, [], 0);
  return call.like(0, where(equal(size, 0), mul(abs(x), zero), div(x, maximum(size, 1e-38))));
}

/** Below operator set 13 an input is a matrix of what lies before the axis, by 1 by default, and the rest. */
const alongAxis =
  (apply: (x: Tensor, axis: number) => Tensor): Operator =>
  (call) => {
    const x = call.float(0);
    if (call.opset >= 13) return call.like(0, apply(x, call.axis(call.number("axis", -1), x.rank)));
    const axis = call.axis(call.number("axis", 1), x.rank);
    const rows = reshape(x, [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis))]);
    return call.like(0, reshape(apply(rows, 1), x.shape));
  };

function hardest(x: Tensor, axis: number): Tensor {
  const hot = oneHot(argmax(x, axis), x.shape[axis]!);
  const order = hot.shape.map((_, k) => k).slice(0, -1);
  return transpose(hot, order.toSpliced(axis, 0, x.rank - 1));
}

/** Without training what goes in comes out, and all of the mask is 1. */
function dropout(call: OperatorCall): Value[] {
  const x = call.tensor(0);
  const training = call.opset >= 12 && call.has(2) && call.host(2)[0] !== 0 && call.scalar(1, 0.5) > 0;
  if (training) call.refuse("must not drop while it predicts; its training_mode is 1");
  const ones = cast(add(mul(zeros(x.device, x.shape), 0), 1), "f32");
  return call.outputs < 2
    ? [call.like(0, x)]
    : [call.like(0, x), call.make(call.opset < 10 ? call.value(0).type : "bool", ones)];
}

export const normalisation: Operators = {
  BatchNormalization: ofBatch,
  InstanceNormalization: ofInstances,
  GroupNormalization: ofGroups,
  LayerNormalization: ofLayers,
  RMSNormalization: byRoots,
  MeanVarianceNormalization: byVariance,
  LpNormalization: byNorm,
  Softmax: alongAxis(softmax),
  LogSoftmax: alongAxis(logSoftmax),
  Hardmax: alongAxis(hardest),
  Dropout: dropout,
};
