#!/usr/bin/env bash
# Packages: webgpu 0.6.2 (npm, Dawn for Node), any adapter; tried with Mesa's lavapipe 25.0.7.
# Behaviour: an uncaptured WebGPU error is printed on standard output, by the native library. The message does not pass
#   process.stdout, so a program that captures or redirects that in JavaScript does not see it. A listener of
#   "uncapturederror" that calls preventDefault() silences it.
# Guess: standard error, as browsers have console.error for it, and Node its warnings. A command that prints JSON on
#   standard output is broken by one validation error.
# Seen on 2026-11-29, Debian 12, x86-64:
#   lines on standard output: 3, on standard error: 0
#   with preventDefault(): 0
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
if (!adapter) {
  console.error("a WebGPU adapter is needed, e.g. Debian's mesa-vulkan-drivers");
  process.exit(2);
}
const device = await adapter.requestDevice();
if (process.argv[2] === "silent") device.addEventListener("uncapturederror", (event) => event.preventDefault());
// Usages that no buffer may have together: an ordinary validation error.
device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
await device.queue.onSubmittedWorkDone();
await new Promise((resolve) => setTimeout(resolve, 100));
device.destroy();
process.exit(0);
JS
node look.mjs >out 2>err
node look.mjs silent >quiet 2>/dev/null
# Dawn's warnings about limits on standard error are another matter.
errors=$(grep -vc '^Warning: maxDynamic' err || true)
echo "lines on standard output: $(wc -l <out), on standard error: $errors"
echo "with preventDefault(): $(wc -l <quiet)"
grep -q 'usages' out && [ "$errors" = 0 ] && [ ! -s quiet ]
