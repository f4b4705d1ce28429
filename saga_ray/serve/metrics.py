"""Numbers about the service, summed over replicas, in Prometheus's text format.

Each replica counts for itself (`Meter`) and hands on what was added since the last time; sums lose nothing
when a replica goes. There is one sum a service, so it does not matter which replica answers /metrics.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Labels = tuple[tuple[str, str], ...]

COUNTERS = {
    "saga_requests_total": "Requests answered, by endpoint and status.",
    "saga_pictures_total": "Pictures embedded, by endpoint; with an instruction too.",
    "saga_texts_total": "Texts and instructions embedded, by endpoint.",
    "saga_refused_pictures_total": "Pictures that could not be read, were too large or of another kind.",
}
HISTOGRAMS = {
    "saga_request_seconds": ("Time from a request's first byte to its answer, by endpoint.", SECONDS),
    "saga_batch_items": ("Pictures and texts that the model embedded at a time.", SIZES),
}


@dataclass
class Numbers:
    """Sums: counters, and histograms as counts a bucket (one more for what is beyond the last) and total."""

    counters: dict[tuple[str, Labels], float] = field(default_factory=dict)
    buckets: dict[tuple[str, Labels], list[int]] = field(default_factory=dict)
    totals: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def add(self, other: Numbers) -> None:
        """Add another's sums."""
        for key, value in other.counters.items():
            self.counters[key] = self.counters.get(key, 0.0) + value
        for key, counts in other.buckets.items():
            mine = self.buckets.get(key, [0] * len(counts))
            self.buckets[key] = [a + b for a, b in zip(mine, counts, strict=True)]
            self.totals[key] = self.totals.get(key, 0.0) + other.totals[key]

    def count(self, name: str, labels: Mapping[str, str], amount: float = 1) -> None:
        """Add to a counter."""
        key = (name, tuple(labels.items()))
        self.counters[key] = self.counters.get(key, 0.0) + amount

    def observe(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Put a value in a histogram."""
        key = (name, tuple(labels.items()))
        bounds = HISTOGRAMS[name][1]
        counts = self.buckets.setdefault(key, [0] * (len(bounds) + 1))
        counts[bisect_left(bounds, value)] += 1
        self.totals[key] = self.totals.get(key, 0.0) + value


class Meter:
    """A replica's numbers."""

    def __init__(self) -> None:
        self._new = Numbers()

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._new.count("saga_requests_total", {"endpoint": endpoint, "status": str(status)})
        self._new.observe("saga_request_seconds", {"endpoint": endpoint}, seconds)

    def embedded(self, endpoint: str, *, pictures: int, texts: int) -> None:
        """So many were embedded; a picture with an instruction is one of each."""
        for name, number in (("saga_pictures_total", pictures), ("saga_texts_total", texts)):
            if number:
                self._new.count(name, {"endpoint": endpoint}, number)

    def refused(self) -> None:
        """A picture could not be used."""
        self._new.count("saga_refused_pictures_total", {})

    def batch(self, items: int) -> None:
        """The model embedded a batch."""
        self._new.observe("saga_batch_items", {}, items)

    def take(self) -> Numbers:
        """What was added since this was last called."""
        taken, self._new = self._new, Numbers()
        return taken


def to_text(numbers: Numbers) -> str:
    """Prometheus's text format, version 0.0.4."""
    lines = []
    for name, about in COUNTERS.items():
        lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
        lines += [
            f"{name}{_labels(labels)} {value:g}"
            for (own, labels), value in sorted(numbers.counters.items())
            if own == name
        ]
    for name, (about, bounds) in HISTOGRAMS.items():
        lines += [f"# HELP {name} {about}", f"# TYPE {name} histogram"]
        for (own, labels), counts in sorted(numbers.buckets.items()):
            if own == name:
                lines += _histogram(name, labels, bounds, counts, numbers.totals[own, labels])
    return "\n".join(lines) + "\n"


def _histogram(
    name: str, labels: Labels, bounds: tuple[float, ...], counts: list[int], total: float
) -> list[str]:
    lines, sum_so_far = [], 0
    for bound, count in zip([*map(str, bounds), "+Inf"], counts, strict=True):
        sum_so_far += count
        lines.append(f"{name}_bucket{_labels((*labels, ('le', bound)))} {sum_so_far}")
    return [*lines, f"{name}_sum{_labels(labels)} {total!r}", f"{name}_count{_labels(labels)} {sum_so_far}"]


def _labels(labels: Labels) -> str:
    """Values are ours (endpoints, statuses), so nothing needs escaping."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
