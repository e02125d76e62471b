// The error classes of the project. Messages read `op: what was required, what was given; what to do`.
// The command line maps UsageError and DataError to exit code 2 and everything else to exit code 1.

/** Base class of every error that Kilograd raises on purpose; `code` is stable and meant for programs. */
export class KilogradError extends Error {
  override readonly name: string = "KilogradError";
  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What the caller gave is wrong: an unknown name, an option out of range, a file that does not fit. */
export class UsageError extends KilogradError {
  override readonly name = "UsageError";
  constructor(message: string, options?: ErrorOptions) {
    super("USAGE", message, options);
  }
}

/** A data file or download is missing, damaged or of a foreign format. */
export class DataError extends KilogradError {
  override readonly name = "DataError";
  constructor(message: string, options?: ErrorOptions) {
    super("DATA", message, options);
  }
}

/** Shapes, axes or dtypes that do not fit an operation. */
export class ShapeError extends KilogradError {
  override readonly name = "ShapeError";
  constructor(message: string, options?: ErrorOptions) {
    super("SHAPE", message, options);
  }
}

/** A tensor was used after `dispose()`, or a tape after `backward()` had freed it. */
export class DisposedError extends KilogradError {
  override readonly name = "DisposedError";
  constructor(message: string, options?: ErrorOptions) {
    super("DISPOSED", message, options);
  }
}

/** No adapter, a refused adapter, a lost device, or a WebGPU validation error. */
export class DeviceError extends KilogradError {
  override readonly name = "DeviceError";
  constructor(
    code: "NO_ADAPTER" | "DEVICE_LOST" | "VALIDATION" | "OUT_OF_MEMORY" | "LIMIT" | "CLOSED",
    message: string,
    options?: ErrorOptions,
  ) {
    super(code, message, options);
  }
}
