// The callbacks of `kilograd`'s public API.
export type { Callback, CallbackState, EpochLogs, MonitorMode, StepLogs, TrainingContext } from "./callback.js";
export { type EarlyStoppingOptions, earlyStopping } from "./early-stopping.js";
export { csvLogger, jsonlLogger, type LoggerOptions } from "./loggers.js";
export { type ModelCheckpointOptions, modelCheckpoint } from "./model-checkpoint.js";
export { type ProgressBarOptions, type ProgressStream, progressBar } from "./progress-bar.js";
export { type ReduceLrOnPlateauOptions, reduceLrOnPlateau } from "./reduce-lr-on-plateau.js";
export { terminateOnNaN } from "./terminate-on-nan.js";
