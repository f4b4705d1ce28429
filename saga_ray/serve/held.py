"""What one request holds of its replica's memory: its body, and the pictures that are fetched for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from saga_ray.serve.admission import Share
from saga_ray.serve.errors import too_large

MIB = 1 << 20
HELD = "saga.held"
"""Its key in the request's ASGI scope, where the gate leaves it."""


class Held:
    """A request's bytes, counted as they arrive and held until it ends."""

    def __init__(self, share: Share, most_mib: float) -> None:
        self._share, self._most_mib, self._bytes = share, most_mib, 0

    def add(self, count: int, what: str = "the body") -> None:
        """Count bytes before they are kept.

        Raises ApiError where the request, by `what`, is larger than one may be, Full where there is no room.
        """
        self._bytes += count
        if self._bytes > self._most_mib * MIB:
            raise too_large(what, self._most_mib)
        if self._bytes > self._share.amount:
            self._share.grow(self._bytes - self._share.amount)


def held_by(request: Request) -> Held:
    """What a request holds."""
    held = request.scope[HELD]
    assert isinstance(held, Held)
    return held


HeldHere = Annotated[Held, Depends(held_by)]
