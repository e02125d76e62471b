// A trial for tests: figures of its parameters and seed alone, in steps, with what happens to workers on demand.
import { appendFileSync, existsSync } from "node:fs";

/** A number of [0, 1) that depends on a seed and a step. */
const noise = (seed, step) => (Math.imul(seed ^ (step * 0x9e3779b1), 0x85ebca6b) >>> 0) / 2 ** 32;

export default async function trial(config, { number, seed, report, signal, checkpoint, resume }) {
  const { x = 0, steps = 3, ms = 0, log, fails, kills, blocks } = config;
  let { step, sum } = resume === undefined ? { step: 0, sum: 0 } : JSON.parse(new TextDecoder().decode(resume));
  if (log !== undefined) appendFileSync(log, `${JSON.stringify({ number, from: step, pid: process.pid })}\n`);
  if (fails !== undefined && number === fails) throw new Error("this trial always fails\nin two lines");
  for (; step < steps; ) {
    if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    signal.throwIfAborted();
    step++;
    sum += noise(seed, step);
    await checkpoint(new TextEncoder().encode(JSON.stringify({ step, sum })));
    // Once: the mark is there afterwards. "always" kills in every attempt.
    const mark = `${log}.killed-${number}`;
    if (kills === "always" && number === 1) process.kill(process.pid, "SIGKILL");
    if (kills === "once" && step === 2 && !existsSync(mark)) {
      appendFileSync(mark, "");
      process.kill(process.pid, "SIGKILL");
    }
    if ((await report(step, { loss: (x - 0.3) ** 2 + sum / 1000 / step })) === "stop") break;
  }
  if (blocks === number) for (;;);
  return { figures: { loss: (x - 0.3) ** 2 + sum / 1000 / steps, sum }, value: { steps: step, missing: null } };
}
