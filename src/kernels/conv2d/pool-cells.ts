// WGSL text about the four cells of a 2 x 2 pooling window (cell = 2 cy + cx), four channels at a time. The fused
// convolution and pooling kernels share it: the maximum with the cell that won, and the gradient on its way back. A
// window's winners are packed into a u32, two bits a channel. A NaN wins its window, of several the last, as in
// PyTorch.
import type { Binding } from "../../webgpu/program.js";
import { isNan, typed } from "../ieee.js";
import type { PooledGradient } from "./route.js";

/** Cells of a window in row-major order. */
export const CELLS = [0, 1, 2, 3].map((cell) => ({ cy: cell >> 1, cx: cell & 1 }));

/**
 * Declares `best`, the maximum of the vec4f `z(cell)` (names), and, if wanted, `packed`: the first cell that has it.
 * Asking each cell whether it is a NaN would cost as much as the maximum itself, so the sum of all is asked, once.
 */
export function maximumWgsl(z: (cell: number) => string, { winner }: { readonly winner: boolean }): string {
  const take = (k: number, won: string) => /* wgsl */ `
      ${winner ? `cell = select(cell, vec4u(${k}u) << vec4u(0u, 2u, 4u, 6u), ${won});` : ""}
      best = select(best, ${z(k)}, ${won});`;
  const others = [1, 2, 3];
  return /* wgsl */ `
      var best = ${z(0)};
      ${winner ? "var cell = vec4u();" : ""}
      ${others.map((k) => `let won${k} = ${z(k)} > best; ${take(k, `won${k}`)}`).join("\n")}
      let all = (${z(0)} + ${z(1)}) + (${z(2)} + ${z(3)});
      if (any((bitcast<vec4u>(all) & vec4u(0x7f800000u)) == vec4u(0x7f800000u))) {
      ${others.map((k) => `let nan${k} = ${typed(isNan(z(k)), "vec4f")}; ${take(k, `nan${k}`)}`).join("\n")}
      }
      ${winner ? "let packed = cell.x | cell.y | cell.z | cell.w;" : ""}`;
}

/** Declares `dz` (vec4f) and `cell` (vec4u) of the window at `at` of the bindings gradients, values and winner. */
export const PASSED_BACK = /* wgsl */ `
      let dz = activationGradient(gradients[at], values[at]);
      let cell = (vec4u(winner[at]) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(3u);`;

/** The bindings that PASSED_BACK reads. */
export function pooledGradientBindings({ dy, y, winner }: PooledGradient): Binding[] {
  return [
    { name: "gradients", view: dy, type: "vec4f" },
    { name: "values", view: y, type: "vec4f" },
    { name: "winner", view: winner, type: "u32" },
  ];
}

/** The part of `dz` that goes to a cell. */
export function partOf(cell: number): string {
  return `select(vec4f(), dz, cell == vec4u(${cell}u))`;
}
