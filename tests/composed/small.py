"""An embedder that was not trained, and pictures of noise: small, and no two alike."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saga_ray.composed.benchmarks import Picture
from saga_ray.composed.embedder import Embedder
from saga_ray.models import supervisors


@cache
def embedder() -> Embedder:
    """Shared: tests that change it change it back."""
    return Embedder(supervisors.load("furniture-pocket")).eval()


def noise(path: Path, seed: int) -> Path:
    """A picture of coloured noise, whose colours depend on the seed."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).resize((48, 36), Image.Resampling.NEAREST).save(path)
    return path


def pictures(folder: Path, count: int) -> list[Picture]:
    return [Picture(f"{n}.png", str(noise(folder / f"{n}.png", n))) for n in range(count)]


def triplets(root: Path, count: int = 9, **fields: Any) -> Path:
    """A folder of pictures and five triplets of two kinds; the last one's kind and words are HTML."""
    pictures(root, count)
    kinds = ["colour", "colour", "shape", "shape", "<b>&"]
    lines = [
        {
            "reference": f"{n}.png",
            "instruction": f"make it {word}",
            "target": [f"{n + 1}.png", f"{n + 3}.png"],
            "kind": kinds[n],
            **fields,
        }
        for n, word in enumerate(["red", "taller", "of wood", "round", "<script>alert('1')</script> & more"])
    ]
    (root / "triplets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root
