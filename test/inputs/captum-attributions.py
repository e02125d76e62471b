"""Makes captum-attributions.json: what Captum's attributions are for a small network.

Run by hand, with PyTorch (CPU) and Captum: python3 test/inputs/captum-attributions.py > test/inputs/captum-attributions.json

Weights and inputs are sines of their place, so that attributions.test.ts makes the same: sin(a i + b) / c. Layouts are
those of the engine ([N, H, W, C], kernels [height, width, in, out], [in, out]) before they are turned for PyTorch.
"""
import json

import captum
import torch
from captum.attr import (
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerAttribution,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)

torch.manual_seed(0)


def sines(shape, a, b, c):
    count = torch.Size(shape).numel()
    return (torch.sin(a * torch.arange(count, dtype=torch.float64) + b) / c).float().reshape(shape)


class Network(torch.nn.Module):
    """[N, 5, 5, 2] -> conv 3x3, 3 filters, tanh -> dense 4, tanh -> dense 3: logits."""

    def __init__(self):
        super().__init__()
        self.kernel = sines((3, 3, 2, 3), 1.3, 0.1, 1.5).permute(3, 2, 0, 1)
        self.bias = sines((3,), 0.7, 0.2, 4)
        self.hidden = sines((27, 4), 0.9, 0.3, 2)
        self.hidden_bias = sines((4,), 1.1, 0.4, 3)
        self.out = sines((4, 3), 1.7, 0.5, 1)
        self.out_bias = sines((3,), 0.6, 0.6, 2)

    def forward(self, x):
        maps = torch.tanh(torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), self.kernel, self.bias))
        flat = maps.permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        return torch.tanh(flat @ self.hidden + self.hidden_bias) @ self.out + self.out_bias


class Rectified(torch.nn.Module):
    """[N, 5, 5, 2] -> conv 3x3, 3 filters, ReLU -> conv 2x2, 4 filters, ReLU -> dense 3: logits."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(2, 3, 3), torch.nn.Conv2d(3, 4, 2)
        self.relu, self.relu2 = torch.nn.ReLU(), torch.nn.ReLU()
        self.out, self.out_bias = sines((16, 3), 1.7, 0.5, 1), sines((3,), 0.6, 0.6, 2)
        self.first.weight.data = sines((3, 3, 2, 3), 1.3, 0.1, 1.5).permute(3, 2, 0, 1)
        self.first.bias.data = sines((3,), 0.7, 0.2, 4)
        self.second.weight.data = sines((2, 2, 3, 4), 0.9, 0.3, 2).permute(3, 2, 0, 1)
        self.second.bias.data = sines((4,), 1.1, 0.4, 3)

    def forward(self, x):
        maps = self.relu2(self.second(self.relu(self.first(x.permute(0, 3, 1, 2)))))
        return maps.permute(0, 2, 3, 1).reshape(x.shape[0], -1) @ self.out + self.out_bias


network = Network()
rectified = Rectified()
x = sines((2, 5, 5, 2), 0.37, 0.7, 1)
baseline = sines((1, 5, 5, 2), 0.53, 0.9, 2)
target = [1, 2]


def values(tensor):
    return [float(f"{v:.9g}") for v in tensor.detach().flatten().tolist()]


paths, delta = IntegratedGradients(network).attribute(x, baseline, target=target, return_convergence_delta=True)
few, few_delta = IntegratedGradients(network).attribute(x, target=target, n_steps=1, return_convergence_delta=True)
cam = LayerGradCam(rectified, rectified.relu).attribute(x, target=target)
noisy = NoiseTunnel(Saliency(network))


def smooth(kind):
    # In pieces: a sum of many draws, for means that two random number generators agree on.
    return sum(
        noisy.attribute(x, nt_type=kind, nt_samples=500, stdevs=0.3, target=target) for _ in range(40)
    ) / 40


soft = torch.nn.Sequential(network, torch.nn.Softmax(1))
print(
    json.dumps(
        {
            "versions": {"captum": captum.__version__, "torch": torch.__version__},
            "logits": values(network(x)),
            "saliency": values(Saliency(network).attribute(x, target=target)),
            "signedSaliency": values(Saliency(network).attribute(x, target=target, abs=False)),
            "saliencyOfOutputs": values(Saliency(soft).attribute(x, target=target)),
            "inputTimesGradient": values(InputXGradient(network).attribute(x, target=target)),
            "integratedGradients": values(paths),
            "delta": values(delta),
            "oneStep": values(few),
            "oneStepDelta": values(few_delta),
            "guidedBackprop": values(GuidedBackprop(rectified).attribute(x, target=target)),
            "gradCam": values(cam.permute(0, 2, 3, 1)),
            "gradCamRelu": values(
                LayerGradCam(rectified, rectified.relu).attribute(x, target=target, relu_attributions=True)
            ),
            "nearest": values(LayerAttribution.interpolate(cam, (7, 5))),
            "bilinear": values(LayerAttribution.interpolate(cam, (7, 5), "bilinear")),
            "occlusion": values(Occlusion(network).attribute(x, (2, 2, 1), target=target)),
            "occlusionWithStrides": values(
                Occlusion(network).attribute(x, (3, 2, 2), strides=(2, 2, 1), baselines=baseline, target=target)
            ),
            "smoothGrad": values(smooth("smoothgrad")),
            "smoothGradSquared": values(smooth("smoothgrad_sq")),
            "varGrad": values(smooth("vargrad")),
        }
    )
)
