# Writes merging.json: what Keras's merging layers make of three inputs. Needs Keras 3 (made with 3.15.1 on PyTorch):
#   KERAS_BACKEND=torch python test/nn/merging.py > test/nn/merging.json
import json

import keras
import numpy as np
from keras import layers


def values(shape, start):
    count = int(np.prod(shape))
    return (np.sin(np.arange(count) * 1.7 + start) * 2).round(3).astype("float32").reshape(shape)


cases = []
shapes = {
    "same": [(2, 2, 3), (2, 2, 3), (2, 2, 3)],
    "sizes of 1": [(2, 2, 3), (2, 1, 3), (2, 2, 1)],
    "fewer axes": [(2, 2, 2, 3), (2, 3), (2, 1, 3)],
}
for what, each in shapes.items():
    inputs = [values(shape, i) for i, shape in enumerate(each)]
    for make in [layers.Add, layers.Multiply, layers.Average, layers.Maximum]:
        layer = make()
        output = keras.ops.convert_to_numpy(layer(inputs))
        cases.append((make.__name__, what, {}, inputs, output))
for axis in [-1, 1, -2]:
    each = [[2, 2, 3], [2, 2, 3]]
    each[1][axis] += 1
    inputs = [values(tuple(shape), i) for i, shape in enumerate(each)]
    output = keras.ops.convert_to_numpy(layers.Concatenate(axis=axis)(inputs))
    cases.append(("Concatenate", f"axis {axis}", {"axis": axis}, inputs, output))


def stored(array):
    return {"shape": list(array.shape), "values": [round(float(v), 6) for v in array.ravel()]}


print(json.dumps({"keras": keras.__version__, "cases": [
    {"layer": name, "what": what, "config": config, "inputs": [stored(x) for x in inputs], "output": stored(y)}
    for name, what, config, inputs, y in cases
]}))
