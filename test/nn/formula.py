# Numbers that Python and the tests draw alike (formula.ts): multiples of 1/256, which float32 has.
import numpy as np


def values(shape, seed, scale=1.0):
    count = int(np.prod(shape))
    state = seed * 7919 + 1
    drawn = []
    for i in range(count + 4):
        state = state * 16807 % 2147483647
        if i >= 4:
            drawn.append((state // 256 % 513 - 256) / 256 * scale)
    return np.array(drawn, "float64").reshape(shape)


def ids(shape, seed, count):
    return np.floor((values(shape, seed) + 1) / 2.01 * count)


def weight(name, shape, seed):
    """Variances are positive, counts are 0."""
    if name == "count":
        return np.zeros(shape, "int32")
    if "variance" in name:
        return values(shape, seed) / 2 + 1
    return values(shape, seed)
