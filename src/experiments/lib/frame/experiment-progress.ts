// Progress of an experiment's run over all its parts, with the time left, on stderr: a bar on a terminal, plain lines
// elsewhere.
import { Presets, SingleBar } from "cli-progress";
import { duration } from "../report/text.js";

/** Milliseconds between two plain lines within a part. */
const LINE_EVERY_MS = 10_000;
/** Seconds after which the run's own pace says more than the estimate. */
const TRUSTED_SECONDS = 5;

/** How far a part is, 0 to 1, and what to say about it. */
export type PartProgress = (share: number, text?: string) => void;

/** For what nobody looks at. */
export const nowhere = { isTTY: false, write: () => true };

export class ExperimentProgress {
  private seconds: ReadonlyMap<string, number> = new Map();
  private readonly finished = new Set<string>();
  private readonly begun = performance.now();
  private lastLine = performance.now();
  private planned = 0;
  private bar: SingleBar | undefined;
  private lastText = "";

  constructor(private readonly stream: Pick<NodeJS.WriteStream, "isTTY" | "write"> = process.stderr) {}

  /** The parts to do, with what they will take by a measured step, in seconds. */
  plan(seconds: ReadonlyMap<string, number>): void {
    this.seconds = seconds;
    this.finished.clear();
    this.planned = performance.now();
  }

  begin(name: string): PartProgress {
    const title = `[${this.finished.size + 1}${this.seconds.size > 0 ? `/${Math.max(this.seconds.size, this.finished.size + 1)}` : ""}] ${name}`;
    this.lastLine = performance.now();
    this.lastText = "";
    if (this.stream.isTTY) {
      const format = "{title} [{bar}] {percentage} %  {text}";
      this.bar = new SingleBar(
        { format, barsize: 20, fps: 10, stream: this.stream as NodeJS.WriteStream, clearOnComplete: true },
        Presets.legacy,
      );
      this.bar.start(100, 0, { title, text: "" });
    }
    return (share, text = "") => {
      this.lastText = text;
      const told = [text, this.timeLeft(name, share)].filter(Boolean).join("  ");
      this.bar?.update(Math.floor(100 * share), { text: told });
      if (this.bar !== undefined || performance.now() - this.lastLine < LINE_EVERY_MS) return;
      this.lastLine = performance.now();
      this.stream.write(`${title}  ${Math.floor(100 * share)} %  ${told}\n`);
    };
  }

  /** Says what was told of it last, with the time it took. */
  end(name: string, seconds: number): void {
    this.bar?.stop();
    this.bar = undefined;
    this.finished.add(name);
    const count = `[${this.finished.size}${this.seconds.size > 0 ? `/${Math.max(this.seconds.size, this.finished.size)}` : ""}]`;
    this.stream.write(
      `${[`${count} ${name}: ${duration(seconds)}`, this.lastText, this.timeLeft(name, 1)].filter(Boolean).join("  ")}\n`,
    );
  }

  /** Ends a bar whose part failed or was interrupted. */
  stop(): void {
    this.bar?.stop();
    this.bar = undefined;
  }

  get totalSeconds(): number {
    return (performance.now() - this.begun) / 1000;
  }

  /** By the estimate, scaled by how it has held so far. */
  private timeLeft(name: string, share: number): string {
    const all = [...this.seconds.values()].reduce((a, b) => a + b, 0);
    if (all === 0) return "";
    const of = (part: string) => this.seconds.get(part) ?? 0;
    const before = [...this.finished].reduce((sum, part) => sum + (part === name ? 0 : of(part)), 0);
    const done = before + share * of(name);
    const passed = (performance.now() - this.planned) / 1000;
    const pace = done > 0 && passed > TRUSTED_SECONDS ? passed / done : 1;
    const left = pace * (all - done);
    return left < 1 ? "" : `about ${duration(left)} left`;
  }
}
