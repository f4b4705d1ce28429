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
    def take(self, amount: float = 1) -> Iterator[None]:
        """Hold an amount during the block. Raises Full where less is left."""
        if self.taken + amount > self.limit:
            raise Full
        self.taken += amount
        try:
            yield
        finally:
            self.taken -= amount
