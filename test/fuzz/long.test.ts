// The long trials in small: what they find is found, and a few of each end well. `npm run fuzz`, `npm run kills` and
// `npm run soak` run them in full.
import { beforeAll, describe, expect, test } from "vitest";
import { faultOf, randomLine } from "../../fuzz/commands.js";
import { experiment, killed, training } from "../../fuzz/kills.js";
import type { Ended } from "../../fuzz/process.js";
import { memoryFaults, type Sample, soak } from "../../fuzz/soak.js";
import { RandomStream } from "../../src/tensor/random.js";
import { build } from "../cli/run.js";

beforeAll(() => build());

describe("random command lines", () => {
  test("are the same for the same trial, and of every command", () => {
    const lines = Array.from({ length: 300 }, (_, trial) => randomLine(new RandomStream(1, `commands ${trial}`)));
    expect(randomLine(new RandomStream(1, "commands 7"))).toEqual(lines[7]);
    const names = new Set(lines.map(([first]) => first));
    for (const name of ["doctor", "list", "run", "summary", "train", "optimize", "start", "camera", "help"]) {
      expect(names).toContain(name);
    }
  });

  const ended = (more: Partial<Ended>): Ended => ({
    ...{ code: 0, signal: null, stdout: "", stderr: "", sent: undefined, milliseconds: 1, ...more },
  });
  test.each<[what: string, ended: Partial<Ended>, fault: RegExp | undefined]>([
    ["an end", {}, undefined],
    ["a refusal", { code: 2, stderr: "kilograd: model: must be x\n" }, undefined],
    ["an interruption", { code: 130, sent: "SIGINT" }, undefined],
    ["a stack trace", { code: 1, stderr: "Error: x\n    at f (/a/b.js:1:2)\n" }, /a stack trace/],
    ["another exit code", { code: 7 }, /exit code 7/],
    ["130 by itself", { code: 130 }, /exit code 130/],
    ["a refusal that also prints", { code: 2, stdout: "{}", stderr: "kilograd: x\n" }, /something on stdout/],
    ["a failure without a reason", { code: 1, stderr: "oh\n" }, /no reason/],
    ["a crash", { code: null, signal: "SIGSEGV" }, /ended by SIGSEGV/],
    ["no end", { code: null, signal: "SIGKILL", sent: "SIGINT" }, /no end within/],
  ])("%s is judged", (_, more, fault) => {
    if (fault === undefined) expect(faultOf(ended(more))).toBeUndefined();
    else expect(faultOf(ended(more))).toMatch(fault);
  });
});

const victims = [training({ epochs: 10 }), experiment({ epochs: 2 })];
test.each(victims)("killed, $name goes on to the same result", { timeout: 300_000 }, async (victim) => {
  expect(await killed(victim, { kills: 2, seed: 1 })).toEqual([]);
});

test("memory that grows is a fault, memory of a training does not", { timeout: 300_000 }, async () => {
  const sample: Sample = { step: 1, liveBytes: 1, pooledBytes: 1, residentBytes: 0 };
  const growing = (part: keyof Sample, by: number) =>
    memoryFaults(Array.from({ length: 10 }, (_, i) => ({ ...sample, step: i, [part]: by * i })));
  expect(growing("residentBytes", 2 ** 20)).toEqual([]);
  expect(growing("residentBytes", 4 * 2 ** 20)).toEqual([expect.stringMatching(/grew by 16.0 MiB from step 5 to 9/)]);
  expect(growing("liveBytes", 4)).toEqual([expect.stringMatching(/bytes on the adapter are from 21 to 37/)]);
  const adapter = (await soak(400)).map(({ liveBytes, pooledBytes }) => liveBytes + pooledBytes);
  expect(adapter).toHaveLength(50);
  // Recorded once, replayed from then on.
  expect(new Set(adapter.slice(25)).size).toBe(1);
});
