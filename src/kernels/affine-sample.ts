// Images sampled along an affine map, which rotates, enlarges or shears them, and the transposed map, which is its
// gradient. x [N, H, W, C]; the matrix [6] is a, b, c, d, e, f of
//
//   row = a r + b s + c,  column = d r + e s + f,
//
// for the row r and the column s of the result and those of the source, all counted from the middle of the image. A
// value is taken from the four pixels around its place, by the product of 1 - distance along both axes; beyond the
// edges is 0.
import { defineKernel } from "../tensor/kernel.js";
import { boxLoop } from "./box.js";

type None = Readonly<Record<never, never>>;

/** Where pixel (i, j) of the result lies in the source. */
function placeOf(m: ArrayLike<number>, height: number, width: number, i: number, j: number): [number, number] {
  const [middleRow, middleColumn] = [(height - 1) / 2, (width - 1) / 2];
  const [r, s] = [i - middleRow, j - middleColumn];
  return [m[0]! * r + m[1]! * s + m[2]! + middleRow, m[3]! * r + m[4]! * s + m[5]! + middleColumn];
}

/** Calls `use(i, j, p, q, weight)` for every pixel (p, q) that goes into pixel (i, j). */
function forEachShare(
  m: ArrayLike<number>,
  height: number,
  width: number,
  use: (i: number, j: number, p: number, q: number, weight: number) => void,
): void {
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const [row, column] = placeOf(m, height, width, i, j);
      for (let p = Math.floor(row); p <= Math.floor(row) + 1; p++) {
        for (let q = Math.floor(column); q <= Math.floor(column) + 1; q++) {
          if (p < 0 || p >= height || q < 0 || q >= width) continue;
          use(i, j, p, q, (1 - Math.abs(row - p)) * (1 - Math.abs(column - q)));
        }
      }
    }
  }
}

/** Parameters and WGSL `place(i, j)` of both kernels. */
const sizesOf = (height: number, width: number) => ({ height, width });
const PLACE = /* wgsl */ `
fn place(i: u32, j: u32) -> vec2f {
  let middle = 0.5 * vec2f(f32(u.height - 1u), f32(u.width - 1u));
  let at = vec2f(f32(i), f32(j)) - middle;
  return vec2f(m[0] * at.x + m[1] * at.y + m[2], m[3] * at.x + m[4] * at.y + m[5]) + middle;
}`;

/** y from x. Inputs [x f32 [N, H, W, C], matrix f32 [6]], outputs [y like x]. */
export const affineSampleKernel = defineKernel<None>({
  name: "affineSample",
  cpu: ({ inputs: [x, m], outputs: [y] }) => {
    const [count, height, width, channels] = x!.shape as [number, number, number, number];
    y!.data.fill(0);
    for (let n = 0; n < count; n++) {
      forEachShare(m!.data, height, width, (i, j, p, q, weight) => {
        const [to, from] = [(n * height + i) * width + j, (n * height + p) * width + q];
        for (let c = 0; c < channels; c++) y!.data[to * channels + c]! += weight * x!.data[from * channels + c]!;
      });
    }
  },
  webgpu: (call) => {
    const [x, m] = call.inputs;
    const [, height, width] = x!.shape as [number, number, number, number];
    const loop = boxLoop(call.profile, x!.shape);
    call.dispatch({
      key: "",
      program: () => ({
        workgroupSize: loop.workgroupSize,
        declarations: `${PLACE}
fn pixel(n: u32, p: i32, q: i32, c: u32) -> f32 {
  if (p < 0i || p >= i32(u.height) || q < 0i || q >= i32(u.width)) { return 0.0; }
  return x[((n * u.height + u32(p)) * u.width + u32(q)) * u.extent3 + c];
}`,
        body: loop.body(/* wgsl */ `let at = place(c1, c2);
    let low = floor(at);
    let share = at - low;
    let p = i32(low.x);
    let q = i32(low.y);
    y[i] = (1.0 - share.x) * ((1.0 - share.y) * pixel(c0, p, q, c3) + share.y * pixel(c0, p, q + 1i, c3))
      + share.x * ((1.0 - share.y) * pixel(c0, p + 1i, q, c3) + share.y * pixel(c0, p + 1i, q + 1i, c3));`),
      }),
      bindings: [
        { name: "x", view: x!, type: "f32" },
        { name: "m", view: m!, type: "f32" },
        { name: "y", view: call.outputs[0]!, type: "f32", access: "read_write" },
      ],
      sizes: { ...loop.sizes, ...sizesOf(height, width) },
      workgroups: loop.workgroups,
    });
  },
});

