"""Writes the node cases of ONNX's official backend tests as one file, which onnx-node-cases.test.ts runs.

    pip install onnx==1.23.2 numpy==2.4.6
    python onnx-node-cases.py

Cases are those whose inputs and outputs are tensors of numbers, of at most MOST_BYTES bytes together. The cases are
ONNX's, Copyright (c) ONNX Project Contributors, under the Apache License 2.0.

The file is gzip of: the length of a JSON text in 8 decimal digits, the text, then bytes that it refers to by
[offset, length]. Equal bytes are there once.
"""

import collections
import gzip
import hashlib
import json
import pathlib
import warnings

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

warnings.simplefilter("ignore")
NAMES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
         10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}
# Types of less than 16 bits, and what their numbers are written as.
SMALL = {17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4",
         23: "float4e2m1", 25: "uint2", 26: "int2"}
WRITTEN = {name: np.float32 if "float" in name else np.int8 for name in SMALL.values()}
NAMES |= SMALL
MOST_BYTES = 100_000


def types_of(model):
    return [value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
            for value in [*model.graph.input, *model.graph.output]]


payload = bytearray()
places = {}


def plain(value):
    """Some cases have protobuf messages instead of arrays."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def put(data):
    key = hashlib.sha256(data).digest()
    if key not in places:
        places[key] = [len(payload), len(data)]
        payload.extend(data)
    return places[key]


def tensor(array, elem_type):
    array = np.asarray(array)
    name = NAMES[elem_type]
    if name in WRITTEN:
        array = array.astype(WRITTEN[name])
    return {"type": name, "shape": list(array.shape), "at": put(np.ascontiguousarray(array).tobytes())}


# `python onnx-node-cases.py` is not the only reader of the loader: others may have added to the list.
cases, left_out = [], collections.Counter()
everything = load_model_tests(kind="node")
for case in everything:
    model = case.model
    operator = model.graph.node[0].op_type if len(model.graph.node) == 1 else "several nodes"
    wanted = types_of(model)
    reason = None
    if len({name for name in [node.domain for node in model.graph.node] if name not in ("", "ai.onnx")}) > 0:
        reason = "another domain"
    elif not all(each in NAMES for each in wanted):
        reason = "values that are no tensors of numbers"
    inputs, outputs = [[plain(each) for each in side] for side in case.data_sets[0]]
    if reason is None:
        size = sum(np.asarray(each).nbytes for each in [*inputs, *outputs])
        if size > MOST_BYTES:
            reason = "large"
    if reason is not None:
        left_out[reason] += 1
        cases.append({"name": case.name, "operator": operator, "leftOut": reason})
        continue
    count = len(model.graph.input)
    model.producer_name = ""
    model.ClearField("producer_version")
    cases.append({
        "name": case.name,
        "operator": operator,
        "model": put(model.SerializeToString()),
        "inputs": [tensor(each, elem) for each, elem in zip(inputs, wanted[:count])],
        "outputs": [tensor(each, elem) for each, elem in zip(outputs, wanted[count:])],
        "rtol": case.rtol,
        "atol": case.atol,
    })

head = json.dumps({"onnx": onnx.__version__, "all": len(everything), "cases": cases}, separators=(",", ":"))
text = head.encode()
content = f"{len(text):08d}".encode() + text + bytes(payload)
path = pathlib.Path(__file__).with_name("onnx-node-cases.gz")
path.write_bytes(gzip.compress(content, 9, mtime=0))
print(len(everything), "cases,", sum("model" in case for case in cases), "written;", dict(left_out))
print(len(content), "bytes,", path.stat().st_size, "compressed")
