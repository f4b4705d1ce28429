"""A run small enough for a test: 24 classes of 6 textures, the tiny supervisor, a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saga_ray.config.settings import Settings
from tests.tiny import PIXELS

CLASSES, PICTURES, SIDE = 24, 6, 32


def make_pictures(
    folder: Path, classes: int = CLASSES, pictures: int = PICTURES, noise: float = 40.0
) -> Path:
    """A folder a class; a class's pictures are its texture under noise."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        texture = rng.integers(0, 256, (SIDE, SIDE, 3))
        for number in range(pictures):
            noisy = (texture + rng.normal(0, noise, texture.shape)).clip(0, 255).astype(np.uint8)
            path = folder / f"class{label:02d}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).save(path)
    return folder


def make_table(pictures: Path, table: Path) -> Path:
    """A table of the pictures whose first two thirds of classes are for training and the rest for test; one
    of its pictures is broken.
    """
    broken = pictures / "class00" / "0.png"
    broken.write_bytes(broken.read_bytes()[:100])
    classes = sorted(path.name for path in pictures.iterdir())
    split = {
        name: "train" if 3 * number < 2 * len(classes) else "test" for number, name in enumerate(classes)
    }
    rows = [
        f"{path},{path.parent.name},{split[path.parent.name]}" for path in sorted(pictures.rglob("*.png"))
    ]
    table.write_text("\n".join(["image,label,split", *rows]))
    return table


def small_settings(
    pictures: Path, supervisor: Path, arms: list[str], /, **changes: dict[str, Any]
) -> Settings:
    """Settings of a run of 4 steps with a checkpoint every 2; rollouts by the transformers engine."""
    values: dict[str, Any] = {
        "data": {
            "source": str(pictures),
            "image_size": PIXELS,
            "validation_share": 0.25,
            "classes_per_batch": 4,
            "pairs_per_batch": 8,
        },
        "supervisor": {"path": str(supervisor)},
        "rollout": {
            "engine": "transformers",
            "group_size": 4,
            "temperature": 1.0,
            "top_p": 1.0,
            "max_new_tokens": 8,
            "kv_cache_gib": 0.1,
        },
        "grpo": {"informative_pairs": 5, "max_micro_batches": 3},
        "distillation": {"layer": 1},
        "metric": {"loss": "proxy_anchor"},
        "optimizer": {"tower_rate": 1e-3, "pooler_rate": 1e-2},
        "train": {"steps": 4, "checkpoint_every": 2, "max_failures": 0},
        "evaluation": {"verdict_pairs": 8, "verdict_every": 2},
        "tracking": {"system_metrics": False},
        "report": {"queries": 2, "neighbours": 3, "rollouts": 2, "rollouts_every": 2},
    }
    for section, change in changes.items():
        values[section] = values.get(section, {}) | change
    return Settings.model_validate({"name": "small", "arms": arms, **values})
