"""A training of composed retrieval small enough for a test: bars in four colours, a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saga_ray.config.composed import ComposedSettings

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30), "white": (240, 240, 240)}
SHAPES = 6


def write_bars(folder: Path, validation: str = "validation", test: str = "test") -> Path:
    """Bars of some shapes in four colours: captions, and triplets that change the colour; the last two shapes
    have the splits that are named.
    """
    captions, triplets = [], []
    for shape in range(SHAPES):
        split = "train" if shape < SHAPES - 2 else (validation, test)[shape % 2]
        for name, colour in COLOURS.items():
            pixels = np.full((64, 64, 3), 120, dtype=np.uint8)
            pixels[8 * shape : 8 * shape + 12, 6:58] = colour
            Image.fromarray(pixels).save(folder / f"{shape}-{name}.png")
            captions.append({"image": f"{shape}-{name}.png", "caption": f"a {name} lamp"})
            for other in COLOURS:
                if other != name:
                    triplets.append(
                        {
                            "reference": f"{shape}-{name}.png",
                            "instruction": f"make it {other}",
                            "target": f"{shape}-{other}.png",
                            "target_text": f"a {other} lamp",
                            "split": split,
                        }
                    )
    for file, lines in (("captions.jsonl", captions), ("triplets.jsonl", triplets)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def small_settings(data: Path, /, **changes: dict[str, Any]) -> ComposedSettings:
    """Settings of two stages of a few steps."""
    values: dict[str, dict[str, Any]] = {
        "data": {"source": str(data)},
        "embedder": {"lora_rank": 4, "nested_sizes": [64]},
        "align": {"steps": 2, "batch": 6},
        "instruct": {"steps": 3, "batch": 6, "chunk": 4, "image_weight": 0.5},
        "train": {"checkpoint_every": 2},
        "tracking": {"system_metrics": False},
    }
    for section, own in changes.items():
        values[section] = values.get(section, {}) | own
    return ComposedSettings.model_validate({"name": "small-cir", **values})
