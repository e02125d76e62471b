// Weights for libraries that want images as [N, C, H, W] and kernels as [out, in, kh, kw], and back. Rows of a dense
// kernel behind a flattened image [H, W, C] change their order, too.

/** Axes of `values` [shape] in another order. */
function permuted(values, shape, axes) {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const to = axes.map((axis) => shape[axis]);
  const steps = axes.map((axis) => strides[axis]);
  const out = new Float32Array(values.length);
  const index = to.map(() => 0);
  for (let i = 0, from = 0; i < out.length; i++) {
    out[i] = values[from];
    for (let axis = to.length - 1; axis >= 0; axis--) {
      from += steps[axis];
      if (++index[axis] < to[axis]) break;
      from -= steps[axis] * to[axis];
      index[axis] = 0;
    }
  }
  return out;
}

/**
 * How each weight of a task is arranged: `from` its shape and `axes` their order there, `shape` what the library gets.
 */
export function arrangements({ layers, weights }) {
  const behindImage = new Map(
    layers.slice(1).flatMap(({ name }, i) => {
      const before = layers[i];
      return before.className === "Flatten" && before.inputShape.length === 3 ? [[name, before.inputShape]] : [];
    }),
  );
  return weights.map(({ name, shape, trainable }) => {
    const image = behindImage.get(name.split("/")[0]);
    const identity = { name, trainable, shape, from: shape, axes: shape.map((_, axis) => axis) };
    if (shape.length === 4) return { ...identity, axes: [3, 2, 0, 1], shape: [shape[3], shape[2], shape[0], shape[1]] };
    if (shape.length === 2 && image) return { ...identity, from: [...image, shape[1]], axes: [2, 0, 1, 3] };
    return identity;
  });
}

export const arranged = (values, { from, axes }) => permuted(values, from, axes);

export function restored(values, { from, axes }) {
  const there = axes.map((axis) => from[axis]);
  return permuted(
    values,
    there,
    from.map((_, axis) => axes.indexOf(axis)),
  );
}
