// What has to happen in Redis as one: scripts, and the names of keys.
import type { Redis } from "ioredis";

/** Keys of one sweep, and of all. BullMQ's are `kilograd:jobs:NAME:*`. */
export const JOBS_PREFIX = "kilograd:jobs";
/** Names of the sweeps that are on the queue. */
export const SWEEPS_KEY = "kilograd:sweeps";
/** What the coordinator answers to a worker: a list. */
export const answersKey = (worker: string): string => `kilograd:answers:${worker}`;

/** What stands for the coordinator of a sweep that was ended by somebody else. */
export const ENDED = "ended";

export interface SweepKeys {
  /** Whose it is, and which code it runs: JSON. */
  readonly about: string;
  /** Which process coordinates it; it expires. */
  readonly alive: string;
  /** Workers by the time at which they were last heard of, in milliseconds of Redis's clock. */
  readonly workers: string;
  /** What the coordinator is told of running trials: a stream. */
  readonly reports: string;
  /** Outcomes that the coordinator has not counted yet: a stream. */
  readonly outcomes: string;
  /** Numbers of trials to entries of `outcomes`. */
  readonly finished: string;
  /** Bits of the numbers that are counted. */
  readonly counted: string;
  /** Failed attempts by number. */
  readonly failures: string;
  /** Numbers that the coordinator has called back. */
  readonly withdrawn: string;
  /** The last checkpoint of a trial: attempt, reference, and bytes where they are here. */
  checkpoint(number: number): string;
  /** Bytes of a name, see `Blobs`. */
  blob(name: string): string;
}

export function sweepKeys(name: string): SweepKeys {
  const begin = `kilograd:sweep:${name}:`;
  const plain = [
    "about",
    "alive",
    "workers",
    "reports",
    "outcomes",
    "finished",
    "counted",
    "failures",
    "withdrawn",
  ] as const;
  const keys = Object.fromEntries(plain.map((key) => [key, begin + key])) as Record<(typeof plain)[number], string>;
  return { ...keys, checkpoint: (number) => `${begin}checkpoint:${number}`, blob: (name) => `${begin}blob:${name}` };
}

/** Milliseconds of Redis's own clock: those of machines differ. */
const NOW = `local time = redis.call("TIME") local now = time[1] * 1000 + math.floor(time[2] / 1000)`;