/**
 * dx from dy. Each pixel of the source looks for those of the result that it went into. It looks in the box that the
 * inverse map makes of its neighbourhood. No atomics: the same bits every time. Inputs [dy f32 [N, H, W, C], matrix f32
 * [6]], outputs [dx like dy].
 */
export const affineSampleGradientKernel = defineKernel<None>({
  name: "affineSampleGradient",
  cpu: ({ inputs: [dy, m], outputs: [dx] }) => {
    const [count, height, width, channels] = dy!.shape as [number, number, number, number];
    dx!.data.fill(0);
    for (let n = 0; n < count; n++) {
      forEachShare(m!.data, height, width, (i, j, p, q, weight) => {
        const [from, to] = [(n * height + i) * width + j, (n * height + p) * width + q];
        for (let c = 0; c < channels; c++) dx!.data[to * channels + c]! += weight * dy!.data[from * channels + c]!;
      });
    }
  },
  webgpu: (call) => {
    const [dy, m] = call.inputs;
    const [, height, width] = dy!.shape as [number, number, number, number];
    const loop = boxLoop(call.profile, dy!.shape);
    call.dispatch({
      key: "",
      program: () => ({
        workgroupSize: loop.workgroupSize,
        declarations: PLACE,
        body: loop.body(/* wgsl */ `let middle = 0.5 * vec2f(f32(u.height - 1u), f32(u.width - 1u));
    let most = vec2f(f32(u.height - 1u), f32(u.width - 1u));
    let determinant = m[0] * m[4] - m[1] * m[3];
    let shifted = vec2f(f32(c1) - m[2], f32(c2) - m[5]) - middle;
    let center = vec2f(m[4] * shifted.x - m[1] * shifted.y, m[0] * shifted.y - m[3] * shifted.x) / determinant + middle;
    let reach = vec2f(abs(m[4]) + abs(m[1]), abs(m[3]) + abs(m[0])) / abs(determinant);
    // Where the map has no inverse, all pixels may be among them.
    let inverse = abs(determinant) > 1e-6;
    let first = select(vec2f(0.0), clamp(floor(center - reach), vec2f(0.0), most + 1.0), inverse);
    let last = select(most, clamp(ceil(center + reach), vec2f(-1.0), most), inverse);
    var sum = 0.0;
    for (var r = i32(first.x); r <= i32(last.x); r++) {
      for (var s = i32(first.y); s <= i32(last.y); s++) {
        let away = abs(place(u32(r), u32(s)) - vec2f(f32(c1), f32(c2)));
        if (max(away.x, away.y) < 1.0) {
          let weight = (1.0 - away.x) * (1.0 - away.y);
          sum += weight * dy[((c0 * u.height + u32(r)) * u.width + u32(s)) * u.extent3 + c3];
        }
      }
    }
    dx[i] = sum;`),
      }),
      bindings: [
        { name: "dy", view: dy!, type: "f32" },
        { name: "m", view: m!, type: "f32" },
        { name: "dx", view: call.outputs[0]!, type: "f32", access: "read_write" },
      ],
      sizes: { ...loop.sizes, ...sizesOf(height, width) },
      workgroups: loop.workgroups,
    });
  },
});
