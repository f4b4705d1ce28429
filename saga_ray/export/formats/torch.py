"""A Python package of a few short files that needs PyTorch, Pillow and safetensors, and nothing of saga-ray.

The files are the tower's, the pooler's and the decoder's own sources, so that there is
no second implementation to keep equal.
"""

from __future__ import annotations

import ast
import inspect
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from saga_ray.data import decoding
from saga_ray.errors import UserError
from saga_ray.export.compare import Compared, compare, pictures
from saga_ray.models import pooler
from saga_ray.models.encoder import CONFIG, WEIGHTS, Encoder
from saga_ray.models.towers import base

PACKAGE = "saga_encoder"
PACKAGE_FOLDER = Path(__file__).parent.parent

USE = """
```python
from saga_encoder import load, read   # the folder saga_encoder, wherever you copy it
import torch
encoder = load()
images = torch.stack([read("a.jpg"), read("b.jpg")])
with torch.inference_mode():
    embeddings = encoder(images)
print(embeddings[0] @ embeddings[1])
```

It needs `torch`, `numpy`, `pillow` and `safetensors`, and nothing of saga-ray.
"""

CHECK = """
import sys
sys.modules["saga_ray"] = None  # whoever imports it fails
import numpy, torch
from saga_encoder import load, read
given = numpy.load("given.npz")
encoder = load()
made = {"pixels": read(given["picture"].tobytes()).numpy()}
with torch.inference_mode():
    for name in given.files:
        if name != "picture":
            made[name] = encoder(torch.from_numpy(given[name])).float().numpy()
numpy.savez("made.npz", **made)
"""
LONGEST_S = 600


def write(model: Path, encoder: Encoder, folder: Path) -> Compared:
    """See `saga_ray.export.export.Format`."""
    package = folder / PACKAGE
    package.mkdir()
    for name, source in _sources(encoder).items():
        (package / name).write_text(source, encoding="utf-8")
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(model / name, package / name)
    with tempfile.TemporaryDirectory() as name:
        return _compare(encoder, folder, Path(name))


def _sources(encoder: Encoder) -> dict[str, str]:
    """The package's files. Raises UserError for a tower that needs more of saga-ray than its base."""
    tower = Path(inspect.getfile(type(encoder.tower))).read_text(encoding="utf-8")
    tower = tower.replace(f"from {base.__name__} import", "from .tower_base import")
    if any(name.partition(".")[0] == "saga_ray" for name in _imports(tower)):
        raise UserError(
            f"the tower {encoder.tower.name!r} imports more of saga-ray than {base.__name__}, "
            "so that it cannot stand alone; export with --format onnx"
        )
    return {
        "__init__.py": (PACKAGE_FOLDER / "plain_encoder.txt").read_text(encoding="utf-8"),
        "tower.py": tower,
        "tower_base.py": inspect.getsource(base),
        "pooler.py": inspect.getsource(pooler),
        "decoding.py": inspect.getsource(decoding),
    }


def _imports(source: str) -> list[str]:
    nodes = list(ast.walk(ast.parse(source)))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]


def _compare(encoder: Encoder, folder: Path, aside: Path) -> Compared:
    """Load the package in a process that cannot import saga-ray, and compare pixels and embeddings."""
    size = encoder.tower.image_size
    picture = _sample()
    batches = {f"batch_{number}": images for number, images in enumerate(pictures(size))}
    np.savez(aside / "given.npz", picture=np.frombuffer(picture, np.uint8), **batches)  # type: ignore[arg-type]
    environment = os.environ | {"PYTHONPATH": str(folder.absolute()), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=aside,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    if ended.returncode:
        why = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"the exported package cannot be loaded by itself: {why}; it was not kept")
    made = np.load(aside / "made.npz")
    if not np.array_equal(made["pixels"], decoding.centre_square(decoding.decode(picture, size), size)):
        raise UserError("the exported package reads pictures otherwise than saga-ray; it was not kept")
    embeddings = iter([made[name] for name in batches])
    return compare(encoder, lambda _: next(embeddings), "the exported package")


def _sample() -> bytes:
    """A JPEG that is no square and lies on its side."""
    pixels = (
        np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    )
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", exif=exif)
    return file.getvalue()
