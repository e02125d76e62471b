"""What ONNX Runtime makes of models: run by onnx-write.test.ts.

Reads a list of {file, inputs: [[name, shape, Base64 of float32]]} and prints, for each, its outputs in the same form, or
{"error": text}. Each model runs as it is and optimised. Where the onnx package is there, its checker looks at it first.
"""
import base64
import json
import sys

import numpy as np
import onnxruntime as ort

try:
    import onnx
except ImportError:
    onnx = None


def stored(name, values):
    data = base64.b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode()
    return [name, list(values.shape), data]


def run(file, feeds, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, feeds)
    return [stored(each.name, values) for each, values in zip(session.get_outputs(), outputs)]


def judge(case):
    try:
        if onnx is not None:
            onnx.checker.check_model(case["file"], full_check=True)
        feeds = {name: np.frombuffer(base64.b64decode(data), np.float32).reshape(shape)
                 for name, shape, data in case["inputs"]}
        levels = ort.GraphOptimizationLevel
        return {"plain": run(case["file"], feeds, levels.ORT_DISABLE_ALL),
                "optimised": run(case["file"], feeds, levels.ORT_ENABLE_ALL)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


print(json.dumps([judge(case) for case in json.load(sys.stdin)]))
