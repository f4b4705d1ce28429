"""A rollout client whose answers are a function of (step, round, pair) alone: any number of workers sees the
same groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import PairRequest
from saga_ray.rollout.groups import Completion, Group
from tests.tiny import EOS, IDS

ANSWER = ("colour_1", "size_1", "colour_2", "size_2", "differences", "verdict")


def scripted_group(request_step: int, request_round: int, pair: int, size: int) -> Group:
    """Well-formed random answers with random rewards; a third of the groups has no variance."""
    rng = np.random.default_rng([request_step, request_round, pair])
    completions = []
    for g in range(size):
        tokens = [int(rng.choice(IDS[kind])) for kind in ANSWER] + [EOS]
        tokens = tokens[: 3 if rng.random() < 0.2 else None]
        completions.append(Completion(tokens, "", [0.0] * len(tokens), "stop", g))
    rewards = [1.0] * size if rng.random() < 0.34 else [float(g % 2) for g in range(size)]
    return Group(pair, True, completions, rewards, [reward == 1 for reward in rewards], 0, 9)


class ScriptedClient:
    """Knows every pair's group beforehand, so it accepts as the collector of a real pool would."""

    def __init__(self, wanted: int, size: int) -> None:
        self.wanted, self.size = wanted, size
        self.own: dict[tuple[int, int], list[int]] = {}
        self.everybody: dict[tuple[int, int], list[int]] = {}

    def submit(
        self, step: int, round: int, requests: Sequence[PairRequest], round_pairs: Sequence[int]
    ) -> None:
        self.own[step, round] = [request.pair for request in requests]
        self.everybody[step, round] = list(round_pairs)

    def _accepted(self, step: int, last: int) -> list[tuple[int, int]]:
        accepted: list[tuple[int, int]] = []
        for round in range(last + 1):
            for pair in self.everybody[step, round]:
                if len(accepted) < self.wanted and scripted_group(step, round, pair, self.size).informative:
                    accepted.append((round, pair))
        return accepted

    def accepted(self, step: int, round: int) -> Iterator[Group]:
        for at, pair in self._accepted(step, round):
            if at == round and pair in self.own[step, round]:
                yield scripted_group(step, round, pair, self.size)

    def outcome(self, step: int, round: int) -> RoundOutcome:
        pairs = self.everybody[step, round]
        groups = [scripted_group(step, round, pair, self.size) for pair in pairs]
        return RoundOutcome(
            accepted_total=len(self._accepted(step, round)),
            requests=len(pairs),
            groups=len(groups),
            informative=sum(group.informative for group in groups),
            completions=sum(len(group.completions) for group in groups),
            tokens=sum(len(completion.token_ids) for group in groups for completion in group.completions),
            truncated=0,
            unparsable=0,
            reward_sum=sum(sum(group.rewards) for group in groups),
            cancelled=0,
            seconds=0.0,
        )
