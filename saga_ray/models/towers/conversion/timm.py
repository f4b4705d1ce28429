"""Makes a tower of timm (see `saga_ray.models.towers.timm`) of a checkpoint in the layout in which timm's
models are published: config.json, which names the architecture, and the weights beside it."""

from __future__ import annotations

import json
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.models.towers.conversion.layout import SIDE, layout
from saga_ray.models.towers.timm import TOWERS_OWN, TimmTower, build, library, of_depth, patch_side

PICTURES = ("input_size", "mean", "std")
"""What config.json must say of the pictures."""
INSTEAD = "choose a vision transformer of timm such as those of DINOv2, DINOv3, SigLIP, CLIP, DeiT or EVA"


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder's config.json is timm's."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return "architecture" in stored and "model_type" not in stored


def of_checkpoint(checkpoint: Path, image_size: int | None = None) -> TimmTower:
    """The tower of a checkpoint, of pictures of `image_size` pixels; none: of the checkpoint's own size, down
    to a whole number of patches.

    Raises:
        UserError: timm cannot be imported, the checkpoint is not whole, or its model gives no square grid of
            patch tokens.
    """
    timm = library()
    stored = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    architecture = stored["architecture"]
    if not timm.is_model(architecture):
        raise UserError(
            f"{checkpoint / 'config.json'} names the architecture {architecture!r}, which timm "
            f"{timm.__version__} does not have."
        )
    pictures = _pictures(checkpoint, stored.get("pretrained_cfg", stored))
    given = {key: value for key, value in stored.get("model_args", {}).items() if key not in TOWERS_OWN}
    config: dict[str, Any] = {"architecture": architecture, "model_args": given}
    try:
        with torch.device("meta"):
            model = timm.create_model(architecture, **given)
        assert hasattr(model, "set_input_size"), "of one size alone"
        side = patch_side(model)
        config["leading"], config["idle"] = layout(partial(_shallow, config, side))
    except Exception as error:  # whatever else a model asks for, it is no plain vision transformer
        raise UserError(
            f"The model in {checkpoint} is timm's {architecture!r}, which does not give one token a patch of "
            f"square pictures of any size: {INSTEAD}."
        ) from error
    own_size = max(1, pictures["input_size"][-1] // side) * side
    tower = build(
        **config,
        image_size=own_size if image_size is None else image_size,
        mean=pictures["mean"],
        std=pictures["std"],
    )
    tower.visual.load_state_dict(_weights(checkpoint, tower.image_size, set(tower.visual.state_dict())))
    return tower


def _pictures(checkpoint: Path, said: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint says of its pictures. Raises UserError."""
    if any(key not in said for key in PICTURES):
        raise UserError(
            f"The checkpoint in {checkpoint} is not complete: config.json must say {', '.join(PICTURES)}."
        )
    if said["input_size"] != [3, said["input_size"][-1], said["input_size"][-1]]:
        raise UserError(
            f"The model in {checkpoint} reads pictures of the shape {said['input_size']}, and a tower's have "
            f"three colours and are square: {INSTEAD}."
        )
    return said


def _shallow(config: dict[str, Any], side: int, layers: int, leading: int) -> TimmTower:
    copy = {**of_depth(config, layers), "leading": leading, "idle": ()}
    return build(**copy, image_size=SIDE * side, mean=[0.0] * 3, std=[1.0] * 3)


def _weights(checkpoint: Path, image_size: int, wanted: set[str]) -> dict[str, Tensor]:
    """The model's weights as timm reads them for pictures of a size, all that are wanted and no others."""
    try:
        # with the checkpoint's own classes, so that it does not pass over weights that are missing
        whole = library().create_model(f"local-dir:{checkpoint}", pretrained=True, img_size=image_size)
        stored: dict[str, Tensor] = whole.state_dict()
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise UserError(
            f"timm cannot read the weights in {checkpoint} for pictures of {image_size} pixels: "
            f"{textwrap.shorten(str(error), 200)}"
        ) from error
    return {name: stored[name] for name in wanted}
