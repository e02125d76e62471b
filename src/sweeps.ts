/**
 * Many trials of one training over a space of parameters, in this process or in workers. Needs Node.
 *
 * @module
 */
// What is not listed here is internal.
/// <reference lib="dom" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />

export type {
  Decision,
  Figures,
  OpenTrialDevice,
  Series,
  Trial,
  TrialConfig,
  TrialContext,
  TrialFailure,
  TrialOutcome,
  TrialResult,
  TrialReturn,
} from "./sweeps/executor.js";
export {
  type GridSearchOptions,
  grid,
  type PastTrial,
  type Proposal,
  random,
  type Search,
  sobol,
} from "./sweeps/search.js";
export {
  type Choice,
  choice,
  type Int,
  type IntOptions,
  int,
  type LogUniform,
  logUniform,
  type Parameter,
  type ParameterOptions,
  type Space,
  type Uniform,
  uniform,
  type When,
} from "./sweeps/space.js";
export {
  type AshaOptions,
  asha,
  type Loss,
  type MedianOptions,
  median,
  type Stopping,
  type StoppingQuestion,
} from "./sweeps/stopping.js";
export { type Goal, type SweepOptions, type SweepResult, sweep, type TrialRecord } from "./sweeps/sweep.js";
export { type WrittenReport, writeSweepReport } from "./sweeps/sweep-report.js";
export { type TpeOptions, tpe } from "./sweeps/tpe.js";
