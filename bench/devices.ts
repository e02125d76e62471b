// What a process keeps that opens and destroys devices again and again: threads, handles and memory, as Linux has them,
// after garbage is collected.
//
// npm run bench:devices -- --cycles 300 --idle    (--idle: without work in between)
import { readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { matmul, openDevice, tensor } from "../src/index.js";

const { values } = parseArgs({ options: { cycles: { type: "string", default: "300" }, idle: { type: "boolean" } } });
const cycles = Number(values.cycles);

const { gc } = globalThis;
if (gc === undefined) throw new Error("bench:devices needs node --expose-gc, as npm run gives it");

function report(label: string): void {
  gc!();
  const status = readFileSync("/proc/self/status", "utf8");
  const [threads, kilobytes] = ["Threads", "VmRSS"].map((name) =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)![1]),
  );
  const handles = readdirSync("/proc/self/fd").length;
  console.log(
    `${label.padEnd(6)} threads ${threads}, handles ${handles}, ${(kilobytes! / 1024).toFixed(1)} MiB resident`,
  );
}

report("start");
for (let cycle = 1; cycle <= cycles; cycle++) {
  const device = await openDevice("webgpu");
  if (!values.idle) {
    const x = tensor(device, new Float32Array(10_000).fill(1));
    const y = matmul(x.reshape([10, 1000]), x.reshape([1000, 10])).relu();
    if ((await y.data()).some((v) => v !== 1000)) throw new Error("wrong product");
  }
  device.destroy();
  if ([1, 10, 20].includes(cycle) || cycle % Math.ceil(cycles / 6) === 0) report(String(cycle));
}
