# Writes attention.json: what Keras's attention gives with masks, in float64, for inputs and weights of formula.py. Needs
# Keras 3 (made with 3.15.1 on PyTorch); models in Keras's words are written into attention-models.json:
#   cd test/nn && KERAS_BACKEND=torch python attention.py > attention.json
import json

import keras
import numpy as np
from formula import values, weight
from keras import layers as L
from keras.src.backend.common import dtypes

keras.config.set_floatx("float64")
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Else means and the like are taken in float32.
cases = []


def case(what, query, value, mask=None, **call):
    inputs = [values(query, 0), values(value, 1)]
    if mask is not None:
        call["attention_mask"] = np.array(mask)
    layer = L.MultiHeadAttention(2, 3)
    layer(*inputs, **call)
    for i, w in enumerate(layer.weights):
        w.assign(weight(w.name, w.shape, 10 + i))
    output = keras.ops.convert_to_numpy(layer(*inputs, **call))
    cases.append({
        "what": what, "inputs": [query, value], "mask": mask, "causal": call.get("use_causal_mask", False),
        "values": [x.ravel().tolist() for x in inputs],
        "weights": [[list(w.shape), keras.ops.convert_to_numpy(w).ravel().tolist()] for w in layer.weights],
        "output": [float(f"{v:.12g}") for v in output.ravel()],
    })


each = [[[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 1]]]
padding = [[[1, 1, 0]], [[1, 0, 0]]]
case("a mask of each query", (2, 4, 5), (2, 3, 2), each)
case("a mask of padding, for all queries", (2, 4, 5), (2, 3, 2), padding)
case("a causal mask", (2, 4, 5), (2, 4, 5), use_causal_mask=True)
case("a causal mask with more keys than queries", (2, 2, 5), (2, 4, 2), use_causal_mask=True)
case("a causal mask and one of padding", (2, 3, 5), (2, 3, 2), padding, use_causal_mask=True)


def functional(*inputs, **call):
    """A model of one layer of attention in Keras's words."""
    given = [keras.Input(shape) for shape in inputs]
    masks = {"attention_mask": given.pop()} if len(inputs) == 3 else {}
    output = L.MultiHeadAttention(2, 3, name="attention")(*given, **masks, **call)
    return json.loads(keras.Model(keras.tree.flatten([given, masks]), output).to_json())


models = [functional((4, 5), (3, 2), (4, 3)), functional((4, 5), (4, 5), use_causal_mask=True)]
json.dump(models, open("attention-models.json", "w"))
print("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]")
