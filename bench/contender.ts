// Kilograd as a contender of bench:peers: `contender.js FOLDER`, see protocol.ts.
import { describeAdapter } from "../src/experiments/lib/frame/run.js";
import { openDevice } from "../src/webgpu/open-device.js";
import { serve } from "./protocol.js";
import { type Contender, makeSubject, settled } from "./subject.js";
import { hasTinyDispatches, readTask } from "./workloads.js";

await serve(async () => {
  const task = await readTask(process.argv[2]!);
  const device = await openDevice("webgpu", { tinyDispatches: hasTinyDispatches(task.spec) });
  const { description, device: name, profile } = describeAdapter(device);
  const subject = makeSubject(device, task);
  let warm: Promise<unknown> | undefined;
  const contender: Contender = {
    check: (rates) => subject.check(rates),
    run: async (steps) => {
      await (warm ??= settled(subject, steps));
      return subject.run(steps);
    },
  };
  return { contender, ready: `${description || name}, profile ${profile}` };
});
