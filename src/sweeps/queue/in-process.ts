// Trials in the worker's own process: for tests and for trials that are too short for a process of their own.
import type { TrialModule } from "../executor.js";
import { runTrial, workerDevices } from "../run-trial.js";
import { GRACE_MS } from "./times.js";
import type { TrialRunner } from "./worker.js";

/** Runs a module's trials here. One that blocks the process blocks the worker, whose trials others then take over. */
export function inProcess(module: TrialModule): TrialRunner {
  const devices = workerDevices();
  return {
    code: module.code,
    run(order, link) {
      return new Promise((done, failed) => {
        // A trial that does not listen to its signal is left behind.
        link.signal.addEventListener("abort", () => setTimeout(() => failed(link.signal.reason), GRACE_MS), {
          once: true,
        });
        runTrial(order, module, link, devices.open).then(done, failed);
      });
    },
    close: () => devices.close(),
  };
}
