// Recurrent operators, step by step over time: each step is made of products and activations, so that they train.
//
// X is [time, batch, inputs], or [batch, time, inputs] with layout 1. W [directions, gates * hidden, inputs] is for
// inputs, R [directions, gates * hidden, hidden] for the state, B [directions, 2 * gates * hidden] for both.
import { full } from "../../../../autograd/ops/create.js";
import {
  abs,
  add,
  cast,
  clip,
  div,
  elu,
  greater,
  leakyRelu,
  less,
  mul,
  relu,
  sigmoid,
  softplus,
  sub,
  tanh,
  where,
} from "../../../../autograd/ops/elementwise.js";
import { matmul } from "../../../../autograd/ops/matmul.js";
import { split } from "../../../../autograd/ops/tile.js";
import { concat, expandDims, reshape, slice, transpose } from "../../../../autograd/ops/transform.js";
import type { Tensor } from "../../../../tensor/tensor.js";
import type { Value } from "../value.js";
import type { Operator, OperatorCall, Operators } from "./call.js";

type Activation = (x: Tensor) => Tensor;

/** Activations by their names in lower case, with the numbers that files give them. */
const ACTIVATIONS: Readonly<
  Record<string, { standard?: readonly [number, number?]; make: (a: number, b: number) => Activation }>
> = {
  relu: { make: () => relu },
  tanh: { make: () => tanh },
  sigmoid: { make: () => sigmoid },
  affine: { standard: [1, 0], make: (a, b) => (x) => add(mul(x, a), b) },
  leakyrelu: { standard: [0.01], make: (a) => (x) => leakyRelu(x, { negativeSlope: a }) },
  thresholdedrelu: { standard: [1], make: (a) => (x) => where(greater(x, a), x, full(x.device, [], 0)) },
  scaledtanh: { standard: [1, 1], make: (a, b) => (x) => mul(tanh(mul(x, b)), a) },
  hardsigmoid: { standard: [0.2, 0.5], make: (a, b) => (x) => clip(add(mul(x, a), b), 0, 1) },
  elu: { standard: [1], make: (a) => (x) => elu(x, { alpha: a }) },
  softsign: { make: () => (x) => div(x, add(abs(x), 1)) },
  softplus: { make: () => softplus },
};

/** All activations of all directions, in their order. */
function activationsOf(call: OperatorCall, standard: readonly string[], directions: number): Activation[] {
  const given = call.attribute("activations") as readonly string[] | undefined;
  const names = given?.length ? given : Array.from({ length: directions }, () => standard).flat();
  if (names.length !== standard.length * directions) {
    call.refuse(`must have ${standard.length * directions} activations, has ${names.length}`);
  }
  const [alphas, betas] = [call.numbers("activation_alpha") ?? [], call.numbers("activation_beta") ?? []];
  let [a, b] = [0, 0];
  return names.map((name) => {
    const key = `${name}`.toLowerCase();
    const found = Object.hasOwn(ACTIVATIONS, key) ? ACTIVATIONS[key]! : call.refuse(`has no activation "${name}"`);
    const [alpha, beta] = found.standard ?? [];
    // Numbers are given for those activations that have some.
    const first = alpha === undefined ? 0 : (alphas[a++] ?? alpha);
    const second = beta === undefined ? 0 : (betas[b++] ?? beta);
    return found.make(first, second);
  });
}

/** One direction's parts. */
interface Direction {
  readonly w: Tensor;
  readonly r: Tensor;
  /** Biases of the inputs' products and of the state's. */
  readonly biases: readonly [Tensor, Tensor] | undefined;
  readonly peepholes: Tensor | undefined;
  readonly activations: readonly Activation[];
  readonly hidden: number;
  readonly limit: (x: Tensor) => Tensor;
}

/** The states after a step, of which the first is the output. */
type Step = (call: OperatorCall, inputs: Tensor, states: readonly Tensor[], direction: Direction) => Tensor[];

const without = (x: Tensor, axis: number) => reshape(x, x.shape.toSpliced(axis, 1));
const one = (x: Tensor, axis: number, i: number) =>
  without(
    slice(
      x,
      x.shape.map((_, k) => (k === axis ? i : 0)),
      x.shape.with(axis, 1),
    ),
    axis,
  );

