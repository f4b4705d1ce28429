"""An engine whose answers, delays and faults are written down beforehand; runs in Ray actors too."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from saga_ray.errors import UserError
from saga_ray.rollout.engine import Finished, PairRequest, Sampling, completion_seed
from saga_ray.rollout.groups import Completion

GROUP = 4
KEY = "same"


@dataclass
class ScriptedEngine:
    """Says yes in the first n completions of a group, n a hash of the pair: some groups are informative."""

    delay_seed: int | None = None
    """Groups finish after random delays and in random order."""
    hang_on: frozenset[int] = frozenset()
    """Pairs that never finish."""
    kill_on: int | None = None
    """The pair that kills the process as a crash would, once: a mark in ``marks`` says that it has."""
    raise_on: int | None = None
    """The pair on which the engine raises, every time."""
    refuse_on: int | None = None
    marks: Path = Path("unused")
    name: str = "scripted"
    version: str = "1"
    _under_way: dict[int, tuple[float, PairRequest]] = field(default_factory=dict)

    def submit(self, ticket: int, request: PairRequest) -> None:
        if request.pair == self.refuse_on:
            raise UserError(f"pair {request.pair} does not fit")
        delay = random.Random(f"{self.delay_seed} {request.round} {request.pair}").random() * 0.2
        self._under_way[ticket] = (
            time.monotonic() + (delay if self.delay_seed is not None else 0.0),
            request,
        )

    @property
    def idle(self) -> bool:
        return not self._under_way

    def abort(self, ticket: int) -> None:
        if self._under_way.pop(ticket, None) is not None and self.marks.is_dir():
            (self.marks / f"aborted-{ticket}").touch()

    def step(self) -> list[Finished]:
        time.sleep(0.002)
        finished = []
        for ticket, (due, request) in list(self._under_way.items()):
            if request.pair == self.kill_on and not (self.marks / "killed").exists():
                (self.marks / "killed").touch()
                os.kill(os.getpid(), 9)
            if request.pair == self.raise_on:
                raise RuntimeError("the engine lost its mind")
            if due <= time.monotonic() and request.pair not in self.hang_on:
                del self._under_way[ticket]
                finished.append(Finished(ticket, answers(request)))
        return finished

    def close(self) -> None:
        self._under_way.clear()


def answers(request: PairRequest) -> list[Completion]:
    """Of 5 groups about 3 are informative, one all right and one all wrong."""
    yes = request.seeds[0] % (GROUP + 1)
    return [
        Completion(
            token_ids=[3 + place, request.pair, 1],
            text=json.dumps({KEY: "yes" if place < yes else "no"}) if seed % 7 else "{",
            logprobs=[-0.5, -0.25, -0.125],
            finish="stop" if place else "length",
            seed=seed,
        )
        for place, seed in enumerate(request.seeds)
    ]


def requests(step: int, round: int, pairs: Sequence[int], run_seed: int = 5) -> list[PairRequest]:
    """Requests with a prompt of three tokens, made without torch so that actors start fast."""
    prompt: Any = SimpleNamespace(token_ids=[0, 0, 0])
    return [
        PairRequest(
            step=step,
            round=round,
            pair=pair,
            same=pair % 2 == 0,
            prompt=prompt,
            seeds=tuple(completion_seed(run_seed, step, round, pair, g) for g in range(GROUP)),
            sampling=Sampling(1.0, 1.0, 3),
            encoder_version=step,
        )
        for pair in pairs
    ]
