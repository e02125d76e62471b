// What worker processes of one machine share: its cores. A software adapter (lavapipe) computes with as many threads as
// there are cores, in every process; several of them wait for each other. `npm run bench:sweep` compares.
import { availableParallelism } from "node:os";

/**
 * Variables for one of several worker processes: as many threads of the adapter as there are cores for each. Nothing
 * where the user has named a number, or where one worker has the machine. Hardware adapters take no notice.
 */
export function threadVariables(workers: number): Readonly<Record<string, string>> {
  if (process.env["LP_NUM_THREADS"] || workers === 1) return {};
  return { LP_NUM_THREADS: String(Math.max(1, Math.floor(availableParallelism() / workers))) };
}
