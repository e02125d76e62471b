// Asks Dawn for a WebGPU adapter and device and prints the adapter as one line of JSON; exits with 1 when there is none. A program of its
// own, because a broken driver may crash the process that loads it.
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
globalThis.gpu = create([]); // Dawn lives as long as this object does
const adapter = await globalThis.gpu.requestAdapter();
if (!adapter) fail("Dawn finds no adapter");
const { vendor, architecture, device, description } = adapter.info;
if (device === "null-backend") fail("Dawn offers its null backend only, which computes nothing");
await adapter.requestDevice();
process.stdout.write(`\n${JSON.stringify({ vendor, architecture, device, description })}\n`, () => process.exit(0));

function fail(reason) {
  console.error(reason);
  process.exit(1);
}
