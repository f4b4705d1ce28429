"""Prediction files: what is written is fit to send, and what a server would refuse is found before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import Benchmark, Ranking, read, validate, write_predictions
from saga_ray.composed.benchmarks import cirr as cirr_module
from saga_ray.errors import UserError
from tests.composed import releases
from tests.composed.releases import chance, edit, ranked

FILES = {
    "fashioniq": ("test", ["dress.test.pred.json", "shirt.test.pred.json", "toptee.test.pred.json"]),
    "cirr": ("test1", ["cirr.test1.recall.json", "cirr.test1.recall_subset.json"]),
    "circo": ("test", ["circo.test.json"]),
}


def release(name: str, root: Path) -> Benchmark:
    getattr(releases, name)(root)
    return read(name, root, split=FILES[name][0])


@pytest.mark.parametrize("name", FILES)
def test_files_are_written_and_fit_to_send(name: str, tmp_path: Path) -> None:
    benchmark = release(name, tmp_path)
    written = write_predictions(benchmark, ranked(benchmark, chance), tmp_path / "out")
    assert [file.name for file in written] == FILES[name][1]
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)  # nothing is left beside them
    assert [validate(benchmark, file) for file in written] == [[]] * len(written)


def test_fashioniq_s_file_is_the_test_list_with_rankings(tmp_path: Path) -> None:
    benchmark = release("fashioniq", tmp_path)
    edit(tmp_path / "captions/cap.dress.test.json", lambda entries: entries[0].update(extra=1))
    benchmark = read("fashioniq", tmp_path, split="test")
    write_predictions(benchmark, ranked(benchmark, chance), tmp_path)
    entries = json.loads((tmp_path / "dress.test.pred.json").read_text())
    captions = json.loads((tmp_path / "captions/cap.dress.test.json").read_text())
    best = sorted(benchmark.galleries["dress"].rows, key=lambda picture: -chance("dress/1", picture))
    assert [{k: v for k, v in entry.items() if k != "ranking"} for entry in entries] == captions
    assert entries[0]["ranking"] == best


def test_cirr_s_files_have_their_head_and_50_and_3_names(tmp_path: Path) -> None:
    benchmark = release("cirr", tmp_path)
    rankings = ranked(benchmark, chance)
    recall, subset = (
        json.loads(file.read_text()) for file in write_predictions(benchmark, rankings, tmp_path)
    )
    assert (recall.pop("version"), recall.pop("metric")) == ("rc2", "recall")
    assert (subset.pop("version"), subset.pop("metric")) == ("rc2", "recall_subset")
    assert recall == {each.query: list(each.nearest) for each in rankings} and len(recall["100"]) == 50
    assert subset == {each.query: list(each.members[:3]) for each in rankings}


def test_circo_s_file_has_50_numbers_a_query(tmp_path: Path) -> None:
    benchmark = release("circo", tmp_path)
    rankings = ranked(benchmark, chance)
    (file,) = write_predictions(benchmark, rankings, tmp_path)
    assert json.loads(file.read_text()) == {each.query: [int(p) for p in each.nearest] for each in rankings}


def test_a_file_that_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = release("cirr", tmp_path)
    monkeypatch.setattr(cirr_module, "MOST_BYTES", 1000)
    with pytest.raises(
        UserError, match=r"cirr\.test1\.recall\.json was not written: has .* bytes, .* takes 1,000"
    ):
        write_predictions(benchmark, ranked(benchmark, chance), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all: all[1:], "1 queries have no ranking, such as 100"),
        (lambda all: [*all, all[0]], "1 queries have more than one ranking, such as 100"),
        (lambda all: [*all, replace(all[0], query="7")], "1 queries are not of the split, such as 7"),
        (lambda all: [*all[1:], replace(all[0], nearest=all[0].nearest[:49])], "query 100: 49 pictures, 50"),
        (
            lambda all: [*all[1:], replace(all[0], members=all[0].nearest[:1])],
            "recall_subset.json was not written",
        ),
        (
            lambda all: [*all[:1], *(replace(each, nearest=("x",)) for each in all[1:])],
            "(and 3 more problems)",
        ),
    ],
)
def test_rankings_that_make_no_fit_file_are_refused_and_nothing_is_written(
    change: Callable[[list[Ranking]], list[Ranking]], words: str, tmp_path: Path
) -> None:
    benchmark = release("cirr", tmp_path)
    with pytest.raises(UserError) as caught:
        write_predictions(benchmark, change(ranked(benchmark, chance)), tmp_path / "out")
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def cirr_name(number: int) -> str:
    return f"test1-{number}-0-img0"


@pytest.mark.parametrize(
    ("name", "file", "change", "words"),
    [
        ("cirr", 0, lambda all: all.pop("101"), "1 of 3 queries have no answer (101)"),
        ("cirr", 0, lambda all: all.update({"7": []}), "1 answers are to no query of the split (7)"),
        ("cirr", 0, lambda all: all["100"].pop(), "query 100: 49 pictures, 50 are wanted"),
        ("cirr", 0, lambda all: all["100"].append(all["100"][0]), "query 100: 51 pictures, 50 are wanted"),
        ("cirr", 0, lambda all: all["100"].__setitem__(1, all["100"][0]), "query 100: ranks a picture twice"),
        (
            "cirr",
            0,
            lambda all: all["100"].__setitem__(1, "x"),
            "query 100: names what is not in its gallery (x)",
        ),
        (
            "cirr",
            0,
            lambda all: all["100"].__setitem__(1, cirr_name(0)),
            f"query 100: ranks its own reference ({cirr_name(0)})",
        ),
        ("cirr", 0, lambda all: all.update({"100": "x"}), "query 100: the answer is no list of picture ids"),
        ("cirr", 1, lambda all: all["100"].append(cirr_name(59)), "query 100: 4 pictures, 3 are wanted"),
        (
            "cirr",
            1,
            lambda all: all["100"].__setitem__(0, cirr_name(59)),
            f"query 100: names what is not in its subset ({cirr_name(59)})",
        ),
        ("circo", 0, lambda all: all.pop("1"), "1 of 2 queries have no answer (1)"),
        ("circo", 0, lambda all: all["0"].__setitem__(0, 9), "query 0: names what is not in its gallery (9)"),
        (
            "circo",
            0,
            lambda all: all["0"].__setitem__(0, "12"),
            "query 0: the answer is no list of picture ids",
        ),
        ("circo", 0, lambda all: all["0"].__setitem__(0, all["0"][1]), "query 0: ranks a picture twice"),
        ("circo", 0, lambda all: all.update({"0": 5}), "query 0: the answer is no list of picture ids"),
        ("fashioniq", 0, lambda all: all.pop(), "1 of 2 queries have no answer (dress/2)"),
        (
            "fashioniq",
            0,
            lambda all: all.append({"ranking": []}),
            "1 answers are to no query of the split (dress/3)",
        ),
        (
            "fashioniq",
            0,
            lambda all: all[0]["ranking"].pop(),
            "query dress/1: 4 pictures, 5 or more are wanted",
        ),
        (
            "fashioniq",
            0,
            lambda all: all[1].pop("ranking"),
            "query dress/2: the answer is no list of picture ids",
        ),
        (
            "fashioniq",
            1,
            lambda all: all[0]["ranking"].append("D0"),
            "shirt/1: names what is not in its gallery (D0)",
        ),
    ],
)
def test_what_a_server_would_refuse_is_found(
    name: str, file: int, change: Callable[[Any], Any], words: str, tmp_path: Path
) -> None:
    benchmark = release(name, tmp_path)
    path = write_predictions(benchmark, ranked(benchmark, chance), tmp_path)[file]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert any(words in problem for problem in validate(benchmark, path))


def test_a_longer_ranking_is_fit_for_fashioniq_alone(tmp_path: Path) -> None:
    releases.fashioniq(tmp_path)
    many = [f"X{number}" for number in range(60)]
    edit(tmp_path / "image_splits/split.dress.test.json", lambda ids: [*ids, *many])
    for name in many:
        releases.picture(tmp_path / f"images/{name}.jpg")
    benchmark = read("fashioniq", tmp_path, split="test")
    path = write_predictions(benchmark, ranked(benchmark, chance), tmp_path)[0]
    entries = json.loads(path.read_text())
    assert [len(entry["ranking"]) for entry in entries] == [50, 50]
    entries[0]["ranking"] = list(benchmark.galleries["dress"].rows)
    path.write_text(json.dumps(entries))
    assert validate(benchmark, path) == []


@pytest.mark.parametrize(
    ("name", "file", "content", "words"),
    [
        ("cirr", "mine.json", {"version": "rc1", "metric": "recall"}, 'no object with "version": "rc2"'),
        ("cirr", "mine.json", {"version": "rc2", "metric": ["recall"]}, 'no object with "version": "rc2"'),
        ("cirr", "mine.json", [], 'no object with "version": "rc2"'),
        ("circo", "mine.json", [], "is no object of query ids"),
        (
            "fashioniq",
            "mine.json",
            [],
            "the name does not begin with a category; call it dress.test.pred.json",
        ),
        ("fashioniq", "dress.json", {}, "is no list of entries"),
        (
            "fashioniq",
            "dress.json",
            [{"candidate": "D1", "captions": ["is longer. ", " has no sleeves?"]}],
            "entry 1: is not about D0 as in the split's captions",
        ),
    ],
)
def test_a_file_of_another_form_is_refused(
    name: str, file: str, content: Any, words: str, tmp_path: Path
) -> None:
    benchmark = release(name, tmp_path)
    releases.write(tmp_path / file, content)
    with pytest.raises(UserError) as caught:
        validate(benchmark, tmp_path / file)
    assert words in str(caught.value)


def test_a_file_that_is_no_json_or_answers_a_query_twice_is_refused(tmp_path: Path) -> None:
    benchmark = release("circo", tmp_path)
    with pytest.raises(UserError, match=r"gone\.json: there is no such file"):
        validate(benchmark, tmp_path / "gone.json")
    (tmp_path / "mine.json").write_text('{"0": [1]')
    with pytest.raises(UserError, match=r"mine\.json: cannot be read as JSON"):
        validate(benchmark, tmp_path / "mine.json")
    (tmp_path / "mine.json").write_text('{"0": [1], "0": [2]}')
    with pytest.raises(UserError, match=r"mine\.json: .*the key '0' stands twice"):
        validate(benchmark, tmp_path / "mine.json")


def test_benchmarks_without_a_server_say_so(tmp_path: Path) -> None:
    benchmark = read("genecis", releases.genecis(tmp_path))
    with pytest.raises(UserError, match="genecis has no server; its targets are known"):
        write_predictions(benchmark, ranked(benchmark, chance), tmp_path)
    with pytest.raises(UserError, match="genecis has no server"):
        validate(benchmark, tmp_path / "mine.json")
