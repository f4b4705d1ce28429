"""The refill rounds of one step: which groups are accepted, which are no longer needed, and the counts. No
clock, no processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import PairRequest
from saga_ray.rollout.groups import Completion, Group, PlanOrderAcceptance
from saga_ray.rollout.rewards import Judge


@dataclass(frozen=True)
class Asked:
    """What must be known of a request to make a group of its answers; the prompt itself goes to the engine
    alone."""

    round: int
    pair: int
    same: bool
    encoder_version: int
    prompt_tokens: int

    @classmethod
    def of(cls, request: PairRequest) -> Asked:
        return cls(
            request.round, request.pair, request.same, request.encoder_version, len(request.prompt.token_ids)
        )

    @property
    def key(self) -> tuple[int, int]:
        return self.round, self.pair


class StepRounds:
    """All rounds of a step, over all workers; rounds are opened one after the other."""

    def __init__(self, wanted: int, judge: Judge) -> None:
        self.judge = judge
        self._acceptance = PlanOrderAcceptance(wanted)
        self._plan: list[tuple[int, int]] = []
        """(round, pair) in plan order; the position in this list is the index that the acceptance knows."""
        self._index: dict[tuple[int, int], int] = {}
        self._groups: dict[tuple[int, int], Group] = {}
        self._unparsable: dict[tuple[int, int], int] = {}
        self._opened: dict[int, float] = {}
        self._seconds: dict[int, float] = {}

    def open(self, round: int, pairs: Sequence[int]) -> None:
        """Begin a round, or note that it has begun: every worker says so."""
        if round in self._opened:
            assert pairs_of(self._plan, round) == list(pairs), "workers disagree about the plan of a round"
            return
        self._opened[round] = time.monotonic()
        first = len(self._plan)
        for pair in pairs:
            self._index[round, pair] = len(self._plan)
            self._plan.append((round, pair))
        self._acceptance.open_round(range(first, len(self._plan)))

    def arrive(self, asked: Asked, completions: list[Completion]) -> None:
        """Reward a finished group and note it."""
        judged = [self.judge(completion.text, asked.same) for completion in completions]
        group = Group(
            asked.pair,
            asked.same,
            completions,
            [each.reward for each in judged],
            [each.right for each in judged],
            asked.encoder_version,
            asked.prompt_tokens,
        )
        self._groups[asked.key] = group
        self._unparsable[asked.key] = sum(not each.parsed for each in judged)
        self._acceptance.feed(self._index[asked.key], group.informative)
        for round, opened in self._opened.items():
            if round not in self._seconds and self.settled(round):
                self._seconds[round] = time.monotonic() - opened

    def unneeded(self) -> list[tuple[int, int]]:
        """Pairs (round, pair) that have not arrived and can no longer be accepted."""
        return [self._plan[index] for index in self._acceptance.cancellable()]

    def settled(self, round: int) -> bool:
        """Whether every pair of the round is decided."""
        return self._acceptance.done or all(key in self._groups for key in self._plan if key[0] <= round)

    def accepted(self, round: int, pairs: Sequence[int] | None = None) -> list[Group]:
        """The round's groups accepted so far, in plan order: all, or those of some pairs. Only ever grows at
        its end."""
        keys = [self._plan[index] for index in self._acceptance.accepted]
        return [self._groups[key] for key in keys if key[0] == round and (pairs is None or key[1] in pairs)]

    def decided(self, round: int) -> list[Group]:
        """The groups of a settled round that the plan needed, in plan order."""
        return [self._groups[key] for key in self._decided_keys(round)]

    def outcome(self, round: int) -> RoundOutcome:
        """The counts of a settled round; the same again once later rounds have begun (a restarted worker
        asks)."""
        assert self.settled(round), round
        keys = self._decided_keys(round)
        groups = [self._groups[key] for key in keys]
        completions = [completion for group in groups for completion in group.completions]
        requests = len(pairs_of(self._plan, round))
        return RoundOutcome(
            accepted_total=sum(self._plan[index][0] <= round for index in self._acceptance.accepted),
            requests=requests,
            groups=len(groups),
            informative=sum(group.informative for group in groups),
            completions=len(completions),
            tokens=sum(len(completion.token_ids) for completion in completions),
            truncated=sum(completion.finish == "length" for completion in completions),
            unparsable=sum(self._unparsable[key] for key in keys),
            reward_sum=sum(sum(group.rewards) for group in groups),
            cancelled=requests - len(groups),
            seconds=self._seconds.get(round, 0.0),
        )

    def _decided_keys(self, round: int) -> list[tuple[int, int]]:
        end = self._acceptance.accepted[-1] + 1 if self._acceptance.done else len(self._plan)
        return [key for key in self._plan[:end] if key[0] == round]


def pairs_of(plan: Sequence[tuple[int, int]], round: int) -> list[int]:
    """The pairs of one round, in plan order."""
    return [pair for of_round, pair in plan if of_round == round]
