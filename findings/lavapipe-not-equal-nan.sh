#!/usr/bin/env bash
# Packages: webgpu 0.6.2 (npm, Dawn) on Mesa's lavapipe 25.0.7 (Debian, mesa-vulkan-drivers).
# Behaviour: in a WGSL compute shader two spellings of one test disagree. With x = NaN read from a buffer,
#   x != x      is false,
#   !(x == x)   is true,
# and 0.0 * x, with the zero a constant, is 0. A look at the bits tells NaN reliably.
# Guess: both spellings give the same answer. IEEE 754 has x != x true for NaN, and 0 * NaN is NaN. WGSL lets an
#   implementation assume that there is no NaN, but then one would expect both spellings to miss it.
# Seen on 2026-11-29, Debian 12, x86-64:
#   x != x: 0
#   !(x == x): 1
#   0.0 * x + 1.0: 1
#   bits: 1
set -euo pipefail
command -v node >/dev/null || { echo "node is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts webgpu@0.6.2
cat > look.mjs <<'JS'
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
globalThis.gpu = create([]);
const adapter = await globalThis.gpu.requestAdapter();
const description = adapter?.info.description ?? "no adapter";
if (!/llvmpipe.*Mesa 25\.0\.7/.test(description)) {
  console.error(`this needs lavapipe of Mesa 25.0.7 (mesa-vulkan-drivers), found: ${description}`);
  process.exit(2);
}
const device = await adapter.requestDevice();
const tests = {
  "x != x": "select(0.0, 1.0, x != x)",
  "!(x == x)": "select(0.0, 1.0, !(x == x))",
  "0.0 * x + 1.0": "0.0 * x + 1.0",
  bits: "select(0.0, 1.0, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u)",
};
const expressions = Object.values(tests);
const code = `
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@compute @workgroup_size(1) fn main() {
  let x = values[0];
  ${expressions.map((expression, i) => `values[${i + 1}] = ${expression};`).join("\n  ")}
}`;
const pipeline = device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
const size = 4 * (1 + expressions.length);
const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
const values = device.createBuffer({ size, usage: STORAGE | COPY_DST | COPY_SRC });
const read = device.createBuffer({ size, usage: MAP_READ | COPY_DST });
device.queue.writeBuffer(values, 0, new Float32Array([Number.NaN]));
const layout = pipeline.getBindGroupLayout(0);
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
pass.setPipeline(pipeline);
pass.setBindGroup(0, device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: values } }] }));
pass.dispatchWorkgroups(1);
pass.end();
encoder.copyBufferToBuffer(values, 0, read, 0, size);
device.queue.submit([encoder.finish()]);
await read.mapAsync(GPUMapMode.READ);
const found = [...new Float32Array(read.getMappedRange()).slice(1)];
Object.keys(tests).forEach((name, i) => console.log(`${name}: ${found[i]}`));
read.unmap();
device.destroy();
process.exit(found.join() === "0,1,1,1" ? 0 : 1);
JS
node look.mjs
