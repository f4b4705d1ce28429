"""`saga evaluate`: exact retrieval with trained encoders over the test classes of a data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from saga_ray.config.settings import RaySettings, Settings
from saga_ray.data import sources
from saga_ray.data.release import read_json
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import How, embed
from saga_ray.retrieval.evaluation import evaluate_embeddings
from saga_ray.retrieval.record import data_record, installed_versions

Embedding = Callable[[Settings, int], AbstractContextManager[How]]
"""How to embed so many pictures, while a block runs."""


def evaluate_path(
    path: Path, data: str | None = None, root: str | None = None, *, embedding: Embedding | None = None
) -> dict[str, Any]:
    """Score every arm of a run's folder, or the one model of a model's folder; the keys are those of
    ``result.json``.

    `data` replaces the pictures that the run was trained on, `root` the folder of their release; a model's
    folder alone is scored on the furniture set by default. Without `embedding` this process embeds.
    """
    started = time.monotonic()
    settings, models = _models(path)
    if data is not None:
        settings.data.source = data
    if root is not None:
        settings.data.root = root
    table = sources.load(settings.data, settings.seed)
    test = table.part(settings.evaluation.part)
    if not len(test):
        raise UserError(
            f"{settings.data.source} has no {settings.evaluation.part} classes to score; "
            "is its split column right?"
        )
    scored = {}
    with (embedding or _here)(settings, len(test)) as how:
        for name, folder in models.items():
            encoder = Encoder.load(folder).to(how.device)
            size = encoder.tower.image_size
            z_ME, _ = embed(test, encoder, how.settings, size, local=how.local, gpus=how.gpus)
            scored[name] = evaluate_embeddings(z_ME, test.labels, seed=settings.seed, roles_M=test.roles)
    return {
        "name": settings.name,
        "seed": settings.seed,
        "test": scored,
        "data": data_record(settings.data.source, table, settings.evaluation.part).model_dump(),
        "seconds": time.monotonic() - started,
        "versions": installed_versions(),
    }


def _here(settings: Settings, _: int) -> AbstractContextManager[How]:
    return nullcontext(How(settings.evaluation, local=True, gpus=0.0))


def _models(path: Path) -> tuple[Settings, dict[str, Path]]:
    """A run's settings and the models of its finished arms, or default settings and the folder itself."""
    if (path / "encoder.safetensors").exists():
        return Settings(name=path.name), {path.name: path}
    if (path / "settings.json").exists():
        try:
            settings = Settings.model_validate(read_json(path / "settings.json"))
        except ValidationError as error:
            raise UserError(
                f"{path} holds a run of another command: its settings.json has other settings; the runs of "
                "`saga cir train` are scored by `saga cir evaluate`"
            ) from error
        settings.ray = RaySettings()  # where it is evaluated, not where it was trained
        models = {arm: path / "arms" / arm / "model" for arm in settings.arms}
        finished = {
            arm: folder for arm, folder in models.items() if (folder / "encoder.safetensors").exists()
        }
        if not finished:
            raise UserError(f"{path} has no finished arm yet; wait for the run, or go on with it by --resume")
        return settings, finished
    raise UserError(f"{path} is neither a run's folder (settings.json) nor a model's (encoder.safetensors)")
