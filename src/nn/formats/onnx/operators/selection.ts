// Operators whose results have as many elements as their inputs say: they run on what is known before anything is
// computed. And counts of runs of numbers in texts.
import { add, cast, equal, greater, mul } from "../../../../autograd/ops/elementwise.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { min, sum } from "../../../../autograd/ops/reduce.js";
import { concat, expandDims, reshape, slice } from "../../../../autograd/ops/transform.js";
import { sizeOf } from "../../../../tensor/shape.js";
import { type Tensor, tensor } from "../../../../tensor/tensor.js";
import { Value } from "../value.js";
import type { OperatorCall, Operators } from "./call.js";

/** Distinct elements, or slices along an axis: themselves, where each is first, where each went, how many there are. */
function distinct(call: OperatorCall): Value[] {
  const { type, shape } = call.value(0);
  const data = call.host(0);
  const axis = call.given("axis") ? call.axis(call.number("axis"), shape.length) : undefined;
  const count = axis === undefined ? data.length : shape[axis]!;
  const inner = axis === undefined ? 1 : sizeOf(shape.slice(axis + 1));
  const outer = axis === undefined ? 1 : sizeOf(shape.slice(0, axis));
  /** The elements of slice i, in their order. */
  const sliceAt = (i: number) =>
    Array.from({ length: outer * inner }, (_, k) => data[(Math.floor(k / inner) * count + i) * inner + (k % inner)]!);
  const slices = Array.from({ length: count }, (_, i) => sliceAt(i));
  const groups = new Map<string, { at: number; count: number; values: number[] }>();
  const keys = slices.map((values) => values.join());
  for (const [i, key] of keys.entries()) {
    const found = groups.get(key);
    if (found === undefined) groups.set(key, { at: i, count: 1, values: slices[i]! });
    else found.count++;
  }
  const order = [...groups.entries()];
  if (call.flag("sorted", 1)) {
    order.sort(([, a], [, b]) => {
      const k = a.values.findIndex((value, i) => value !== b.values[i]);
      return k < 0 ? 0 : a.values[k]! - b.values[k]!;
    });
  }
  const place = new Map(order.map(([key], i) => [key, i]));
  const found = order.map(([, group]) => group);
  const flat = new Float64Array(outer * found.length * inner);
  for (const [i, { values }] of found.entries()) {
    for (const [k, value] of values.entries()) {
      flat[(Math.floor(k / inner) * found.length + i) * inner + (k % inner)] = value;
    }
  }
  const ints = (values: number[]) => Value.of("int64", [values.length], values);
  return [
    Value.of(type, axis === undefined ? [found.length] : shape.with(axis, found.length), flat),
    ints(found.map(({ at }) => at)),
    ints(keys.map((key) => place.get(key)!)),
    ints(found.map((each) => each.count)),
  ];
}

/** Boxes by their scores, without those that overlap one that was taken: rows of batch, class and box. */
function suppressed(call: OperatorCall): Value {
  const [boxes, scores] = [call.host(0), call.host(1)];
  const [batches, classes, count] = call.value(1).shape as [number, number, number];
  const [most, threshold, lowest] = [call.scalar(2, 0), call.scalar(3, 0), call.scalar(4, Number.NEGATIVE_INFINITY)];
  const centred = call.flag("center_point_box");
  /** [top, left, bottom, right] */
  const corners = (batch: number, box: number): [number, number, number, number] => {
    const [a, b, c, d] = boxes.slice((batch * count + box) * 4, (batch * count + box) * 4 + 4) as [
      number,
      number,
      number,
      number,
    ];
    if (centred) return [b - d / 2, a - c / 2, b + d / 2, a + c / 2];
    return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
  };
  const area = ([top, left, bottom, right]: readonly number[]) => (bottom! - top!) * (right! - left!);
  const overlap = (a: readonly number[], b: readonly number[]): number => {
    const height = Math.min(a[2]!, b[2]!) - Math.max(a[0]!, b[0]!);
    const width = Math.min(a[3]!, b[3]!) - Math.max(a[1]!, b[1]!);
    if (!(height > 0 && width > 0) || area(a) <= 0 || area(b) <= 0) return 0;
    return (height * width) / (area(a) + area(b) - height * width);
  };
  const rows: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    for (let k = 0; k < classes; k++) {
      const own = scores.slice((batch * classes + k) * count, (batch * classes + k + 1) * count);
      const order = own
        .flatMap((score, box) => (score > lowest ? [box] : []))
        .sort((a, b) => own[b]! - own[a]! || a - b);
      const taken: (readonly number[])[] = [];
      for (const box of order) {
        if (taken.length >= most) break;
        const place = corners(batch, box);
        if (taken.some((each) => overlap(each, place) > threshold)) continue;
        taken.push(place);
        rows.push(batch, k, box);
      }
    }
  }
  return Value.of("int64", [rows.length / 3, 3], rows);
}

