# Writes references.json: names, shapes and counts of the weights of published networks, and what they give for weights
# and pictures of formula.py, in float64. Needs Keras 3, torchvision and NumPy (made with Keras 3.15.1 on
# PyTorch 2.15.0, torchvision 0.29.2):
#   KERAS_BACKEND=torch python test/applications/references.py > test/applications/references.json
import hashlib
import json

import keras
import numpy as np
import torch
import torchvision
from formula import picture, weight
from keras import applications as A
from keras import layers as L
from keras.src.backend.common import dtypes

keras.config.set_floatx("float64")
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"  # Else means and the like are taken in float32.
SMALL, GREY = (32, 32, 3), (64, 64, 1)
references = []


def digest(lines):
    """Of a line "layer/weight shape" for each weight, in the order of the model."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def counts(total, trainable):
    return {"total": int(total), "trainable": int(trainable)}


def kept(y):
    return [float(f"{v:.12g}") for v in np.asarray(y, "float64").ravel()]


def kind(w):
    """depthwise_kernel of separable layers has a name of its own."""
    return w.path.split("/")[-1]


def keras_counts(make):
    keras.backend.clear_session()
    model = make()
    return counts(model.count_params(), sum(np.prod(w.shape) for w in model.trainable_weights))


def keras_reference(name, options, published, make, **also):
    """`published` makes the network as it was published, `make` the one whose numbers are computed."""
    full = keras_counts(published)
    keras.backend.clear_session()
    model = make()
    lines = []
    for layer in model.layers:
        for w in layer.weights:
            if w.name in ("count", "seed_generator_state"):
                continue
            w.assign(weight(layer.name, kind(w), tuple(w.shape)).astype("float64"))
            lines.append(f"{layer.name}/{kind(w)} {list(w.shape)}")
    x = picture((2, *model.input_shape[1:]))
    y = keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x.astype("float64"))))
    references.append({"network": name, "options": options, "published": full, "weights": digest(lines),
                       "output": {"shape": list(y.shape), "values": kept(y)}, **also})


def cifar(n, shape=SMALL, classes=10):
    """Version 1 of Keras's example for CIFAR-10."""
    def conv(x, filters, size, strides):
        return L.Conv2D(filters, size, strides=strides, padding="same")(x)

    inputs = L.Input(shape)
    x = L.Activation("relu")(L.BatchNormalization()(conv(inputs, 16, 3, 1)))
    for stage in range(3):
        for block in range(n):
            filters, strides = 16 * 2**stage, 2 if stage > 0 and block == 0 else 1
            y = L.Activation("relu")(L.BatchNormalization()(conv(x, filters, 3, strides)))
            y = L.BatchNormalization()(conv(y, filters, 3, 1))
            if strides > 1:
                x = conv(x, filters, 1, strides)
            x = L.Activation("relu")(L.Add()([x, y]))
    return keras.Model(inputs, L.Dense(classes)(L.GlobalAveragePooling2D()(x)))


def lenet(classes=10):
    return keras.Sequential([
        L.Input((28, 28, 1)), L.Conv2D(6, 5, padding="same", activation="tanh", name="conv1"),
        L.AveragePooling2D(2), L.Conv2D(16, 5, activation="tanh", name="conv2"), L.AveragePooling2D(2), L.Flatten(),
        L.Dense(120, activation="tanh", name="fc1"), L.Dense(84, activation="tanh", name="fc2"),
        L.Dense(classes, name="predictions"),
    ])


def mini_xception(shape=GREY, classes=7):
    """Of oarriaga/face_classification."""
    x = inputs = L.Input(shape)
    for _ in range(2):
        x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(8, 3, use_bias=False)(x)))
    for filters in (16, 32, 64, 128):
        r = L.BatchNormalization()(L.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(x))
        x = L.BatchNormalization()(L.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x))
        x = L.BatchNormalization()(L.SeparableConv2D(filters, 3, padding="same", use_bias=False)(L.Activation("relu")(x)))
        x = L.Add()([L.MaxPooling2D(3, strides=2, padding="same")(x), r])
    x = L.GlobalAveragePooling2D()(L.Conv2D(classes, 3, padding="same")(x))
    return keras.Model(inputs, L.Activation("linear", name="predictions")(x))


def application(make, **options):
    return lambda: make(weights=None, classifier_activation=None, **options)


top = {"inputShape": SMALL, "classes": 10}
bare = {"inputShape": SMALL, "includeTop": False, "pooling": "avg"}
keras_top = {"input_shape": SMALL, "classes": 10}
keras_bare = {"input_shape": SMALL, "include_top": False, "pooling": "avg"}
keras_reference("lenet5", {}, lenet, lenet)
keras_reference("resNet8", {}, lambda: cifar(1), lambda: cifar(1))
keras_reference("resNet20", {}, lambda: cifar(3), lambda: cifar(3))
keras_reference("miniXception", {}, mini_xception, mini_xception)
keras_reference("mobileNet", {**top, "alpha": 0.25}, application(A.MobileNet),
                application(A.MobileNet, **keras_top, alpha=0.25))
