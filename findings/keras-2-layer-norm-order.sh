#!/usr/bin/env bash
# Package: tensorflow-cpu 2.15.1 with its Keras 2.15.0 (numpy 1.26.4).
# Behaviour: LayerNormalization(axis=[2, 1]) on [batch, 3, 4] has a gamma of shape [4, 3], but gamma[i, j] does not scale
#   element [j, i]. The twelve numbers are laid over [3, 4] in memory order, so they act as those of axis=[1, 2] do.
# Guess: a weight of shape [4, 3] for axes [2, 1] has its first index along axis 2. So a reader that knows the axes
#   transposes it to [3, 4]. It would be wrong without a word; the numbers have to be reshaped. Keras 3 sorts the axes.
# Seen on 2026-11-30, Python 3.11:
#   shape of gamma: (4, 3)
#   largest difference to gamma reshaped: 0.000, to gamma transposed: more than 1
set -euo pipefail
command -v python3 >/dev/null || { echo "python3 is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check tensorflow-cpu==2.15.1 numpy==1.26.4
KERAS_HOME="$folder" TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>/dev/null <<'PY'
import sys

import numpy as np
from tensorflow import keras

x = np.arange(12, dtype="float32").reshape(1, 3, 4) ** 1.5
gamma = np.arange(12, dtype="float32")
layer = keras.layers.LayerNormalization(axis=[2, 1])
layer.build(x.shape)
shape = tuple(layer.gamma.shape)
layer.gamma.assign(gamma.reshape(shape))
y = layer(x).numpy()
normalised = (x - x.mean()) / np.sqrt(x.var() + layer.epsilon)
reshaped = float(np.abs(y - normalised * gamma.reshape(3, 4)).max())
transposed = float(np.abs(y - normalised * gamma.reshape(shape).T).max())
far = "more than 1" if transposed > 1 else f"{transposed:.3f}"
print(f"shape of gamma: {shape}")
print(f"largest difference to gamma reshaped: {reshaped:.3f}, to gamma transposed: {far}")
sys.exit(0 if shape == (4, 3) and reshaped < 1e-3 and transposed > 1 else 1)
PY
