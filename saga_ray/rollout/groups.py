"""Groups of completions, and the rule by which a step takes them: in plan order, whenever they arrive."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal


@dataclass(frozen=True)
class Completion:
    """One answer of the supervisor, with the sampler's log-probability of every token (nats)."""

    token_ids: list[int]
    text: str
    logprobs: list[float]
    finish: Literal["stop", "length"]  # "length": cut off at the token limit
    seed: int

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.logprobs), (len(self.token_ids), len(self.logprobs))


@dataclass(frozen=True)
class Group:
    """The completions of one pair and their rewards."""

    pair_index: int  # position in the plan of its round's micro-batch, over all workers
    same: bool  # both images are of one class
    completions: list[Completion]
    rewards: list[float]
    right: list[bool]  # whether each completion's verdict is right
    encoder_version: int  # of the encoder that made the visual tokens
    prompt_tokens: int

    def __post_init__(self) -> None:
        lengths = len(self.completions), len(self.rewards), len(self.right)
        assert len(set(lengths)) == 1, lengths

    @property
    def informative(self) -> bool:
        """Whether rewards differ: only then does the group have advantages other than 0."""
        return len(set(self.rewards)) > 1


class PlanOrderAcceptance:
    """Takes the first `wanted` informative pairs **of the plan**, in whatever order their groups arrive.

    Dynamic sampling (SAGA, section 3) refills until K pairs are informative. Taking the first K to arrive
    would favour short answers and fast workers, and no run could be repeated. So a pair is decided only once
    every earlier pair of the plan has arrived; it is then accepted if it is informative and fewer than K were
    before it. Refill rounds extend the plan; K counts over all rounds.

        acceptance = PlanOrderAcceptance(wanted=8)
        acceptance.open_round(range(16))
        newly_accepted = acceptance.feed(3, informative=True)   # [] until 0, 1 and 2 have arrived
    """

    def __init__(self, wanted: int) -> None:
        assert wanted >= 1, wanted
        self.wanted = wanted
        self.accepted: list[int] = []
        self._plan: list[int] = []
        self._decided = 0  # how many pairs of the plan are decided
        self._arrived: dict[int, bool] = {}
        self._informative: list[int] = []  # arrived informative pairs, sorted

    def open_round(self, pair_indexes: Sequence[int]) -> None:
        """Append a round of rising pair indexes, above all before; earlier rounds may be undecided."""
        plan = [*self._plan, *pair_indexes]
        assert all(a < b for a, b in pairwise(plan)), "pair indexes must rise over all rounds"
        self._plan = plan

    def feed(self, pair_index: int, informative: bool) -> list[int]:
        """A pair's group has arrived: the pairs that this accepts, in plan order (none, one or several).

        Groups that were no longer wanted may still arrive; they are taken note of and accepted never.
        """
        assert pair_index in self._plan, f"pair {pair_index} is in no round"
        assert pair_index not in self._arrived, f"pair {pair_index} arrived twice"
        self._arrived[pair_index] = informative
        if informative:
            bisect.insort(self._informative, pair_index)
        newly: list[int] = []
        while (
            not self.done and self._decided < len(self._plan) and self._plan[self._decided] in self._arrived
        ):
            decided = self._plan[self._decided]
            self._decided += 1
            if self._arrived[decided]:
                self.accepted.append(decided)
                newly.append(decided)
        return newly

    @property
    def done(self) -> bool:
        """Whether `wanted` pairs are accepted."""
        return len(self.accepted) == self.wanted

    def awaited(self) -> list[int]:
        """Pairs that have not arrived and may still be accepted."""
        return [pair for pair in self._plan if pair not in self._arrived and pair <= self._last_useful()]

    def cancellable(self) -> list[int]:
        """Pairs that have not arrived and can no longer be accepted: K informative ones precede them.

        They may be known before the accepted pairs are. Which pairs end up accepted does not depend on
        cancelling them.
        """
        return [pair for pair in self._plan if pair not in self._arrived and pair > self._last_useful()]

    @property
    def needs_round(self) -> bool:
        """Whether the whole plan is decided and K not reached: open another round, or go on with fewer."""
        return not self.done and self._decided == len(self._plan)

    def _last_useful(self) -> float:
        """No pair beyond this one can be accepted: the K-th informative arrival, in plan order."""
        return self._informative[self.wanted - 1] if len(self._informative) >= self.wanted else float("inf")
