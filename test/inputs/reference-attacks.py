"""Makes reference-attacks.json: what Foolbox and AutoAttack do to images of a small network, by attacks without chance.

Run by hand, with PyTorch (CPU), Foolbox 3.3.4 and AutoAttack (github.com/fra31/auto-attack, a39220048b3c):
python3 test/inputs/reference-attacks.py > test/inputs/reference-attacks.json

Weights and inputs are sines of their place, so that reference-attacks.test.ts makes the same; layouts are those of the
engine, [N, H, W, C]. Carlini and Wagner's attack runs image by image: Foolbox ends a batch as one.
"""
import json

import foolbox
import torch
from autoattack.fab_pt import FABAttack_PT

torch.manual_seed(0)


def sines(shape, a, b, c):
    count = torch.Size(shape).numel()
    return (torch.sin(a * torch.arange(count, dtype=torch.float64) + b) / c).float().reshape(shape)


class Network(torch.nn.Module):
    """[N, 5, 5, 2] -> conv 3x3, 3 filters, tanh -> dense 4: logits."""

    def __init__(self):
        super().__init__()
        self.kernel = sines((3, 3, 2, 3), 1.3, 0.1, 1.5).permute(3, 2, 0, 1)
        self.bias = sines((3,), 0.7, 0.2, 4)
        self.out, self.out_bias = sines((27, 4), 1.7, 0.5, 1), sines((4,), 0.6, 0.6, 2)

    def forward(self, x):
        maps = torch.tanh(torch.nn.functional.conv2d(x.permute(0, 3, 1, 2), self.kernel, self.bias))
        return maps.permute(0, 2, 3, 1).reshape(x.shape[0], -1) @ self.out + self.out_bias


def values(tensor):
    return [float(f"{v:.7g}") for v in tensor.detach().flatten().tolist()]


network = Network().eval()
x = (1 + sines((6, 5, 5, 2), 0.37, 0.7, 1)) / 2
labels = network(x).argmax(1)
model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
found = {"versions": {"foolbox": foolbox.__version__, "torch": torch.__version__}, "labels": labels.tolist()}
for norm, attack in {"linf": foolbox.attacks.LinfDeepFoolAttack(), "l2": foolbox.attacks.L2DeepFoolAttack()}.items():
    found[f"deepFool/{norm}"] = values(attack(model, x, labels, epsilons=None)[0])
for norm in ("linf", "l2"):
    fab = FABAttack_PT(
        network, norm={"linf": "Linf", "l2": "L2"}[norm], n_iter=20, eps=10.0, targeted=True, n_target_classes=3,
        device="cpu",
    )
    found[f"fab/{norm}"] = values(fab.perturb(x, labels))
cw = foolbox.attacks.L2CarliniWagnerAttack(steps=200, binary_search_steps=6, initial_const=0.1)
each = [cw(model, x[i : i + 1], labels[i : i + 1], epsilons=None)[0] for i in range(6)]
found["carliniWagner/distances"] = values((torch.cat(each) - x).flatten(1).norm(dim=1))
print(json.dumps(found))
