"""The encoder's own folder with a model card: for saga-ray, and for whoever reads weights by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.export.compare import Compared, compare
from saga_ray.models.encoder import CONFIG, WEIGHTS, Encoder

USE = """
```python
from pathlib import Path
from saga_ray.models.encoder import Encoder
encoder = Encoder.load(Path("."))
embeddings = encoder(images)          # torch, uint8, batch x {size} x {size} x 3
```

`saga serve`, `saga index build` and `saga evaluate` take the folder as it is. `encoder.safetensors` holds
the weights by name, `config.json` what is built from them.
"""


def write(model: Path, encoder: Encoder, folder: Path) -> Compared:
    """See `saga_ray.export.export.Format`."""
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(model / name, folder / name)
    copy = Encoder.load(folder)

    def embed(images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            z_BE: torch.Tensor = copy(torch.tensor(images_BHWC))
        return z_BE.float().numpy()

    return compare(encoder, embed, "the copy")
