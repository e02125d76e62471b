"""Makes special-values.json: what PyTorch's elementwise functions and their gradients give at special values.

Run by hand, with PyTorch (CPU): python3 test/autograd/special-values.py > test/autograd/special-values.json
"""
import json
import math

import torch
import torch.nn.functional as F

LARGEST = torch.finfo(torch.float32).max
SUBNORMAL = 2.0**-133
SMALLEST = torch.finfo(torch.float32).tiny
VALUES = [math.nan, math.inf, -math.inf, 0.0, -0.0, LARGEST, -LARGEST, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0]
UNARY_VALUES = VALUES + [SUBNORMAL, -SUBNORMAL, SMALLEST, -SMALLEST, 20.0, -20.0, 100.0, -100.0]

UNARY = {
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "atan": torch.atan,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "relu6": F.relu6,
    "leakyRelu": lambda x: F.leaky_relu(x, 0.3),
    "elu": F.elu,
    "selu": F.selu,
    "swish": F.silu,
    "hardSigmoid": F.hardsigmoid,
    "hardSwish": F.hardswish,
    "softplus": F.softplus,
    "gelu": F.gelu,
    # No function of PyTorch's; its parts are.
    "lecunTanh": lambda x: 1.7159 * torch.tanh(2 * x / 3) + 0.01 * x,
    "clip": lambda x: torch.clamp(x, 0, 1),
}
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    # What F.prelu applies after it has laid the weight out.
    "prelu": torch.ops.aten._prelu_kernel,
}
COMPARISONS = {
    "equal": torch.eq,
    "notEqual": torch.ne,
    "less": torch.lt,
    "lessEqual": torch.le,
    "greater": torch.gt,
    "greaterEqual": torch.ge,
}


def texts(tensor):
    """JSON has no NaN, infinities and -0: all numbers are texts that JavaScript's Number() reads."""
    return [repr(v).replace("nan", "NaN").replace("inf", "Infinity") for v in tensor.tolist()]


def case(function, *inputs):
    """Value, and the gradient of every input for dy = 1, in float64: the reference device's arithmetic."""
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in inputs]
    y = function(*leaves)
    if y.dtype == torch.bool:
        return {"y": texts(y.to(torch.int32))}
    if not y.requires_grad:
        return {"y": texts(y)}
    gradients = torch.autograd.grad(y, leaves, torch.ones_like(y), allow_unused=True)
    return {"y": texts(y.detach()), "gradients": [texts(g) for g in gradients]}


def f32(values):
    """Values as float32 has them, so that both devices and this script see the same."""
    return torch.tensor(values, dtype=torch.float32).to(torch.float64).tolist()


unary_inputs = f32(UNARY_VALUES)
pairs = [(a, b) for a in f32(VALUES) for b in f32(VALUES)]
first, second = [list(side) for side in zip(*pairs)]
result = {
    "madeWith": f"PyTorch {torch.__version__}, float64",
    "unary": {"x": texts(torch.tensor(unary_inputs, dtype=torch.float64)), "rows": {name: case(f, unary_inputs) for name, f in UNARY.items()}},
    "binary": {
        "a": texts(torch.tensor(first, dtype=torch.float64)),
        "b": texts(torch.tensor(second, dtype=torch.float64)),
        "rows": {name: case(f, first, second) for name, f in (BINARY | COMPARISONS).items()},
    },
}
print(json.dumps(result, separators=(",", ":")).replace('],', '],\n'))
