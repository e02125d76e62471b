// Operators of sequences: attention of all kinds, rotary embeddings, causal convolutions with a state, caches.
import { full } from "../../../../autograd/ops/create.js";
import {
  add,
  cast,
  equal,
  exp,
  greaterEqual,
  less,
  lessEqual,
  mul,
  sigmoid,
  sub,
  swish,
  tanh,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { gather } from "../../../../autograd/ops/gather.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { max } from "../../../../autograd/ops/reduce.js";
import { softmax } from "../../../../autograd/ops/softmax.js";
import { concat, expandDims, reshape, slice, strided, transpose } from "../../../../autograd/ops/transform.js";
import { type Shape, sizeOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";
import { fromLast, toLast } from "./numbers.js";
import { convolution } from "./windows.js";

const LOW = Number.NEGATIVE_INFINITY;

/** [batch, time, heads * size] as [batch, heads, time, size]. */
function byHeads(call: OperatorCall, x: Tensor, heads: number): Tensor {
  const [batch, time, width] = x.shape as [number, number, number];
  if (!(heads >= 1) || width % heads !== 0) call.refuse(`must have heads that divide ${width}, has ${heads}`);
  return transpose(reshape(x, [batch, time, heads, width / heads]), [0, 2, 1, 3]);
}

/** [batch, heads, time, size] as [batch, time, heads * size]. */
function joined(x: Tensor): Tensor {
  const [batch, heads, time, size] = x.shape as [number, number, number, number];
  return reshape(transpose(x, [0, 2, 1, 3]), [batch, time, heads * size]);
}

/** The part of axis k at one place, without that axis. */
function at(x: Tensor, axis: number, i: number): Tensor {
  const begin = x.shape.map((_, k) => (k === axis ? i : 0));
  return reshape(slice(x, begin, x.shape.with(axis, 1)), x.shape.toSpliced(axis, 1));
}

/** 0 where a query may see a key and -Infinity elsewhere, as numbers of the host [queries, keys]. */
function visible(queries: number, keys: number, offset: number, { causal, left, right }: Sight): Float32Array {
  const bias = new Float32Array(queries * keys);
  for (let i = 0; i < queries; i++) {
    for (let j = 0; j < keys; j++) {
      const ahead = j - (i + offset);
      const hidden = (causal && ahead > 0) || (left >= 0 && -ahead > left) || (right >= 0 && ahead > right);
      if (hidden) bias[i * keys + j] = LOW;
    }
  }
  return bias;
}

interface Sight {
  readonly causal: boolean;
  /** How many keys before and after its own place a query sees; -1 for all. */
  readonly left: number;
  readonly right: number;
}

/** What is added to the scores [batch, heads, queries, keys], and whether some query may see nothing. */
function biasOf(call: OperatorCall, queries: number, keys: number, past: number) {
  const sight: Sight = {
    causal: call.flag("is_causal"),
    left: call.number("left_window_size", -1),
    right: call.number("right_window_size", -1),
  };
  const { device } = call.place;
  const infinite = (yes: Tensor) => where(yes, full(device, [], 0), full(device, [], LOW));
  const parts: Tensor[] = [];
  let mayBeBlind = false;
  const mask = call.optional(3);
  if (mask !== undefined) {
    const missing = keys - mask.shape.at(-1)!;
    const isBool = call.value(3).type === "bool";
    const own = isBool ? infinite(mask) : cast(mask, "f32");
    parts.push(missing > 0 ? concat([own, full(device, own.shape.with(-1, missing), LOW)], -1) : own);
    mayBeBlind = true;
  }
  const lengths = call.optional(6);
  const limits = sight.causal || sight.left >= 0 || sight.right >= 0;
  if (lengths !== undefined) {
    const counts = reshape(cast(lengths, "f32"), [-1, 1, 1, 1]);
    const column = (n: number) => Float32Array.from({ length: n }, (_, k) => k);
    const key = tensor(device, column(keys), { shape: [1, 1, 1, keys] });
    parts.push(infinite(less(key, counts)));
    if (limits) {
      const query = tensor(device, column(queries), { shape: [1, 1, queries, 1] });
      const ahead = sub(key, add(query, sub(counts, queries)));
      if (sight.causal) parts.push(infinite(lessEqual(ahead, 0)));
      if (sight.left >= 0) parts.push(infinite(greaterEqual(ahead, -sight.left)));
      if (sight.right >= 0) parts.push(infinite(lessEqual(ahead, sight.right)));
    }
    mayBeBlind = true;
  } else if (limits) {
    const fixed = visible(queries, keys, past, sight);
    parts.push(tensor(device, fixed, { shape: [queries, keys] }));
    for (let i = 0; i < queries; i++) {
      if (fixed.subarray(i * keys, (i + 1) * keys).every((n) => n === LOW)) mayBeBlind = true;
    }
  }
  const bias = parts.length === 0 ? undefined : parts.reduce((a, b) => add(a, b));
  return { bias, mayBeBlind };
}

/**
 * softmax(q k^T scale + bias) v. Several heads of queries may share one of keys and values: they are rows of one
 * product then. A query that sees no key gives 0.
 */
function attention(call: OperatorCall): Value[] {
  const flat = call.value(0).rank === 3;
  const [queryHeads, keyHeads] = [call.number("q_num_heads", 0), call.number("kv_num_heads", 0)];
  const given = (i: number, heads: number) => (flat ? byHeads(call, call.float(i), heads) : call.float(i));
  const q = given(0, queryHeads);
  const [pastKey, pastValue] = [call.optional(4), call.optional(5)];
  const [ownKey, ownValue] = [given(1, keyHeads), given(2, keyHeads)];
  if ([q, ownKey, ownValue].some(({ rank }) => rank !== 4)) call.refuse("must have inputs of 3 or 4 axes");
  const k = pastKey === undefined ? ownKey : concat([pastKey, ownKey], 2);
  const v = pastValue === undefined ? ownValue : concat([pastValue, ownValue], 2);
  const [batch, heads, queries, size] = q.shape as [number, number, number, number];
  const [, groups, keys] = k.shape as [number, number, number, number];
  if (heads % groups !== 0) call.refuse(`must have heads of queries in groups, has ${heads} to ${groups} of keys`);
  const rows = (heads / groups) * queries;
  const scale = call.number("scale", 1 / Math.sqrt(size));
  const raw = mul(matmul(reshape(q, [batch, groups, rows, size]), k, { transposeB: true }), scale);
  const scores = reshape(raw, [batch, heads, queries, keys]);
  const cap = call.number("softcap", 0);
  const capped = cap > 0 ? mul(tanh(mul(scores, 1 / cap)), cap) : scores;
  const { bias, mayBeBlind } = biasOf(call, queries, keys, pastKey?.shape[2] ?? 0);
  const biased = bias === undefined ? capped : add(capped, bias);
  // Scores of a query that sees nothing are put aside before the softmax, whose gradient would be NaN.
  const blind = mayBeBlind ? equal(max(bias!, { axis: -1, keepDims: true }), LOW) : undefined;
  const zero = full(call.place.device, [], 0);
  const sure = blind === undefined ? biased : where(blind, zero, biased);
  const found = softmax(sure, { axis: -1 });
  const weights = blind === undefined ? found : where(blind, zero, found);
  const y = reshape(matmul(reshape(weights, [batch, groups, rows, keys]), v), [batch, heads, queries, v.shape[3]!]);
  const seen = () => [scores, capped, biased, weights][call.number("qk_matmul_output_mode", 0)];
  return [
    call.like(0, flat ? joined(y) : y),
    call.like(1, k),
    call.like(2, v),
    ...(call.outputs > 3 ? [call.like(0, seen() ?? call.refuse("must have a qk_matmul_output_mode of 0 to 3"))] : []),
  ];
}

/** Pairs of elements turned by the angles of their place: halves of the last axis, or neighbours. */
function rotated(call: OperatorCall): Value {
  const given = call.float(0);
  const flat = given.rank === 3;
  const heads = call.number("num_heads", 0);
  const x = flat ? reshape(given, [...given.shape.slice(0, 2), heads, given.shape[2]! / heads]) : given;
  const size = x.shape.at(-1)!;
  const turned = call.number("rotary_embedding_dim", 0) || size;
  const half = turned / 2;
  const angles = (i: number) => {
    const table = call.float(i);
    const picked = call.has(3) ? gather(table, cast(call.tensor(3), "i32")) : table;
    if (picked.shape.at(-1) !== half) call.refuse(`must have ${half} angles for each place, has [${table.shape}]`);
    return expandDims(picked, flat ? 2 : 1);
  };
  const [cos, sin] = [angles(1), angles(2)];
  const apart = call.flag("interleaved");
  const part = (from: number, count: number, step = 1) => {
    const begin = [...x.shape.slice(0, -1).map(() => 0), from];
    const wanted = [...x.shape.slice(0, -1), count];
    return step === 1
      ? slice(x, begin, wanted)
      : strided(x, begin, wanted, [...wanted.slice(0, -1).map(() => 1), step]);
  };
  const [a, b] = apart ? [part(0, half, 2), part(1, half, 2)] : [part(0, half), part(half, half)];
  const [real, imaginary] = [sub(mul(cos, a), mul(sin, b)), add(mul(sin, a), mul(cos, b))];
  const both = apart
    ? reshape(concat([expandDims(real, -1), expandDims(imaginary, -1)], -1), [...x.shape.slice(0, -1), turned])
    : concat([real, imaginary], -1);
  const y = turned === size ? both : concat([both, part(turned, size - turned)], -1);
  return call.like(0, reshape(y, given.shape));
}

/**
 * Attention without softmax: a state [keys, values] of each head is read by queries, after it was decayed and had the
 * outer product of key and value added, in the order of time.
 */
function linear(call: OperatorCall): Value[] {
  const rules = ["linear", "gated", "delta", "gated_delta"] as const;
  const rule = call.choice("update_rule", rules, "gated_delta");
  const [queryHeads, heads] = [call.number("q_num_heads"), call.number("kv_num_heads")];
  const q = byHeads(call, call.float(0), queryHeads);
  const [k, v] = [byHeads(call, call.float(1), heads), byHeads(call, call.float(2), heads)];
  const [batch, , time, size] = q.shape as [number, number, number, number];
  const values = v.shape[3]!;
  const decay = rule.startsWith("gated") ? exp(byHeads(call, call.float(4), heads)) : undefined;
  const own = call.optional(5);
  const beta = rule.endsWith("delta") && own !== undefined ? byHeads(call, own, own.shape[2]!) : undefined;
  if (rule.endsWith("delta") && beta === undefined) call.refuse("must have a beta, input 5");
  const scale = call.number("scale", 0) || 1 / Math.sqrt(size);
  let state = call.optional(3) ?? full(call.place.device, [batch, heads, size, values], 0);
  const results: Tensor[] = [];
  for (let t = 0; t < time; t++) {
    const key = at(k, 2, t);
    let value = at(v, 2, t);
    if (decay !== undefined) state = mul(state, expandDims(at(decay, 2, t), -1));
    if (beta !== undefined) {
      const known = reshape(matmul(expandDims(key, 2), state), value.shape);
      value = mul(at(beta, 2, t), sub(value, known));
    }
    state = add(state, mul(expandDims(key, 3), expandDims(value, 2)));
    const query = reshape(at(q, 2, t), [batch, heads, queryHeads / heads, size]);
    results.push(reshape(matmul(query, state), [batch, queryHeads, 1, values]));
  }
  const y = mul(concat(results, 2), scale);
  return [call.like(0, joined(y)), call.like(call.has(3) ? 3 : 0, state)];
}

/** Each channel by itself, from what was before each place; the last inputs are the state of the next call. */
function causal(call: OperatorCall): Value[] {
  const [x, w, bias] = [call.float(0), call.float(1), call.optional(2)];
  const [batch, channels] = x.shape as [number, number, number];
  const kernel = w.shape[2]!;
  const before = call.optional(3) ?? full(x.device, [batch, channels, kernel - 1], 0);
  const whole = kernel === 1 ? x : concat([before, x], 2);
  const length = whole.shape[2]!;
  const along = { input: length, kernel, stride: 1, dilation: 1, pads: [0, 0] as const, output: length - kernel + 1 };
  const y = fromLast(convolution(toLast(whole), transpose(w, [2, 1, 0]), [along], { group: channels, bias }));
  const active = call.choice("activation", ["none", "silu", "swish"], "none");
  const state = slice(whole, [0, 0, length - kernel + 1], [batch, channels, kernel - 1]);
  return [call.like(0, active === "none" ? y : swish(y)), call.like(0, state)];
}

/** A cache with rows replaced, along an axis, from a place of its own for each sample. */
function cached(call: OperatorCall): Value {
  const [past, update] = [call.tensor(0), call.tensor(1)];
  const axis = call.axis(call.number("axis", -2), past.rank);
  if (axis === 0) call.refuse("must have an axis behind the batch");
  const order = [0, axis, ...past.shape.map((_, k) => k).filter((k) => k !== 0 && k !== axis)];
  const [cache, rows] = [transpose(past, order), transpose(update, order)];
  const [batch, size] = cache.shape as [number, number];
  const count = rows.shape[1]!;
  const numbers = (n: number, step: number, shape: Shape) =>
    tensor(
      past.device,
      Int32Array.from({ length: n }, (_, k) => k * step),
      { shape },
    );
  const places = numbers(size, 1, [1, size]);
  const begin = call.has(2) ? reshape(cast(call.tensor(2), "i32"), [batch, 1]) : numbers(batch, 0, [batch, 1]);
  const from = sub(places, begin);
  const circular = call.choice("mode", ["linear", "circular"], "linear") === "circular";
  const row = circular ? where(less(from, 0), add(from, size), from) : from;
  const isNew = mul(greaterEqual(row, 0), less(row, count));
  const flat = add(where(isNew, row, numbers(1, 0, [])), numbers(batch, count, [batch, 1]));
  const picked = gather(reshape(rows, [batch * count, sizeOf(rows.shape.slice(2))]), flat);
  const y = where(
    reshape(isNew, [batch, size, ...cache.shape.slice(2).map(() => 1)]),
    reshape(picked, cache.shape),
    cache,
  );
  const back = order.map((_, k) => order.indexOf(k));
  return call.like(0, transpose(y, back));
}

export const sequences: Operators = {
  Attention: attention,
  RotaryEmbedding: rotated,
  LinearAttention: linear,
  CausalConvWithState: causal,
  TensorScatter: cached,
  SwiGLU: (call) => {
    const [a, b, alpha] = [call.float(0), call.float(1), call.number("alpha", 1)];
    return call.like(0, mul(alpha === 1 ? swish(a) : mul(a, sigmoid(mul(a, alpha))), b));
  },
};
