// The CPU reference device: kernels run at once, f32 tensors hold float64. It defines what is right; it is not fast.
import { type Changing, countKernel, Device, type MemoryInfo, Storage, valueNow } from "./device.js";
import { type DType, referenceArray, type TypedArray } from "./dtype.js";
import { DeviceError } from "./errors.js";
import type { CpuView, Kernel } from "./kernel.js";
import type { Tensor } from "./tensor.js";

class CpuStorage extends Storage {
  data: Float64Array | Int32Array | Uint32Array;
  constructor(
    override readonly device: CpuDevice,
    dtype: DType,
    size: number,
  ) {
    super(device, dtype, size);
    this.data = referenceArray(dtype, size);
  }

  protected free(): void {
    this.device.forget(this.data.byteLength);
    this.data = referenceArray(this.dtype, 0);
  }
}

export class CpuDevice extends Device {
  readonly kind = "cpu";
  /** 2 GiB of float64, which machines have that run the reference. */
  readonly mostElements = 2 ** 28;
  private readonly info: MemoryInfo = { liveBytes: 0, pooledBytes: 0, peakBytes: 0, liveCount: 0 };
  private closed = false;

  /** @internal */
  allocate(dtype: DType, size: number): Storage {
    if (this.closed) throw new DeviceError("CLOSED", "cpu device: used after destroy(); open a new device");
    const storage = new CpuStorage(this, dtype, size);
    this.info.liveBytes += storage.data.byteLength;
    this.info.liveCount++;
    this.info.peakBytes = Math.max(this.info.peakBytes, this.info.liveBytes);
    return storage;
  }

  /** Called by a storage whose last reference went. @internal */
  forget(bytes: number): void {
    this.info.liveBytes -= bytes;
    this.info.liveCount--;
  }

  /** @internal */
  write(storage: Storage, values: ArrayLike<number>): void {
    (storage as CpuStorage).data.set(values);
  }

  /** @internal */
  async read(storage: Storage): Promise<TypedArray> {
    return this.elements(storage).slice();
  }

  /** What a storage holds, at once and not copied: here nothing has to be waited for. @internal */
  elements(storage: Storage): TypedArray {
    return (storage as CpuStorage).data;
  }

  /** @internal */
  run<Params>(
    kernel: Kernel<Params>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    params: Changing<Params>,
  ): void {
    countKernel(this.counters, kernel.name);
    kernel.cpu({ inputs: inputs.map(view), outputs: outputs.map(view), params: valueNow(params) });
  }

  async flush(): Promise<void> {}
  async sync(): Promise<void> {}

  memory(): MemoryInfo {
    return { ...this.info };
  }

  destroy(): void {
    this.closed = true;
  }
}

function view(tensor: Tensor): CpuView {
  return {
    shape: tensor.shape,
    dtype: tensor.dtype,
    size: tensor.size,
    data: (tensor.storage as CpuStorage).data.subarray(0, tensor.size),
  };
}
