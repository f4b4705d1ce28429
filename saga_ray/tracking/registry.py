"""Models in MLflow's registry: an alias to a version, a version to a folder."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from saga_ray.errors import UserError
from saga_ray.tracking import pyfunc
from saga_ray.tracking.address import hide_password, without_password
from saga_ray.tracking.mlflow import first_line

SCHEME = "models:/"
ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def is_registered(model: str) -> bool:
    """Whether a text names a model of a registry."""
    return model.startswith(SCHEME)


def pinned(model: str, store: str) -> tuple[str, str]:
    """Name and version of ``models:/NAME@ALIAS``, as it is now, or of ``models:/NAME/VERSION``.

    Raises UserError where the store has none.
    """
    address = ADDRESS.fullmatch(model)
    if address is None:
        raise UserError(f"{model} is no registered model: write models:/NAME@ALIAS or models:/NAME/VERSION")
    client = mlflow.MlflowClient(tracking_uri=store)
    try:
        if address["alias"] is not None:
            found = client.get_model_version_by_alias(address["name"], address["alias"])
        else:
            found = client.get_model_version(address["name"], address["version"])
    except MlflowException as error:
        raise _unusable(model, store, error) from error
    return str(found.name), str(found.version)


def download(name: str, version: str, store: str, into: Path) -> Path:
    """The folder of a registered version's encoder or embedder; fetched once into a folder of its own under
    `into`. MLflow runs nothing of it. Raises UserError.
    """
    own = into / hashlib.sha256(store.encode()).hexdigest()[:12] / name  # other stores may have the name too
    place = own / version
    if not place.exists():
        unfinished = own / f"{version}.{os.getpid()}.part"
        unfinished.mkdir(parents=True, exist_ok=True)
        try:
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"{SCHEME}{name}/{version}", dst_path=str(unfinished), tracking_uri=store
            )
            if not place.exists():
                os.replace(unfinished, place)
        except MlflowException as error:
            raise _unusable(f"{SCHEME}{name}/{version}", store, error) from error
        except OSError:
            if not place.exists():  # else another replica was quicker
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    found = pyfunc.folder_in(place)
    if found is None:
        raise UserError(f"version {version} of {name} in {without_password(store)} is no model of saga's")
    return found


def _unusable(model: str, store: str, error: MlflowException) -> UserError:
    why = hide_password(first_line(error), store)
    return UserError(f"{model} cannot be had from MLflow's store {without_password(store)}: {why}")
