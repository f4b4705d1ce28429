"""ONNX with any batch size, in float32, for whatever reads ONNX; checked in onnxruntime."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.errors import UserError
from saga_ray.export.compare import Compared, compare
from saga_ray.models.encoder import Encoder

FILE = "encoder.onnx"
IMAGES, EMBEDDINGS = "images", "embeddings"
OPSET = 20
NEEDS = ("onnx", "onnxscript", "onnxruntime")

USE = f"""
```python
import onnxruntime
session = onnxruntime.InferenceSession("{FILE}")
[embeddings] = session.run(None, {{"{IMAGES}": images}})   # NumPy, uint8, batch x {{size}} x {{size}} x 3
```
"""


def write(model: Path, encoder: Encoder, folder: Path) -> Compared:
    """See `saga_ray.export.export.Format`."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format onnx needs the packages {', '.join(missing)}; install saga-ray with its extra [onnx]"
        )
    # a copy without autocast: the graph computes in float32 whatever the tower was trained with
    whole = Encoder(encoder.tower, encoder.pooler, "float32").eval()
    _export(whole, folder / FILE)
    return compare(whole, _session(folder / FILE), "the ONNX model")


def _export(encoder: Encoder, file: Path) -> None:
    size = encoder.tower.image_size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # misses torchvision, which is not needed
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                encoder,
                (example,),
                str(file),
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGES],
                output_names=[EMBEDDINGS],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
    finally:
        registration.setLevel(level)


def _session(file: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import onnxruntime  # type: ignore[import-untyped]

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def embed(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cast("NDArray[np.float32]", session.run(None, {IMAGES: images_BHWC})[0])

    return embed
