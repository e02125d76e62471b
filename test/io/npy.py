# Arrays of NumPy as .npy files (NumPy 2.x): python test/io/npy.py > test/io/npy.json
# With a folder, prints what numpy.load makes of the files there: python test/io/npy.py FOLDER
import base64
import io
import json
import os
import sys

import numpy as np


def saved(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def main():
    cases = []
    for dtype in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"]:
        for order in ["<", ">"]:
            array = np.array([[0, 1, 2], [100, 1.5, 7]]).astype(order + dtype)
            for name, each in [("C", array), ("F", np.asfortranarray(array)), ("scalar", array[1, 0].reshape(()))]:
                cases.append([f"{order}{dtype} {name}", saved(each), list(each.shape), each.astype("f8").flatten().tolist()])
    wide = np.array([2**40, -3], dtype="i8")
    cases.append(["beyond 32 bits", saved(wide), [2], wide.tolist()])
    cube = np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4))
    cases.append(["three axes", saved(cube), [2, 3, 4], cube.flatten().tolist()])
    for version in [(1, 0), (2, 0), (3, 0)]:
        cases.append([f"version {version[0]}", saved(np.arange(3, dtype="u2"), version=version), [3], [0, 1, 2]])
    cases.append(["empty", saved(np.zeros((0, 3), "f4")), [0, 3], []])
    record = np.zeros(2, dtype=[("x", "f4"), ("y", "i4")])
    refused = [
        ["objects", saved(np.array([{}, None], dtype=object), allow_pickle=True)],
        ["records", saved(record)],
        ["texts", saved(np.array(["a", "bc"]))],
        ["bytes", saved(np.array([b"a"]))],
        ["complex numbers", saved(np.array([1j]))],
        ["dates", saved(np.array(["2026-01-01"], dtype="M8[D]"))],
        ["beyond 2^53", saved(np.array([2**60 + 1], dtype="i8"))],
    ]
    named = {"x": np.arange(6, dtype="f4").reshape(2, 3), "conv2d/kernel": np.asfortranarray(np.eye(2)), "empty": np.zeros((0, 2), "u1")}
    archives = []
    for name, save, arrays in [
        ["named", np.savez, named],
        ["compressed", np.savez_compressed, {**named, "zeros": np.zeros((50, 60), "i8")}],
        ["without names", np.savez, [np.array([1, 2], "u1"), np.array(3.5)]],
    ]:
        buffer = io.BytesIO()
        save(buffer, **arrays) if isinstance(arrays, dict) else save(buffer, *arrays)
        each = arrays.items() if isinstance(arrays, dict) else [(f"arr_{i}", array) for i, array in enumerate(arrays)]
        values = {key: [list(array.shape), array.astype("f8").flatten().tolist()] for key, array in each}
        archives.append([name, base64.b64encode(buffer.getvalue()).decode(), values])
    json.dump({"version": np.__version__, "cases": cases, "refused": refused, "archives": archives}, sys.stdout, indent=0)
    print()


def judge(folder):
    found = {}
    for name in sorted(os.listdir(folder)):
        array = np.load(os.path.join(folder, name), allow_pickle=False)
        arrays = {key: array[key] for key in array.files} if name.endswith(".npz") else {"": array}
        found[name] = {key: [each.dtype.str, list(each.shape), each.astype("f8").flatten().tolist()] for key, each in arrays.items()}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    judge(sys.argv[1]) if len(sys.argv) > 1 else main()
