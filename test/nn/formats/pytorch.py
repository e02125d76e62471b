# Networks of PyTorch with their state dicts in safetensors, inputs and outputs, for pytorch.test.ts.
# PyTorch 2.15.0, safetensors 0.8.0: python test/nn/formats/pytorch.py > test/nn/formats/pytorch.json
# With a folder, judges what Kilograd wrote there: python test/nn/formats/pytorch.py FOLDER < inputs.json
import base64
import json
import sys

import safetensors
import safetensors.torch
import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.cross = nn.MultiheadAttention(8, 4, kdim=6, vdim=6, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x, other):
        x = self.norm(x + self.attn(x, x, x, need_weights=False)[0])
        return self.fc(x + self.cross(x, other, other, need_weights=False)[0])


class Residual(nn.Module):
    """Layers that only their names tell apart."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.right = nn.Conv2d(4, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        x = self.left(torch.relu(self.right(x))) + x
        return self.head(x.mean((2, 3)))


def networks():
    yield "cnn", nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, groups=8),
        nn.Conv2d(16, 12, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(12, 6, 3, stride=2),
        nn.Conv2d(6, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(4 * 5 * 7, 10),
        nn.BatchNorm1d(10),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(10, 3),
    ), [(3, 6, 8)]
    yield "autoencoder", nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        nn.Flatten(),
        nn.BatchNorm1d(3 * 3 * 4),
        nn.Linear(3 * 3 * 4, 5),
        nn.Tanh(),
        nn.Linear(5, 3 * 3 * 4),
        nn.PReLU(3 * 3 * 4),
        nn.Unflatten(1, (3, 3, 4)),
        nn.ConvTranspose2d(3, 2, 2, stride=2),
    ), [(2, 6, 8)]
    yield "sequence", nn.Sequential(
        nn.Conv1d(3, 8, 3),
        nn.GroupNorm(2, 8),
        nn.PReLU(8),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(8 * 3, 4),
    ), [(3, 8)]
    yield "attention", Attention(), [(5, 8), (4, 6)]
    yield "residual", Residual(), [(2, 5, 4)]


def main():
    torch.manual_seed(7)
    found = {}
    for name, network, shapes in networks():
        network.eval()
        with torch.no_grad():
            for key, value in network.state_dict().items():
                if value.is_floating_point():
                    value.copy_(torch.rand_like(value) + 0.5 if key.endswith("var") else torch.randn_like(value) * 0.5)
            inputs = [torch.randn(2, *shape) for shape in shapes]
            entry = {"inputs": [x.flatten().tolist() for x in inputs], "shapes": shapes}
            for dtype in [torch.float32, torch.float16, torch.bfloat16] if name == "cnn" else [torch.float32]:
                state = {
                    key: (value.to(dtype) if value.is_floating_point() else value).contiguous()
                    for key, value in network.state_dict().items()
                }
                kept = {key: value.clone() for key, value in network.state_dict().items()}
                network.load_state_dict({key: value.to(kept[key].dtype) for key, value in state.items()})
                output = network(*inputs)
                network.load_state_dict(kept)
                entry[str(dtype).removeprefix("torch.")] = {
                    "file": base64.b64encode(safetensors.torch.save(state)).decode(),
                    "shape": list(output.shape),
                    "output": output.flatten().tolist(),
                }
            found[name] = entry
    json.dump({"versions": [torch.__version__, safetensors.__version__], "networks": found}, sys.stdout, indent=1)
    print()


def judge(folder):
    """Outputs of the networks with the weights that are in a folder; every tensor must have its place."""
    given = json.load(sys.stdin)
    outputs = {}
    for name, network, shapes in networks():
        network.load_state_dict(safetensors.torch.load_file(f"{folder}/{name}.safetensors"), strict=True)
        network.eval()
        with torch.no_grad():
            inputs = [torch.tensor(x).reshape(2, *shape) for x, shape in zip(given[name], shapes)]
            outputs[name] = network(*inputs).flatten().tolist()
    json.dump(outputs, sys.stdout)


if __name__ == "__main__":
    judge(sys.argv[1]) if len(sys.argv) > 1 else main()