function recurrent(gates: number, states: number, standard: readonly string[], step: Step): Operator {
  return (call): Value[] => {
    const batchFirst = call.flag("layout");
    const given = call.float(0);
    const x = batchFirst ? transpose(given, [1, 0, 2]) : given;
    const [w, r, b] = [call.float(1), call.float(2), call.optional(3)];
    const [time, batch, width] = x.shape as [number, number, number];
    const [directions, rows, hidden] = r.shape as [number, number, number];
    const word = call.choice("direction", ["forward", "reverse", "bidirectional"], "forward");
    if (directions !== (word === "bidirectional" ? 2 : 1) || rows !== gates * hidden || w.shape[2] !== width) {
      call.refuse(`must have weights of ${word} for ${width} inputs, has w [${w.shape}], r [${r.shape}]`);
    }
    const lengths = call.has(4) ? reshape(cast(call.tensor(4), "f32"), [batch, 1]) : undefined;
    const peepholes = states === 2 ? call.optional(7) : undefined;
    const activations = activationsOf(call, standard, directions);
    const most = call.number("clip", 0);
    const limit = most > 0 ? (x: Tensor) => clip(x, -most, most) : (x: Tensor) => x;
    const initial = Array.from({ length: states }, (_, k) => {
      const own = call.optional(5 + k);
      return own === undefined || !batchFirst ? own : transpose(own, [1, 0, 2]);
    });
    const zero = full(x.device, [], 0);
    const all = Array.from({ length: directions }, (_, d) => {
      const backwards = word === "reverse" || d === 1;
      const own = b && (split(one(b, 0, d), 2, 0) as [Tensor, Tensor]);
      const direction: Direction = {
        w: one(w, 0, d),
        r: one(r, 0, d),
        biases: own,
        peepholes: peepholes && one(peepholes, 0, d),
        activations: activations.slice(d * standard.length, (d + 1) * standard.length),
        hidden,
        limit,
      };
      // All products of inputs are one.
      const products = reshape(matmul(reshape(x, [time * batch, width]), direction.w, { transposeB: true }), [
        time,
        batch,
        gates * hidden,
      ]);
      const inputs = own === undefined ? products : add(products, own[0]);
      let now = initial.map((each) => (each === undefined ? full(x.device, [batch, hidden], 0) : one(each, 0, d)));
      const outputs = new Array<Tensor>(time);
      for (let i = 0; i < time; i++) {
        const t = backwards ? time - 1 - i : i;
        const next = step(call, one(inputs, 0, t), now, direction);
        if (lengths === undefined) {
          now = next;
          outputs[t] = expandDims(next[0]!, 0);
          continue;
        }
        // Behind a sequence's end its state stays, and what is given is 0.
        const within = less(full(x.device, [], t), lengths);
        now = next.map((state, k) => where(within, state, now[k]!));
        outputs[t] = expandDims(where(within, next[0]!, zero), 0);
      }
      return { y: expandDims(concat(outputs, 0), 1), last: now.map((state) => expandDims(state, 0)) };
    });
    const y = concat(
      all.map((each) => each.y),
      1,
    );
    const last = Array.from({ length: states }, (_, k) =>
      concat(
        all.map((each) => each.last[k]!),
        0,
      ),
    );
    const turned = last.map((each) => call.like(0, batchFirst ? transpose(each, [1, 0, 2]) : each));
    return [call.like(0, batchFirst ? transpose(y, [2, 0, 1, 3]) : y), ...turned];
  };
}

const withState = (state: Tensor, { r, biases, limit }: Direction) => {
  const y = matmul(state, r, { transposeB: true });
  return { products: biases === undefined ? y : add(y, biases[1]), limit };
};

/** h' = f(x w + h r + b). */
const simple: Step = (_, inputs, [h], direction) => {
  const { products, limit } = withState(h!, direction);
  return [direction.activations[0]!(limit(add(inputs, products)))];
};

/** Gates update, reset and hidden: h' = (1 - z) g + z h. */
const gated: Step = (call, inputs, [h], direction) => {
  const { activations, biases, hidden, r, limit } = direction;
  const [f, g] = activations as [Activation, Activation];
  const [inputZ, inputR, inputH] = split(inputs, 3, -1) as [Tensor, Tensor, Tensor];
  const [stateZ, stateR, stateH] = split(withState(h!, direction).products, 3, -1) as [Tensor, Tensor, Tensor];
  const z = f(limit(add(inputZ, stateZ)));
  const reset = f(limit(add(inputR, stateR)));
  const candidate = () => {
    if (call.flag("linear_before_reset")) return mul(reset, stateH);
    const own = slice(r, [2 * hidden, 0], [hidden, hidden]);
    const y = matmul(mul(reset, h!), own, { transposeB: true });
    return biases === undefined ? y : add(y, slice(biases[1], [2 * hidden], [hidden]));
  };
  const found = g(limit(add(inputH, candidate())));
  return [add(mul(sub(1, z), found), mul(z, h!))];
};

/** Gates input, output, forget and cell; peepholes see the cell's state. */
const long: Step = (call, inputs, [h, c], direction) => {
  const { activations, hidden, peepholes, limit } = direction;
  const [f, g, last] = activations as [Activation, Activation, Activation];
  const sums = split(add(inputs, withState(h!, direction).products), 4, -1) as [Tensor, Tensor, Tensor, Tensor];
  const seen = (sum: Tensor, k: number, cell: Tensor) =>
    peepholes === undefined ? sum : add(sum, mul(slice(peepholes, [k * hidden], [hidden]), cell));
  const input = f(limit(seen(sums[0], 0, c!)));
  const forget = call.flag("input_forget") ? sub(1, input) : f(limit(seen(sums[2], 2, c!)));
  const cell = add(mul(forget, c!), mul(input, g(limit(sums[3]))));
  const output = f(limit(seen(sums[1], 1, cell)));
  return [mul(output, last(cell)), cell];
};

export const recurrences: Operators = {
  RNN: recurrent(1, 1, ["Tanh"], simple),
  GRU: recurrent(3, 1, ["Sigmoid", "Tanh"], gated),
  LSTM: recurrent(4, 2, ["Sigmoid", "Tanh", "Tanh"], long),
};