keras_reference("mobileNetV2", {**top, "alpha": 0.35}, application(A.MobileNetV2),
                application(A.MobileNetV2, **keras_top, alpha=0.35))
keras_reference("mobileNetV2", {**top, "inputShape": (35, 45, 3), "alpha": 1.3}, application(A.MobileNetV2, alpha=1.3),
                application(A.MobileNetV2, **{**keras_top, "input_shape": (35, 45, 3)}, alpha=1.3),
                publishedOptions={"alpha": 1.3})
keras_reference("resNet50", top, application(A.ResNet50), application(A.ResNet50, **keras_top))
keras_reference("vgg16", bare, application(A.VGG16), application(A.VGG16, **keras_bare))
keras_reference("denseNet121", top, application(A.DenseNet121), application(A.DenseNet121, **keras_top))
# Its normalisation has a counter, which is no weight here.
keras_reference("efficientNetB0", top, application(A.EfficientNetB0), application(A.EfficientNetB0, **keras_top),
                counters=1)


def torch_weights(model):
    """Pairs of a parameter or buffer and its values, in Keras's layers and names; and the digest's lines."""
    lines = []

    def values(layer, name, shape):
        lines.append(f"{layer}/{name} {list(shape)}")
        return weight(layer, name, tuple(shape)).astype("float64")

    def put(tensor, array):
        assert tuple(tensor.shape) == array.shape, (tensor.shape, array.shape)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    for path, module in model.named_modules():
        if isinstance(module, torchvision.models.VisionTransformer):
            put(module.class_token, values("class_token", "token", module.class_token.shape))
        elif path == "encoder":
            embedding = module.pos_embedding
            put(embedding, values("encoder.pos_embedding", "embedding", embedding.shape))
        elif isinstance(module, torch.nn.Conv2d):
            o, i, h, w = module.weight.shape
            put(module.weight, values(path, "kernel", (h, w, i, o)).transpose(3, 2, 0, 1))
            if module.bias is not None:
                put(module.bias, values(path, "bias", (o,)))
        elif isinstance(module, (torch.nn.BatchNorm2d, torch.nn.LayerNorm)):
            put(module.weight, values(path, "gamma", module.weight.shape))
            put(module.bias, values(path, "beta", module.bias.shape))
            if isinstance(module, torch.nn.BatchNorm2d):
                put(module.running_mean, values(path, "moving_mean", module.running_mean.shape))
                put(module.running_var, values(path, "moving_variance", module.running_var.shape))
        elif isinstance(module, torch.nn.MultiheadAttention):
            d, heads = module.embed_dim, module.num_heads
            for part, name in enumerate(["query", "key", "value"]):
                kernel = values(path, f"{name}_kernel", (d, heads, d // heads)).reshape(d, d)
                put(module.in_proj_weight[part * d : (part + 1) * d], kernel.T)
                bias = values(path, f"{name}_bias", (heads, d // heads))
                put(module.in_proj_bias[part * d : (part + 1) * d], bias.reshape(d))
            kernel = values(path, "output_kernel", (heads, d // heads, d))
            put(module.out_proj.weight, kernel.reshape(d, d).T)
            put(module.out_proj.bias, values(path, "output_bias", (d,)))
        elif isinstance(module, torch.nn.Linear) and not path.endswith("out_proj"):
            o, i = module.weight.shape
            put(module.weight, values(path, "kernel", (i, o)).T)
            put(module.bias, values(path, "bias", (o,)))
    return lines


def torch_reference(name, options, published, make, shape=SMALL, **also):
    full = published()
    trained = sum(p.numel() for p in full.parameters())
    buffers = sum(b.numel() for n, b in full.named_buffers() if "num_batches" not in n)
    model = make().double().eval()
    # Orders differ: torchvision's layers stand in the order of their definition.
    lines = sorted(torch_weights(model))
    x = torch.from_numpy(picture((2, *shape)).astype("float64")).permute(0, 3, 1, 2)
    with torch.no_grad():
        y = model(x).numpy()
    references.append({"network": name, "options": options, "published": counts(trained + buffers, trained),
                       "weights": digest(lines), "sorted": True,
                       "output": {"shape": list(y.shape), "values": kept(y)}, **also})


def vit(**options):
    return torchvision.models.VisionTransformer(**options)


M = torchvision.models
torch_reference("resNet18", top, M.resnet18, lambda: M.resnet18(num_classes=10))
torch_reference("resNet50", {**top, "variant": "torchvision"}, M.resnet50, lambda: M.resnet50(num_classes=10))
torch_reference("visionTransformer", {"layers": 2, "heads": 2, "width": 32, "mlpWidth": 48}, M.vit_b_16,
                lambda: vit(image_size=32, patch_size=4, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=48,
                            num_classes=10),
                publishedOptions={"inputShape": [224, 224, 3], "classes": 1000, "patchSize": 16, "layers": 12,
                                  "heads": 12, "width": 768})

print(json.dumps({"keras": keras.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__,
                  "references": references}))
