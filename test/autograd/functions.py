"""Makes functions.json: what PyTorch's and Keras's functions of tensors and their gradients give, in float64.

Run by hand, with PyTorch (CPU) and Keras 3; made with PyTorch 2.15.0 and Keras 3.15.1:
KERAS_BACKEND=torch python3 test/autograd/functions.py > test/autograd/functions.json
"""
import json
import math

import keras
import numpy as np
import torch
import torch.nn.functional as F

inf, nan = math.inf, math.nan


def values(shape, start=0.0):
    """Numbers with three decimals, without ties where there are few."""
    count = int(np.prod(shape))
    return torch.tensor((np.sin(np.arange(count) * 1.7 + start) * 2).round(3).reshape(shape), dtype=torch.float64)


def number(v):
    """JSON has neither NaN nor infinities: they are texts that JavaScript's Number() reads."""
    return float(f"{v:.10g}") if math.isfinite(v) else repr(v).replace("nan", "NaN").replace("inf", "Infinity")


def stored(tensor):
    tensor = tensor.detach()
    return {"shape": list(tensor.shape), "values": [number(v) for v in tensor.to(torch.float64).flatten().tolist()]}


cases = []


def case(op, what, arguments, function, *inputs, gradients=True):
    """The value, and the gradients of the inputs for a dy of sines."""
    leaves = [x.clone().requires_grad_(gradients) for x in inputs]
    y = function(*leaves)
    entry = {"op": op, "what": what, "arguments": arguments, "inputs": [stored(x) for x in inputs], "output": stored(y)}
    if gradients:
        dy = values(tuple(y.shape), 0.5)
        entry["dy"] = stored(dy)
        entry["gradients"] = [stored(g) for g in torch.autograd.grad(y, leaves, dy)]
    cases.append(entry)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


# Keras's layers of images.
for size in [[6, 8], [9, 4], [2, 3], [3, 4], [1, 1], [5, 7]]:
    for interpolation in ["nearest", "bilinear"]:
        layer = keras.layers.Resizing(*size, interpolation=interpolation, dtype="float64")
        arguments = [{"size": size, "interpolation": interpolation}]
        case("resize", f"Resizing to {size}, {interpolation}", arguments, layer, values((1, 3, 4, 2)))
for interpolation in ["nearest", "bilinear"]:
    layer = keras.layers.UpSampling2D((2, 3), interpolation=interpolation, dtype="float64")
    arguments = [{"size": [6, 12], "interpolation": interpolation}]
    case("resize", f"UpSampling2D, {interpolation}", arguments, layer, values((1, 3, 4, 1)))

# Depthwise convolution, kernels [kh, kw, C, multiplier].
WINDOWS = [{}, {"strides": 2, "padding": "same"}, {"dilations": 2, "padding": "same"}]


def windows(options):
    return {
        "strides": options.get("strides", 1),
        "padding": options.get("padding", "valid"),
        "dilation_rate": options.get("dilations", 1),
    }


for multiplier, channels in [(1, 3), (1, 4), (2, 3)]:
    for options in WINDOWS:
        case(
            "depthwiseConv2d", f"{channels} channels, multiplier {multiplier}, {options}", [options],
            lambda x, k: keras.ops.depthwise_conv(x, k, **windows(options)),
            values((1, 5, 6, channels)), values((3, 3, channels, multiplier), 1),
        )

