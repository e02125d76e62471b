// Copies of tensors on their device, and putting them back: best weights, and the state before a step.
import { copyKernel } from "../kernels/copy.js";
import { keep } from "../tensor/scope.js";
import { empty, runInto, type Tensor } from "../tensor/tensor.js";

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
      runInto(copyKernel, [tensor], [copy], {});
    }
  }

  /** Overwrites the tensors with the copies. */
  restore(tensors: Iterable<readonly [string, Tensor]>): void {
    for (const [name, tensor] of tensors) {
      const copy = this.copies.get(name);
      if (copy !== undefined) runInto(copyKernel, [copy], [tensor], {});
    }
  }

  dispose(): void {
    for (const copy of this.copies.values()) copy.dispose();
    this.copies.clear();
  }
}
