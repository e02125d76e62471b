# Writes training.json: what Keras's losses, metrics and optimizers make of small inputs. Needs Keras 3 (made with 3.15.1
# on PyTorch 2.15), in float64:
#   KERAS_BACKEND=torch python test/nn/training.py > test/nn/training.json
import json

import keras
import numpy as np
import torch
from keras import losses, metrics, optimizers
from keras.src.backend.common import dtypes

keras.config.set_floatx("float64")
keras.config.set_dtype_policy("float64")
# Without this means of float64 are float32 on PyTorch.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def numbers(shape, start, scale=2.0):
    count = int(np.prod(shape))
    return (np.sin(np.arange(count) * 1.7 + start) * scale).round(3).reshape(shape)


def stored(array):
    array = np.asarray(array)
    if array.ndim == 0:
        return float(array)
    return array.tolist()


# ---- losses: name here, class of Keras, options here, options of Keras, what is predicted, what is the target
logits = numbers((3, 4), 0)
probabilities = (np.abs(numbers((3, 4), 1)) / 2).round(3)
ids = np.array([2, 0, 3])
soft = np.array([[0.1, 0.2, 0.6, 0.1], [1, 0, 0, 0], [0, 0, 0.3, 0.7]])
binary = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
soft_binary = np.array([[0, 1, 0.3, 0], [1, 0.8, 0, 0], [0, 0.5, 0, 1]])
values = numbers((3, 4), 2)
signed = 2.0 * binary - 1
images = numbers((2, 2, 3), 3)
image_targets = np.abs(numbers((2, 2, 3), 4)) / 2
logit_options = {"from_logits": True}
focal = {"gamma": 1.5, "alpha": 0.4}
class_weights = [0.1, 0.2, 0.3, 0.4]

LOSSES = [
    ("crossEntropy", losses.CategoricalCrossentropy, {}, logit_options, logits, soft),
    ("crossEntropy", losses.SparseCategoricalCrossentropy, {}, logit_options, logits, ids),
    ("crossEntropy", losses.CategoricalCrossentropy, {"labelSmoothing": 0.1}, logit_options, logits, soft),
    ("crossEntropy", losses.CategoricalCrossentropy, {"labelSmoothing": 0.2}, logit_options, logits, ids),
    ("crossEntropyFromProbabilities", losses.CategoricalCrossentropy, {}, {}, probabilities, soft),
    ("crossEntropyFromProbabilities", losses.SparseCategoricalCrossentropy, {}, {}, probabilities, ids),
    ("crossEntropyFromProbabilities", losses.CategoricalCrossentropy, {"labelSmoothing": 0.3}, {}, probabilities, ids),
    ("focalCrossEntropy", losses.CategoricalFocalCrossentropy, {}, logit_options, logits, soft),
    ("focalCrossEntropy", losses.CategoricalFocalCrossentropy, {}, logit_options, logits, ids),
    ("focalCrossEntropy", losses.CategoricalFocalCrossentropy, focal, logit_options, logits, ids),
    (
        "focalCrossEntropy",
        losses.CategoricalFocalCrossentropy,
        {"alpha": class_weights, "labelSmoothing": 0.1},
        logit_options,
        logits,
        ids,
    ),
    ("focalCrossEntropyFromProbabilities", losses.CategoricalFocalCrossentropy, {}, {}, probabilities, soft),
    ("focalCrossEntropyFromProbabilities", losses.CategoricalFocalCrossentropy, {**focal, "labelSmoothing": 0.1}, {}, probabilities, ids),
    ("binaryCrossEntropy", losses.BinaryCrossentropy, {}, {}, probabilities, soft_binary),
    ("binaryCrossEntropy", losses.BinaryCrossentropy, {"labelSmoothing": 0.2}, {}, probabilities, binary),
    ("binaryCrossEntropyFromLogits", losses.BinaryCrossentropy, {}, logit_options, logits, soft_binary),
    ("binaryCrossEntropyFromLogits", losses.BinaryCrossentropy, {"labelSmoothing": 0.2}, logit_options, logits, binary),
    ("binaryFocalCrossEntropy", losses.BinaryFocalCrossentropy, {}, {}, probabilities, binary),
    (
        "binaryFocalCrossEntropy",
        losses.BinaryFocalCrossentropy,
        {**focal, "applyClassBalancing": True, "labelSmoothing": 0.1},
        {},
        probabilities,
        binary,
    ),
    ("binaryFocalCrossEntropyFromLogits", losses.BinaryFocalCrossentropy, {}, logit_options, logits, binary),
    (
        "binaryFocalCrossEntropyFromLogits",
        losses.BinaryFocalCrossentropy,
        {**focal, "applyClassBalancing": True, "labelSmoothing": 0.1},
        logit_options,
        logits,
        soft_binary,
    ),
    ("meanSquaredError", losses.MeanSquaredError, {}, {}, logits, values),
    ("meanSquaredError", losses.MeanSquaredError, {}, {}, images, image_targets),
    ("meanAbsoluteError", losses.MeanAbsoluteError, {}, {}, logits, values),
    ("meanAbsoluteError", losses.MeanAbsoluteError, {}, {}, images, image_targets),
    ("huber", losses.Huber, {}, {}, logits, values),
    ("huber", losses.Huber, {"delta": 0.3}, {}, logits, values),
    ("logCosh", losses.LogCosh, {}, {}, logits, values),
    ("klDivergence", losses.KLDivergence, {}, {}, probabilities, soft),
    ("klDivergence", losses.KLDivergence, {}, {}, np.abs(images) / 2, image_targets),
    ("cosineSimilarity", losses.CosineSimilarity, {}, {}, logits, values),
    ("cosineSimilarity", losses.CosineSimilarity, {}, {}, images, image_targets),
    ("hinge", losses.Hinge, {}, {}, logits, signed),
    ("hinge", losses.Hinge, {}, {}, logits, binary),
    ("hinge", losses.Hinge, {}, {}, logits, values),
    ("squaredHinge", losses.SquaredHinge, {}, {}, logits, binary),
    ("categoricalHinge", losses.CategoricalHinge, {}, {}, logits, ids),
    ("categoricalHinge", losses.CategoricalHinge, {}, {}, logits, soft),
]