const scripts = {
  /**
   * Takes a sweep for a process. KEYS about, alive, sweeps; ARGV about, process, milliseconds, name, owner, a process
   * that is known to be gone. Gives what is known about the sweep, and which process has it: none where another owner
   * has.
   */
  kilogradClaim: {
    numberOfKeys: 3,
    lua: `
      local known = redis.call("GET", KEYS[1])
      if known and cjson.decode(known)["owner"] ~= ARGV[5] then return {known, ""} end
      local process = redis.call("GET", KEYS[2])
      if process and process ~= ARGV[2] and process ~= ARGV[6] then return {known or "", process} end
      if not known then redis.call("SET", KEYS[1], ARGV[1]) end
      redis.call("SADD", KEYS[3], ARGV[4])
      redis.call("SET", KEYS[2], ARGV[2], "PX", ARGV[3])
      return {known or ARGV[1], ARGV[2]}`,
  },
  /** Says that a worker is there. KEYS workers; ARGV worker. */
  kilogradHeard: {
    numberOfKeys: 1,
    lua: `${NOW} redis.call("ZADD", KEYS[1], now, ARGV[1]) return now`,
  },
  /** Workers that were heard of within ARGV milliseconds; others are forgotten. KEYS workers. */
  kilogradWorkers: {
    numberOfKeys: 1,
    lua: `${NOW}
      redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now - 10 * ARGV[1])
      return redis.call("ZRANGEBYSCORE", KEYS[1], now - ARGV[1], "+inf")`,
  },
  /**
   * What is known of a trial that begins. KEYS finished, counted, withdrawn, failures, checkpoint; ARGV number. Gives
   * whether it has to be run, failed attempts, and the reference of its checkpoint.
   */
  kilogradBegin: {
    numberOfKeys: 5,
    lua: `
      if redis.call("GETBIT", KEYS[2], ARGV[1]) == 1 or redis.call("HEXISTS", KEYS[1], ARGV[1]) == 1
        or redis.call("SISMEMBER", KEYS[3], ARGV[1]) == 1 then return {0, "0", ""} end
      return {1, redis.call("HGET", KEYS[4], ARGV[1]) or "0", redis.call("HGET", KEYS[5], "reference") or ""}`,
  },
  /**
   * Keeps an outcome, unless the trial has one. KEYS about, outcomes, finished, counted, checkpoint; ARGV number,
   * outcome, owner. Gives whether it was kept.
   */
  kilogradFinish: {
    numberOfKeys: 5,
    lua: `
      local known = redis.call("GET", KEYS[1])
      if not known or cjson.decode(known)["owner"] ~= ARGV[3] then return 0 end
      if redis.call("GETBIT", KEYS[4], ARGV[1]) == 1 or redis.call("HEXISTS", KEYS[3], ARGV[1]) == 1 then return 0 end
      local entry = redis.call("XADD", KEYS[2], "*", "outcome", ARGV[2])
      redis.call("HSET", KEYS[3], ARGV[1], entry)
      redis.call("DEL", KEYS[5])
      return 1`,
  },
  /**
   * Forgets outcomes that are counted, and keeps that they are. KEYS finished, counted, failures, outcomes; ARGV number
   * and entry of each, the entry empty where it is not known.
   */
  kilogradCount: {
    numberOfKeys: 4,
    lua: `
      for i = 1, #ARGV, 2 do
        redis.call("SETBIT", KEYS[2], ARGV[i], 1)
        redis.call("HDEL", KEYS[1], ARGV[i])
        redis.call("HDEL", KEYS[3], ARGV[i], ARGV[i] .. " lost")
        if ARGV[i + 1] ~= "" then redis.call("XDEL", KEYS[4], ARGV[i + 1]) end
      end`,
  },
  /**
   * Keeps a checkpoint, unless a later attempt has one. KEYS checkpoint; ARGV attempt, reference, bytes. Gives whether
   * it was kept.
   */
  kilogradKeep: {
    numberOfKeys: 1,
    lua: `
      local last = redis.call("HGET", KEYS[1], "attempt")
      if last and tonumber(last) > tonumber(ARGV[1]) then return 0 end
      redis.call("HSET", KEYS[1], "attempt", ARGV[1], "reference", ARGV[2], "bytes", ARGV[3])
      return 1`,
  },
} as const;

/** The scripts as commands. */
export interface Scripts {
  kilogradClaim(
    about: string,
    alive: string,
    sweeps: string,
    ...args: readonly (string | number)[]
  ): Promise<[about: string, process: string]>;
  kilogradHeard(workers: string, worker: string): Promise<number>;
  kilogradWorkers(workers: string, milliseconds: number): Promise<string[]>;
  kilogradBegin(
    finished: string,
    counted: string,
    withdrawn: string,
    failures: string,
    checkpoint: string,
    number: number,
  ): Promise<[toRun: 0 | 1, failures: string, reference: string]>;
  kilogradFinish(
    about: string,
    outcomes: string,
    finished: string,
    counted: string,
    checkpoint: string,
    number: number,
    outcome: string,
    owner: string,
  ): Promise<0 | 1>;
  kilogradCount(
    finished: string,
    counted: string,
    failures: string,
    outcomes: string,
    ...pairs: readonly (number | string)[]
  ): Promise<null>;
  kilogradKeep(checkpoint: string, attempt: number, reference: string, bytes: Uint8Array | string): Promise<0 | 1>;
}

export function defineScripts(client: Redis): void {
  for (const [name, script] of Object.entries(scripts)) client.defineCommand(name, script);
}
