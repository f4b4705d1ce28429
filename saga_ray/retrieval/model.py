"""What an index has to know of its model, and which folder holds the encoder that a person means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from saga_ray.config.home import find_run
from saga_ray.errors import UserError

if TYPE_CHECKING:  # mistakes are told before torch is loaded
    from torch import nn

WEIGHTS = "encoder.safetensors"
PREFERRED = "saga"
"""The arm that is meant where a run trained several."""


class Model(Protocol):
    """A stored model that embeds pictures, of whichever kind."""

    @property
    def folder(self) -> Path:
        """Where it is stored."""

    @property
    def hash(self) -> str:
        """Of all that decides its embeddings of pictures; those of two hashes must never be compared."""

    @property
    def image_size(self) -> int:
        """Pictures are so many pixels square."""

    @property
    def module(self) -> nn.Module:
        """Maps uint8 RGB images_BHWC to L2-normalised z_BE."""


def find_model(name: str) -> Path:
    """The folder of an encoder: ``name`` is such a folder, or a run's folder or name, which stands for its
    `saga` arm or its only finished one.

    Raises UserError where nothing is found, or more than one could be meant.
    """
    folder = find_run(name)
    found = encoder_in(folder)
    if found is None:
        raise UserError(f"{folder} holds no encoder: it is neither a model's folder ({WEIGHTS}) nor a run's")
    return found


def encoder_in(folder: Path) -> Path | None:
    """The folder of the encoder that a folder is, or that its run stands for; none where there is none.

    Raises UserError where more than one could be meant.
    """
    if (folder / WEIGHTS).is_file():
        return folder
    models = {file.parent.parent.name: file.parent for file in folder.glob(f"arms/*/model/{WEIGHTS}")}
    if PREFERRED in models:
        return models[PREFERRED]
    if len(models) == 1:
        return next(iter(models.values()))
    if models:
        raise UserError(
            f"{folder} has the arms {', '.join(sorted(models))}; "
            f"name one by its model's folder, such as {models[min(models)]}"
        )
    return None
