#!/usr/bin/env bash
# Package: onnxruntime 1.32.0 (onnx 1.23.2 makes and checks the model, numpy 2.4.6).
# Behaviour: a valid model of opset 18, Transpose, Resize with `axes` and `sizes`, Transpose, loads with the basic
#   optimisations and gives the right shape. With all of them, which are the default, it does not load: pushing the
#   transposition through Resize rewrites the axes and loses the sizes.
# Guess: optimisation never makes a valid model one that is refused.
# Seen on 2026-11-30, Python 3.11:
#   ORT_DISABLE_ALL: (1, 4, 6, 1)
#   ORT_ENABLE_BASIC: (1, 4, 6, 1)
#   ORT_ENABLE_ALL: refused, the number of elements of 'sizes' is said to be 0
set -euo pipefail
command -v python3 >/dev/null || { echo "python3 is needed"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
venv/bin/python - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

nodes = [
    helper.make_node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
    helper.make_node("Resize", ["first", "", "", "sizes"], ["large"], mode="nearest", axes=[2, 3]),
    helper.make_node("Transpose", ["large"], ["y"], perm=[0, 2, 3, 1]),
]
graph = helper.make_graph(
    nodes,
    "resize",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 3, 1])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 1])],
    [numpy_helper.from_array(np.array([4, 6], np.int64), "sizes")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
x = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
seen = []
for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        seen.append(str(session.run(None, {"x": x})[0].shape))
    except Exception as error:
        reason = "the number of elements of 'sizes' is said to be 0" if "'sizes' (0)" in str(error) else str(error)
        seen.append(f"refused, {reason}")
    print(f"{level}: {seen[-1]}")
sys.exit(0 if seen[:2] == ["(1, 4, 6, 1)"] * 2 and seen[2].startswith("refused, the number") else 1)
PY
