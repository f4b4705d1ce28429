"""Which model is meant by `model`, pinned: all replicas of a deployment serve the same one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saga_ray.config.home import home, runs_folder
from saga_ray.config.serving import ServeSettings
from saga_ray.errors import UserError
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index.snapshot import INFO, Info
from saga_ray.serve import models


@dataclass(frozen=True)
class Pinned:
    """A model that will not become another one under the same words."""

    name: str
    """What clients call it."""
    hash: str
    folder: str | None
    """Where it lies, on this machine and on all that serve; none for a registered one."""
    registered: tuple[str, str] | None = None
    """Name and version."""
    store: str = ""
    """MLflow's, for a registered one."""

    def fetch(self) -> Path:
        """The model's folder on this machine. Raises UserError where it is not there, or not the same."""
        if self.registered is not None:
            from saga_ray.tracking.registry import download

            return download(*self.registered, self.store, _cache())
        assert self.folder is not None
        folder = Path(self.folder)
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not on this machine: put the model where all nodes find it, or register it"
            )
        if models.hash_of(folder) != self.hash:
            raise UserError(f"the model in {folder} has changed since it was deployed; deploy it again")
        return folder


def pin(settings: ServeSettings) -> Pinned:
    """The model that the settings mean now; checks that the index, if any, is of the same.

    Raises UserError.
    """
    if settings.model is None:
        raise UserError(
            "there is no model to serve: set model to a model's folder, a run, or models:/NAME@ALIAS"
        )
    pinned = _registered(settings) if settings.model.startswith("models:/") else _in_folder(settings)
    if settings.index is not None:
        _check_index(Path(settings.index).expanduser(), pinned)
    return pinned


def _registered(settings: ServeSettings) -> Pinned:
    from saga_ray.tracking.registry import download
    from saga_ray.tracking.registry import pinned as version_of

    assert settings.model is not None
    store = settings.tracking_uri or f"sqlite:///{runs_folder() / 'mlflow.db'}"
    name, version = version_of(settings.model, store)
    folder = download(name, version, store, _cache())
    return Pinned(settings.name or name, models.hash_of(folder), None, (name, version), store)


def _in_folder(settings: ServeSettings) -> Pinned:
    assert settings.model is not None
    folder = models.find(settings.model).resolve()
    return Pinned(settings.name or _name_of(folder), models.hash_of(folder), str(folder))


def _name_of(folder: Path) -> str:
    """RUN-ARM for an arm's model (RUN/arms/ARM/model), else the folder's name."""
    if folder.name == "model" and folder.parent.parent.name == "arms":
        return f"{folder.parents[2].name}-{folder.parent.name}"
    return folder.name


def _check_index(folder: Path, model: Pinned) -> None:
    """Refuse another model's index before anything starts; only what the index says of itself is read."""
    number = folders.must_hold_index(folder).number
    info = Info.model_validate_json((folders.path_of(folder, number) / INFO).read_bytes())
    if info.encoder_hash != model.hash:
        raise UserError(
            f"the index {folder} was built by another model ({info.encoder_hash[:12]}…, then at "
            f"{info.model}) than {model.name} ({model.hash[:12]}…): build it anew, or serve the "
            "model that built it"
        )


def _cache() -> Path:
    return home() / "served"
