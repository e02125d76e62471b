#!/usr/bin/env bash
# Packages: SwiftShader as it comes with @sparticuz/chromium 153.0.0 (npm), under webgpu 0.6.2 (npm, Dawn for Node).
# Behaviour: on SwiftShader, the software driver of headless Chromium, WGSL's exp(NaN) is +Infinity, log(-1) is 0 and
#   log(0) is -88.03. Values come from a buffer, so nothing is folded by a compiler. x + 1 keeps the NaN.
# Guess: NaN, NaN and -Infinity, as on Mesa's lavapipe and on GPUs. WGSL allows an implementation to assume that there are
#   no NaNs and infinities; that a logarithm of a negative number is an ordinary 0 is more than one expects of that. A loss
#   of log(p) is finite there where it should be infinite.
# Seen on 2026-11-30, Debian 12, x86-64:
#   exp(NaN) = Infinity
#   log(-1) = 0
#   log(0) = -88.02969360351562
#   NaN + 1 = NaN
set -euo pipefail
command -v node >/dev/null || { echo "node is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts webgpu@0.6.2 @sparticuz/chromium@153.0.0
node -e '
  const { readFileSync, writeFileSync } = require("node:fs");
  const { brotliDecompressSync } = require("node:zlib");
  const packed = readFileSync("node_modules/@sparticuz/chromium/bin/swiftshader.tar.br");
  writeFileSync("swiftshader.tar", brotliDecompressSync(packed));
'
tar xf swiftshader.tar
library=$(find "$folder" -name libvk_swiftshader.so | head -n 1)
cat > icd.json <<JSON
{ "file_format_version": "1.0.0", "ICD": { "library_path": "$library", "api_version": "1.3.0" } }
JSON
cat > look.mjs <<'JS'
import { create, globals } from "webgpu";

Object.assign(globalThis, globals);
const gpu = create([]);
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.error("no adapter: the Vulkan loader (libvulkan1) is needed");
  process.exit(2);
}
const device = await adapter.requestDevice();
const code = `
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(1) fn main() {
  x[0] = exp(x[0]);
  x[1] = log(x[1]);
  x[2] = log(x[2]);
  x[3] = x[3] + 1.0;
}`;
const pipeline = device.createComputePipeline({
  layout: "auto",
  compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
});
const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const buffer = device.createBuffer({ size: 16, usage });
const read = device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
device.queue.writeBuffer(buffer, 0, new Float32Array([Number.NaN, -1, 0, Number.NaN]));
const group = device.createBindGroup({
  layout: pipeline.getBindGroupLayout(0),
  entries: [{ binding: 0, resource: { buffer } }],
});
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
pass.setPipeline(pipeline);
pass.setBindGroup(0, group);
pass.dispatchWorkgroups(1);
pass.end();
encoder.copyBufferToBuffer(buffer, 0, read, 0, 16);
device.queue.submit([encoder.finish()]);
await read.mapAsync(GPUMapMode.READ);
const [exp, log, log0, sum] = new Float32Array(read.getMappedRange());
console.log(`exp(NaN) = ${exp}`);
console.log(`log(-1) = ${log}`);
console.log(`log(0) = ${log0}`);
console.log(`NaN + 1 = ${sum}`);
const same = exp === Number.POSITIVE_INFINITY && log === 0 && Math.abs(log0 + 88.03) < 0.01 && Number.isNaN(sum);
device.destroy();
process.exit(same ? 0 : 1);
JS
VK_DRIVER_FILES="$folder/icd.json" VK_ICD_FILENAMES="$folder/icd.json" node look.mjs 2>/dev/null
