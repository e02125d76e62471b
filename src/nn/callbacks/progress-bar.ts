// Progress of training on stderr: a bar on a terminal, a plain line per epoch (and every so many seconds within one)
// elsewhere.
import { Presets, SingleBar } from "cli-progress";
import { callable, checkOptions, number, type Rules } from "../../tensor/options.js";
import type { Callback, EpochLogs, StepLogs } from "./callback.js";

/** Where progress goes: a Node stream such as process.stdout, or anything that takes text. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

export interface ProgressBarOptions {
  /** Default process.stderr. */
  readonly stream?: ProgressStream;
  /** Seconds between two plain lines within an epoch; default 10. */
  readonly everySeconds?: number;
}

const rules: Rules<ProgressBarOptions> = {
  stream: {
    expected: "a stream with a method write",
    accepts: (value) => callable.accepts(Object(value).write),
  },
  everySeconds: number({ from: 0 }),
};

const figure = (name: string, value: number) =>
  `${name} ${Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toFixed(4)}`;
const figures = (logs: EpochLogs) =>
  Object.entries(logs)
    .map(([name, value]) => figure(name, value))
    .join("  ");
const runningFigures = ({ meanLoss, meanAccuracy }: StepLogs) =>
  figures({ loss: meanLoss, ...(meanAccuracy !== undefined && { accuracy: meanAccuracy }) });

export function progressBar(options: ProgressBarOptions = {}): Callback {
  const { stream = process.stderr, everySeconds = 10 } = checkOptions("progressBar", options, rules);
  let bar: SingleBar | undefined;
  let title = "";
  let begun = 0;
  let lastLine = 0;
  const endBar = () => {
    bar?.stop();
    bar = undefined;
  };

  return {
    name: "progressBar",
    onEpochBegin(epoch, { epochs, stepsPerEpoch }) {
      title = `Epoch ${epoch + 1}/${epochs}`;
      begun = lastLine = performance.now();
      if (!stream.isTTY) return;
      const format = "{title} [{bar}] {value}/{total}  {duration_formatted}  {figures}";
      bar = new SingleBar({ format, barsize: 20, fps: 10, stream: stream as NodeJS.WriteStream }, Presets.legacy);
      bar.start(stepsPerEpoch, 0, { title, figures: "" });
    },
    onStepEnd(logs, { stepsPerEpoch }) {
      bar?.update(logs.stepInEpoch + 1, { figures: runningFigures(logs) });
      if (bar !== undefined || performance.now() - lastLine < everySeconds * 1000) return;
      lastLine = performance.now();
      stream.write(`${title}  ${logs.stepInEpoch + 1}/${stepsPerEpoch}  ${runningFigures(logs)}\n`);
    },
    onEpochEnd(_, logs, { stepsPerEpoch }) {
      endBar();
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      stream.write(`${title}  ${stepsPerEpoch}/${stepsPerEpoch}  ${seconds} s  ${figures(logs)}\n`);
    },
    onTrainEnd({ stopReason }) {
      endBar();
      if (stopReason !== undefined) stream.write(`Training stopped: ${stopReason}\n`);
    },
    dispose: endBar,
  };
}
