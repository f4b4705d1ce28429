"""An evaluation, against a second, naive computation of everything in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from saga_ray.composed.benchmarks import Benchmark, Picture, Query, load, measures, read, validate
from saga_ray.composed.evaluation import best_text_weight, evaluate
from saga_ray.composed.query_embeddings import (
    COMPOSED,
    IMAGE_AND_TEXT,
    IMAGE_ONLY,
    TEXT_ONLY,
    WAYS,
    embed_queries,
)
from saga_ray.composed.result import CirResult
from saga_ray.composed.scoring import right_pictures, score
from saga_ray.config.settings import EvaluationSettings
from saga_ray.data.decoding import centre_square
from saga_ray.errors import UserError
from tests.composed import releases
from tests.composed.releases import ranked
from tests.composed.small import Tiny, triplets

TINY = Tiny().eval()
SETTINGS = EvaluationSettings(batch_size=4)
Vector = NDArray[np.float64]


def unit(z: Vector) -> Vector:
    return z / np.linalg.norm(z)


def image(picture: Picture) -> torch.Tensor:
    return torch.tensor(centre_square(load(picture, TINY.image_size), TINY.image_size))[None]


def naive(query: Query, weight: float) -> dict[str, Vector]:
    """One query's embeddings, one prompt at a time."""
    with torch.no_grad():
        tokens = TINY.tokens(image(query.reference))
        composed = [TINY.composed(tokens, [said])[0].double().numpy() for said in query.instructions]
        texts = [TINY.texts([said])[0].double().numpy() for said in query.instructions]
        reference = TINY(image(query.reference))[0].double().numpy()
    text = unit(np.sum(texts, axis=0))
    return {
        COMPOSED: unit(np.sum(composed, axis=0)),
        IMAGE_ONLY: reference,
        TEXT_ONLY: text,
        IMAGE_AND_TEXT: unit((1 - weight) * reference + weight * text),
    }


def naive_measures(benchmark: Benchmark, weight: float = 0.5) -> dict[str, dict[str, float]]:
    z = {query.id: naive(query, weight) for query in benchmark.queries}
    with torch.no_grad():
        pictures = {
            picture.id: TINY(image(picture))[0].double().numpy()
            for gallery in benchmark.galleries.values()
            for picture in gallery.pictures
        }

    def of(way: str) -> dict[str, float]:
        return measures(benchmark, ranked(benchmark, lambda query, id: float(z[query][way] @ pictures[id])))

    return {way: of(way) for way in WAYS}


def of_noise(benchmark: Benchmark) -> Benchmark:
    """The same benchmark, whose pictures have become so different that no scores are all but equal."""
    every = [picture for gallery in benchmark.galleries.values() for picture in gallery.pictures]
    for number, path in enumerate(sorted({picture.path for picture in every})):
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return benchmark


@pytest.mark.parametrize("name", ["cirr", "circo", "genecis", "triplets"])
def test_measures_are_those_of_a_naive_computation(name: str, tmp_path: Path) -> None:
    root = triplets(tmp_path) if name == "triplets" else getattr(releases, name)(tmp_path)
    benchmark = of_noise(read(name, root))
    result = evaluate(TINY, benchmark, settings=SETTINGS, text_weight=0.3)
    assert result.measures == naive_measures(benchmark, 0.3)
    assert list(result.measures) == list(WAYS) and result.predictions == {}
    assert len({json.dumps(measured) for measured in result.measures.values()}) > 1


@pytest.mark.parametrize("weight", [0.5, 0.0, 0.9])
def test_queries_are_embedded_as_one_prompt_at_a_time(weight: float, tmp_path: Path) -> None:
    queries = of_noise(read("fashioniq", releases.fashioniq(tmp_path))).queries
    assert {len(query.instructions) for query in queries} == {1, 2}  # some say it in two orders
    with torch.no_grad():
        references_QE = torch.cat([TINY(image(query.reference)) for query in queries]).numpy()
    found = embed_queries(queries, references_QE, TINY, SETTINGS, text_weight=weight)
    for row, query in enumerate(queries):
        for way, expected in naive(query, weight).items():
            np.testing.assert_allclose(found[way][row], expected, atol=1e-6)


def test_the_best_text_weight_is_the_one_that_finds_most_and_all_is_embedded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark, weights = of_noise(read("triplets", triplets(tmp_path))), (0.1, 0.3, 0.5, 0.7, 0.9)
    found = {
        weight: evaluate(TINY, benchmark, text_weight=weight).measures[IMAGE_AND_TEXT]["recall@1"]
        for weight in weights
    }
    assert len(set(found.values())) > 1
    often = []
    monkeypatch.setattr(
        "saga_ray.composed.evaluation.embed_queries",
        lambda *given, **named: often.append(named) or embed_queries(*given, **named),
    )
    best = best_text_weight(TINY, benchmark, weights)
    assert best == next(weight for weight in weights if found[weight] == max(found.values()))
    assert len(often) == 1


def test_a_shorter_embedding_is_compared_and_recorded(tmp_path: Path) -> None:
    benchmark = read("triplets", triplets(tmp_path))
    whole, short = evaluate(TINY, benchmark), evaluate(TINY, benchmark, size=2)
    assert (whole.embedder.size, short.embedder.size, short.embedder.width) == (12, 2, 12)
    assert whole.measures != short.measures and TINY.size == 12
    for size in (0, 13):
        with pytest.raises(UserError, match=f"cut to {size} numbers: this embedder's have 12"):
            evaluate(TINY, benchmark, size=size)