# Convolution in groups, kernels [kh, kw, Cin / groups, Cout].
for channels, filters, groups in [(4, 4, 2), (2, 8, 2), (6, 3, 3), (4, 4, 4)]:
    case(
        "conv2d", f"{channels} to {filters} channels in {groups} groups", [{"groups": groups, "padding": "same"}],
        lambda x, k: nhwc(F.conv2d(nchw(x), k.permute(3, 2, 0, 1), padding=1, groups=groups)),
        values((1, 4, 5, channels)), values((3, 3, channels // groups, filters), 1),
    )

# Convolution and pooling along an axis.
for options in WINDOWS:
    case(
        "conv1d", f"{options}", [options],
        lambda x, k: keras.ops.conv(x, k, **windows(options)), values((2, 8, 2)), values((3, 2, 3), 1),
    )
case(
    "conv1d", "causal", [{"padding": "causal", "dilations": 2}],
    lambda x, k: keras.ops.conv(F.pad(x, (0, 0, 4, 0)), k, padding="valid", dilation_rate=2),
    values((2, 8, 2)), values((3, 2, 3), 1),
)
for padding in ["valid", "same"]:
    case(
        "maxPool1d", padding, [{"poolSize": 3, "strides": 2, "padding": padding}],
        lambda x: keras.ops.max_pool(x, 3, 2, padding), values((2, 8, 2)),
    )

# Keras on PyTorch repeats the last elements as padding and counts them, on TensorFlow padding is not counted.
case(
    "avgPool1d", "valid", [{"poolSize": 3, "strides": 2}],
    lambda x: keras.ops.average_pool(x, 3, 2, "valid"), values((2, 8, 2)),
)
case(
    "avgPool1d", "same", [{"poolSize": 3, "strides": 1, "padding": "same"}],
    lambda x: F.avg_pool1d(x.transpose(1, 2), 3, 1, 1, count_include_pad=False).transpose(1, 2), values((2, 8, 2)),
)

# Transposed convolution, kernels [kh, kw, Cout, Cin]. Where Keras's backends disagree, PyTorch is not asked.
for kernel, options in [
    (3, {}), (3, {"strides": 2}), (2, {"strides": 3}), (4, {"strides": 2, "padding": "same"}),
    (2, {"strides": 2, "padding": "same"}), (3, {"padding": "same"}), (3, {"dilations": 2}),
]:
    case(
        "convTranspose2d", f"{kernel} x {kernel}, {options}", [options],
        lambda x, k: keras.ops.conv_transpose(x, k, **windows(options)),
        values((1, 3, 4, 2)), values((kernel, kernel, 3, 2), 1),
    )
case(
    "convTranspose2d", "padding and outputPadding as PyTorch's",
    [{"strides": 2, "padding": [[1, 1], [1, 1]], "outputPadding": 1}],
    lambda x, k: nhwc(F.conv_transpose2d(nchw(x), k.permute(3, 2, 0, 1), stride=2, padding=1, output_padding=1)),
    values((1, 3, 4, 2)), values((3, 3, 3, 2), 1),
)

# Rearranging.
case("tile", "more repeats than axes", [[2, 1, 3]], lambda x: x.repeat(2, 1, 3), values((2, 2)))
case("tile", "fewer repeats than axes", [[2]], lambda x: torch.tile(x, (2,)), values((2, 3)))
case("split", "equal parts", [2, 1], lambda x: torch.tensor_split(x, 2, 1)[1], values((3, 4)))
case("split", "sizes", [[1, 3], -1], lambda x: torch.split(x, [1, 3], -1)[1], values((3, 4)))
case("unstack", "the last axis", [-1], lambda x: torch.unbind(x, -1)[1], values((3, 2)))

# Norms.
zeros = values((3, 4))
zeros[1] = 0
for order in [2, 1, 0, 3, 0.5, inf, -inf]:
    for what, x in [("", values((3, 4))), (", a row of zeros", zeros)]:
        # PyTorch's gradient of the smallest magnitude of a row of zeros is not a number.
        case(
            "norm", f"order {order}{what}", [{"axis": 1, "order": number(order)}],
            lambda x: torch.linalg.vector_norm(x, order, 1), x,
            gradients=order != 0 and not (what and order < 1),
        )
for order in [2, 1]:
    case(
        "normalize", f"order {order}", [{"axis": 1, "order": order}],
        lambda x: F.normalize(x, p=order, dim=1), zeros,
    )
case("normalize", "a large epsilon", [{"epsilon": 2}], lambda x: F.normalize(x, dim=-1, eps=2), zeros)
case("clipByNorm", "rows", [1, 1], lambda x: x / torch.linalg.vector_norm(x, 2, 1, keepdim=True).clamp(min=1), values((3, 4)))

# Moments.
for correction in [0, 1]:
    case("variance", f"correction {correction}", [0, {"correction": correction}], lambda x: x.var(0, correction=correction), values((3, 4)))
    case("std", f"correction {correction}", [1, {"correction": correction}], lambda x: x.std(1, correction=correction), zeros)
case("variance", "all", [], lambda x: x.var(correction=0), values((2, 3, 2)))
case("prod", "without zeros", [1], lambda x: x.prod(1), values((3, 5)))
one = values((3, 5))
one[0, 1] = one[1, 2] = one[1, 4] = 0
case("prod", "one zero and two", [1], lambda x: x.prod(1), one)
case("prod", "all", [], lambda x: x.prod(), values((2, 3)))

# Along an axis.
case("cumsum", "the last axis", [-1], lambda x: x.cumsum(-1), values((2, 5)))
case("cumsum", "exclusive", [0, {"exclusive": True}], lambda x: x.cumsum(0) - x, values((3, 2)))
case("cumsum", "reverse", [0, {"reverse": True}], lambda x: x.flip(0).cumsum(0).flip(0), values((3, 2)))
case("sort", "ascending", [1], lambda x: x.sort(1).values, values((2, 5)))
case("sort", "descending", [0, {"descending": True}], lambda x: x.sort(0, descending=True).values, values((4, 2)))
special = torch.tensor([1.0, nan, -inf, 0.5, inf, -2.0, nan, 0.25], dtype=torch.float64)
case("sort", "special values", [], lambda x: x.sort(stable=True).values, special)
case("sort", "special values, descending", [{"descending": True}], lambda x: x.sort(stable=True, descending=True).values, special)
ties = torch.tensor([[1.0, 0.0, 1.0, -1.0, 0.0, 1.0]], dtype=torch.float64)
for descending in [False, True]:
    case(
        "argsort", f"ties, descending {descending}", [{"descending": descending}],
        lambda x: torch.argsort(x, stable=True, descending=descending), ties, gradients=False,
    )
for largest in [True, False]:
    case("topK", f"largest {largest}", [2, {"axis": 0, "largest": largest}], lambda x: x.topk(2, 0, largest).values, values((4, 3)))
case("topK", "special values", [4], lambda x: x.topk(4).values, special)

# Letters.
for equation, shapes in [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("bqhd,bkhd->bhqk", [(2, 3, 2, 2), (2, 2, 2, 2)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("iij->j", [(2, 2, 3)]),
    ("ij->ji", [(2, 3)]),
    ("ij", [(2, 3)]),
    ("ba", [(2, 3)]),
    ("i,j", [(2,), (3,)]),
    ("i,i", [(3,), (3,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 2), (2, 4)]),
    ("...ij,...jk->...ik", [(2, 1, 2, 3), (3, 3, 2)]),
    ("i...,j->...ji", [(2, 3), (2,)]),
    ("ij,k->", [(2, 3), (2,)]),
    ("bi,bo,boi->b", [(2, 3), (2, 2), (2, 2, 3)]),
]:
    case("einsum", equation, [equation], lambda *x: torch.einsum(equation, *x), *[values(s, k) for k, s in enumerate(shapes)])

# Conditions.
for op, function in [("isNan", torch.isnan), ("isFinite", torch.isfinite)]:
    case(op, "special values", [], function, special, gradients=False)
conditions = torch.tensor([[0.0, 0.0], [0.0, 2.0], [nan, 1.0], [-0.0, 0.0]], dtype=torch.float64)
case("any", "rows", [1], lambda x: torch.any(x, 1), conditions, gradients=False)
case("all", "rows", [1], lambda x: torch.all(x, 1), conditions, gradients=False)

print(json.dumps({"madeWith": f"PyTorch {torch.__version__}, Keras {keras.__version__}, float64", "cases": cases}, separators=(",", ":")).replace('},{"op"', '},\n{"op"'))
