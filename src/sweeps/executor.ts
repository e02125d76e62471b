// What runs the trials of a sweep, and what a trial is to it. A sweep hands out orders and takes outcomes; an executor
// runs an order somewhere: in this process, in local worker processes, or on a queue that workers of other machines
// read. The other side is a link: what a worker has to the sweep while it runs one trial.
import type { WebGpuDevice } from "../webgpu/device.js";
import type { OpenDeviceOptions } from "../webgpu/open-device.js";

/** A trial's parameters, as JSON has them. */
export type TrialConfig = Readonly<Record<string, unknown>>;

/** Figures by name. NaN and the infinities are kept. */
export type Figures = Readonly<Record<string, number>>;

/** Reported figures over steps, by name: [step, value] each. */
export type Series = Readonly<Record<string, readonly (readonly [step: number, value: number])[]>>;

/** One trial to run. It is JSON, so that it can be sent. */
export interface TrialOrder {
  /** Name of the sweep. */
  readonly sweep: string;
  /** Digest of the trial's module and of this package's version, see `codeDigest`: workers with another one refuse. */
  readonly code: string;
  /** Of the trial, from 0. A number is counted once, however often it is tried. */
  readonly number: number;
  readonly config: TrialConfig;
  /** Derived from the sweep's seed and the number, see `trialSeed`: the same on any worker, in any order. */
  readonly seed: number;
  /** Which try this is, from 1. */
  readonly attempt: number;
  /** Where an earlier attempt left a checkpoint, as the executor's store has it. */
  readonly checkpoint?: string | undefined;
}

/** A trial that came to an end: its own, or that of early stopping. */
export interface TrialResult {
  readonly status: "finished" | "stopped";
  readonly number: number;
  /** What the trial returned; of one that was stopped, or returned nothing, the last figures that it reported. */
  readonly figures: Figures;
  readonly series: Series;
  /** What else the trial returned as `value`: JSON. */
  readonly value?: unknown;
  readonly attempts: number;
  /** Of the attempt that came to the end. */
  readonly seconds: number;
  /** Who ran it, for people. */
  readonly worker: string;
}

/** A trial whose every attempt failed. */
export interface TrialFailure {
  readonly status: "failed";
  readonly number: number;
  /** Of the last attempt; one line, without secrets. */
  readonly error: string;
  readonly attempts: number;
}

export type TrialOutcome = TrialResult | TrialFailure;

/** What early stopping says to a report. */
export type Decision = "continue" | "stop";

/** What a sweep is told of a trial while it runs. */
export interface TrialHooks {
  /** Figures after a step. The trial waits for the decision. Steps that were reported before are answered as before. */
  report(step: number, figures: Figures): Decision | Promise<Decision>;
  /** A checkpoint was kept: later attempts, also those of a sweep that goes on later, start from it. */
  checkpointed(reference: string): void;
  /** An attempt ended without an outcome, and another one follows. */
  retried?(attempt: number, error: string): void;
}

/** Runs orders. */
export interface Executor {
  /** How many orders may run at once; a sweep keeps so many on their way. May change. */
  capacity(): number;
  /**
   * Runs one order, with as many attempts as it takes, at most the executor's. A trial that throws, and a worker that
   * is killed, cost one.
   * @param signal ends it: what is kept by then is its last checkpoint
   * @throws the signal's reason; UsageError for a worker whose code is another
   */
  run(order: TrialOrder, hooks: TrialHooks, signal: AbortSignal): Promise<TrialOutcome>;
  /**
   * The outcome of a trial is in the sweep's journal: what the executor keeps of it may go. Until then another process
   * that goes on with the sweep has to find it.
   */
  counted?(number: number): void;
  /** Ends workers and connections. Idempotent. */
  close(): Promise<void>;
}

/** Checkpoints of trials. References are the store's own words. */
export interface CheckpointStore {
  write(number: number, bytes: Uint8Array): Promise<string>;
  read(reference: string): Promise<Uint8Array>;
  /** When the trial has its outcome. Nothing where there is none. */
  remove(number: number): Promise<void>;
}

/** What a worker has to the sweep while it runs one trial. */
export interface TrialLink {
  /** Who runs it, for people. */
  readonly worker: string;
  /** Aborted by a stop of the sweep, not by early stopping. */
  readonly signal: AbortSignal;
  report(step: number, figures: Figures): Promise<Decision>;
  /** Keeps a checkpoint, and resolves when a later attempt would find it. */
  checkpoint(bytes: Uint8Array): Promise<void>;
  /** The checkpoint that the order names. */
  restore(reference: string): Promise<Uint8Array>;
}

/** What a trial is given besides its parameters. */
export interface TrialContext {
  /** Number of the trial. */
  readonly number: number;
  /** Of everything random in the trial. */
  readonly seed: number;
  /**
   * Tells figures after a step. Early stopping may answer "stop"; then `signal` is aborted, too. Steps begin anywhere
   * and increase.
   */
  report(step: number, figures: Figures): Promise<Decision>;
  /** Aborted where the trial is to end: by early stopping, or because the sweep ends. `fit` takes it. */
  readonly signal: AbortSignal;
  /** Keeps bytes from which a later attempt goes on. They replace those before. */
  checkpoint(bytes: Uint8Array): Promise<void>;
  /** What an earlier attempt kept; undefined for a trial that begins. */
  readonly resume: Uint8Array | undefined;
  /** The worker's device, opened when a trial first asks for it and kept for the next trials. */
  readonly device: OpenTrialDevice;
}

/** Opens the device that trials of a worker share, or gives it again. */
export type OpenTrialDevice = (options?: Pick<OpenDeviceOptions, "tinyDispatches">) => Promise<WebGpuDevice>;

/** What a trial may return: figures, or figures with anything else that JSON has. */
export type TrialReturn = Figures | { readonly figures: Figures; readonly value?: unknown } | undefined;

/** A trial: default export of a trial's file, or what an experiment makes of itself. */
export type Trial = (config: TrialConfig, context: TrialContext) => Promise<TrialReturn> | TrialReturn;

/** What a worker was started with. Orders bring parameters, never code. */
export interface TrialModule {
  /** See `TrialOrder.code`. */
  readonly code: string;
  readonly trial: Trial;
}
