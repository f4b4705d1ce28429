"""What all jobs on the cluster have in common, whatever they train."""

from __future__ import annotations

from typing import Any, Protocol

from saga_ray.config.settings import RaySettings, TrackingSettings, WorkerSettings


class Job(Protocol):
    """The settings of a training job: of encoders (`Settings`), or of composed retrieval."""

    @property
    def name(self) -> str:
        """Of its folder and its MLflow run."""

    @property
    def seed(self) -> int:
        """Of everything."""

    @property
    def train(self) -> WorkerSettings:
        """The Ray Train workers."""

    @property
    def tracking(self) -> TrackingSettings:
        """MLflow."""

    @property
    def ray(self) -> RaySettings:
        """The cluster."""

    @property
    def custom_resources(self) -> set[str]:
        """Names of the custom Ray resources that it asks for."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """Nested plain values."""
