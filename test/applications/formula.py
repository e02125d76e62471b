# Weights and pictures that Python and the tests make alike (formula.ts): a hash of the index, scaled so that the
# numbers of deep networks neither vanish nor grow. Float32 numbers.
import numpy as np


def uniform(size, seed):
    """In [-1, 1)."""
    with np.errstate(over="ignore"):
        h = np.arange(size, dtype="uint32") + np.uint32((seed * 0x9E3779B9) & 0xFFFFFFFF)
        h ^= h >> np.uint32(16)
        h *= np.uint32(0x85EBCA6B)
        h ^= h >> np.uint32(13)
        h *= np.uint32(0xC2B2AE35)
        h ^= h >> np.uint32(16)
    return (h >> np.uint32(8)).astype("float64") / 2**23 - 1


def seed_of(text):
    """FNV-1a."""
    h = 2166136261
    for byte in text.encode():
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    return h


def weight(layer, kind, shape):
    """`kind`: Keras's name of the weight, `shape` as Keras has it."""
    u = uniform(int(np.prod(shape)), seed_of(f"{layer}/{kind}")).reshape(shape)
    if kind == "gamma":
        return np.float32(1 + 0.1 * u)
    if kind in ("moving_variance", "variance"):
        return np.float32(1 + 0.25 * u)
    if "kernel" not in kind:
        return np.float32(0.1 * u)
    # Of a depthwise kernel [kh, kw, C, 1] an output sees one channel.
    each = shape[:-1] if shape[-1] > 1 or len(shape) < 4 else shape[:-2]
    return np.float32(u * np.sqrt(4.5 / np.prod(each)))


def picture(shape):
    return np.float32(uniform(int(np.prod(shape)), 1).reshape(shape))
