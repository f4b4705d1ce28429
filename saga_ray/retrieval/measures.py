"""Which measures of labelled retrieval there are, and how a table shows them; words and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

LEAVE_ONE_OUT_RECALL = (1, 2, 4, 8)
"""The k of recall@k where every picture queries all the others (the SAGA paper's)."""
QUERY_GALLERY_RECALL = (1, 10, 20, 30, 40, 50)
"""The k where queries search a gallery of their own (In-Shop's)."""

_LEAVE_ONE_OUT = {
    "recall@1": "R@1",
    "recall@4": "R@4",
    "map@r": "MAP@R",
    "r_precision": "R-Prec",
    "nmi": "NMI",
}
_QUERY_GALLERY = {f"recall@{k}": f"R@{k}" for k in QUERY_GALLERY_RECALL} | {"map@r": "MAP@R"}


def searched(test_images: int, gallery_images: int | None) -> str:
    """What is searched, in words; `gallery_images`: of the test pictures those that the others query."""
    if gallery_images is None:
        return f"{test_images:,} pictures"
    return f"{test_images - gallery_images:,} queries in a gallery of {gallery_images:,} pictures"


def headings(measured: Iterable[str]) -> dict[str, str]:
    """Name and heading of each column of a table of these measures, in order."""
    names = set(measured)
    columns = _QUERY_GALLERY if set(_QUERY_GALLERY) <= names else _LEAVE_ONE_OUT
    return {name: heading for name, heading in columns.items() if name in names}
