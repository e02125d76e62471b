"""Makes onnx-proto.json: files that Python's onnx package writes, in Base64, and what is in them.

Run by hand, with onnx (made with onnx 1.23.2 and NumPy 2.4.6):
python3 test/nn/formats/onnx-proto.py > test/nn/formats/onnx-proto.json
"""
import base64
import json

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def base64_of(message):
    return base64.b64encode(message.SerializeToString()).decode()


x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, None])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
unranked = helper.make_tensor_value_info("z", TensorProto.INT64, None)
sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
branch = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "branch", [], [y])
nodes = [
    helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch, else_branch=branch),
    helper.make_node("Some", ["x", "", "ü"], ["z", ""], domain="own.domain", f=-0.5, i=-3, s="text",
                     floats=[1.5, -2.0], ints=[-9223372036854775807, 9223372036854775807, 0], strings=["a", ""],
                     t=numpy_helper.from_array(np.array([[1, 2]], np.float32), "t")),
]
graph = helper.make_graph(nodes, "graph", [x, sequence], [y, unranked],
                          [numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")],
                          doc_string="passed over")
model = helper.make_model(graph, producer_name="made by Python", opset_imports=[helper.make_opsetid("", 17)],
                          ir_version=8)
helper.set_model_props(model, {"key": "value"})

types = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i64": np.int64,
    "i32": np.int32, "i16": np.int16, "u16": np.uint16, "i8": np.int8, "u8": np.uint8, "bool": np.bool_,
}
tensors = []
for name, dtype in types.items():
    values = np.array([0, 1, 2, 100, 127, 1], dtype=np.float64).reshape(2, 3)
    if name[0] not in "ub":
        values[0] *= -1
    if name.startswith(("f", "bf")):
        values[1, 0] = 0.375
    values = values.astype(dtype)
    raw = numpy_helper.from_array(values, name)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    lists = helper.make_tensor(name, kind, values.shape, values.flatten())
    tensors.append({
        "type": name, "raw": base64_of(raw), "lists": base64_of(lists),
        "values": [float(v) for v in values.flatten()],
    })
others = {"uint32": np.uint32, "uint64": np.uint64, "complex64": np.complex64}
refused = {name: base64_of(numpy_helper.from_array(np.zeros(2, dtype))) for name, dtype in others.items()}
refused["string"] = base64_of(helper.make_tensor("text", TensorProto.STRING, [1], [b"a"]))

print(json.dumps({"onnx": onnx.__version__, "model": base64_of(model), "tensors": tensors, "refused": refused},
                 indent=1))