/** Most comparisons of a row with runs. */
const MOST_COMPARED = 2 ** 24;

/** How often runs of numbers stand in rows [N, C], with gaps up to some size, weighted. */
function runs(call: OperatorCall): Value {
  const { shape } = call.value(0);
  const flat = shape.length < 2;
  const given = cast(call.tensor(0), "f32");
  const x = reshape(given, [flat ? 1 : shape[0]!, flat ? given.size : shape[1]!]);
  const [rows, length] = x.shape as [number, number];
  const list = (name: string) => call.numbers(name) ?? call.refuse(`must have ${name}`);
  const [pool, counts, places] = [list("pool_int64s"), list("ngram_counts"), list("ngram_indexes")];
  const [least, most, skips] = [
    call.number("min_gram_length"),
    call.number("max_gram_length"),
    call.number("max_skip_count"),
  ];
  const size = Math.max(...places) + 1;
  let total: Tensor = tensor(x.device, new Float32Array(rows * size), { shape: [rows, size] });
  let number = 0;
  for (const [k, begin] of counts.entries()) {
    const gram = k + 1;
    const items = pool.slice(begin, counts[k + 1] ?? pool.length);
    const count = Math.floor(items.length / gram);
    const own = places.slice(number, number + count);
    number += count;
    if (count === 0 || gram < least || gram > most) continue;
    const wanted = tensor(x.device, Float32Array.from(items.slice(0, count * gram)), { shape: [1, 1, count, gram] });
    const target = new Float32Array(count * size);
    for (const [i, place] of own.entries()) target[i * size + place] = 1;
    const spots = tensor(x.device, target, { shape: [count, size] });
    // Single numbers are counted once, whatever the gaps.
    for (let step = 1; step <= (gram === 1 ? 1 : skips + 1); step++) {
      const starts = length - step * (gram - 1);
      if (starts <= 0) break;
      if (starts * count * gram > MOST_COMPARED) call.refuse(`must compare at most ${MOST_COMPARED} numbers a row`);
      const windows = concat(
        Array.from({ length: gram }, (_, i) => expandDims(slice(x, [0, i * step], [rows, starts]), -1)),
        -1,
      );
      const hits = min(cast(equal(expandDims(windows, 2), wanted), "f32"), { axes: [3] });
      total = add(total, matmul(sum(hits, { axes: [1] }), spots));
    }
  }
  const mode = call.choice("mode", ["TF", "IDF", "TFIDF"], "TF");
  const weights = call.numbers("weights");
  const counted = mode === "IDF" ? cast(greater(total, 0), "f32") : total;
  let y = counted;
  if (mode !== "TF" && weights !== undefined) {
    const factors = new Float32Array(size);
    for (const [i, place] of places.entries()) factors[place] = weights[i] ?? 1;
    y = mul(counted, tensor(x.device, factors));
  }
  return call.make("float32", flat ? reshape(y, [size]) : y);
}

export const selection: Operators = {
  Unique: distinct,
  NonMaxSuppression: suppressed,
  TfIdfVectorizer: runs,
};
