// A trial for tests of queues: what its parameters ask for, in steps with a checkpoint after each. What it did stands
// in the file that `log` names.
import { appendFileSync } from "node:fs";

export default async function trial({ x, steps = 4, log, sleep = 0, fault }, { number, report, checkpoint, resume }) {
  let step = resume?.[0] ?? 0;
  appendFileSync(log, `${number} begins ${step} in ${process.pid} by ${process.ppid}\n`);
  while (step < steps) {
    if (fault === "exit" && step === 2) process.exit(7);
    if (fault === "killed" && step === 2) process.kill(process.pid, "SIGKILL");
    if (fault === "hangs") for (;;);
    if (fault === "silent") await new Promise((resolve) => setTimeout(resolve, 1e6));
    await new Promise((resolve) => setTimeout(resolve, sleep));
    await report(step, { loss: x });
    await checkpoint(Uint8Array.of(++step));
    appendFileSync(log, `${number} kept ${step}\n`);
  }
  return { loss: x, steps: step };
}
