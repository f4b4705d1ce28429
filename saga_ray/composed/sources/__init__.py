"""What composed retrieval trains on: one file a source, found by listing this folder.

A source is a module with

- ``read(location: str | None) -> TrainingData``; `location` is `data.source` where `matches` knew it;
- ``matches(source: str) -> bool``, only if it reads a user's own path.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from saga_ray.composed.benchmarks import Benchmark, triplets
from saga_ray.composed.benchmarks import names as benchmarks
from saga_ray.composed.benchmarks import read as read_benchmark
from saga_ray.composed.examples import TrainingData
from saga_ray.config.names import modules_in, nearest
from saga_ray.errors import UserError


def names() -> list[str]:
    """The sources' names, without importing them."""
    return modules_in("composed/sources")


def load(source: str) -> TrainingData:
    """What a source has to train on. Raises UserError where there is none, and for what is wrong in it."""
    if source in names():
        data: TrainingData = _module(source).read(None)
        return data
    for name in names():
        module = _module(name)
        if hasattr(module, "matches") and module.matches(source):
            data = module.read(source)
            return data
    meant = nearest(source, names())
    raise UserError(
        f"data.source={source!r} is neither a source ({', '.join(names())}) nor a folder with captions.jsonl "
        f"or triplets.jsonl" + (f"; did you mean {meant}?" if meant else "")
    )


def queries(source: str, part: str) -> Benchmark | None:
    """A source's own queries of a part (validation or test); none where it has none."""
    if source in benchmarks():
        return read_benchmark(source, split=part)
    file = Path(source).expanduser() / triplets.FILE_NAME
    if not file.is_file() or not any(line.split == part and line.targets for line in triplets.parse(file)):
        return None
    return read_benchmark("triplets", file.parent, split=part)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
