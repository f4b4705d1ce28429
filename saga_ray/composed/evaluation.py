"""An embedder on a benchmark of composed retrieval, beside baselines that see a part of each query only.

Many of these benchmarks' queries can be answered from one modality alone (CIRCUS, 2026), so a composed
result means little without the image-only and text-only ones beside it.

Legend: M pictures, Q queries, U different pictures, E embedding size.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.composed.benchmarks import Benchmark, Picture, measures, write_predictions
from saga_ray.composed.cache import Cache
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.gallery import Embedded, embed_pictures
from saga_ray.composed.identity import embedder_hash
from saga_ray.composed.query_embeddings import (
    IMAGE_ONLY,
    TEXT_ONLY,
    WAYS,
    embed_queries,
    image_and_text,
)
from saga_ray.composed.report import write_cir_report
from saga_ray.composed.result import RESULT, BenchmarkRecord, CirResult, EmbedderRecord
from saga_ray.composed.scoring import Ranked, score
from saga_ray.config.settings import EmbeddingSettings
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.embed import FEW
from saga_ray.retrieval.record import installed_versions

PREDICTIONS, REPORT = "predictions", "report"


def evaluate(
    embedder: Embedder | Path,
    benchmark: Benchmark,
    *,
    output: Path | None = None,
    size: int | None = None,
    text_weight: float = 0.5,
    settings: EmbeddingSettings | None = None,
    local: bool | None = None,
    gpus: float = 0.0,
    cache: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> CirResult:
    """Measure composed queries and their baselines, or write files for the server that knows the targets.

    Args:
        embedder: an embedder, or the folder of one; embeddings of a folder's are kept and found again.
        output: a folder, new or empty, that gets ``result.json``, ``report/`` and, where the targets are
            hidden, ``predictions/``; all of it when all is done.
        size: only so many numbers of an embedding are compared; by default what the embedder was saved with.
        text_weight: the text's share in the sum of image and text.
        local, gpus: as for `retrieval.embed.embeddings`, for pictures and queries alike.
        cache: where embeddings are kept; by default `cache/composed` under ``$SAGA_HOME``.
        seed: decides ties, and which queries the report shows.
        say: told how far it is.

    Raises UserError for a size or weight that cannot be, a picture that cannot be read, an output folder that
    is in use, and hidden targets without an output folder.
    """
    started = time.monotonic()
    output = None if output is None else free_output(output)
    if output is None and not benchmark.has_targets:
        raise UserError(
            f"{benchmark.name}: the split {benchmark.split} hides its targets; name an output folder for the "
            "prediction files, or evaluate another split"
        )
    if not 0 <= text_weight <= 1:
        raise UserError(f"the text's weight in image + text is {text_weight:g}; it must lie between 0 and 1")
    asked = _ask(embedder, benchmark, size, text_weight, settings, local, gpus, cache, say)
    ranked = {
        way: score(benchmark, asked.z_QE[way], asked.pictures.z_UE, asked.row_M, seed=seed) for way in WAYS
    }
    seconds = asked.seconds
    seconds["ranking"] = time.monotonic() - started - sum(seconds.values())
    seconds["total"] = time.monotonic() - started
    result = CirResult(
        benchmark=_benchmark_record(benchmark, asked.pictures),
        embedder=asked.embedder,
        measures={way: measures(benchmark, ranked[way].rankings) for way in WAYS}
        if benchmark.has_targets
        else {},
        predictions={},
        text_weight=text_weight,
        seed=seed,
        computed=asked.pictures.computed,
        seconds=seconds,
        versions=installed_versions(),
    )
    return result if output is None else _written(output, result, benchmark, ranked)


def best_text_weight(
    embedder: Embedder | Path,
    benchmark: Benchmark,
    weights: Sequence[float],
    *,
    settings: EmbeddingSettings | None = None,
    local: bool | None = None,
    gpus: float = 0.0,
    seed: int = 0,
) -> float:
    """The text's share with which the sum of image and text has the highest recall@1, the first of equals;
    everything is embedded once. The rest is as for `evaluate`.
    """
    asked = _ask(embedder, benchmark, None, 0.5, settings, local, gpus, None, None)

    def found(weight: float) -> float:
        sum_QE = image_and_text(asked.z_QE[IMAGE_ONLY], asked.z_QE[TEXT_ONLY], weight)
        ranked = score(benchmark, sum_QE, asked.pictures.z_UE, asked.row_M, seed=seed)
        return measures(benchmark, ranked.rankings)["recall@1"]

    return max(weights, key=found)


@dataclass(frozen=True)
class _Asked:
    """A benchmark as an embedder embeds it."""

    pictures: Embedded
    row_M: dict[str, NDArray[np.int64]]
    z_QE: dict[str, NDArray[np.float32]]
    embedder: EmbedderRecord
    seconds: dict[str, float]


def _ask(
    embedder: Embedder | Path,
    benchmark: Benchmark,
    size: int | None,
    text_weight: float,
    settings: EmbeddingSettings | None,
    local: bool | None,
    gpus: float,
    cache: Path | None,
    say: Callable[[str], None] | None,
) -> _Asked:
    """Embed the galleries' pictures, and the queries in all of `WAYS`."""
    started = time.monotonic()
    settings = settings or EmbeddingSettings()
    pictures = _pictures(benchmark)
    if local is None:
        local = not gpus and len(pictures) <= FEW
    folder = embedder if isinstance(embedder, Path) else None
    hashed = None if folder is None else embedder_hash(folder)
    model = _loaded(embedder, local)
    with _cut(model, size):
        store = None if hashed is None else Cache(hashed, model.size, root=cache)
        embedded = embed_pictures(pictures, model, settings, cache=store, local=local, gpus=gpus, say=say)
        row_M, references_Q = _rows(benchmark, embedded)
        seconds = {"pictures": time.monotonic() - started}
        if say:
            say(f"queries      {len(benchmark.queries):,}")
        z_QE = embed_queries(
            benchmark.queries,
            embedded.z_UE[references_Q],
            model,
            settings,
            text_weight=text_weight,
            local=local,
            gpus=gpus,
        )
        seconds["queries"] = time.monotonic() - started - sum(seconds.values())
        record = EmbedderRecord(
            folder=None if folder is None else str(folder.absolute()),
            hash=hashed,
            size=model.size,
            width=model.width,
        )
    return _Asked(embedded, row_M, z_QE, record, seconds)


