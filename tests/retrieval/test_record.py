"""What stands beside the measures."""

from __future__ import annotations

from saga_ray.retrieval.record import installed_versions


def test_installed_versions_name_the_engine_and_the_frameworks() -> None:
    versions = installed_versions()
    assert {"python", "torch", "ray", "mlflow"} <= set(versions)
