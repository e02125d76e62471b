"""Makes onnx-torch.json: small networks that PyTorch exports as ONNX (Base64), and what PyTorch predicts.

Of each: an input, the output, and the gradient of sum(output * weights) for the input. Images are [N, C, H, W]. Weights
are those of a seed, running statistics too. Run by hand, with PyTorch, onnx and onnxscript; made with PyTorch 2.15.0,
onnx 1.23.2 and onnxscript 0.7.2:
python3 test/nn/formats/onnx-torch.py > test/nn/formats/onnx-torch.json
"""
import base64
import io
import json
import sys
import warnings

import onnx
import torch
from torch import nn

warnings.filterwarnings("ignore")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.one = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.two = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.BatchNorm2d(8),
            nn.Hardswish(), nn.Conv2d(8, 6, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2),
            nn.Linear(6, 3))

    def forward(self, x):
        return torch.softmax(self.layers(x), 1)


class Attention(nn.Module):
    """A block of a vision transformer over patches."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.hidden, self.back = nn.Linear(8, 16), nn.Linear(16, 8)
        self.place = nn.Parameter(torch.randn(1, 4, 8) * 0.1)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.place
        q, k, v = (t.reshape(-1, 4, 2, 4).transpose(1, 2) for t in self.qkv(self.first(x)).chunk(3, -1))
        scores = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)
        x = x + self.out((scores @ v).transpose(1, 2).reshape(-1, 4, 8))
        return (x + self.back(nn.functional.gelu(self.hidden(self.second(x))))).mean(1)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 18), nn.SiLU(), nn.Unflatten(1, (2, 3, 3)), nn.ConvTranspose2d(2, 6, 4, 2, 1),
            nn.GroupNorm(2, 6), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(6, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, x):
        return self.layers(x)


class Classic(nn.Module):
    """A flatten of several positions, whose order of channels matters, and padding of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(1, 4, 3, dilation=2), nn.PReLU(4), nn.AvgPool2d(2),
            nn.InstanceNorm2d(4, affine=True), nn.Flatten(), nn.Linear(32, 10), nn.ELU(), nn.BatchNorm1d(10),
            nn.Linear(10, 3), nn.LogSoftmax(1))

    def forward(self, x):
        return self.layers(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0]


def numbers(tensor):
    """Base64 of float32."""
    return base64.b64encode(tensor.detach().contiguous().numpy().tobytes()).decode()


def case(name, network, shape, exporters):
    torch.manual_seed(1)
    net = network().eval()
    for each in net.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.running_mean.uniform_(-0.5, 0.5)
            each.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(each.weight, 0.5, 1.5)
    x = torch.rand(2, *shape, requires_grad=True)
    files = {}
    for exporter, options in exporters.items():
        file = io.BytesIO()
        torch.onnx.export(net, (x.detach(),), file, input_names=["x"], output_names=["y"], **options)
        files[exporter] = base64.b64encode(strip(file.getvalue())).decode()
    y = net(x)
    weights = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    return {
        "name": name, "files": files, "input": {"shape": list(x.shape), "values": numbers(x)},
        "output": {"shape": list(y.shape), "values": numbers(y)}, "gradient": numbers(gradient),
    }


def strip(content):
    """Without what only people read: where in the source a node comes from."""
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    model.graph.ClearField("value_info")
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    return model.SerializeToString()


old = {"dynamo": False, "opset_version": 17, "dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}}
new = {"dynamo": True, "opset_version": 18, "dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=64)},),
       "external_data": False, "verbose": False}
fixed = {"dynamo": True, "external_data": False, "verbose": False}
networks = {
    "residual": (Residual, 3, 8, 8), "depthwise": (Depthwise, 3, 8, 8), "attention": (Attention, 3, 8, 8),
    "decoder": (Decoder, 5), "classic": (Classic, 1, 9, 8), "recurrent": (Recurrent, 5, 3),
}
stdout, sys.stdout = sys.stdout, sys.stderr
exporters = {"TorchScript": old, "dynamo": new}
more = {"residual": {"dynamo, of a fixed batch": fixed}}
cases = [case(name, network, shape, {**exporters, **more.get(name, {})}) for name, (network, *shape) in networks.items()]
sys.stdout = stdout
print(json.dumps({"torch": torch.__version__, "onnx": onnx.__version__, "cases": cases}, indent=1))
