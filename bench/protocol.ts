// How bench:peers talks to a contender, which is a process of its own. Requests come as lines of JSON on standard
// input. Answers go as lines that begin with "@" on standard output, where Dawn and others print what they like.
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import type { Contender } from "./subject.js";

export type Request =
  /** `rates`: learning rate of each step; the result goes to the file `out` as float32. */
  | { readonly do: "check"; readonly rates: readonly number[]; readonly out: string }
  | { readonly do: "run"; readonly steps: number };

/** Bytes: what a device has allocated, and by how much a process has grown at most. */
export interface Memory {
  readonly device?: number;
  readonly process?: number;
}

export type Answer =
  /** First of all: what the contender computes with, and versions. */
  | { readonly ready: string }
  | { readonly losses: readonly number[] }
  | { readonly ms: number; readonly steps: number; readonly memory?: Memory }
  | { readonly error: string };

const answer = (given: Answer) => process.stdout.write(`@${JSON.stringify(given)}\n`);

/** Serves requests until standard input ends, then ends the process. `start` says what it computes with, too. */
export async function serve(
  start: () => Promise<{ readonly contender: Contender; readonly ready: string }>,
): Promise<void> {
  try {
    const { contender, ready } = await start();
    answer({ ready });
    for await (const line of createInterface({ input: process.stdin })) {
      const request = JSON.parse(line) as Request;
      if (request.do === "check") {
        const { losses, result } = await contender.check(request.rates);
        await writeFile(request.out, result);
        answer({ losses });
      } else {
        answer(await contender.run(request.steps));
      }
    }
    process.exit();
  } catch (error) {
    answer({ error: String((error as Error)?.message ?? error).split("\n")[0]! });
    console.error(error);
    process.exit(1);
  }
}
