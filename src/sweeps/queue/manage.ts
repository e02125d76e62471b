// Looking at a queue, and ending a sweep on it, from any process.
import { KilogradError, UsageError } from "../../tensor/errors.js";
import { check } from "../../tensor/options.js";
import { parseAddress } from "./address.js";
import { type Client, connect, queueError } from "./connection.js";
import { removeSweep } from "./executor.js";
import { readAbout, readWorker, sweepName } from "./messages.js";
import { ENDED, JOBS_PREFIX, SWEEPS_KEY, sweepKeys } from "./scripts.js";
import { ALIVE_MS } from "./times.js";

/** A sweep as a queue has it. */
export interface QueuedSweep {
  readonly name: string;
  /** Digest of the trial's code; undefined where it is of another version of Kilograd. */
  readonly code: string | undefined;
  /** Whether a process hands out its orders. */
  readonly coordinated: boolean;
  /** Names of the workers that serve it. */
  readonly workers: readonly string[];
  /** Orders that wait, that workers have, and outcomes that no journal has yet. */
  readonly waiting: number;
  readonly running: number;
  readonly uncounted: number;
}

/** Connects for some questions. */
async function asking<T>(
  address: string,
  say: (message: string) => void,
  ask: (client: Client) => Promise<T>,
): Promise<T> {
  const parsed = parseAddress(address);
  const connection = await connect(parsed, say);
  try {
    return await ask(connection.client);
  } catch (error) {
    throw queueError(error, parsed);
  } finally {
    connection.close();
  }
}

/** The sweeps on a queue, by name. @throws UsageError, KilogradError `QUEUE` where the queue cannot be used */
export function queuedSweeps(address: string, say: (message: string) => void): Promise<QueuedSweep[]> {
  return asking(address, say, async (client) => {
    const names = (await client.smembers(SWEEPS_KEY)).filter(sweepName.accepts).sort();
    return await Promise.all(
      names.map(async (name) => {
        const keys = sweepKeys(name);
        const [about, coordinated, workers, waiting, running, uncounted] = await Promise.all([
          client.get(keys.about),
          client.exists(keys.alive),
          client.kilogradWorkers(keys.workers, ALIVE_MS),
          client.llen(`${JOBS_PREFIX}:${name}:wait`),
          client.llen(`${JOBS_PREFIX}:${name}:active`),
          client.hlen(keys.finished),
        ]);
        const code = about === null ? undefined : readable(() => readAbout(about).code);
        const served = workers.flatMap((worker) => readable(() => readWorker(worker).name) ?? []);
        return { name, code, coordinated: coordinated === 1, workers: served, waiting, running, uncounted };
      }),
    );
  });
}

/** What is no message of this version is not shown. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof KilogradError) return undefined;
    throw error;
  }
}

/**
 * Ends a sweep on a queue: its orders, outcomes that no journal has yet, and checkpoints in Redis go. Its coordinator
 * ends with an error, workers drop its trials.
 * @throws UsageError where there is none of this name
 */
export function endSweep(address: string, name: string, say: (message: string) => void): Promise<void> {
  check("queue", "name of the sweep", name, sweepName);
  return asking(address, say, async (client) => {
    const known =
      (await client.sismember(SWEEPS_KEY, name)) === 1 || (await client.exists(sweepKeys(name).about)) === 1;
    if (!known) {
      const names = await client.smembers(SWEEPS_KEY);
      throw new UsageError(`queue: has no sweep ${name}; it has ${names.sort().join(", ") || "none"}`);
    }
    await removeSweep(client, name);
    await client.set(sweepKeys(name).alive, ENDED, "PX", 2 * ALIVE_MS);
  });
}
