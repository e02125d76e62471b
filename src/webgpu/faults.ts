// What goes wrong on a device, and to whom it belongs. A call that fails costs its own results and what is computed
// from them; reading those raises the call's error. Everything else goes on.
import { DeviceError } from "../tensor/errors.js";
import { formatShape, type Shape } from "../tensor/shape.js";
import type { KernelCall } from "./commands.js";

/** What a tensor's memory holds since the host wrote it or a kernel got it. */
export interface Content {
  /** Why it holds no values: of the call that should have computed them. */
  error: DeviceError | undefined;
}

/** An error as WebGPU reports it. */
export interface Fault {
  readonly code: "VALIDATION" | "OUT_OF_MEMORY";
  readonly reason: string;
  readonly cause?: unknown;
  /** Where the call stands that it was first found for. */
  readonly origin?: { readonly call: KernelCall; readonly stack: string | undefined };
}

/** The error of a call: names it, its shapes and the reason. */
export function callError(call: KernelCall, { code, reason, cause, origin }: Fault): DeviceError {
  const shapes = (views: readonly { readonly shape: Shape }[]) =>
    views.map(({ shape }) => formatShape(shape)).join(", ");
  const message = `${call.kernel} (${shapes(call.inputs)} to ${shapes(call.outputs)}): ${reason}`;
  const error = new DeviceError(code, message, { cause });
  // It arises long after the call.
  if (origin?.call === call)
    error.stack = `${error.name}: ${message}\n${origin.stack?.split("\n").slice(1).join("\n")}`;
  return error;
}

/** Receives what a GPU device reports outside of error scopes, and that it was lost. */
export interface FaultSink {
  report: ((fault: Fault) => void) | undefined;
  lost: ((info: GPUDeviceLostInfo) => void) | undefined;
}

const sinks = new WeakMap<GPUDevice, FaultSink>();

/**
 * Listens to a device, which prints nothing then; one sink a device. Dawn holds these functions as long as its device,
 * and they hold the sink alone: what held the device, too, would keep both for ever.
 */
export function listen(gpu: GPUDevice): FaultSink {
  const known = sinks.get(gpu);
  if (known !== undefined) return known;
  const sink: FaultSink = { report: undefined, lost: undefined };
  sinks.set(gpu, sink);
  gpu.onuncapturederror = (event) => {
    event.preventDefault();
    const { error } = event;
    const code = error instanceof GPUOutOfMemoryError ? "OUT_OF_MEMORY" : "VALIDATION";
    sink.report?.({ code, reason: error.message.trim() });
  };
  gpu.lost.then((info) => sink.lost?.(info));
  return sink;
}

/**
 * Runs calls of WebGPU; gives their result and what Dawn reported of them, which it does at once. Browsers report
 * later.
 */
export function attempt<T>(sink: FaultSink, fn: () => T): { readonly value: T; readonly fault: Fault | undefined } {
  const { report } = sink;
  let fault: Fault | undefined;
  sink.report = (reported) => {
    fault ??= reported;
  };
  try {
    const value = fn();
    return { value, fault };
  } finally {
    sink.report = report;
  }
}
