# Writes trainings.json: losses of 20 steps of ten small networks in Keras, in float64, from weights and on data of
# formula.py. Needs Keras 3 (made with 3.15.1 on PyTorch):
#   KERAS_BACKEND=torch python test/nn/trainings.py > test/nn/trainings.json
import json

import keras
import torch
from formula import ids, values
from keras import layers as L
from keras.src.backend.common import dtypes

keras.config.set_floatx("float64")
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Else means and the like are taken in float32.
SAMPLES, STEPS, CLASSES = 8, 20, 3
trainings = []


def dense(x):
    return L.Dense(CLASSES)(x)


def train(name, x, y, optimizer, loss="crossEntropy", count=None):
    keras.backend.clear_session()
    model = keras.Model(x, y)
    for i, w in enumerate(model.trainable_weights):
        w.assign(values(w.shape, 10 + i, 0.5) + (1 if w.name == "gamma" else 0))
    shape = (SAMPLES, *x.shape[1:])
    inputs = values(shape, 1) if count is None else ids(shape, 1, count)
    if loss == "crossEntropy":
        targets = ids((SAMPLES,), 2, CLASSES)
        fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        targets = values((SAMPLES, *y.shape[1:]), 2) / 2 + 0.5
        fn = keras.losses.MeanSquaredError()
    optimizer.build(model.trainable_variables)
    losses = []
    for _ in range(STEPS):
        model.zero_grad()
        value = fn(keras.ops.convert_to_tensor(targets), model(keras.ops.convert_to_tensor(inputs), training=True))
        value.backward()
        losses.append(value.item())
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)
    trainings.append({
        "name": name, "model": small(json.loads(model.to_json())), **({"ids": count} if count else {}),
        "loss": loss, "optimizer": {"name": type(optimizer).__name__, "learningRate": float(optimizer.learning_rate)},
        "weights": [[w.path, w.name, list(w.shape)] for w in model.trainable_weights], "losses": losses,
    })


def small(value):
    """Without what nobody reads: nothing, modules, and shapes that follow from others."""
    if isinstance(value, list):
        return [small(v) for v in value]
    if not isinstance(value, dict):
        return value
    left = ("module", "registered_name", "build_config", "dtype", "compile_config", "keras_version", "backend")
    return {k: small(v) for k, v in value.items() if v is not None and k not in left}


def sgd(rate=0.1):
    return keras.optimizers.SGD(rate, momentum=0.9)


def adam(rate=0.01):
    return keras.optimizers.Adam(rate)


x = keras.Input((6, 6, 2))
a = L.Conv2D(4, 3, padding="same", activation="relu")(x)
b = L.Conv2D(4, 3, padding="same")(a)
train("residual", x, dense(L.GlobalAveragePooling2D()(L.Activation("relu")(L.Add()([a, b])))), sgd())

x = keras.Input((6, 6, 2))
a = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(L.Conv2D(3, 1, activation="tanh")(x))
train("depthwise", x, dense(L.GlobalMaxPooling2D()(L.ReLU(max_value=6)(a))), adam())

x = keras.Input((7, 6, 2))
a = L.MaxPooling2D(2)(L.ELU()(L.SeparableConv2D(4, 3, padding="same")(x)))
a = L.SeparableConv2D(5, 2, strides=2, depth_multiplier=2, activation="silu")(a)
train("separable", x, dense(L.Flatten()(a)), sgd(0.05))

x = keras.Input((8, 8, 2))
a = L.Conv2D(3, 3, strides=2, padding="same", activation="relu")(x)
a = L.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu")(L.UpSampling2D(2)(L.MaxPooling2D(2)(a)))
train("autoencoder", x, L.Conv2D(2, 3, padding="same", activation="sigmoid")(a), adam(), "meanSquaredError")

x = keras.Input((5, 4))
a = L.LayerNormalization()(x)
a = L.Add()([x, L.MultiHeadAttention(2, 3)(a, a)])
b = L.Dense(4)(L.Dense(6, activation="gelu")(L.LayerNormalization()(a)))
train("attention", x, dense(L.GlobalAveragePooling1D()(L.Add()([a, b]))), adam())

x = keras.Input((6,))
a = L.Embedding(9, 4)(x)
train("embedding", x, dense(L.Dense(5, activation="tanh")(L.GlobalAveragePooling1D()(a))), adam(), count=9)

x = keras.Input((6, 6, 2))
a = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False)(x)))
a = L.PReLU(shared_axes=[1, 2])(L.BatchNormalization(momentum=0.9)(L.Conv2D(3, 2)(a)))
train("batch normalisation", x, dense(L.Flatten()(a)), sgd(0.05))

x = keras.Input((4, 4, 6))
a = L.Activation("hard_silu")(L.GroupNormalization(2)(L.Conv2D(6, 3, padding="same", groups=3)(x)))
a = L.Activation("selu")(L.LayerNormalization(axis=[1, 2, 3])(a))
train("layer and group normalisation", x, dense(L.Flatten()(a)), sgd(0.003))

x = keras.Input((9, 2))
a = L.MaxPooling1D(2)(L.Conv1D(4, 3, padding="causal", activation="relu")(x))
a = L.LeakyReLU(0.1)(L.Conv1D(4, 2, dilation_rate=2)(a))
train("sequences", x, dense(L.GlobalMaxPooling1D()(a)), adam())

x = keras.Input((6, 6, 2))
a = L.Conv2D(3, 3, activation="tanh")(L.ZeroPadding2D(1)(x))
b = L.Cropping2D(1)(L.Conv2D(3, 3, padding="same", activation="sigmoid")(x))
b = L.Resizing(6, 6)(b)
c = L.Subtract()([L.Multiply()([a, b]), L.Maximum()([a, b])])
d = L.Concatenate()([L.GlobalAveragePooling2D()(c), L.GlobalMaxPooling2D()(L.AveragePooling2D(2)(b))])
train("branches", x, dense(L.Softmax()(d)), adam())

print(json.dumps({"keras": keras.__version__, "trainings": trainings}))
