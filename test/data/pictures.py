# Writes pictures/*.jpg and pictures.json: small JPEGs, what Pillow decodes of them (red, green, blue, row by row), and
# what Keras's Resizing makes of one. Made with Pillow 13.0.0 and Keras 3.15.1 on PyTorch 2.15:
#   KERAS_BACKEND=torch python test/data/pictures.py
import json
import pathlib

import keras
import numpy as np
import PIL
from PIL import Image

folder = pathlib.Path(__file__).parent
y, x = np.mgrid[0:40, 0:30]
image = Image.fromarray(np.stack([x * 8, y * 6, (x + y) * 3], -1).astype("uint8"))
kinds = {
    "baseline": (image, {"quality": 90, "subsampling": 0}),
    "progressive": (image, {"quality": 90, "progressive": True, "subsampling": 0}),
    "subsampled": (image, {"quality": 90, "subsampling": 2}),
    "grey": (image.convert("L"), {}),
    "cmyk": (image.convert("CMYK"), {}),
}
pixels = {}
for name, (picture, options) in kinds.items():
    path = folder / "pictures" / f"{name}.jpg"
    picture.save(path, **options)
    pixels[name] = np.array(Image.open(path).convert("RGB")).ravel().tolist()
decoded = np.array(pixels["baseline"], "float64").reshape(1, 40, 30, 3) / 255
resized = {}
for height, width in [(20, 15), (7, 9), (64, 33)]:
    layer = keras.layers.Resizing(height, width, dtype="float64")
    values = keras.ops.convert_to_numpy(layer(decoded)).ravel()
    resized[f"{height}x{width}"] = [round(float(v), 6) for v in values]
(folder / "pictures.json").write_text(json.dumps(
    {"pillow": PIL.__version__, "keras": keras.__version__, "pixels": pixels, "resized": resized}))
