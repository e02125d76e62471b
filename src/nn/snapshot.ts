// Copies of tensors on their device, and putting them back: best weights, and the state before a step.
import { copyKernel } from "../kernels/copy.js";
import { keep } from "../tensor/scope.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";

/** Overwrites `target` with `source`, of the same shape and dtype. */
export const copyInto = (source: Tensor, target: Tensor): void => runInto(copyKernel, [source], [target], {});

/** Copies of named tensors as they were when it was taken, or taken again. */
export class Snapshot {
  readonly copies = new Map<string, Tensor>();

  /** Overwrites the copies with the tensors' current values. */
  take(tensors: Iterable<readonly [string, Tensor]>): void {
    for (const [name, tensor] of tensors) {
      let copy = this.copies.get(name);
      if (copy === undefined) {
        copy = keep(empty(tensor.device, tensor.shape, tensor.dtype));
        this.copies.set(name, copy);
      }
      copyInto(tensor, copy);
    }
  }

  /** Overwrites the tensors with the copies. */
  restore(tensors: Iterable<readonly [string, Tensor]>): void {
    for (const [name, tensor] of tensors) {
      const copy = this.copies.get(name);
      if (copy !== undefined) copyInto(copy, tensor);
    }
  }

  dispose(): void {
    for (const copy of this.copies.values()) copy.dispose();
    this.copies.clear();
  }
}
