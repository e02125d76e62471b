"""Makes face-preparation.json: what Keras's layers make of faces of bytes before the classifier of emotions sees them.

Run by hand, with Keras 3.15.1 (KERAS_BACKEND=torch):
python3 test/experiments/face-preparation.py > test/experiments/face-preparation.json
"""
import json
import math

import keras
import numpy as np

# A wave, the same with little contrast, and one grey.
index = np.arange(48 * 48)
wave = np.round(127.5 + 120 * np.sin(index / 7) * np.cos(index / 48)).reshape(48, 48, 1)
faces = np.stack([wave, np.round(100 + (wave - 127.5) / 60), np.full((48, 48, 1), 200.0)]).astype("float32")
model = keras.Sequential(
    [
        keras.layers.Input((48, 48, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.GroupNormalization(groups=1, center=False, scale=False, epsilon=4e-4),
    ]
)
prepared = np.asarray(model.predict(faces, verbose=0)).reshape(3, -1)
places = list(range(0, 48 * 48, 97))
print(
    json.dumps(
        {
            "keras": keras.__version__,
            "places": places,
            "faces": [[int(v) for v in face.reshape(-1)] for face in faces],
            "prepared": [[float(f"{v:.7g}") for v in face[places]] for face in prepared],
        }
    )
)
assert not any(math.isnan(v) for v in prepared.reshape(-1))
