# Weights of Keras and PyTorch in archives of NumPy, inputs and outputs, for npz.test.ts.
# Keras 3.15.1 on PyTorch 2.15.0: KERAS_BACKEND=torch python test/nn/formats/npz.py > test/nn/formats/npz.json
import base64
import io
import json
import sys

import keras
import numpy as np
import torch

keras.utils.set_random_seed(5)
random = np.random.default_rng(5)


def saved(*arrays, **named):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, *arrays, **named)
    return base64.b64encode(buffer.getvalue()).decode()


def main():
    L = keras.layers
    model = keras.Sequential([
        keras.Input((6, 5, 2)), L.Normalization(), L.Conv2D(3, 2, use_bias=False), L.BatchNormalization(scale=False),
        L.ReLU(), L.SeparableConv2D(4, 2), L.BatchNormalization(), L.Flatten(), L.Dense(3, activation="softmax"),
    ])
    for weight in model.weights:
        if weight.name != "count":
            positive = weight.name in ("variance", "moving_variance")
            weight.assign(random.uniform(0.5, 2, weight.shape) if positive else random.normal(0, 0.5, weight.shape))
    x = random.normal(size=(2, 6, 5, 2)).astype("f4")
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    network.eval()
    rows = random.normal(size=(2, 4)).astype("f4")
    json.dump({
        "versions": [keras.__version__, torch.__version__, np.__version__],
        "keras": {
            "file": saved(*model.get_weights()), "x": x.flatten().tolist(),
            "y": keras.ops.convert_to_numpy(model(x)).flatten().tolist(),
        },
        "torch": {
            "file": saved(**{name: value.numpy() for name, value in network.state_dict().items()}),
            "x": rows.flatten().tolist(), "y": network(torch.tensor(rows)).flatten().tolist(),
        },
    }, sys.stdout, indent=1)
    print()


main()
