"""Which folder holds the encoder that a person means: a model's own, or a run's."""

from __future__ import annotations

from pathlib import Path

from saga_ray.config.home import find_run
from saga_ray.errors import UserError

WEIGHTS = "encoder.safetensors"
PREFERRED = "saga"
"""The arm that is meant where a run trained several."""


def find_model(name: str) -> Path:
    """The folder of an encoder: ``name`` is such a folder, or a run's folder or name, which stands for its
    `saga` arm or its only finished one.

    Raises UserError where nothing is found, or more than one could be meant.
    """
    folder = find_run(name)
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
    raise UserError(f"{folder} holds no encoder: it is neither a model's folder ({WEIGHTS}) nor a run's")
