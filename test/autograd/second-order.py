"""Makes second-order.json: derivatives of derivatives as PyTorch has them, in float64.

Run by hand, with PyTorch (CPU): python3 test/autograd/second-order.py > test/autograd/second-order.json

- rows: second derivatives of elementwise functions at special values;
- hvp: Hessian-vector products of small networks;
- penalty: losses of a critic trained with a gradient penalty, (|dD/dx| - 1)^2, as in WGAN-GP.
"""
import json
import math

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
VALUES = [math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, 20.0, -20.0]
UNARY = {
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "relu6": F.relu6,
    "leakyRelu": lambda x: F.leaky_relu(x, 0.3),
    "softplus": F.softplus,
    "gelu": F.gelu,
    "rsqrt": torch.rsqrt,
    "tan": torch.tan,
    "atan": torch.atan,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "erf": torch.erf,
    "elu": F.elu,
    "selu": F.selu,
    "swish": F.silu,
    "hardSwish": F.hardswish,
    "lecunTanh": lambda x: 1.7159 * torch.tanh(2 * x / 3) + 0.01 * x,
}
BINARY = {"mul": torch.mul, "div": torch.div, "pow": torch.pow}


def texts(tensor):
    """JSON has no NaN, infinities and -0: all numbers are texts that JavaScript's Number() reads."""
    return [repr(v).replace("nan", "NaN").replace("inf", "Infinity") for v in tensor.tolist()]


def second(function, *inputs):
    """Second derivatives: of the gradient of each input with respect to each, row by row."""
    leaves = [torch.tensor(v, requires_grad=True) for v in inputs]
    y = function(*leaves)
    first = torch.autograd.grad(y, leaves, torch.ones_like(y), create_graph=True)
    result = []
    for g in first:
        for leaf in leaves:
            (h,) = torch.autograd.grad(g, leaf, torch.ones_like(g), allow_unused=True, retain_graph=True) if g.requires_grad else (None,)
            result.append(texts(torch.zeros_like(leaf) if h is None else h))
    return result


def filled(*shape, shift=0.0):
    """The same numbers here and there: sin(0.7 i + 1 + shift)."""
    n = math.prod(shape)
    return torch.sin(torch.arange(n) * 0.7 + 1 + shift).reshape(shape)


def nhwc(x):
    return x.permute(0, 3, 1, 2)


def convolve(x, kernel, **options):
    """NHWC images, HWIO kernels."""
    return F.conv2d(nhwc(x), kernel.permute(3, 2, 0, 1), **options).permute(0, 2, 3, 1)


def dense_network(x):
    h = torch.tanh(x @ filled(3, 4) + filled(4, shift=1))
    return torch.sigmoid(h @ filled(4, 2, shift=2)).square().sum()


def convolutional_network(x):
    h = torch.tanh(convolve(x, filled(3, 3, 1, 4)))
    pooled = F.max_pool2d(nhwc(h), 2).permute(0, 2, 3, 1)
    return F.softplus(convolve(pooled, filled(2, 2, 4, 3, shift=1))).square().mean()


def classifier(x):
    logits = F.gelu(x @ filled(3, 5)) @ filled(5, 4, shift=1)
    return F.cross_entropy(logits, torch.tensor([0, 3]))


def normalized(x):
    h = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 0.01)
    return (h * filled(3) + filled(3, shift=1)).pow(3).sum()


def hvp(function, *shape):
    x, v = filled(*shape, shift=3), filled(*shape, shift=4)
    _, product = torch.autograd.functional.hvp(function, x, v)
    return {"shape": list(shape), "product": texts(product.flatten())}


def critic_training():
    """Five steps of SGD on mean(D(fake)) - mean(D(real)) + 10 mean((|dD/dx| - 1)^2) at points between."""
    real, fake = filled(4, 6, 6, 1, shift=5), filled(4, 6, 6, 1, shift=6)
    between = (0.3 * real + 0.7 * fake).requires_grad_()
    weights = [0.3 * filled(3, 3, 1, 4), 0.1 * filled(4, shift=1), 0.3 * filled(64, 1, shift=2), 0.1 * filled(1, shift=3)]
    weights = [w.requires_grad_() for w in weights]

    def critic(x):
        kernel, bias, dense, offset = weights
        h = torch.tanh(convolve(x, kernel, bias=bias))
        return h.reshape(4, 64) @ dense + offset

    losses = []
    for _ in range(5):
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        norm = slope.square().sum((1, 2, 3)).sqrt()
        loss = critic(fake).mean() - critic(real).mean() + 10 * (norm - 1).square().mean()
        gradients = torch.autograd.grad(loss, weights)
        losses.append(loss.detach())
        with torch.no_grad():
            for w, g in zip(weights, gradients):
                w -= 0.01 * g
    return texts(torch.stack(losses))


pairs = [(a, b) for a in VALUES for b in VALUES]
first, other = [list(side) for side in zip(*pairs)]
result = {
    "madeWith": f"PyTorch {torch.__version__}, float64",
    "rows": {
        "x": texts(torch.tensor(VALUES)),
        "unary": {name: second(f, VALUES)[0] for name, f in UNARY.items()},
        "a": texts(torch.tensor(first)),
        "b": texts(torch.tensor(other)),
        "binary": {name: second(f, first, other) for name, f in BINARY.items()},
    },
    "hvp": {
        "dense": hvp(dense_network, 2, 3),
        "convolutional": hvp(convolutional_network, 2, 8, 8, 1),
        "classifier": hvp(classifier, 2, 3),
        "normalized": hvp(normalized, 5, 3),
    },
    "penalty": critic_training(),
}
print(json.dumps(result, separators=(",", ":")).replace('],', '],\n'))