def free_output(output: Path) -> Path:
    """The absolute path of a folder that is new or empty. Raises UserError for another."""
    output = output.expanduser().absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"the output folder {output} is in use: it is not empty; give another one")
    return output


def _loaded(embedder: Embedder | Path, local: bool) -> Embedder:
    if not isinstance(embedder, Path):
        return embedder.eval()
    # actors take the model from the CPU to where they are
    device = "cuda" if local and torch.cuda.is_available() else "cpu"
    return Embedder.load(embedder).to(device).eval()


@contextmanager
def _cut(embedder: Embedder, size: int | None) -> Iterator[None]:
    """The embedder with embeddings of so many numbers while the block runs."""
    if size is not None and not 1 <= size <= embedder.width:
        raise UserError(
            f"embeddings cannot be cut to {size} numbers: this embedder's have {embedder.width}; "
            f"choose a size from 1 to {embedder.width}"
        )
    before = embedder.size
    embedder.size = size or before
    try:
        yield
    finally:
        embedder.size = before


def _rows(benchmark: Benchmark, embedded: Embedded) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """The row of each picture of each gallery, and of each query's reference."""
    rows, start = {}, 0
    for name, gallery in benchmark.galleries.items():
        rows[name] = embedded.row_M[start : start + len(gallery.pictures)]
        start += len(gallery.pictures)
    return rows, embedded.row_M[start:]


def _pictures(benchmark: Benchmark) -> list[Picture]:
    """All galleries' pictures, then each query's reference."""
    of_galleries = [picture for gallery in benchmark.galleries.values() for picture in gallery.pictures]
    return of_galleries + [query.reference for query in benchmark.queries]


def _benchmark_record(benchmark: Benchmark, embedded: Embedded) -> BenchmarkRecord:
    pictures = _pictures(benchmark)
    total = hashlib.sha256()
    for picture, row in zip(pictures, embedded.row_M, strict=True):
        total.update(repr((picture.id, embedded.keys_U[row])).encode())
    for query in benchmark.queries:
        asked = (query.id, query.gallery, query.instructions, query.candidates, query.left_out, query.members)
        total.update(repr((asked, query.targets, query.truths)).encode())
    kinds = Counter(
        kind
        for query in benchmark.queries
        for kind in (query.aspects or ((query.kind,) if query.kind else ()))
    )
    return BenchmarkRecord(
        name=benchmark.name,
        split=benchmark.split,
        protocol=benchmark.protocol,
        folder=os.path.commonpath({os.path.dirname(picture.path) for picture in pictures}),
        hash=total.hexdigest(),
        queries=len(benchmark.queries),
        galleries={name: len(gallery.pictures) for name, gallery in benchmark.galleries.items()},
        kinds=dict(kinds),
        counts=benchmark.counts,
        differs=list(benchmark.differs),
    )


def _written(output: Path, result: CirResult, benchmark: Benchmark, ranked: dict[str, Ranked]) -> CirResult:
    """Write the folder aside, then rename it: nobody finds half a result."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as aside:
        whole = Path(aside) / output.name
        whole.mkdir()
        if not benchmark.has_targets:
            files = {
                way: write_predictions(benchmark, ranked[way].rankings, whole / PREDICTIONS / way)
                for way in WAYS
            }
            names = {way: [file.relative_to(whole).as_posix() for file in files[way]] for way in WAYS}
            result = result.model_copy(update={"predictions": names})
        write_cir_report(whole / REPORT, result, benchmark, ranked)
        write_text(whole / RESULT, result.model_dump_json(indent=2) + "\n")
        os.replace(whole, output)
    return result
