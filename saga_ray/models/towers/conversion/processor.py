"""What a checkpoint says of how its pictures are prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saga_ray.errors import UserError

FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a checkpoint keeps it: alone, or with its tokenizer's."""


def image_processor(checkpoint: Path) -> dict[str, Any]:
    """The image processor's settings, mean and deviation among them. Raises UserError where they are not
    there."""
    for file in FILES:
        if (checkpoint / file).is_file():
            stored: dict[str, Any] = json.loads((checkpoint / file).read_text(encoding="utf-8"))
            stored = stored.get("image_processor", stored)
            if "image_mean" in stored and "image_std" in stored:
                return stored
    raise UserError(
        f"The checkpoint in {checkpoint} is not complete: {FILES[0]} with image_mean and image_std must be "
        "there."
    )


def statistics(checkpoint: Path) -> dict[str, list[float]]:
    """What pixels between 0 and 1 are normalised with, as towers' ``build`` is given it. Raises UserError."""
    processor = image_processor(checkpoint)
    return {"mean": processor["image_mean"], "std": processor["image_std"]}
