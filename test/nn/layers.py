# Writes layers.json: what Keras's layers give, in float64, for inputs and weights of formula.py, and their settings in
# Keras's words. Needs Keras 3 (made with 3.15.1 on PyTorch):
#   KERAS_BACKEND=torch python test/nn/layers.py > test/nn/layers.json
import json

import keras
import numpy as np
from formula import ids, values, weight
from keras import layers as L
from keras.src.backend.common import dtypes

keras.config.set_floatx("float64")
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Else means and the like are taken in float32.
cases = []
image, sequence, vector = (2, 5, 4, 3), (2, 6, 3), (3, 4)


def case(layer, *shapes, what="", count=None, apart=False):
    """apart: called on several arguments instead of a list."""
    inputs = [values(s, i) if count is None else ids(s, i, count) for i, s in enumerate(shapes)]
    layer(*inputs) if apart else layer(inputs if len(inputs) > 1 else inputs[0])
    for i, w in enumerate(layer.weights):
        w.assign(weight(w.name, w.shape, 10 + i))
    output = layer(*inputs) if apart else layer(inputs if len(inputs) > 1 else inputs[0])
    output = keras.ops.convert_to_numpy(output)
    config = {k: v for k, v in layer.get_config().items() if k not in ("name", "dtype", "trainable")}
    cases.append({
        "layer": type(layer).__name__, **({"what": what} if what else {}), "config": config,
        "inputs": shapes, **({"ids": count} if count else {}),
        "weights": [[w.name, list(w.shape)] for w in layer.weights],
        "output": {"shape": output.shape, "values": [float(f"{v:.12g}") for v in output.ravel()]},
    })


case(L.Dense(3, activation="tanh"), vector)
case(L.Dense(2, use_bias=False), sequence, what="along the last of several axes")
case(L.Embedding(7, 3), (2, 5), count=7)
case(L.Conv2D(2, (2, 3), strides=(2, 1), padding="same", activation="relu"), image)
case(L.Conv2D(4, 3, dilation_rate=1, groups=2, activation="silu"), (2, 5, 4, 6), what="in groups")
case(L.Conv1D(4, 3, padding="causal", dilation_rate=2), sequence)
case(L.Conv1D(4, 2, strides=2, groups=2, padding="same", activation="relu"), (2, 5, 2), what="in groups")
case(L.DepthwiseConv2D((2, 3), padding="same", activation="relu"), image)
case(L.DepthwiseConv2D(2, strides=2, depth_multiplier=2, use_bias=False), image, what="with two outputs each")
case(L.SeparableConv2D(4, 3, padding="same", activation="elu"), image)
case(L.SeparableConv2D(2, 2, strides=2, depth_multiplier=2), image, what="with two outputs each")
case(L.Conv2DTranspose(2, 3, strides=2, padding="same", activation="relu"), image)
case(L.Conv2DTranspose(2, (2, 3), strides=(3, 1), use_bias=False), image, what="with strides beyond its kernel")
case(L.Conv2DTranspose(2, 3, strides=2, output_padding=1, activation="silu"), image, what="with more at the end")
case(L.Conv2DTranspose(2, 3, dilation_rate=2), image, what="that is dilated")
case(L.UpSampling1D(3), sequence)
case(L.UpSampling2D((2, 3)), image)
case(L.UpSampling2D(2, interpolation="bilinear"), image, what="bilinear")
case(L.Resizing(7, 3), image)
case(L.Resizing(8, 5, interpolation="nearest"), image, what="to the nearest")
case(L.MaxPooling1D(), sequence)
case(L.MaxPooling1D(3, strides=2, padding="same"), sequence, what="that overlap")
case(L.MaxPooling2D((2, 3), strides=1, padding="same"), image)
case(L.AveragePooling1D(3, strides=1, padding="same"), sequence)
case(L.AveragePooling2D(2), image)
case(L.GlobalMaxPooling1D(), sequence)
case(L.GlobalMaxPooling2D(), image)
case(L.GlobalAveragePooling1D(), sequence)
case(L.GlobalAveragePooling2D(keepdims=True), image)
case(L.ZeroPadding1D((1, 2)), sequence)
case(L.ZeroPadding2D(((1, 0), (2, 3))), image)
case(L.Cropping1D((1, 2)), sequence)
case(L.Cropping2D((1, 1)), image)
case(L.BatchNormalization(), image)
case(L.BatchNormalization(scale=False), image, what="without a factor")
case(L.BatchNormalization(center=False), sequence, what="without an offset")
case(L.BatchNormalization(scale=False, center=False), vector, what="with neither")
case(L.LayerNormalization(), sequence)
case(L.LayerNormalization(axis=[1, -1], epsilon=1e-5), image, what="over two axes")
case(L.LayerNormalization(axis=[2, 3], center=False), image, what="over the last two, without an offset")
case(L.GroupNormalization(groups=3), (2, 3, 2, 6))
case(L.GroupNormalization(groups=-1, scale=False), image, what="of single channels")
case(L.Normalization(), image)
case(L.Normalization(axis=(1, 2)), sequence, what="of each position")
case(L.Normalization(axis=None, mean=0.5, variance=4.0), image, what="with given statistics")
case(L.Normalization(mean=[0.5, 1.0, 0.0], variance=[4.0, 1.0, 0.0], invert=True), image, what="undone")
case(L.Rescaling(0.5, offset=-1.0), image)
for make in [L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum]:
    case(make(), (2, 3, 2), (2, 1, 2))
case(L.Concatenate(axis=1), (2, 3, 2), (2, 2, 2))
case(L.Dot(axes=1), vector, vector)
case(L.Dot(axes=(2, 1), normalize=True), (2, 3, 4), (2, 4, 2), what="of unit vectors")
case(L.MultiHeadAttention(2, 3), (2, 4, 5), (2, 3, 2), apart=True)
case(L.MultiHeadAttention(2, 3, value_dim=2, output_shape=4, use_bias=False, dropout=0.25), (2, 4, 5), (2, 3, 2),
     (2, 3, 6), what="with a key", apart=True)
case(L.Dropout(0.25), vector)
case(L.Dropout(0.25, noise_shape=(None, 1, 1, 1)), image, what="of whole images")
case(L.SpatialDropout1D(0.25), sequence)
case(L.SpatialDropout2D(0.25), image)
case(L.GaussianNoise(0.25), vector)
case(L.GaussianDropout(0.25), vector)
case(L.Flatten(), image)
case(L.Reshape((-1, 2)), vector)
case(L.Permute((3, 1, 2)), image)
case(L.RepeatVector(3), vector)
for name in ["linear", "softmax", "relu", "relu6", "tanh", "sigmoid", "softplus", "gelu", "exponential", "elu", "selu", "silu", "hard_silu",
             "hard_sigmoid"]:
    case(L.Activation(name), vector, what=name)
case(L.ReLU(), image)
case(L.ReLU(6.0), vector, what="up to 6")
case(L.ReLU(max_value=0.5, negative_slope=0.25, threshold=0.125), image, what="with all settings")
case(L.LeakyReLU(0.1), image)
case(L.ELU(0.5), image)
case(L.PReLU(shared_axes=[1, 2]), image)
case(L.PReLU(), vector, what="with a slope for each")
case(L.Softmax(), sequence)
case(L.Softmax(axis=1), sequence, what="along another axis")

print(json.dumps({"keras": keras.__version__, "cases": cases}, default=list))
