#!/usr/bin/env bash
# Package: keras 3.15.1 with its NumPy backend (numpy 2.4.6, scipy 1.17.1; the backend imports jax 0.10.2).
# Behaviour: after set_floatx("float64"), keras.ops.sum of float64 values is float64, but mean, var and add of float64
#   values are computed in float32. Losses go through mean: the mean squared error of 0.1 and 0 is 0.01 rounded to
#   float32. The rule that results have no 64 bits except on TensorFlow holds whatever floatx says.
# Guess: with floatx "float64" and float64 inputs everything is float64, so that golden values made with it are exact
#   to 1e-15. They are exact to 1e-8.
# Seen on 2026-11-30, Python 3.11:
#   floatx: float64, sum: float64 2.0000000009313226, mean: float32 1.0, var: float32, add: float32
#   mean squared error of 0.1 and 0: float32 0.010000000707805157
set -euo pipefail
command -v python3 >/dev/null || { echo "python3 is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check keras==3.15.1 numpy==2.4.6 scipy==1.17.1 jax==0.10.2
KERAS_HOME="$folder" KERAS_BACKEND=numpy venv/bin/python - <<'PY'
import sys

import keras
import numpy as np

keras.config.set_floatx("float64")
x = np.array([1.0, 1.0 + 2.0**-30])
total, mean = keras.ops.sum(x), keras.ops.mean(x)
variance, twice = keras.ops.var(x), keras.ops.add(x, x)
print(
    f"floatx: {keras.config.floatx()}, sum: {total.dtype} {float(total)!r}, mean: {mean.dtype} {float(mean)!r}, "
    f"var: {variance.dtype}, add: {twice.dtype}"
)
error = keras.losses.MeanSquaredError()(np.array([[0.1]]), np.array([[0.0]]))
print(f"mean squared error of 0.1 and 0: {np.asarray(error).dtype} {float(error)!r}")
seen = total.dtype == "float64" and all(t.dtype == "float32" for t in (mean, variance, twice))
sys.exit(0 if seen and float(mean) == 1.0 and float(error) != 0.1**2 else 1)
PY
