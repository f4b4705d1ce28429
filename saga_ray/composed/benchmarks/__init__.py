"""Benchmarks of composed retrieval: one file each, found by listing this folder.

    benchmark = read("circo", root)
    for gallery in benchmark.galleries.values():
        ...embed `load(picture, size)` for each of gallery.pictures
    rankings = [
        rank(benchmark, query, scores_M, seed=0)     # M: the pictures of query.gallery, in their order
        for query in benchmark.queries               # scored in blocks that fit in memory
    ]
    measures(benchmark, rankings)                    # or write_predictions, where targets are hidden

A benchmark is a module with

- ``SPLITS`` and ``PROTOCOLS``, the first of each being taken unless another is asked for;
- ``read(root, split, protocol) -> Benchmark``;
- ``measures(pairs) -> dict[str, float]``, as fractions;
- only if it ships with the project: ``shipped_root() -> Path``, taken where no root is given;
- only if a server scores hidden targets: ``predictions(benchmark, rankings)``, file name -> JSON value;
  ``sheet(benchmark, file, content)``, which takes such a value apart; and ``MOST_BYTES`` of a file, if there
  is a limit.

Nothing here imports torch, transformers or ray.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from saga_ray.composed.benchmarks.base.measures import paired
from saga_ray.composed.benchmarks.base.pictures import Picture, load
from saga_ray.composed.benchmarks.base.predictions import problems
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.composed.benchmarks.base.ranking import Ranking, rank
from saga_ray.config.names import modules_in, nearest
from saga_ray.data.release import read_json
from saga_ray.errors import UserError
from saga_ray.files import write_text

__all__ = [
    "Benchmark",
    "Gallery",
    "Picture",
    "Query",
    "Ranking",
    "load",
    "measures",
    "names",
    "rank",
    "read",
    "validate",
    "write_predictions",
]


def names() -> list[str]:
    """The benchmarks' names, without importing them."""
    return modules_in("composed/benchmarks")


def read(
    name: str, root: Path | None = None, *, split: str | None = None, protocol: str | None = None
) -> Benchmark:
    """Read a benchmark's release; no picture is opened, but each must be there. One that ships needs no root.

    Raises UserError for an unknown name, split or protocol, for all missing files at once, and for an
    annotation that no release has, with its file and entry. Other sizes than the official ones are no error
    but sentences in `differs`.
    """
    module = _module(name)
    if root is None:
        if not hasattr(module, "shipped_root"):
            raise UserError(f"{name} does not ship with the project: give the folder of its release (--root)")
        root = Path(module.shipped_root())
    benchmark: Benchmark = module.read(
        root.expanduser().absolute(),  # pictures are opened by processes with other working folders
        _one_of(name, "split", split, module.SPLITS),
        _one_of(name, "protocol", protocol, module.PROTOCOLS),
    )
    return benchmark


def measures(benchmark: Benchmark, rankings: Iterable[Ranking]) -> dict[str, float]:
    """The benchmark's measures, as fractions, with `queries` and `queries_left_out`.

    Raises UserError where the split hides its targets, and where a query has no ranking or more than one.
    """
    if not benchmark.has_targets:
        raise UserError(
            f"{benchmark.name}: the split {benchmark.split} hides its targets; "
            "write prediction files for the benchmark's server, or evaluate another split"
        )
    found: dict[str, float] = _module(benchmark.name).measures(paired(benchmark, rankings))
    left_out = benchmark.counts.get("queries_left_out", 0)
    return found | {"queries": len(benchmark.queries), "queries_left_out": left_out}


def write_predictions(benchmark: Benchmark, rankings: Iterable[Ranking], folder: Path) -> list[Path]:
    """Write the server's files into a folder, all of them or none; returns their paths.

    Raises UserError for a benchmark without a server, where a query has no ranking or more than one, and for
    files that the server would refuse.
    """
    module = _with_server(benchmark)
    by_query = {query.id: ranking for query, ranking in paired(benchmark, rankings)}
    texts: dict[Path, str] = {}
    for name, content in module.predictions(benchmark, by_query).items():
        file = folder / name
        texts[file] = json.dumps(content)
        wrong = _problems(module, benchmark, file, content, len(texts[file]))
        if wrong:
            more = f" (and {len(wrong) - 1} more problems)" if len(wrong) > 1 else ""
            raise UserError(f"{file} was not written: {wrong[0]}{more}; check the rankings and the release")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)


def validate(benchmark: Benchmark, file: Path) -> list[str]:
    """What a server would refuse in a prediction file, a sentence each; none: it is fit to send.

    Raises UserError for a benchmark without a server, and for a file that cannot be taken apart.
    """
    module = _with_server(benchmark)
    content = read_json(file)
    return _problems(module, benchmark, file, content, file.stat().st_size)


def _problems(module: ModuleType, benchmark: Benchmark, file: Path, content: Any, size: int) -> list[str]:
    most: int | None = getattr(module, "MOST_BYTES", None)
    too_large = [f"has {size:,} bytes, the server takes {most:,}"] if most is not None and size > most else []
    return [*too_large, *problems(benchmark, module.sheet(benchmark, file, content))]


def _module(name: str) -> ModuleType:
    if name not in names():
        meant = nearest(name, names())
        raise UserError(
            f"unknown benchmark {name!r}{f' (did you mean {meant!r}?)' if meant else ''}; "
            f"choose one of {', '.join(names())}"
        )
    return importlib.import_module(f"{__name__}.{name}")


def _with_server(benchmark: Benchmark) -> ModuleType:
    module = _module(benchmark.name)
    if not hasattr(module, "predictions"):
        raise UserError(f"{benchmark.name} has no server; its targets are known, so measure it here")
    return module


def _one_of(name: str, what: str, asked: str | None, known: tuple[str, ...]) -> str:
    if asked is None:
        return known[0]
    if asked not in known:
        raise UserError(f"{name} has no {what} {asked!r}; choose one of {', '.join(known)}")
    return asked
