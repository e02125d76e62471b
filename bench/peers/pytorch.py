"""PyTorch as a contender of bench:peers: `pytorch.py FOLDER [cuda [tf32]]`, see ../protocol.ts. Eager mode on all cores, or on the
GPU: in float32, or in TF32, which rounds factors to 11 bits; with cuDNN's fastest algorithms and fused optimizers."""
import json
import math
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F


def answer(**given):
    print("@" + json.dumps(given), flush=True)


class Model:
    """The task's layers on [N, C, H, W], with weights of the task arranged for it."""

    def __init__(self, spec, flat, device):
        self.layers = spec["layers"]
        self.weights, self.trainable = {}, []
        behind_image = {
            after["name"]: before["inputShape"]
            for before, after in zip(self.layers, self.layers[1:])
            if before["className"] == "Flatten" and len(before["inputShape"]) == 3
        }
        at = 0
        for weight in spec["weights"]:
            name, shape = weight["name"], weight["shape"]
            size = math.prod(shape)
            value = torch.from_numpy(flat[at : at + size].reshape(shape))
            at += size
            image = behind_image.get(name.split("/")[0]) if len(shape) == 2 else None
            # What is needed to undo the arrangement: the shape before, and the order of axes.
            if len(shape) == 4:
                before, axes = shape, [3, 2, 0, 1]
            elif image is not None:
                before, axes = [*image, shape[1]], [2, 0, 1, 3]
            else:
                before, axes = shape, list(range(len(shape)))
            arranged = value.reshape(before).permute(axes).contiguous()
            made = arranged if len(shape) == 4 else arranged.reshape(shape)
            made = made.clone().to(device).requires_grad_(weight["trainable"])
            self.weights[name] = made
            if weight["trainable"]:
                self.trainable.append((made, [before[axis] for axis in axes], np.argsort(axes).tolist()))

    def parameters(self):
        return [value for value, _, _ in self.trainable]

    def freeze(self):
        for value in self.parameters():
            value.requires_grad_(False)

    def result(self):
        parts = [v.detach().reshape(shape).permute(back).reshape(-1) for v, shape, back in self.trainable]
        return torch.cat(parts).cpu().numpy()

    def logits(self, x):
        for layer in self.layers:
            name, config, kind = layer["name"], layer["config"], layer["className"]
            if kind == "Conv2D":
                bias = self.weights.get(f"{name}/bias")
                x = F.conv2d(x, self.weights[f"{name}/kernel"], bias, config["strides"], config["padding"])
            elif kind == "Dense":
                x = torch.addmm(self.weights[f"{name}/bias"], x, self.weights[f"{name}/kernel"])
            elif kind == "MaxPooling2D":
                x = F.max_pool2d(x, config["poolSize"], config["strides"])
            elif kind == "Flatten":
                x = x.flatten(1)
            elif kind == "BatchNormalization":
                gamma, beta = self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"]
                mean, variance = self.weights[f"{name}/movingMean"], self.weights[f"{name}/movingVariance"]
                x = F.batch_norm(x, mean, variance, gamma, beta, True, 1 - config["momentum"], config["epsilon"])
            else:
                raise ValueError(f"no {kind} here")
            if config.get("activation") == "relu" and layer is not self.layers[-1]:
                x = F.relu(x)
        return x


def make_optimizer(parameters, settings, device):
    fused = {"fused": True} if device == "cuda" else {}
    if settings["name"] == "adam":
        return torch.optim.Adam(parameters, settings["learningRate"], (0.9, 0.999), 1e-7, **fused)
    return torch.optim.SGD(parameters, settings["learningRate"], **fused)


class Contender:
    def __init__(self, folder, device):
        with open(f"{folder}/task.json", encoding="utf8") as file:
            self.spec = spec = json.load(file)
        self.model = Model(spec, np.fromfile(f"{folder}/weights.f32", np.float32), device)
        self.batch, self.trains = spec["batch"], spec["kind"] == "train"
        integers = self.trains and spec["loss"] == "softmax"
        inputs = np.fromfile(f"{folder}/inputs", np.float32)
        targets = np.fromfile(f"{folder}/targets", np.int32 if integers else np.float32)
        count = self.batch * spec["batches"]
        height, width, channels = spec["model"]["inputShape"]
        # One channel, so that [H, W, C] is [C, H, W].
        self.inputs = torch.from_numpy(inputs).reshape(count, channels, height, width).to(device)
        self.targets = torch.from_numpy(targets.astype(np.int64) if integers else targets.reshape(count, -1)).to(device)
        self.taken = 0
        if self.trains:
            parameters = self.model.parameters()
        else:
            self.model.freeze()
            self.images = self.inputs.clone().requires_grad_(True)
            parameters = [self.images]
        self.optimizer = make_optimizer(parameters, spec["optimizer"], device)

    def step(self, rate=None):
        at = self.taken % self.spec["batches"] * self.batch
        self.taken += 1
        group = self.optimizer.param_groups[0]
        if rate is not None:
            group["lr"] = rate
        # Keras's epsilon stands beside the uncorrected root.
        if "eps" in group:
            group["eps"] = 1e-7 / math.sqrt(1 - 0.999**self.taken)
        self.optimizer.zero_grad()
        targets = self.targets[at : at + self.batch]
        if self.trains:
            logits = self.model.logits(self.inputs[at : at + self.batch])
            entropy = F.cross_entropy if self.spec["loss"] == "softmax" else F.binary_cross_entropy_with_logits
            loss = entropy(logits, targets)
        else:
            entropy = F.cross_entropy(self.model.logits(self.images), targets, reduction="sum")
            loss = entropy + self.spec["l2"] * self.images.square().sum()
        loss.backward()
        self.optimizer.step()
        if not self.trains:
            with torch.no_grad():
                self.images.clamp_(0, 1)
        return loss

    def check(self, rates, out):
        losses = [self.step(rate).item() / (1 if self.trains else self.batch) for rate in rates]
        result = self.model.result() if self.trains else self.images.detach().cpu().numpy()
        result.astype(np.float32).tofile(out)
        return {"losses": losses}

    def run(self, steps):
        begun = time.perf_counter()
        for _ in range(steps):
            loss = self.step()
        loss.item()
        return {"ms": 1000 * (time.perf_counter() - begun), "steps": steps}


def blas():
    """What multiplies its matrices: a library that it was built with, or the system's, which may be slow."""
    if torch.backends.mkl.is_available():
        return "MKL"
    try:
        with open("/proc/self/maps") as maps:
            return "OpenBLAS" if "openblas" in maps.read() else "another BLAS"
    except OSError:
        return "another BLAS"


try:
    folder, device, tf32 = sys.argv[1], "cuda" if "cuda" in sys.argv else "cpu", "tf32" in sys.argv
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True
        place = f"{torch.cuda.get_device_name()}{', TF32' if tf32 else ''}"
    else:
        # Its own choice may be one thread of several cores.
        torch.set_num_threads(os.cpu_count())
        place = f"{torch.get_num_threads()} threads, {blas()}"
    contender = Contender(folder, device)
    answer(ready=f"PyTorch {torch.__version__}, {place}")
    for line in sys.stdin:
        request = json.loads(line)
        answer(**getattr(contender, request.pop("do"))(**request))
except Exception as error:
    answer(error=f"{type(error).__name__}: {error}".split("\n", 1)[0])
    raise
