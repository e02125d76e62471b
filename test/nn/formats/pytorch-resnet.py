# torchvision's ResNet-18 for pytorch-resnet.test.ts: names and shapes of its state dict as safetensors sorts them, and
# what it gives with weights by formula (test/applications/formula.py).
# PyTorch 2.15.0, torchvision 0.30.0, safetensors:
#   python test/nn/formats/pytorch-resnet.py > test/nn/formats/pytorch-resnet.json
import json
import os
import sys

import numpy as np
import torch
import torchvision

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../applications"))
from formula import picture, seed_of, uniform  # noqa: E402

network = torchvision.models.resnet18(num_classes=10).eval()
state = {}
for name, value in network.state_dict().items():
    u = uniform(value.numel(), seed_of(name)).reshape(value.shape)
    if name.endswith("running_var") or (name.endswith("weight") and value.dim() == 1):
        state[name] = torch.tensor(np.float32(1 + 0.1 * u))
    elif value.dim() > 1:
        state[name] = torch.tensor(np.float32(u * np.sqrt(4.5 / np.prod(value.shape[1:]))))
    else:
        state[name] = torch.tensor(np.float32(0.1 * u)) if value.is_floating_point() else value
network.load_state_dict(state)
x = torch.tensor(picture((1, 32, 32, 3))).permute(0, 3, 1, 2)
with torch.no_grad():
    y = network(x)
json.dump({"versions": [torch.__version__, torchvision.__version__],
           "tensors": [[name, list(state[name].shape)] for name in sorted(state)], "output": y.flatten().tolist()}, sys.stdout)
print()