KERAS_WORDS = {
    "labelSmoothing": "label_smoothing",
    "applyClassBalancing": "apply_class_balancing",
    "classId": "class_id",
    "threshold": "thresholds",
    "learningRate": "learning_rate",
    "beta1": "beta_1",
    "beta2": "beta_2",
    "initialAccumulator": "initial_accumulator_value",
    "weightDecay": "weight_decay",
    "clipNorm": "clipnorm",
    "globalClipNorm": "global_clipnorm",
    "clipValue": "clipvalue",
    "gradientAccumulationSteps": "gradient_accumulation_steps",
}


def keras_options(options):
    return {KERAS_WORDS.get(name, name): value for name, value in options.items()}


def loss_case(name, kind, options, extra, prediction, target):
    given = target
    if target is ids and kind is not losses.SparseCategoricalCrossentropy:
        given = np.eye(prediction.shape[-1])[target]
    fn = kind(reduction=None, **keras_options(options), **extra)
    x = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(given) if given is ids else torch.tensor(np.asarray(given, dtype="float64"))
    per_sample = fn(y, x)
    if per_sample.ndim > 1:
        per_sample = per_sample.mean(dim=tuple(range(1, per_sample.ndim)))
    per_sample.mean().backward()
    return {
        "loss": name,
        "options": options,
        "prediction": stored(prediction),
        "ids": target is ids,
        "target": stored(target),
        "perSample": stored(per_sample.detach().numpy()),
        "gradient": stored(x.grad.numpy()),
    }


# ---- metrics: over two batches
def batches(columns, ids_wanted, seed):
    random = np.random.default_rng(seed)
    each = []
    for n in (7, 4):
        prediction = random.random((n, columns)).round(3)
        target = random.integers(0, columns, n) if ids_wanted else (random.random((n, columns)) > 0.6).astype(int)
        each.append((prediction, target))
    return each


classes = batches(5, True, 1)
labels = batches(3, False, 2)
single = batches(1, False, 3)
METRICS = [
    ("topK", {"k": 2}, lambda: metrics.SparseTopKCategoricalAccuracy(k=2), classes),
    ("topK", {"k": 3}, lambda: metrics.SparseTopKCategoricalAccuracy(k=3), classes),
    ("topK", {"k": 1}, lambda: metrics.TopKCategoricalAccuracy(k=1), labels),
    ("precision", {}, metrics.Precision, labels),
    ("precision", {"threshold": 0.3}, lambda: metrics.Precision(thresholds=0.3), classes),
    ("precision", {"classId": 2}, lambda: metrics.Precision(class_id=2), classes),
    ("recall", {}, metrics.Recall, labels),
    ("recall", {"threshold": 0.3, "classId": 1}, lambda: metrics.Recall(thresholds=0.3, class_id=1), labels),
    ("recall", {}, metrics.Recall, single),
    ("f1Score", {}, lambda: metrics.F1Score(average="macro"), classes),
    ("f1Score", {"average": "micro"}, lambda: metrics.F1Score(average="micro"), classes),
    ("f1Score", {"average": "weighted"}, lambda: metrics.F1Score(average="weighted"), classes),
    ("f1Score", {"threshold": 0.4}, lambda: metrics.F1Score(average="macro", threshold=0.4), labels),
    ("auc", {}, metrics.AUC, single),
    ("auc", {}, metrics.AUC, classes),
    ("auc", {"thresholds": 11}, lambda: metrics.AUC(num_thresholds=11), labels),
    ("auc", {"curve": "pr"}, lambda: metrics.AUC(curve="PR"), labels),
    ("meanAbsoluteError", {}, metrics.MeanAbsoluteError, labels),
    ("meanSquaredError", {}, metrics.MeanSquaredError, labels),
]


