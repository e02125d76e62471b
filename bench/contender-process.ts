// A contender of a benchmark as a process of its own, which answers requests one after the other (protocol.ts).
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import type { Answer, Request } from "./protocol.js";

/** Most seconds that a contender may take to start, to check, or for a run, unless it is given more. */
const PATIENCE = 60;

/** What became of a contender. */
export interface ContenderReport {
  readonly contender: string;
  /** What it computes with, as it says. */
  readonly with?: string;
  /** Largest relative difference of a loss from ours, and of the result. */
  readonly difference?: { readonly loss: number; readonly result: number };
  /** Why it was not timed. */
  readonly failure?: string;
  /** Until the first steps were there, compilation included. */
  readonly firstStepsMs?: number;
  /** Per step. */
  readonly medianMs?: number;
  readonly leastMs?: number;
  /** medianMs over ours. */
  readonly ratio?: number;
}

/** Variables that have a library use kernels of an older processor, as some distributions and images set them. */
const OLDER_KERNELS = [
  ...["ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"],
  ...["MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE"],
];

/** A contender's process; it ends when this one does, whose end closes its standard input. */
export class ContenderProcess {
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly answers: AsyncIterator<Answer>;
  private errors = "";
  private readonly patience: number;

  /**
   * `threads`: of the WebGPU adapter's driver, where the environment does not say; `command` gets the task's `folder`.
   */
  constructor(
    command: readonly string[],
    folder: string,
    options: { readonly cwd: string; readonly threads: number | undefined; readonly patience?: number },
  ) {
    const { cwd, threads, patience = PATIENCE } = options;
    this.patience = patience;
    const [program, script, ...rest] = command;
    const inherited = Object.entries(process.env).filter(([name]) => !OLDER_KERNELS.includes(name));
    const env = { ...(threads !== undefined && { LP_NUM_THREADS: String(threads) }), ...Object.fromEntries(inherited) };
    this.child = spawn(program!, [script!, folder, ...rest], { cwd, env });
    this.child.stderr.on("data", (text) => {
      this.errors = (this.errors + text).slice(-4000);
    });
    this.child.stdin.on("error", () => {}); // It has ended; that shows in the answers.
    this.answers = answersOf(this.child);
  }

  /** The next answer, in time. @throws what the contender says went wrong */
  private async answer(): Promise<Answer> {
    const patience = new AbortController();
    const late = setTimeout(this.patience * 1000, undefined, { signal: patience.signal });
    const answered = this.answers.next().finally(() => patience.abort());
    const first = await Promise.race([answered, late.catch(() => answered)]);
    if (first === undefined) throw new Error(`no answer within ${this.patience} s`);
    const { value, done } = first;
    if (done) throw new Error(this.errors.trim().split("\n").at(-1) || "ended without a word");
    if ("error" in value) throw new Error(value.error);
    return value;
  }

  async ready(): Promise<string> {
    return ((await this.answer()) as Extract<Answer, { ready: string }>).ready;
  }

  async ask<Kind extends Request["do"]>(request: Extract<Request, { do: Kind }>) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const answer = await this.answer();
    await this.rest();
    return answer as Extract<Answer, Kind extends "check" ? { losses: unknown } : { ms: unknown }>;
  }

  /** Threads may go on looking for work for a moment: lets half a second pass at most before the next one's turn. */
  private async rest(): Promise<void> {
    let before = Number.NaN;
    for (let i = 0; i < 10; i++) {
      await setTimeout(50);
      if (process.platform !== "linux") return;
      // Processor time of all threads, in ticks of 10 ms: utime and stime, behind the name in brackets.
      const figures = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
      const ticks = Number(figures[11]) + Number(figures[12]);
      if (ticks - before <= 1) return;
      before = ticks;
    }
  }

  end(): void {
    this.child.kill("SIGKILL");
  }
}

async function* answersOf({ stdout }: ChildProcessWithoutNullStreams): AsyncGenerator<Answer, undefined> {
  for await (const line of createInterface({ input: stdout })) {
    if (line.startsWith("@")) yield JSON.parse(line.slice(1)) as Answer;
  }
  return undefined;
}

/** |a - b| / |b - from|; without `from`, |a - b| / |b|. Infinite where the lengths differ. */
export function relativeDistance(a: Float32Array, b: Float32Array, from?: Float32Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let [difference, way] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    way += (b[i]! - (from === undefined ? 0 : from[i]!)) ** 2;
  }
  return Math.sqrt(difference / way);
}