def test_it_is_the_same_every_time_but_for_seconds(tmp_path: Path) -> None:
    benchmark = read("triplets", triplets(tmp_path))
    first, again = (evaluate(TINY, benchmark).model_dump(exclude={"seconds"}) for _ in range(2))
    assert first == again
    (tmp_path / "8.png").write_bytes((tmp_path / "7.png").read_bytes())
    assert evaluate(TINY, benchmark).benchmark.hash != first["benchmark"]["hash"]


@pytest.fixture
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("saga_ray.composed.scoring.BLOCK", 130)
    monkeypatch.setattr("saga_ray.composed.scoring.SLICE", 7)
    yield


def test_rankings_and_places_are_those_of_a_plain_sort(tmp_path: Path, in_small_blocks: None) -> None:
    for name in ("cirr", "circo", "genecis"):
        benchmark = read(name, getattr(releases, name)(tmp_path / name))
        rng = np.random.default_rng(3)
        rows, start = {}, 0
        for gallery in benchmark.galleries.values():
            rows[gallery.name] = np.arange(start, start + len(gallery.pictures))
            start += len(gallery.pictures)
        z_UE = rng.normal(size=(start, 5)).astype(np.float32)
        for draw in range(4):
            z_QE = rng.normal(size=(len(benchmark.queries), 5)).astype(np.float32)
            found = score(benchmark, z_QE, z_UE, rows, seed=draw)
            for query, z_E, ranking, best in zip(
                benchmark.queries, z_QE, found.rankings, found.best, strict=True
            ):
                gallery = benchmark.galleries[query.gallery]
                candidates = dict.fromkeys(query.candidates or gallery.rows)
                scores = {id: z_UE[rows[gallery.name][gallery.rows[id]]] @ z_E for id in candidates}
                order = [id for id in sorted(scores, key=lambda id: -scores[id]) if id not in query.left_out]
                assert list(ranking.nearest) == order[:50]
                first = next(id for id in order if id in right_pictures(query))
                assert best == (first, order.index(first) + 1)


def test_a_picture_that_is_right_and_comes_late_has_its_place(tmp_path: Path) -> None:
    benchmark = read("cirr", releases.cirr(tmp_path))
    z_UE = np.zeros((60, 60), dtype=np.float32)
    z_UE[np.arange(60), np.arange(60)[::-1]] = np.linspace(1, 0.5, 60)
    z_QE = np.ones((3, 60), dtype=np.float32)
    z_UE[2] = z_UE[3] = z_UE[4] = 0
    best = score(benchmark, z_QE, z_UE, {"all": np.arange(60)}, seed=0).best
    assert [right and right[1] for right in best] == [57, 57, 58]  # of 59; what ties with it is not nearer


def test_a_folder_has_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = read("triplets", triplets(tmp_path / "data"))
    output = tmp_path / "out"
    output.mkdir()
    result = evaluate(TINY, benchmark, output=output)
    assert sorted(file.name for file in output.iterdir()) == ["report", "result.json"]
    assert CirResult.model_validate_json((output / "result.json").read_text()) == result
    assert result.benchmark.kinds == {"colour": 2, "shape": 2, "<b>&": 1}
    assert result.benchmark.folder == str(tmp_path / "data")
    with pytest.raises(UserError, match="is in use: it is not empty"):
        evaluate(TINY, benchmark, output=output)

    def fails(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("saga_ray.composed.evaluation.write_cir_report", fails)
    with pytest.raises(RuntimeError):
        evaluate(TINY, benchmark, output=tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize(
    "name, split, files", [("circo", "test", 1), ("cirr", "test1", 2), ("fashioniq", "test", 3)]
)
def test_where_targets_are_hidden_files_for_the_server_are_written(
    name: str, split: str, files: int, tmp_path: Path
) -> None:
    benchmark = read(name, getattr(releases, name)(tmp_path / "data"), split=split)
    with pytest.raises(UserError, match="hides its targets; name an output folder"):
        evaluate(TINY, benchmark)
    result = evaluate(TINY, benchmark, output=tmp_path / "out", settings=SETTINGS)
    assert result.measures == {}
    assert {way: len(written) for way, written in result.predictions.items()} == dict.fromkeys(WAYS, files)
    for written in result.predictions.values():
        for file in written:
            assert validate(benchmark, tmp_path / "out" / file) == []
    page = (tmp_path / "out/report/index.html").read_text()
    assert "hides its targets" in page and 'class="mark' not in page and "Missed" not in page


def test_a_weight_outside_0_to_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="weight in image . text is 1.5; it must lie between 0 and 1"):
        evaluate(TINY, read("triplets", triplets(tmp_path)), text_weight=1.5)


def test_queries_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = read("triplets", triplets(tmp_path))
    monkeypatch.setattr(TINY, "texts", lambda said: torch.full((len(said), 12), torch.nan))
    with pytest.raises(UserError, match="not finite for query 1; has its training diverged"):
        evaluate(TINY, benchmark)
