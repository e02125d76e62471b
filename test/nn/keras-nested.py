"""Makes keras3-nested.json and keras2-nested.json: small files of real Keras with models within models, arithmetic on
nodes, activations that are objects, several inputs and outputs, each as .keras, .h5 and weights alone, with inputs of
formula.py and what Keras answers. The first is made with Keras 3.15.1, the second with Keras 2.15.0 on TensorFlow 2.15.1:

KERAS_BACKEND=torch python test/nn/keras-nested.py > test/nn/keras3-nested.json
python test/nn/keras-nested.py > test/nn/keras2-nested.json
"""
import base64, gzip, json, os, sys, tempfile
import keras, numpy as np
from formula import values
from keras import layers as L

three = keras.__version__.startswith("3")
folder = tempfile.mkdtemp()
files = {"keras": keras.__version__, "models": {}}

def pack(path):
    return base64.b64encode(gzip.compress(open(path, "rb").read(), 9, mtime=0)).decode()

def add(name, model):
    rng = np.random.default_rng(len(files["models"]))
    model.set_weights([rng.uniform(0.1, 1, w.shape).astype("f4") for w in model.get_weights()])
    shapes = [tuple(int(d) for d in t.shape[1:]) for t in model.inputs]
    x = [values((2, *s), i).astype("float32") for i, s in enumerate(shapes)]
    given = x if len(x) > 1 else x[0]
    if name == "named":
        given = {k: x[[t.name.split(":")[0] for t in model.inputs].index(k)] for k in ["right", "left"]}
    y = model(given, training=False)
    outputs = [np.asarray(t.detach() if hasattr(t, "detach") else t, "f4") for t in (y if isinstance(y, (list, tuple)) else [y])]
    entry = {"inputs": [[2, *s] for s in shapes], "outputs": [{"shape": list(o.shape), "values": [float(f"{v:.8g}") for v in o.ravel()]} for o in outputs]}
    for ending, save in [("keras", model.save), ("h5", model.save), ("weights.h5", model.save_weights)]:
        path = os.path.join(folder, f"{name}.{ending}")
        save(path)
        entry[ending] = pack(path)
    files["models"][name] = entry

def block(name, **settings):
    return keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(4, 3, padding="same", name="c1"), L.BatchNormalization(name="bn"),
                             L.Activation("relu"), L.Conv2D(3, 1, name="c2")], name=name, **settings)

# A chain in a graph, with nothing, its normalisation, or all of it frozen; the order of weights in .h5 depends on that.
for state in ["trained", "partly", "frozen"]:
    inner = block("block")
    if state == "partly":
        inner.get_layer("bn").trainable = False
    if state == "frozen":
        inner.trainable = False
    x = keras.Input((6, 6, 3), name="image")
    y = L.Add()([inner(x), L.Conv2D(3, 1, name="c1")(x)])
    add(f"chain, {state}", keras.Model(x, L.Dense(2)(L.GlobalAveragePooling2D()(y))))

# A graph of two inputs and two outputs, called twice, that has a graph in it; and the outputs in another order.
u, v = keras.Input((3,), name="u"), keras.Input((4,), name="v")
deep_in = keras.Input((3,))
deep = keras.Model(deep_in, L.Dense(3, name="deepest")(deep_in), name="deep")
h = L.Concatenate()([deep(L.Dense(3, name="dense")(u)), v])
pair = keras.Model([u, v], [L.Dense(4, activation="tanh", name="right")(h), L.Dense(3, name="left")(h)], name="pair")
a, b = keras.Input((3,), name="a"), keras.Input((4,), name="b")
p, q = pair([a, b])
r, s = pair([q, p])
add("pairs", keras.Model([a, b], [L.Add()([p, r]), L.Dense(2, name="out")(s), r]))

# The outputs of a shared model: of its second call first.
one = keras.Sequential([keras.Input((3,)), L.Dense(3, name="dense")], name="one")
two_in = keras.Input((3,))
two = keras.Model(two_in, L.Dense(3, activation="sigmoid", name="dense")(two_in), name="two")
x = keras.Input((3,), name="x")
first = two(one(x))
second = two(one(first))
add("shared", keras.Model(x, [second, first]))

# A chain that begins with a graph, as fine-tuning makes them; the graph is frozen.
x = keras.Input((6, 6, 3))
c = L.Conv2D(3, 3, padding="same", name="conv")(x)
base = keras.Model(x, L.Add()([c, L.BatchNormalization(name="bn")(c)]), name="base")
base.trainable = False
add("fine-tuned", keras.Sequential([base, L.AveragePooling2D(3, strides=2, padding="same"), L.Flatten(), L.Dense(4, name="dense"),
                                    keras.Sequential([keras.Input((4,)), L.Dense(3), L.Softmax()], name="head")], name="tuned"))

# Arithmetic on nodes.
x = keras.Input((4,), name="x")
d = L.Dense(4)(x)
if three:
    ops = keras.ops
    y = ops.relu(d * 2.0 + 1.0) - d
    y = ops.concatenate([1.0 - y, -y / 3.0, ops.sigmoid(y), 0.5 * ops.maximum(y, d)], axis=-1)
    y = L.Add()([y, ops.tanh(y)])
else:
    import tensorflow as tf
    y = tf.nn.relu(d * 2.0 + 1.0) - d
    y = tf.concat([1.0 - y, -y / 3.0, tf.sigmoid(y), 0.5 * tf.maximum(y, d)], axis=-1)
    y = L.Add()([y, tf.tanh(y)])
add("arithmetic", keras.Model(x, L.Dense(2, name="out")(y)))

# Activations that are layers, and names that Kilograd has other words for.
leaky = L.LeakyReLU(negative_slope=0.2) if three else L.LeakyReLU(alpha=0.2)
stack = [L.Dense(4, activation=leaky), L.Dense(4, activation="hard_sigmoid"), L.Dense(4, activation="swish"),
         L.Activation("hard_sigmoid"), L.Dense(3, activation="elu"), L.ReLU(max_value=0.5)]
if three:
    stack += [L.Dense(4, activation="leaky_relu"), L.Dense(4, activation="relu6")]
else:
    stack += [L.ThresholdedReLU(theta=0.25)]
add("activations", keras.Sequential([keras.Input((3,)), *stack]))

# What only training does, and a layer along the last axis in other words.
stack = [L.RandomFlip("horizontal"), L.GaussianNoise(0.1), L.ActivityRegularization(l2=0.1), L.Reshape((4, 9)),
         L.TimeDistributed(L.Dense(3, name="inner"), name="along"), L.TimeDistributed(L.Activation("relu"))]
stack += [L.Identity()] if three else []
add("training", keras.Sequential([keras.Input((4, 3, 3)), *stack]))

# Several inputs by name.
inputs = {"right": keras.Input((2,), name="right"), "left": keras.Input((3,), name="left")}
add("named", keras.Model(inputs, L.Dense(2)(L.Concatenate()([inputs["left"], inputs["right"]]))))

json.dump(files, sys.stdout, indent=1)
