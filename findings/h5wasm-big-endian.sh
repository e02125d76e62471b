#!/usr/bin/env bash
# Package: h5wasm 0.10.3 (npm). The file is written with h5py 3.16.0 and numpy (Python's package index).
# Behaviour: for a data set of big-endian numbers, metadata.littleEndian is false, but the bytes that dataset.slice(),
#   .value and its typed arrays deliver are the machine's, already turned around.
# Guess: the flag describes the bytes that one gets, so a reader that sees false must swap them. That reader gets 4.6e-41
#   for 1.
# Seen on 2026-11-30, Node 20.20.2, x86-64:
#   littleEndian: false, value: 1,2,3
#   swapped as the flag says: 4.600602988224807e-41,8.96831017167883e-44,2.304855714121459e-41
set -euo pipefail
command -v node >/dev/null && command -v python3 >/dev/null || { echo "node and python3 are needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h5py==3.16.0
venv/bin/python - <<'PY'
import h5py

with h5py.File("big.h5", "w") as file:
    file.create_dataset("numbers", data=[1, 2, 3], dtype=">f4")
PY
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts h5wasm@0.10.3
cat > look.mjs <<'JS'
import h5wasm from "h5wasm/node";

await h5wasm.ready;
const file = new h5wasm.File("big.h5", "r");
const numbers = file.get("numbers");
const value = Float32Array.from(numbers.value);
const view = new DataView(value.buffer.slice(0));
const swapped = [0, 1, 2].map((i) => view.getFloat32(4 * i, false));
console.log(`littleEndian: ${numbers.metadata.littleEndian}, value: ${value.join()}`);
console.log(`swapped as the flag says: ${swapped.join()}`);
file.close();
process.exit(numbers.metadata.littleEndian === false && value.join() === "1,2,3" ? 0 : 1);
JS
node look.mjs
