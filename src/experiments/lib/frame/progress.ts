// Progress of work other than training, on stderr: a bar on a terminal, now and then a plain line elsewhere. (Training
// has its own, nn/callbacks/progress-bar.ts.)
import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  update(done: number, text?: string): void;
  /** Ends it with a last line; idempotent. */
  end(text?: string): void;
}

/** Milliseconds between two plain lines. */
const LINE_EVERY_MS = 10_000;

/** Shows how much of `total` is done. End it in a `finally`. */
export function showProgress(title: string, total: number, stream: NodeJS.WriteStream = process.stderr): Progress {
  const begun = performance.now();
  let lastLine = begun;
  let ended = false;
  const format = `${title} [{bar}] {value}/{total}  {duration_formatted}  {text}`;
  const bar = stream.isTTY ? new SingleBar({ format, barsize: 20, fps: 10, stream }, Presets.legacy) : undefined;
  bar?.start(total, 0, { text: "" });
  return {
    update(done, text = "") {
      bar?.update(done, { text });
      if (bar !== undefined || performance.now() - lastLine < LINE_EVERY_MS) return;
      lastLine = performance.now();
      stream.write(`${title}  ${done}/${total}  ${text}\n`);
    },
    end(text) {
      if (ended) return;
      ended = true;
      bar?.stop();
      if (text !== undefined) stream.write(`${title}  ${((performance.now() - begun) / 1000).toFixed(1)} s  ${text}\n`);
    },
  };
}
