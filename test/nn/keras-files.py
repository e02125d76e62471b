"""Makes keras-files.json: small files of real Keras (3.15.1, torch) and h5py, each with an input and Keras's answer to it.

KERAS_BACKEND=torch python test/nn/keras-files.py > test/nn/keras-files.json
"""
import base64, gzip, json, os, sys, tempfile
import h5py, keras, numpy as np
from keras import layers as L
from keras.src.legacy.saving import legacy_h5_format

folder = tempfile.mkdtemp()
files = {}

def add(name, model, path, shape, edit=None):
    rng = np.random.default_rng(len(files))
    x = rng.standard_normal((2, *shape)).astype("f4")
    y = np.asarray(keras.ops.convert_to_numpy(model(x)), "f4")
    if edit is not None:
        with h5py.File(path, "r+") as f:
            edit(f)
    packed = base64.b64encode(gzip.compress(open(path, "rb").read(), 9, mtime=0)).decode()
    files[name] = {"file": packed, "x": x.ravel().tolist(), "y": y.ravel().tolist()}

def saved(name, *stack, shape=(2,), edit=None, compile=True):
    keras.utils.set_random_seed(len(files))
    model = keras.Sequential([keras.Input(shape), *stack])
    if compile:
        model.compile(optimizer="adam", loss="mse")
    path = os.path.join(folder, f"{name}.h5")
    model.save(path)
    add(name, model, path, shape, edit)

def recast(dtype):
    """All data sets in another element type."""
    def edit(f):
        found = []
        f["model_weights"].visititems(lambda n, d: found.append((n, d[()])) if isinstance(d, h5py.Dataset) else None)
        for n, value in found:
            del f["model_weights"][n]
            f["model_weights"].create_dataset(n, data=value.astype(dtype))
    return edit

def config(change):
    def edit(f):
        c = json.loads(f.attrs["model_config"])
        change(c)
        f.attrs["model_config"] = json.dumps(c)
    return edit

def attribute(name, text):
    def edit(f):
        f.attrs[name] = text
    return edit

def variance_scaling(c):
    c["config"]["layers"][1]["config"]["kernel_initializer"] = {
        "class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}}

saved("training", L.Dense(2, kernel_initializer=keras.initializers.Orthogonal(), bias_initializer="ones",
                          kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2), bias_regularizer=keras.regularizers.L1(0.1),
                          activity_regularizer=keras.regularizers.L2(0.1), kernel_constraint=keras.constraints.MaxNorm(9)))
saved("truncated", L.Dense(2, kernel_initializer=keras.initializers.TruncatedNormal()))
saved("scaling", L.Dense(2), edit=config(variance_scaling))
saved("nan", L.Dense(2), edit=attribute("training_config", '{"loss": NaN, "weights": [-Infinity, Infinity]}'))
saved("noJson", L.Dense(2), edit=attribute("training_config", "pickle"))
saved("halves", L.Dense(2), edit=recast("<f2"))
saved("doubles", L.Dense(2), edit=recast("<f8"))
saved("bigEndian", L.Dense(2), edit=recast(">f4"))
saved("reshape", L.Conv2D(2, 2), L.Reshape((-1,)), L.Dense(2), L.Reshape((2, -1, 1)), shape=(3, 3, 1))
saved("mixed", L.Dense(2, dtype="mixed_float16"))
def theano(f):
    f.attrs["backend"] = "theano"
    found = []
    f["model_weights"].visititems(lambda n, d: found.append(d) if isinstance(d, h5py.Dataset) and d.ndim == 4 else None)
    found[0][...] = found[0][()][::-1, ::-1]
saved("theano", L.Conv2D(2, (2, 3)), shape=(4, 4, 2), edit=theano)

keras.utils.set_random_seed(99)
stack = [L.Conv2D(3, 2, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(2), L.Conv2D(2, 2), L.Flatten(), L.Dense(4), L.Dense(3, activation="softmax")]
model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
for w in model.weights:
    w.assign(np.random.default_rng(len(w.shape)).uniform(0.1, 1, w.shape))
path = os.path.join(folder, "m.weights.h5")
model.save_weights(path)
add("weights3", model, path, (8, 8, 1))
path = os.path.join(folder, "legacy.h5")
with h5py.File(path, "w") as f:
    legacy_h5_format.save_weights_to_hdf5_group(f, model)
add("weights2", model, path, (8, 8, 1))
path = os.path.join(folder, "whole.h5")
model.save(path)
add("whole", model, path, (8, 8, 1))

# Branches, a shared layer, and layers whose order in the file is not that of their calls.
keras.utils.set_random_seed(100)
x = keras.Input((6, 6, 2), name="image")
c = L.Conv2D(3, 3, padding="same", activation="relu")(x)
d = L.BatchNormalization()(L.Conv2D(3, 3, padding="same", use_bias=False)(c))
joined = L.Activation("relu")(L.Add()([d, L.Conv2D(3, 1)(x)]))
pooled = L.GlobalAveragePooling2D()(L.Concatenate()([joined, L.Average()([c, joined]), L.Multiply()([c, joined])]))
shared = L.Dense(9, activation="tanh")
model = keras.Model(x, L.Dense(3, activation="softmax")(L.Maximum()([shared(pooled), shared(shared(pooled))])), name="net")
for w in model.weights:
    w.assign(np.random.default_rng(len(w.shape)).uniform(0.1, 1, w.shape))
path = os.path.join(folder, "functional.h5")
model.save(path)
add("functional", model, path, (6, 6, 2))
path = os.path.join(folder, "functional.weights.h5")
model.save_weights(path)
add("functionalWeights", model, path, (6, 6, 2))
inner = keras.Sequential([keras.Input((2,)), L.Dense(2)], name="inner")
x = keras.Input((2,))
model = keras.Model(x, L.Add()([inner(x), x]))
path = os.path.join(folder, "nested.h5")
model.save(path)
add("nested", model, path, (2,))
json.dump(files, sys.stdout, indent=1)
