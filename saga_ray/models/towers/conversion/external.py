"""Makes an external tower (see `saga_ray.models.towers.external`) of a checkpoint of the transformers
library."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models.supervisors._assemble import IMAGE_SIZE, config_of
from saga_ray.models.towers.conversion.layout import SIDE, layout
from saga_ray.models.towers.conversion.processor import image_processor, statistics
from saga_ray.models.towers.external import ExternalTower, described, patch_side, vision_model

WEIGHTS = ("*.safetensors", "*.bin")
INSTEAD = "choose a vision transformer such as DINOv2, DINOv3, SigLIP, SigLIP 2 or CLIP"


def of_checkpoint(checkpoint: Path, image_size: int | None = None) -> ExternalTower:
    """The tower of a checkpoint's vision model, of pictures of `image_size` pixels; none: of the size that
    the checkpoint's own processor makes, down to a whole number of patches.

    Raises:
        UserError: the checkpoint is not whole, or its vision model gives no square grid of patch tokens.
    """
    whole = config_of(checkpoint)
    config = getattr(whole, "vision_config", whole)  # of models with text or without
    vision = described(config)
    try:
        side = patch_side(config)
        with torch.device("meta"):
            model: Any = AutoModel.from_config(whole)  # type: ignore[no-untyped-call]
        assert _vision_model_of(model).config.model_type == config.model_type
        leading, idle = layout(partial(_shallow, vision))
    except Exception as error:  # whatever else a model asks for, it is no plain vision transformer
        raise UserError(
            f"The model in {checkpoint} is of type {whole.model_type!r}, which does not give one token a "
            f"patch of square pictures of any size: {INSTEAD}."
        ) from error
    own_size = _own_size(checkpoint)
    size = max(1, own_size // side) * side if image_size is None else image_size
    visual = vision_model(vision, idle)
    tower = ExternalTower(visual, leading, idle, size, **statistics(checkpoint))
    visual.load_state_dict(_weights(checkpoint, set(visual.state_dict())))
    return tower


def _vision_model_of(whole: Any) -> Any:
    """A model itself, or the vision side of one with text."""
    return getattr(whole, "vision_model", whole)


def _shallow(vision: Mapping[str, Any], layers: int, leading: int) -> ExternalTower:
    visual = vision_model({**vision, "num_hidden_layers": layers}, ())
    config: Any = visual.config
    return ExternalTower(visual, leading, (), SIDE * patch_side(config), [0.0] * 3, [1.0] * 3)


def _own_size(checkpoint: Path) -> int:
    """Side of the pictures that the checkpoint's processor makes. Raises UserError where it prepares them
    otherwise than a tower can."""
    processor = image_processor(checkpoint)
    scaled = (
        processor.get("do_rescale", True) and abs(processor.get("rescale_factor", 1 / 255) - 1 / 255) < 1e-6
    )
    if not scaled or not processor.get("do_normalize", True):
        raise UserError(
            f"The processor in {checkpoint} does not bring pixels to 0…1 and normalise them, as a tower "
            f"does: {INSTEAD}."
        )
    size = processor.get("size")
    if processor.get("do_center_crop"):
        size = processor.get("crop_size", size)
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    return int(size or IMAGE_SIZE)


def _weights(checkpoint: Path, wanted: set[str]) -> dict[str, Tensor]:
    """The vision model's weights, all that are wanted and no others."""
    if not any(True for pattern in WEIGHTS for _ in checkpoint.glob(pattern)):
        raise UserError(
            f"The checkpoint in {checkpoint} is not complete: its weights as safetensors must be there."
        )
    disable_progress_bar()  # type: ignore[no-untyped-call]
    whole, loaded = AutoModel.from_pretrained(checkpoint, dtype=torch.float32, output_loading_info=True)
    absent = {name.removeprefix("vision_model.") for name in loaded["missing_keys"]} & wanted
    if absent:
        raise UserError(
            f"The checkpoint in {checkpoint} is not complete: it lacks the weight {min(absent)!r}."
        )
    stored: dict[str, Tensor] = _vision_model_of(whole).state_dict()
    return {name: stored[name] for name in wanted}
