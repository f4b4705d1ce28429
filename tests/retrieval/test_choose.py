"""Which queries the report shows, against a count one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.retrieval.protocol import Protocol
from saga_ray.retrieval.report.choose import won_and_lost


@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans())
def test_won_and_lost_against_a_naive_count(
    pictures: int, classes: int, seed: int, count: int, gallery: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, pictures)
    roles = ["query", "gallery", *rng.choice(["query", "gallery"], pictures - 2)] if gallery else None
    queries = [row for row in range(pictures) if roles is None or roles[row] == "query"]
    found_in = [row for row in range(pictures) if roles is None or roles[row] == "gallery"]
    baseline, challenger = rng.choice(found_in, (2, len(queries), 3))
    found = won_and_lost(labels, Protocol.of(roles, pictures), baseline, challenger, count)
    won, lost = [], []
    for place, query in enumerate(queries):
        before = labels[baseline[place, 0]] == labels[query]
        after = labels[challenger[place, 0]] == labels[query]
        won += [place] if after and not before else []
        lost += [place] if before and not after else []
    assert (found.won_of_all, found.lost_of_all) == (len(won), len(lost))
    assert set(found.won) <= set(won) and set(found.lost) <= set(lost)
    for shown, everything in ((found.won, won), (found.lost, lost)):
        assert len(shown) == min(count, len({labels[queries[place]] for place in everything}))
        assert len({labels[queries[place]] for place in shown}) == len(shown), "one query a class"
    assert found.queries == sum(
        any(labels[other] == labels[query] for other in found_in if other != query) for query in queries
    )
