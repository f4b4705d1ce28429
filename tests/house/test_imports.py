"""The house's rules of who may know whom."""

from __future__ import annotations

import graphlib

import pytest

from tests.house.graph import imports, modules, own_imports, reaches, users_of

# Floors, lowest first: a part imports parts of lower floors, and itself.
FLOORS = [
    {"errors", "files", "html"},
    {"config"},
    {"prompts", "losses"},
    {"data"},
    {"models"},
    {"rollout", "retrieval", "tracking", "plan"},
    {"train"},
    {"composed"},
    {"tune", "serve", "export", "reproduce"},
    {"cli"},
]
MAY_USE_RAY = (
    "data.stream",
    "rollout.pool",
    "retrieval.embed",
    "train",
    "composed.train",
    "composed.writing.pool",
    "reproduce.cluster",
    "tune",
    "serve",
    "cli",
)
WITHOUT_RAY = (
    "losses",
    "prompts",
    "retrieval.metrics",
    "models",
    "config",
    "composed.benchmarks",
    "composed.captions",
)
# processes that decode a gallery's pictures import composed.pictures
WITHOUT_TORCH = ("config", "cli", "composed.benchmarks", "composed.captions", "composed.pictures")


def floor(module: str) -> int:
    part = module.split(".")[1]
    return next(height for height, parts in enumerate(FLOORS) if part in parts)


def within(module: str, names: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"saga_ray.{name}.") for name in names)


def test_every_part_has_its_floor() -> None:
    parts = {module.split(".")[1] for module in modules() if "." in module}
    assert parts <= set().union(*FLOORS)


def test_arrows_point_down() -> None:
    up = [
        f"{module}:{each.line} imports {each.target}"
        for module in modules()
        if "." in module
        for each in imports(module)
        if each.target in modules() and "." in each.target
        if each.target.split(".")[1] != module.split(".")[1] and floor(each.target) >= floor(module)
    ]
    assert not up, "\n".join(up)


def test_no_circles() -> None:
    # A package's __init__ that gathers its own modules is no circle: they do not import it back to use it.
    graph = {
        module: {
            target
            for target in own_imports(module, at_import_time=True)
            if not module.startswith(f"{target}.")
        }
        for module in modules()
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_ray_stays_where_it_belongs() -> None:
    elsewhere = [
        f"{module}:{line}" for module, line in users_of("ray").items() if not within(module, MAY_USE_RAY)
    ]
    assert not elsewhere


@pytest.mark.parametrize("library, parts", [("ray", WITHOUT_RAY), ("torch", WITHOUT_TORCH)])
def test_nothing_heavy_is_loaded_by_the_way(library: str, parts: tuple[str, ...]) -> None:
    chains = [reaches(module, library) for module in modules() if within(module, parts)]
    assert not [" -> ".join(chain) for chain in chains if chain]


def test_vllm_is_loaded_only_inside_its_engines() -> None:
    own = ("vllm", "_vllm_images", "_vllm_worker")
    engines = (*(f"rollout.engines.{name}" for name in own), "composed.writing.llm")
    assert all(within(module, engines) for module in users_of("vllm"))


def test_mlflow_is_used_only_for_tracking() -> None:
    assert all(within(module, ("tracking", "cli.doctor")) for module in users_of("mlflow"))
