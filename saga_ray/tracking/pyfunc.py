"""A model's folder as an MLflow model: how MLflow is told of it; a folder of its own without a store."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray

LOADERS = ENCODER, EMBEDDER = "saga_ray.tracking.served_encoder", "saga_ray.composed.served_embedder"
"""Modules that MLflow loads a logged model with."""
MODEL_PACKAGES = ("saga-ray", "torch", "numpy", "pillow", "safetensors")


def encoder(folder: Path, image_size: int, embedding_size: int) -> dict[str, Any]:
    """What `mlflow.pyfunc.log_model` and `save_model` are given of an encoder: the loader, the folder, the
    signature."""
    pictures = TensorSpec(np.dtype(np.uint8), (-1, image_size, image_size, 3))
    embeddings = TensorSpec(np.dtype(np.float32), (-1, embedding_size))
    return {
        "loader_module": ENCODER,
        "data_path": str(folder),
        "signature": ModelSignature(Schema([pictures]), Schema([embeddings])),
        "pip_requirements": model_requirements(),  # else MLflow runs the model to find them
    }


def embedder(folder: Path, embedding_size: int) -> dict[str, Any]:
    """The same of an embedder of composed retrieval, which is called with a table."""
    kinds = {"image": DataType.binary, "text": DataType.string}
    columns: list[Any] = [ColSpec(kind, name, required=False) for name, kind in kinds.items()]
    embeddings = TensorSpec(np.dtype(np.float32), (-1, embedding_size))
    return {
        "loader_module": EMBEDDER,
        "data_path": str(folder),
        "signature": ModelSignature(Schema(columns), Schema([embeddings])),
        "pip_requirements": model_requirements("transformers"),
    }


def save(folder: Path, output: Path, *, image_size: int, embedding_size: int) -> None:
    """Write an encoder's folder as an MLflow model into a folder that is empty or not there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # asks for an example; the signature is exact
        mlflow.pyfunc.save_model(path=str(output), **encoder(folder, image_size, embedding_size))


def load(folder: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The `predict` of an MLflow model in a folder."""
    predict: Callable[[NDArray[np.uint8]], NDArray[np.float32]] = mlflow.pyfunc.load_model(
        str(folder)
    ).predict
    return predict


def folder_in(place: Path) -> Path | None:
    """The folder that was logged, in what was downloaded of a logged model; none where that is not saga's."""
    for file in place.rglob("MLmodel"):
        flavour = Model.load(str(file)).flavors.get("python_function", {})
        if flavour.get("loader_module") in LOADERS:
            return file.parent / str(flavour["data"])
    return None


def model_requirements(*more: str) -> list[str]:
    """Packages that a logged model needs, at the versions installed here (less a build's suffix: +cpu)."""
    installed = {found.name.lower() for found in metadata.distributions() if found.name}
    return [
        f"{name}=={metadata.version(name).split('+')[0]}"
        for name in (*MODEL_PACKAGES, *more)
        if name in installed
    ]
