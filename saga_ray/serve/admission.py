"""How much a replica holds at the same time: what is beyond it is refused at once, not queued for ever."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saga_ray.serve.backend import Full


class Budget:
    """An amount of which requests take their share while they are worked on."""

    def __init__(self, limit: float) -> None:
        self.limit, self.taken = limit, 0.0

    @contextmanager
    def take(self, amount: float = 1) -> Iterator[Share]:
        """Hold an amount during the block. Raises Full where less is left."""
        share = Share(self)
        share.grow(amount)
        try:
            yield share
        finally:
            self.taken -= share.amount


class Share:
    """What one holder has of a budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.amount = budget, 0.0

    def grow(self, amount: float) -> None:
        """Hold more. Raises Full where less is left."""
        if self._budget.taken + amount > self._budget.limit:
            raise Full
        self._budget.taken += amount
        self.amount += amount
