#!/usr/bin/env bash
# Package: keras 3.15.1 with its NumPy backend (numpy 2.4.6, scipy 1.17.1, h5py 3.15.1; the backend imports jax 0.10.2).
# Behaviour: an .h5 file holds the axis [1, 2] of LayerNormalization, but loading it makes a layer of axis -1. Where the
#   weights of both have one size, the model loads without a word and gives other numbers.
# Guess: a model that is saved and loaded in one version predicts the same, as it does from a .keras file.
# Seen on 2026-11-30, Python 3.11:
#   axes: before [1, 2], from .keras [1, 2], from .h5 [-1]
#   largest difference of predictions: from .keras 0.000, from .h5 more than 0.1
set -euo pipefail
command -v python3 >/dev/null || { echo "python3 is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check keras==3.15.1 numpy==2.4.6 scipy==1.17.1 jax==0.10.2 h5py==3.15.1
KERAS_HOME="$folder" KERAS_BACKEND=numpy venv/bin/python - 2>/dev/null <<'PY'
import sys

import keras
import numpy as np

x = np.arange(24, dtype="float32").reshape(2, 3, 4) ** 2
layer = keras.layers.LayerNormalization(axis=[1, 2], center=False, scale=False)
model = keras.Sequential([keras.Input((3, 4)), layer])
before = np.asarray(model(x))
axes, differences = [list(layer.axis)], []
for path in ("model.keras", "model.h5"):
    model.save(path)
    loaded = keras.models.load_model(path, compile=False)
    axis = loaded.layers[-1].axis
    axes.append(list(axis) if isinstance(axis, (list, tuple)) else [axis])
    differences.append(float(np.abs(np.asarray(loaded(x)) - before).max()))
print(f"axes: before {axes[0]}, from .keras {axes[1]}, from .h5 {axes[2]}")
far = "more than 0.1" if differences[1] > 0.1 else f"{differences[1]:.3f}"
print(f"largest difference of predictions: from .keras {differences[0]:.3f}, from .h5 {far}")
sys.exit(0 if differences[0] == 0 and differences[1] > 0.1 and axes[1] != axes[2] else 1)
PY
