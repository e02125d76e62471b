// Kilograd as a contender of bench:peers: `contender.js FOLDER`, see protocol.ts.
import { describeAdapter } from "../src/experiments/lib/run.js";
import { openDevice } from "../src/tensor/open.js";
import { serve } from "./protocol.js";
import { makeSubject } from "./subject.js";
import { readTask } from "./workloads.js";

await serve(async () => {
  const device = await openDevice("webgpu");
  const { description, device: name, profile } = describeAdapter(device);
  const contender = makeSubject(device, await readTask(process.argv[2]!));
  return { contender, ready: `${description || name}, profile ${profile}` };
});