def metric_case(name, options, make, each):
    metric = make()
    after = []
    for prediction, target in each:
        one_hot = name not in ("topK",) and target.ndim == 1
        metric.update_state(np.eye(prediction.shape[-1])[target] if one_hot else target, prediction)
        after.append(float(metric.result()))
    return {
        "metric": name,
        "options": options,
        "batches": [{"prediction": stored(p), "target": stored(t), "ids": t.ndim == 1} for p, t in each],
        "after": after,
    }


# ---- optimizers: six steps of two parameters, whose gradients depend on them
STARTS = [[1.0, -2.0, 0.5], [[0.3, -0.7], [2.0, 0.1]]]
OFFSETS = [np.array([0.1, -0.2, 0.3]), np.array([[0.5, 0.0], [-0.35, 0.2]])]
OPTIMIZERS = [
    ("sgd", {"learningRate": 0.1}),
    ("sgd", {"learningRate": 0.1, "momentum": 0.9, "nesterov": True, "weightDecay": 0.01}),
    ("adam", {"learningRate": 0.01}),
    ("adamW", {"learningRate": 0.01}),
    ("rmsprop", {}),
    ("rmsprop", {"learningRate": 0.01, "rho": 0.8, "momentum": 0.5, "epsilon": 1e-3}),
    ("rmsprop", {"learningRate": 0.01, "centered": True, "momentum": 0.9, "weightDecay": 0.1}),
    ("adagrad", {}),
    ("adagrad", {"learningRate": 0.1, "initialAccumulator": 0.5, "epsilon": 1e-3, "weightDecay": 0.1}),
    ("adadelta", {}),
    ("adadelta", {"learningRate": 1.0, "rho": 0.8, "epsilon": 1e-3, "weightDecay": 0.01}),
    ("adamax", {}),
    ("adamax", {"learningRate": 0.02, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weightDecay": 0.1}),
    ("nadam", {}),
    ("nadam", {"learningRate": 0.02, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3, "weightDecay": 0.1}),
    ("lion", {}),
    ("lion", {"learningRate": 0.01, "beta1": 0.8, "beta2": 0.9, "weightDecay": 0.1}),
    ("sgd", {"learningRate": 0.1, "clipNorm": 0.4}),
    ("sgd", {"learningRate": 0.1, "globalClipNorm": 0.4}),
    ("sgd", {"learningRate": 0.1, "clipValue": 0.25}),
    ("adam", {"learningRate": 0.1, "globalClipNorm": 0.05}),
    ("sgd", {"learningRate": 0.1, "gradientAccumulationSteps": 2}),
    ("adam", {"learningRate": 0.1, "gradientAccumulationSteps": 3, "clipNorm": 0.4}),
    ("lion", {"learningRate": 0.1, "gradientAccumulationSteps": 4, "globalClipNorm": 0.2}),
]
NAMES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamW": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "adamax": "Adamax",
    "nadam": "Nadam",
    "lion": "Lion",
}


def optimizer_case(name, options):
    optimizer = getattr(optimizers, NAMES[name])(**keras_options(options))
    variables = [keras.Variable(np.array(start), dtype="float64") for start in STARTS]
    for k in range(1, 7):
        now = [keras.ops.convert_to_numpy(v) for v in variables]
        gradients = [w * w * k / 8 + offset for w, offset in zip(now, OFFSETS)]
        optimizer.apply([torch.tensor(g) for g in gradients], variables)
    after = [stored(keras.ops.convert_to_numpy(v)) for v in variables]
    return {"optimizer": name, "options": options, "iterations": int(optimizer.iterations), "after": after}


print(
    json.dumps(
        {
            "keras": keras.__version__,
            "torch": torch.__version__,
            "starts": STARTS,
            "offsets": [stored(o) for o in OFFSETS],
            "losses": [loss_case(*case) for case in LOSSES],
            "metrics": [metric_case(*case) for case in METRICS],
            "optimizers": [optimizer_case(*case) for case in OPTIMIZERS],
        }
    )
)
