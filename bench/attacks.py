"""Robust accuracy under Foolbox's and AutoAttack's attacks, beside what bench/attacks.ts wrote to a folder.

pip install torch numpy safetensors foolbox==3.3.4 git+https://github.com/fra31/auto-attack@a39220048b3c9f2cca9a4d3a54604793c68eca7e
python3 bench/attacks.py OUT
"""
import json
import sys
import time

import foolbox
import torch
from autoattack import AutoAttack
from safetensors.torch import load_file

out = sys.argv[1]
weights, data = load_file(f"{out}/weights.safetensors"), load_file(f"{out}/images.safetensors")
ours = json.load(open(f"{out}/ours.json"))
images, labels = data["images"].permute(0, 3, 1, 2).contiguous(), data["labels"].long()


class Network(torch.nn.Module):
    """conv 5x5, stride 2, 16 filters, ReLU -> pool 2 -> dense 64, ReLU -> dense 10: logits of [N, 1, 28, 28]."""

    def __init__(self, norm):
        super().__init__()
        of = {name[len(norm) + 1 :]: value for name, value in weights.items() if name.startswith(f"{norm}/")}
        self.kernel, self.bias = of["conv2d/kernel"].permute(3, 2, 0, 1), of["conv2d/bias"]
        self.dense = [(of[f"{name}/kernel"], of[f"{name}/bias"]) for name in ("dense", "dense_1")]

    def forward(self, x):
        maps = torch.relu(torch.nn.functional.conv2d(x, self.kernel, self.bias, stride=2))
        flat = torch.nn.functional.max_pool2d(maps, 2).permute(0, 2, 3, 1).reshape(x.shape[0], -1)
        (first, first_bias), (second, second_bias) = self.dense
        return torch.relu(flat @ first + first_bias) @ second + second_bias


def accuracy(model, adversarial):
    return (model(adversarial).argmax(1) == labels).float().mean().item()


def report(norm, name, mine, theirs, begun):
    if mine is None:
        return
    print(f"{norm} {name}: ours {100 * mine:.1f} %, theirs {100 * theirs:.1f} %, {time.time() - begun:.0f} s", flush=True)


for norm, mine in ours.items():
    model, epsilon = Network(norm).eval(), mine["epsilon"]
    fmodel = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    fa, linf = foolbox.attacks, norm == "linf"
    attacks = {
        "FGSM": fa.LinfFastGradientAttack() if linf else fa.L2FastGradientAttack(),
        "PGD": fa.LinfProjectedGradientDescentAttack() if linf else fa.L2ProjectedGradientDescentAttack(),
        "DeepFool": fa.LinfDeepFoolAttack() if linf else fa.L2DeepFoolAttack(),
    }
    if not linf:
        attacks["Carlini-Wagner"] = fa.L2CarliniWagnerAttack(steps=200, initial_const=0.1)
    for name, attack in attacks.items():
        begun = time.time()
        torch.manual_seed(0)
        # A minimal attack counts where what it found lies within the ball: clipping it to the ball may keep it wrong.
        minimal = name in ("DeepFool", "Carlini-Wagner")
        raw, clipped, success = attack(fmodel, images, labels, epsilons=None if minimal else epsilon)
        if minimal:
            change = (raw - images).flatten(1)
            length = change.abs().amax(1) if linf else change.norm(dim=1)
            success = success & (length <= epsilon)
        report(norm, name, mine.get(name), 1 - success.float().mean().item(), begun)
    auto = AutoAttack(model, norm="Linf" if linf else "L2", eps=epsilon, seed=0, device="cpu", verbose=False)
    for name, key in {"APGD-CE": "apgd-ce", "APGD-T": "apgd-t", "FAB-T": "fab-t", "AutoAttack": None}.items():
        begun = time.time()
        auto.attacks_to_run = ["apgd-ce", "apgd-t", "fab-t", "square"] if key is None else [key]
        report(norm, name, mine.get(name), accuracy(model, auto.run_standard_evaluation(images, labels, bs=250)), begun)
    auto.square.n_queries, auto.square.rescale_schedule = 1000, True
    auto.attacks_to_run = ["square"]
    begun = time.time()
    report(norm, "Square", mine.get("Square"), accuracy(model, auto.run_standard_evaluation(images, labels, bs=250)), begun)
