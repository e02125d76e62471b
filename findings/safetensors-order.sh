#!/usr/bin/env bash
# Package: safetensors 0.8.0 (numpy 2.4.6).
# Behaviour: tensors come back in another order than they were given: sorted by the size of their element type, largest
#   first, and by name within that, so that "10.weight" stands before "2.weight". The file holds them in that order, too.
# Guess: the order of a dictionary is kept, as Python's JSON and PyTorch's own files keep it, so that the modules of a
#   state dict can be told by their order. In a safetensors file only names say which module comes first.
# Seen on 2026-11-30, Python 3.11:
#   given:  2.weight, 10.weight, 1.half, 0.weight
#   loaded: 0.weight, 10.weight, 2.weight, 1.half
set -euo pipefail
command -v python3 >/dev/null || { echo "python3 is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
venv/bin/python - <<'PY'
import json
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

names = {"2.weight": "f4", "10.weight": "f4", "1.half": "f2", "0.weight": "f4"}
save_file({name: np.ones(2, dtype) for name, dtype in names.items()}, "order.safetensors")
loaded = list(load_file("order.safetensors"))
with open("order.safetensors", "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
stored = sorted(header, key=lambda name: header[name]["data_offsets"])
print("given: ", ", ".join(names))
print("loaded:", ", ".join(loaded))
expected = ["0.weight", "10.weight", "2.weight", "1.half"]
sys.exit(0 if stored == expected and set(loaded) == set(names) and loaded != list(names) else 1)
PY
