"""What a rollout engine is asked and what it can do; the engines themselves are files of ``engines/``.

Legend of the shape suffixes: L prompt length, H width of the language model, G completions of a pair.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from saga_ray.config.settings import RolloutSettings
from saga_ray.rollout.groups import Completion

if TYPE_CHECKING:  # the process that only counts groups needs no torch
    from saga_ray.models.supervisors.base import EnginePrompt


@dataclass(frozen=True)
class Sampling:
    """How a completion is sampled (paper section 2: temperature 0.7, top-p 0.95, at most 1024 tokens)."""

    temperature: float
    """0 takes the likeliest token every time."""
    top_p: float
    max_new_tokens: int

    @classmethod
    def of(cls, settings: RolloutSettings) -> Sampling:
        return cls(settings.temperature, settings.top_p, settings.max_new_tokens)


@dataclass(frozen=True)
class PairRequest:
    """One pair to ask the supervisor about: G completions of one prompt, each with its own seed. Engines have
    no settings of their own for that, so that runs with other ones can share them."""

    step: int
    round: int
    """Refill round of the step: its micro-batches are counted from 0."""
    pair: int
    """Position in the plan of the round's micro-batch, over all workers."""
    same: bool
    """What a verdict is compared with."""
    prompt: EnginePrompt
    seeds: tuple[int, ...]
    sampling: Sampling
    encoder_version: int
    """Of the encoder that made the prompt's image tokens; recorded with the group."""


def completion_seed(run_seed: int, step: int, round: int, pair: int, g: int) -> int:
    """The seed of a pair's g-th completion: a hash, so that neither order, worker nor actor plays a part. In
    [0, 2^63)."""
    numbers = struct.pack("<5q", run_seed, step, round, pair, g)
    return int.from_bytes(hashlib.blake2b(numbers, digest_size=8).digest(), "little") >> 1


class Finished(NamedTuple):
    """A group that an engine has finished: its ticket and the completions, in the order of the seeds."""

    ticket: int
    completions: list[Completion]


class Engine(Protocol):
    """A frozen supervisor that writes completions, driven from outside: work is done in `step` alone.

    A *ticket* is the caller's number for one asking and is used once; the same pair asked again gets another.

    Whatever the engine, ``Completion.logprobs`` is the model's own log p of the chosen tokens (temperature 1,
    no top-p), and ``Completion.token_ids`` ends with the end-of-sequence token if the model chose it: every
    generated token counts.
    """

    name: str
    version: str

    def submit(self, ticket: int, request: PairRequest) -> None:
        """Take a request on. Raises `UserError` for a prompt that does not fit the model; nothing is taken on
        then."""

    def step(self) -> list[Finished]:
        """Generate a little (about one token of every running completion); the groups that this finished, if
        any."""

    def abort(self, ticket: int) -> None:
        """Stop generating and free what the request holds. A ticket that is finished or unknown is left
        alone."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to generate."""

    def close(self) -> None:
        """Give memory back; the engine is of no use afterwards."""
