"""PyTorch as a contender of bench:models: `models-pytorch.py FOLDER [channels_last]`, see ../protocol.ts. Eager mode on
all cores."""
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


def resident(name):
    """Bytes of the process: VmRSS now, VmHWM at most."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))


def pad(x, sides):
    (top, bottom), (left, right) = sides
    return F.pad(x, (left, right, top, bottom))


def same(x, kernel, strides):
    """TensorFlow's: an odd pixel at the bottom or right."""
    sides = []
    for size, k, s in zip(x.shape[2:], kernel, strides):
        total = max(0, (math.ceil(size / s) - 1) * s + k - size)
        sides.append((total // 2, total - total // 2))
    return pad(x, sides) if any(map(any, sides)) else x


class Contender:
    def __init__(self, folder, layout):
        with open(f"{folder}/task.json", encoding="utf8") as file:
            self.spec = json.load(file)
        self.layout = layout
        model = self.spec["model"]
        self.layers = {layer["config"]["name"]: layer for layer in model["layers"]}
        self.last = model["calls"][-1]["layer"]
        flat = np.fromfile(f"{folder}/weights.f32", np.float32)
        self.trains = self.spec["kind"] == "train"
        self.weights, self.trained, at = {}, [], 0
        for weight in self.spec["weights"]:
            name, shape = weight["name"], weight["shape"]
            value = torch.from_numpy(flat[at : at + math.prod(shape)].reshape(shape))
            at += math.prod(shape)
            depthwise = len(shape) == 4 and self.layers[name.split("/")[0]]["className"] == "DepthwiseConv2D"
            axes = [2, 3, 0, 1] if depthwise else [3, 2, 0, 1] if len(shape) == 4 else list(range(len(shape)))
            made = value.permute(axes).contiguous().clone()
            if len(shape) == 4:
                made = made.to(memory_format=layout)
            made.requires_grad_(self.trains and weight["trainable"])
            self.weights[name] = made
            if weight["trainable"]:
                self.trained.append((made, np.argsort(axes).tolist()))
        batch, shape = self.spec["batch"], model["inputs"][0]["shape"]
        pictures = torch.from_numpy(np.fromfile(f"{folder}/inputs", np.float32)).reshape(batch, *shape)
        self.inputs = pictures.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.targets = torch.from_numpy(np.fromfile(f"{folder}/targets", np.int32).astype(np.int64))
        self.optimizer = torch.optim.SGD([w for w, _ in self.trained], self.spec["learningRate"]) if self.trains else None
        self.before = resident("VmRSS")

    def logits(self, x):
        values = [x]
        for call in self.spec["model"]["calls"]:
            layer = self.layers[call["layer"]]
            values.append(self.layer(layer["className"], layer["config"], [values[i] for i in call["inputs"]]))
        return values[-1]

    def layer(self, kind, config, inputs):
        name, x = config["name"], inputs[0]
        activation = "linear" if name == self.last else config.get("activation", "linear")
        if kind in ("Conv2D", "DepthwiseConv2D"):
            kernel, padding = self.weights[f"{name}/kernel"], config["padding"]
            if padding == "same":
                x = same(x, config["kernelSize"], config["strides"])
            elif padding != "valid":
                (top, bottom), (left, right) = padding
                if (top, left) != (bottom, right):
                    x, padding = pad(x, padding), "valid"
            sides = 0 if isinstance(padding, str) else (padding[0][0], padding[1][0])
            groups = x.shape[1] if kind == "DepthwiseConv2D" else 1
            x = F.conv2d(x, kernel, self.weights.get(f"{name}/bias"), config["strides"], sides, 1, groups)
        elif kind == "Dense":
            x = torch.addmm(self.weights[f"{name}/bias"], x, self.weights[f"{name}/kernel"])
        elif kind == "BatchNormalization":
            gamma, beta = self.weights[f"{name}/gamma"], self.weights[f"{name}/beta"]
            mean, variance = self.weights[f"{name}/movingMean"], self.weights[f"{name}/movingVariance"]
            x = F.batch_norm(x, mean, variance, gamma, beta, self.trains, 1 - config["momentum"], config["epsilon"])
        elif kind == "ReLU":
            x = F.relu6(x) if config["maxValue"] == 6 else F.relu(x)
        elif kind == "ZeroPadding2D":
            x = pad(x, config["padding"])
        elif kind == "MaxPooling2D":
            x = F.max_pool2d(x, config["poolSize"], config["strides"])
        elif kind == "GlobalAveragePooling2D":
            x = x.mean((2, 3))
        elif kind == "Add":
            x = inputs[0] + inputs[1]
        elif kind != "Activation":
            raise ValueError(f"no {kind} here")
        if activation == "relu":
            x = F.relu(x)
        elif activation != "linear":
            raise ValueError(f"no {activation} here")
        return x

    def step(self):
        kind = self.spec["kind"]
        if kind == "predict":
            with torch.inference_mode():
                return torch.softmax(self.logits(self.inputs), 1)
        if kind == "inputGradient":
            images = self.inputs.detach().requires_grad_(True)
            F.cross_entropy(self.logits(images), self.targets).backward()
            return images.grad.permute(0, 2, 3, 1)
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.logits(self.inputs), self.targets)
        loss.backward()
        self.optimizer.step()
        return loss

    def check(self, rates, out):
        losses = []
        for _ in rates if self.trains else [0]:
            result = self.step()
            if self.trains:
                losses.append(result.item())
        if self.trains:
            result = torch.cat([w.detach().permute(back).reshape(-1) for w, back in self.trained])
        result.contiguous().numpy().astype(np.float32).tofile(out)
        return {"losses": losses}

    def run(self, steps):
        begun = time.perf_counter()
        for _ in range(steps):
            self.step()
        ms = 1000 * (time.perf_counter() - begun)
        return {"ms": ms, "steps": steps, "memory": {"process": resident("VmHWM") - self.before}}


try:
    # Its own choice may be one thread of several cores.
    torch.set_num_threads(os.cpu_count())
    last = "channels_last" in sys.argv
    contender = Contender(sys.argv[1], torch.channels_last if last else torch.contiguous_format)
    answer(ready=f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for line in sys.stdin:
        request = json.loads(line)
        answer(**getattr(contender, request.pop("do"))(**request))
except Exception as error:
    answer(error=f"{type(error).__name__}: {error}".split("\n", 1)[0])
    raise
