"""What a training worker sees of the rollouts: it submits its pairs and gets the accepted groups back, in
plan order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from saga_ray.rollout.engine import PairRequest
from saga_ray.rollout.groups import Group


@dataclass(frozen=True)
class RoundOutcome:
    """How one refill round ended, over all workers.

    Counted are the groups that the plan needed: up to the step's last accepted pair, or all of the round
    where fewer than K were informative. What was under way beyond that is cancelled, finished or not. So no
    count depends on timing; only `seconds` does.
    """

    accepted_total: int
    """Pairs accepted in all rounds of the step so far; K at most."""
    requests: int
    """Pairs of the round."""
    groups: int
    informative: int
    completions: int
    tokens: int
    """Generated tokens, end of sequence included."""
    truncated: int
    """Completions that were cut at the token limit."""
    unparsable: int
    """Completions without a verdict; their reward is 0."""
    reward_sum: float
    cancelled: int
    """Pairs that were not needed."""
    seconds: float
    """From the round's first request to its last decision."""


class RolloutClient(Protocol):
    """Calls must come in this order: submit, accepted (to its end), outcome; then the next round or step.

    A step that comes after another one ends it: what it still had under way is cancelled and forgotten. A
    pair that is submitted twice in a step (a worker that was restarted) is asked once.
    """

    def submit(
        self, step: int, round: int, requests: Sequence[PairRequest], round_pairs: Sequence[int]
    ) -> None:
        """Ask for this worker's share of a round. ``round_pairs``: plan positions of all workers' pairs of
        that micro-batch."""

    def accepted(self, step: int, round: int) -> Iterator[Group]:
        """This worker's accepted groups in plan order, each as soon as it is decided; ends when the round is.

        Raises:
            UserError: a group was lost more often than `rollout.group_retries`, or an actor or worker took
            too long; says which.
        """

    def outcome(self, step: int, round: int) -> RoundOutcome:
        """The same for all workers; waits until the round is decided."""
