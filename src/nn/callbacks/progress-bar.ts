// Progress of training on stderr: a bar on a terminal, a plain line per epoch (and every so many seconds within one)
// elsewhere.
import { type Terminal, terminal } from "../../io/paths.js";
import { callable, checkOptions, number, type Rules } from "../../tensor/options.js";
import type { Callback, EpochLogs, StepLogs } from "./callback.js";

/** Where progress goes: a Node stream such as process.stdout, or anything that takes text. */
export interface ProgressStream extends Terminal {
  /** Of a terminal: characters that a line holds; default 80. */
  readonly columns?: number;
}

export interface ProgressBarOptions {
  /** Default: standard error in Node, the console elsewhere. */
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
const runningFigures = ({ meanLoss, meanAccuracy, metrics }: StepLogs) =>
  figures({ loss: meanLoss, ...(meanAccuracy !== undefined && { accuracy: meanAccuracy }), ...metrics });

const BAR_WIDTH = 20;
/** A bar is drawn at most so often. */
const FRAME_MS = 100;
const CLEAR_TO_END = "\x1b[K";

export function progressBar(options: ProgressBarOptions = {}): Callback {
  const { stream: given, everySeconds = 10 } = checkOptions("progressBar", options, rules);
  let stream: ProgressStream | undefined = given;
  let title = "";
  let begun = 0;
  let lastDrawn = 0;
  let steps = 0;
  /** What stands on the terminal's last line. */
  let bar: string | undefined;
  const seconds = () => ((performance.now() - begun) / 1000).toFixed(1);
  /** Of so many steps, which an iterable does not tell. */
  const share = (done: number, all: number | undefined) => (all === undefined ? `${done}` : `${done}/${all}`);
  const draw = (done: number, all: number | undefined, text: string) => {
    const full = all === undefined ? 0 : Math.round((BAR_WIDTH * done) / all);
    const line = `${title} [${"=".repeat(full).padEnd(BAR_WIDTH, "-")}] ${share(done, all)}  ${seconds()} s  ${text}`;
    bar = line.slice(0, (stream?.columns ?? 80) - 1);
    if (done !== all && performance.now() - lastDrawn < FRAME_MS) return;
    lastDrawn = performance.now();
    stream?.write(`\r${bar}${CLEAR_TO_END}`);
  };
  const endBar = () => {
    if (bar !== undefined) stream?.write(`\r${bar}${CLEAR_TO_END}\n`);
    bar = undefined;
  };

  return {
    name: "progressBar",
    async onTrainBegin() {
      stream = given ?? (await terminal());
    },
    onEpochBegin(epoch, { epochs, stepsPerEpoch }) {
      title = `Epoch ${epoch + 1}/${epochs}`;
      begun = performance.now();
      // A plain line is due after a while, a bar at once.
      lastDrawn = stream?.isTTY ? 0 : begun;
      if (stream?.isTTY) draw(0, stepsPerEpoch, "");
    },
    onStepEnd(logs, { stepsPerEpoch }) {
      const done = (steps = logs.stepInEpoch + 1);
      if (stream?.isTTY) return draw(done, stepsPerEpoch, runningFigures(logs));
      if (performance.now() - lastDrawn < everySeconds * 1000) return;
      lastDrawn = performance.now();
      stream?.write(`${title}  ${share(done, stepsPerEpoch)}  ${runningFigures(logs)}\n`);
    },
    onEpochEnd(_, logs) {
      endBar();
      stream?.write(`${title}  ${steps}/${steps}  ${seconds()} s  ${figures(logs)}\n`);
    },
    onTrainEnd({ stopReason }) {
      endBar();
      if (stopReason !== undefined) stream?.write(`Training stopped: ${stopReason}\n`);
    },
    dispose: endBar,
  };
}
