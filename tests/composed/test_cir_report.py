"""The page of an evaluation: what it shows, and that nothing in it is taken for HTML."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from saga_ray.composed.benchmarks import Query, read
from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.evaluation import evaluate
from saga_ray.composed.report.choose import SHOWN, balanced, choose
from tests.composed.small import Tiny, triplets

TINY = Tiny().eval()


@pytest.fixture
def page(tmp_path: Path) -> str:
    benchmark = read("triplets", triplets(tmp_path / "data", count=20))
    benchmark = replace(benchmark, differs=("has <i>no</i> official size",))
    evaluate(TINY, benchmark, output=tmp_path / "out", text_weight=0.25)
    return (tmp_path / "out/report/index.html").read_text(encoding="utf-8")


def test_it_opens_from_disk_and_asks_for_nothing_else(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,|#)', page) and "url(" not in page
    ids = re.findall(r'href="#([^"]+)"', page)
    assert ids == ["result", "kinds", "found", "missed", "versions"]
    assert all(f'id="{name}"' in page for name in ids)


def test_words_of_the_data_are_escaped(page: str) -> None:
    assert "<script" not in page and "<b>&amp;</b>" not in page
    assert "make it &lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &amp; more" in page
    assert "&lt;b&gt;&amp;" in page and "has &lt;i&gt;no&lt;/i&gt; official size" in page


def test_every_query_is_shown_with_its_results_and_what_was_missed(page: str) -> None:
    found, missed = page.split('id="missed"')
    found = found.split('id="found"')[1]
    assert "make it red" in found + missed
    for part, targets in ((found, 0), (missed, 1)):
        queries = part.split('<div class="query">')[1:]
        assert queries
        for query in queries:
            assert len(re.findall(r'<figure class="(?:right|wrong)"', query)) == SHOWN
            assert query.count('<figure class="right target"') == targets
            assert ('<figure class="right"' in query) == (targets == 0)
    places = [int(place) for place in re.findall(r"<figcaption>(\d+)\.</figcaption>", missed)]
    assert places and min(places) > SHOWN
    shown = len(re.findall('<div class="query">', page))
    assert shown == 5


def test_it_has_the_measures_of_all_ways_and_kinds(page: str) -> None:
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    for words in ("composed", "image only", "text only", "image + text", "R@50", "75 : 25", "shape"):
        assert words in text
    assert page.count("<table") == 1 + 4  # all; then by kind for each of four measures


def query(place: int, kind: str) -> Query:
    return Query(str(place), "all", Picture("r", "r"), ("x",), targets=("t",), kind=kind)


def test_shown_queries_are_drawn_by_lot_and_balanced_over_kinds() -> None:
    queries = [query(place, "rare" if place % 10 == 0 else "common") for place in range(100)]
    every = list(range(100))
    shown = balanced(queries, every, 12, seed=0)
    assert Counter(queries[place].kind for place in shown) == {"rare": 6, "common": 6}
    assert shown == sorted(set(shown)) == balanced(queries, every, 12, seed=0)
    assert shown != balanced(queries, every, 12, seed=1)
    assert len(balanced(queries, every[:15], 12, seed=0)) == 12  # the rare ones run out
    assert balanced(queries, [3, 5], 12, seed=0) == [3, 5]


def test_what_is_found_has_a_right_picture_among_the_first() -> None:
    queries = [query(place, "") for place in range(4)]
    chosen = choose(queries, [("t", SHOWN), ("t", SHOWN + 1), None, ("t", 1)], 1, seed=0)
    assert (chosen.found_of_all, chosen.missed_of_all) == (2, 2)
    assert len(chosen.found) == len(chosen.missed) == 1
    assert set(chosen.found) < {0, 3} and set(chosen.missed) < {1, 2}
