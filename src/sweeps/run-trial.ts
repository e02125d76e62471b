// One trial in a worker: what its order says, run by the module that the worker was started with, and what came of it.
import { jsonText } from "../io/json-text.js";
import { DataError, UsageError } from "../tensor/errors.js";
import { anyNumber, describe, integer, object } from "../tensor/options.js";
import type { WebGpuDevice } from "../webgpu/device.js";
import { openDevice } from "../webgpu/open-device.js";
import type {
  Figures,
  OpenTrialDevice,
  TrialContext,
  TrialLink,
  TrialModule,
  TrialOrder,
  TrialResult,
  TrialReturn,
} from "./executor.js";

/** What the signal of a trial is aborted with by early stopping. */
export class TrialStopped extends Error {
  override readonly name = "TrialStopped";
  constructor() {
    super("the trial was stopped early");
  }
}

/** A worker cannot run the sweep's trials: it has other code, or none. No fault of a trial. */
export class WorkerRefused extends UsageError {}

/** @throws WorkerRefused unless a worker has the code that an order names */
export function checkCode(order: TrialOrder, code: string): void {
  if (order.code === code) return;
  throw new WorkerRefused(
    `sweep: the worker must run the sweep's trial, ${order.code.slice(0, 12)}, and has ${code.slice(0, 12)}; ` +
      "start it with the same file and the same version of Kilograd",
  );
}

/** Steps of reports. */
const stepRule = integer({ from: 0 });

/**
 * Runs one trial. What it throws passes through: the executor tries again. A trial that was told to stop ends as
 * stopped, whether it returns or throws the signal's reason.
 * @throws WorkerRefused for an order of other code
 */
export async function runTrial(
  order: TrialOrder,
  module: TrialModule,
  link: TrialLink,
  device: OpenTrialDevice,
): Promise<TrialResult> {
  const { number, config, seed, attempt, checkpoint } = order;
  checkCode(order, module.code);
  const begun = performance.now();
  const owner = `trial ${number}`;
  const stop = new AbortController();
  const resume = checkpoint === undefined ? undefined : await link.restore(checkpoint);
  const series: Record<string, [number, number][]> = {};
  let last: Figures = {};
  let lastStep = -1;
  const context: TrialContext = {
    ...{ number, seed, resume, device },
    signal: AbortSignal.any([link.signal, stop.signal]),
    async report(step, figures) {
      if (!stepRule.accepts(step) || step <= lastStep) {
        throw new UsageError(
          `${owner}: report needs a step above ${lastStep}, got ${describe(step)}; report each once`,
        );
      }
      checkFigures(`${owner}: report`, figures);
      lastStep = step;
      last = figures;
      for (const [name, value] of Object.entries(figures)) (series[name] ??= []).push([step, value]);
      if (stop.signal.aborted) return "stop";
      const decision = await link.report(step, figures);
      if (decision === "stop") stop.abort(new TrialStopped());
      return decision;
    },
    async checkpoint(bytes) {
      if (!(bytes instanceof Uint8Array)) {
        throw new UsageError(`${owner}: checkpoint needs a Uint8Array, got ${describe(bytes)}`);
      }
      await link.checkpoint(bytes);
    },
  };
  let returned: TrialReturn;
  try {
    returned = await module.trial(config, context);
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
  }
  link.signal.throwIfAborted(); // What a trial returns that ended by the stop of the sweep is no outcome.
  const { figures, value } = resultOf(owner, returned, last);
  return {
    status: stop.signal.aborted ? "stopped" : "finished",
    ...{ number, figures, series, attempts: attempt, worker: link.worker },
    ...(value !== undefined && { value }),
    seconds: (performance.now() - begun) / 1000,
  };
}

/** Figures and value of what a trial returned. @throws DataError for what is neither, or is not JSON */
function resultOf(owner: string, returned: TrialReturn, last: Figures): { figures: Figures; value?: unknown } {
  if (returned === undefined) return { figures: last };
  if (!object.accepts(returned))
    throw new DataError(`${owner}: must return figures by name, got ${describe(returned)}`);
  if (!object.accepts(returned["figures"])) {
    checkFigures(owner, returned as Figures);
    return { figures: returned as Figures };
  }
  const { figures, value } = returned as { readonly figures: Figures; readonly value?: unknown };
  checkFigures(owner, figures);
  if (value !== undefined) jsonText(`${owner}: value`, value);
  return { figures, ...(value !== undefined && { value }) };
}

function checkFigures(owner: string, figures: unknown): asserts figures is Figures {
  if (!object.accepts(figures)) throw new DataError(`${owner}: needs figures by name, got ${describe(figures)}`);
  for (const [name, value] of Object.entries(figures as object)) {
    if (!anyNumber.accepts(value))
      throw new DataError(`${owner}: figure ${name} must be a number, got ${describe(value)}`);
  }
}

/** The devices of a worker: opened when first asked for, kept for the next trials. */
export function workerDevices(): { readonly open: OpenTrialDevice; close(): Promise<void> } {
  const opened = new Map<string, Promise<WebGpuDevice>>();
  return {
    open({ tinyDispatches = false } = {}) {
      // A process that does jobs of several runs has a device for each of their precisions.
      const kind = `${tinyDispatches} ${process.env["KILOGRAD_PRECISION"] ?? ""}`;
      const device = opened.get(kind) ?? openDevice("webgpu", { tinyDispatches });
      opened.set(kind, device);
      return device;
    },
    async close() {
      // A device that did not open was thrown where it was awaited.
      for (const device of opened.values()) (await device.catch(() => undefined))?.destroy();
      opened.clear();
    },
  };
}
