"""Drawing k of n things again and again, so that all are drawn equally often and none twice in a round.

A round deals floor(n / k) hands of k. The n mod k things that are left over sit out; who sits out moves on
round by round along a fixed shuffled circle, so that after any number of rounds two things differ by one draw
at most. Every hand is a pure function of its number: nothing is remembered between draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saga_ray.data.seeds import generator

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Rotation:
    """`take` of `count` things (take <= count); `key` makes its shuffles its own."""

    count: int
    take: int
    key: tuple[int | str, ...]

    @property
    def hands(self) -> int:
        """Hands in a round."""
        return self.count // self.take

    @property
    def left_over(self) -> int:
        """Things that sit out a round."""
        return self.count % self.take

    def order(self, round_number: int) -> Indices:
        """The things of a round, shuffled; the hands are its consecutive pieces."""
        playing = np.ones(self.count, dtype=bool)
        if self.left_over:
            seats = (round_number * self.left_over + np.arange(self.left_over)) % self.count
            playing[self._circle()[seats]] = False
        return generator(*self.key, "round", round_number).permutation(np.flatnonzero(playing))

    def hand(self, number: int) -> Indices:
        """The number-th hand of all."""
        round_number, turn = divmod(number, self.hands)
        return self.order(round_number)[turn * self.take : (turn + 1) * self.take]

    def draws_before(self, round_number: int) -> Indices:
        """How often each thing was drawn in all rounds before this one."""
        places = np.argsort(self._circle())
        seats_given = round_number * self.left_over
        sat_out = np.maximum(0, (seats_given - places + self.count - 1) // self.count)
        return round_number - sat_out

    def _circle(self) -> Indices:
        return generator(*self.key, "circle").permutation(self.count)
