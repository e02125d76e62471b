# Writes several-outputs.json: trainings of Keras with several inputs and outputs, loss weights, weights of samples and
# of classes, in float64, which Keras rounds to float32 in places. Needs Keras 3 (made with 3.15.1 on PyTorch 2.15):
#   KERAS_BACKEND=torch python test/nn/several-outputs.py > test/nn/several-outputs.json
import json

import keras
import numpy as np
from keras import layers

keras.config.set_floatx("float64")


def values(shape, start):
    count = int(np.prod(shape))
    # Numbers that float32 has, too.
    return (np.sin(np.arange(count) * 1.7 + start) * 0.8).astype("float32").astype("float64").reshape(shape)


def flat(array):
    return [float(v) for v in np.asarray(array).ravel()]


def weights_of(model):
    return {f"{layer.name}/{w.name}": flat(w.numpy()) for layer in model.layers for w in layer.weights}


N = 20
A, B = values((N, 3), 1), values((N, 2), 2)
PRICE = values((N, 2), 3)
KIND = (np.arange(N) * 7 % 3).astype("int32")
OF_PRICE, OF_KIND = np.abs(values((N,), 4)), np.abs(values((N,), 5))


def two_by_two():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    hidden = layers.Dense(4, activation="tanh", name="hidden", kernel_regularizer=keras.regularizers.L2(1e-2))
    joined = layers.Concatenate(name="joined")([hidden(a), b])
    kind = layers.Dense(3, activation="softmax", name="kind")(joined)
    # The probabilities go into the other output, too.
    price = layers.Dense(2, name="price")(layers.Concatenate(name="both")([joined, kind]))
    model = keras.Model([a, b], [price, kind])
    for i, w in enumerate(model.weights):
        w.assign(values(tuple(w.shape), i))
    return model


def one():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, activation="softmax", name="kind")])
    for i, w in enumerate(model.weights):
        w.assign(values(tuple(w.shape), i))
    return model


def trained(model, x, y, compile_with, **fit_with):
    before = weights_of(model)
    model.compile(optimizer=keras.optimizers.SGD(0.125, momentum=0.875), **compile_with)
    history = model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, **fit_with).history
    sample_weight = fit_with.get("sample_weight")
    evaluation = model.evaluate(x, y, batch_size=8, sample_weight=sample_weight, verbose=0, return_dict=True)
    predictions = model.predict(x, batch_size=8, verbose=0)
    several = predictions if isinstance(predictions, list) else [predictions]
    return {
        "before": before, "history": history, "evaluation": evaluation, "weights": weights_of(model),
        "predictions": {name: flat(p) for name, p in zip(getattr(model, "output_names", ["kind"]), several)},
    }


mse = keras.losses.MeanSquaredError(dtype="float64")
sparse = keras.losses.SparseCategoricalCrossentropy(dtype="float64")
both = {"loss": {"price": mse, "kind": sparse}, "metrics": {"kind": ["accuracy"]}}
# Keras takes weights of samples in a list only where targets and losses are lists, too.
listed = {"loss": [mse, sparse], "metrics": [[], ["accuracy"]]}
x, y = {"a": A, "b": B}, {"price": PRICE, "kind": KIND}
single = {"loss": sparse, "metrics": ["accuracy"]}
cases = {
    "two by two": trained(two_by_two(), x, y, both),
    "loss weights": trained(two_by_two(), x, y, {**both, "loss_weights": {"price": 0.3, "kind": 2.0}}),
    "sample weights": trained(
        two_by_two(), x, [PRICE, KIND], listed, sample_weight=[OF_PRICE, OF_KIND]),
    "one loss": trained(
        two_by_two(), x, [PRICE, KIND], {"loss": [mse, None]}),
    "single, sample weights": trained(one(), A, KIND, single, sample_weight=OF_KIND),
    "single, class weights": trained(one(), A, KIND, single, class_weight={0: 0.5, 2: 3.0}),
    "single, one-hot, class weights": trained(
        one(), A, np.eye(3)[KIND], {"loss": keras.losses.CategoricalCrossentropy(dtype="float64"), "metrics": ["accuracy"]},
        class_weight={0: 0.5, 2: 3.0}),
}
print(json.dumps({
    "keras": keras.__version__,
    "data": {"a": flat(A), "b": flat(B), "price": flat(PRICE), "kind": flat(KIND),
             "ofPrice": flat(OF_PRICE), "ofKind": flat(OF_KIND)},
    "cases": cases,
}))
