#!/usr/bin/env bash
# What a machine with a GPU can tell, within eight minutes: driver, adapter, self-test, correctness of the hardware kernels,
# steps with their kernels (alexnet-plus with batch 128 among them, with matrix units too), kernel rates, other libraries. Results
# as JSON in $OUT (default bench/results), progress on standard output. Needs no network: only Node 20.19 or later, node_modules,
# and what `npm run build && npx tsc` makes (dist/, build/); without vitest or benchmark in node_modules those parts fail. Of the
# other libraries, PyTorch takes part if python3 has it, and jax-js and TensorFlow.js if bench/peers/node_modules is there.
#
#   bench/gpu.sh            on a machine with a GPU
#   KILOGRAD_PROFILE=hardware bench/gpu.sh --rehearse     the same with little work, on whatever adapter there is
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-bench/results}
rehearse=false; [ "${1:-}" = "--rehearse" ] && rehearse=true
end=$((SECONDS + 470))
failed=()

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
stop() { echo "gpu.sh: $*" >&2; exit 3; }
# part SECONDS NAME COMMAND...: runs a part within its time and what is left of the whole.
part() {
  local limit=$1 name=$2; shift 2
  local left=$((end - SECONDS))
  [ "$left" -lt "$limit" ] && limit=$left
  [ "$limit" -lt 5 ] && { failed+=("$name (no time left)"); return; }
  say "$name"
  timeout "$limit" "$@"
  local status=$?
  [ $status -eq 0 ] || failed+=("$name (exit code $status)")
}

say "driver"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
drivers=$(ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json ${VK_DRIVER_FILES:-} ${VK_ICD_FILENAMES:-} 2>/dev/null | sort -u)
[ -n "$drivers" ] || stop "no Vulkan driver: nothing in /usr/share/vulkan/icd.d and /etc/vulkan/icd.d. In a container, NVIDIA's
needs NVIDIA_DRIVER_CAPABILITIES with graphics; elsewhere install the driver's Vulkan part."
echo "$drivers"
ldconfig -p 2>/dev/null | grep 'libvulkan\.so\.1' >/dev/null || stop "no Vulkan loader: install libvulkan1"
command -v node >/dev/null || stop "no node in PATH"
for needed in node_modules/webgpu dist/cli.js build/bench/steps.js; do
  [ -e "$needed" ] || stop "$needed is missing: run npm ci && npm run build && npx tsc where there is a network, and bring it along"
done

say "adapter"
adapter=$(node --input-type=module --eval '
  import { probe } from "./dist/driver/choose.js";
  const { adapter, failure } = probe({});
  if (failure !== undefined) throw failure;
  console.log(JSON.stringify(adapter));
') || stop "Dawn finds no adapter; its words are above"
echo "$adapter"
if ! $rehearse && grep -qiE 'llvmpipe|swiftshader' <<<"$adapter"; then
  stop "the adapter is a processor, not a GPU; bench/gpu.sh --rehearse goes through the motions there"
fi
mkdir -p "$out" || exit 3

part 60 "doctor" bash -c 'node dist/cli.js doctor --json >"$1/doctor.json"; status=$?; cat "$1/doctor.json"; exit $status' _ "$out"

little=(); $rehearse && little=(--quick --filter 'mlp')
large=(--filter 'alexnet-plus b128'); $rehearse && large=(--filter 'mlp')
part 120 "steps" node build/bench/steps.js --profile --out "$out" "${little[@]}"
# Not every adapter has matrix units; doctor says why.
if mixed=$(KILOGRAD_PRECISION=mixed timeout 60 node dist/cli.js doctor 2>&1); then
  part 40 "steps, mixed precision" env KILOGRAD_PRECISION=mixed node build/bench/steps.js --quick --profile --out "$out" "${large[@]}"
else
  say "no mixed precision"; tail -n 1 <<<"$mixed"
fi

if [ -e node_modules/vitest/vitest.mjs ]; then
  tests=(test/kernels test/autograd/parity.test.ts); $rehearse && tests=(test/kernels/matmul.test.ts)
  # Those of the software profile skip themselves where the adapter has no subgroups of eight.
  part 100 "correctness" node node_modules/vitest/vitest.mjs run "${tests[@]}" -t "hardware profile" --maxWorkers="$(nproc)"
else
  failed+=("correctness (no vitest in node_modules)")
fi

if [ -e node_modules/benchmark ]; then
  part 120 "kernels" node build/bench/kernels.js --quick --out "$out" "${little[@]}"
else
  failed+=("kernels (no benchmark in node_modules)")
fi

others='PyTorch, CUDA'; [ -e bench/peers/node_modules ] && others='WebGPU|PyTorch, CUDA'
compared='mlp-64|small-cnn b32|sgd-cnn|alexnet-plus b128|optimise 100'; $rehearse && compared=mlp
part 120 "peers" node build/bench/peers.js --quick --peers "$others" --filter "$compared" --out "$out"

say "done"
if [ ${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "${failed[@]}"; exit 1; fi
