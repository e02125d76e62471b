// Kilograd as a contender of bench:peers: `contender.js FOLDER`, see protocol.ts.
import { describeAdapter } from "../src/experiments/lib/run.js";
import { openDevice } from "../src/tensor/open.js";
import { serve } from "./protocol.js";
import { makeSubject } from "./subject.js";
import { hasTinyDispatches, readTask } from "./workloads.js";

await serve(async () => {
  const task = await readTask(process.argv[2]!);
  const device = await openDevice("webgpu", { tinyDispatches: hasTinyDispatches(task.spec) });
  const { description, device: name, profile } = describeAdapter(device);
  const contender = makeSubject(device, task);
  return { contender, ready: `${description || name}, profile ${profile}` };
});
