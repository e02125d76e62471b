# Writes keras-layers.json: a file of a model with many kinds of layers, and one of its weights alone, by Keras (3.15.1 on
# PyTorch, h5py), each gzipped in base64, and what Keras answers to inputs of formula.py:
#   KERAS_BACKEND=torch python test/nn/keras-layers.py > test/nn/keras-layers.json
import base64
import gzip
import json
import os
import tempfile

import keras
import numpy as np
from formula import values, weight
from keras import layers as L

keras.utils.set_random_seed(1)
image = keras.Input((6, 6, 2), name="image")
a = L.SpatialDropout2D(0.25)(L.Conv2DTranspose(4, 3, strides=2, padding="same", activation="silu")(L.Normalization()(image)))
a = L.GroupNormalization(2)(L.SeparableConv2D(4, 3, strides=2, activation="elu")(a))
a = L.PReLU(shared_axes=[1, 2])(L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(a))
a = L.Resizing(3, 4)(L.ZeroPadding2D(1)(L.Conv2D(4, 1, groups=2, activation="hard_silu")(a)))
s = L.MaxPooling1D(2)(L.Conv1D(4, 3, padding="causal")(L.Reshape((12, 4))(a)))
s = L.Add()([s, L.MultiHeadAttention(2, 3)(query=s, value=s)])
s = L.LayerNormalization()(L.Dense(4, activation="gelu")(s))
model = keras.Model(image, L.Dense(2, activation="softmax")(L.GlobalMaxPooling1D()(s)))
for i, w in enumerate(model.weights):
    w.assign(weight(w.name, w.shape, i))
model.compile("adam", "mse")
folder = tempfile.mkdtemp()
files = {}
for name, save in [("model.h5", model.save), ("model.weights.h5", model.save_weights)]:
    path = os.path.join(folder, name)
    save(path)
    files[name] = base64.b64encode(gzip.compress(open(path, "rb").read(), 9, mtime=0)).decode()
output = keras.ops.convert_to_numpy(model(values((2, 6, 6, 2), 1).astype("float32")))
print(json.dumps({"keras": keras.__version__, **files, "output": [float(f"{v:.8g}") for v in np.ravel(output)]}))
