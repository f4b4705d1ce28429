"""The reference engine: plain transformers, batched, with a key-value cache. Slow, readable, and needs
nothing but torch.

Legend of the shape suffixes: B running completions, L prompt length, H width of the language model, V
vocabulary.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache

from saga_ray.config.settings import RolloutSettings
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.engine import Finished, PairRequest, Sampling
from saga_ray.rollout.engines._prompt import PromptShape, check_prompt
from saga_ray.rollout.groups import Completion


def build(supervisor: Supervisor, settings: RolloutSettings, prompt_length: int) -> TransformersEngine:
    """On the GPU that the process was given, if any; else on the CPU."""
    device = torch.device("cuda" if settings.gpus_per_actor > 0 else "cpu")
    return TransformersEngine(
        supervisor.to(device), prompt_length, settings.max_new_tokens, settings.max_parallel_sequences
    )


@dataclass
class _Running:
    """One completion under way."""

    ticket: int
    place: int
    """In its group."""
    seed: int
    sampling: Sampling
    uniforms: np.ndarray
    """One number in [0, 1) a token, drawn from the seed: the completion's only randomness."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Waiting:
    """A request that has not started, and its prompt as the language model reads it."""

    ticket: int
    request: PairRequest
    embeds_LH: Tensor
    images: tuple[slice, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """What the requests of a batch have in common: prompt length, images' places, group size,
        sampling."""
        places = tuple((span.start, span.stop) for span in self.images)
        return len(self.embeds_LH), places, len(self.request.seeds), self.request.sampling


class TransformersEngine:
    """Batches of prompts of one length, group size and sampling: all prompts in one pass, then one token of
    every completion a step.

    A batch is filled from the waiting requests when the one before is done; finished completions leave it at
    once.
    """

    name = "transformers"
    version: str = transformers.__version__

    def __init__(
        self, supervisor: Supervisor, longest_prompt: int, longest_answer: int, max_parallel_sequences: int
    ) -> None:
        self.supervisor = supervisor
        self.longest_prompt, self.longest_answer = longest_prompt, longest_answer
        self.max_parallel_sequences = max_parallel_sequences
        self._waiting: deque[_Waiting] = deque()
        self._running: list[_Running] = []
        self._groups: dict[int, list[Completion | None]] = {}
        self._cache = DynamicCache()
        self._positions = torch.empty(0)
        self._logits_BV = torch.empty(0)

    def submit(self, ticket: int, request: PairRequest) -> None:
        supervisor = self.supervisor
        check_prompt(
            request,
            PromptShape.of(supervisor),
            longest=self.longest_prompt,
            longest_answer=self.longest_answer,
        )
        with torch.no_grad():
            embeds_LH, images = supervisor.engine_sequence(request.prompt)
        self._waiting.append(_Waiting(ticket, request, embeds_LH.detach(), images))

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def abort(self, ticket: int) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if waiting.ticket != ticket)
        if self._groups.pop(ticket, None) is not None:
            self._keep([index for index, running in enumerate(self._running) if running.ticket != ticket])

    def close(self) -> None:
        self._waiting.clear()
        self._keep([])

    @torch.no_grad()
    def step(self) -> list[Finished]:
        if not self._running:
            if not self._waiting:
                return []
            self._read_prompts()
        tokens_B, logprobs_B = self._choose()
        for running, token, logprob in zip(
            self._running, tokens_B.tolist(), logprobs_B.tolist(), strict=True
        ):
            running.token_ids.append(token)
            running.logprobs.append(logprob)
        finished = self._collect()
        if self._running:
            self._read_tokens()
        return finished

    def _read_prompts(self) -> None:
        """Start a batch: waiting requests that are like the first one."""
        first = self._waiting[0]
        group_size, sampling = len(first.request.seeds), first.request.sampling
        most = max(1, self.max_parallel_sequences // group_size)
        batch = [waiting for waiting in self._waiting if waiting.kind == first.kind][:most]
        taken = {waiting.ticket for waiting in batch}
        self._waiting = deque(waiting for waiting in self._waiting if waiting.ticket not in taken)
        for waiting in batch:
            self._groups[waiting.ticket] = [None] * group_size
            for place, seed in enumerate(waiting.request.seeds):
                uniforms = np.random.default_rng(seed).random(sampling.max_new_tokens)
                self._running.append(_Running(waiting.ticket, place, seed, sampling, uniforms))
        model = self.supervisor.language_model
        embeds_PLH = torch.stack([waiting.embeds_LH for waiting in batch]).to(model.device, model.dtype)
        longest = embeds_PLH.shape[1] + sampling.max_new_tokens
        self._cache = DynamicCache(config=model.config)
        self._positions = self.supervisor.positions(first.images, longest)
        self._read(embeds_PLH)
        self._cache.batch_repeat_interleave(group_size)
        self._logits_BV = self._logits_BV.repeat_interleave(group_size, dim=0)

    def _read_tokens(self) -> None:
        """The running completions' last tokens go through the model."""
        device = self.supervisor.language_model.device
        tokens_B1 = torch.tensor([[running.token_ids[-1]] for running in self._running], device=device)
        self._read(self.supervisor.answer_embeddings(tokens_B1))

    def _read(self, embeds_BSH: Tensor) -> None:
        """The next S positions go through the model; all rows stand at the same ones."""
        known = self._cache.get_seq_length()
        positions = self._positions[..., None, known : known + embeds_BSH.shape[1]]
        hidden_BSH = self.supervisor.hidden_states(embeds_BSH, positions, past_key_values=self._cache)
        self._logits_BV = self.supervisor.logits(hidden_BSH[:, -1])

    def _choose(self) -> tuple[Tensor, Tensor]:
        """Every running completion's next token and the model's own log p of it."""
        logits_BV = self._logits_BV.float()
        sampling = self._running[0].sampling
        if sampling.temperature == 0:
            tokens_B = logits_BV.argmax(-1)
        else:
            uniform_B = torch.tensor([running.uniforms[len(running.token_ids)] for running in self._running])
            tokens_B = sample(logits_BV, uniform_B.to(logits_BV.device), sampling.temperature, sampling.top_p)
        logprobs_B = logits_BV.log_softmax(-1).gather(1, tokens_B[:, None])[:, 0]
        return tokens_B, logprobs_B

    def _collect(self) -> list[Finished]:
        """Take finished completions out of the batch; the groups that are whole now."""
        finished: list[Finished] = []
        unfinished: list[int] = []
        for index, running in enumerate(self._running):
            stopped = running.token_ids[-1] == self.supervisor.eos_token_id
            if not stopped and len(running.token_ids) < running.sampling.max_new_tokens:
                unfinished.append(index)
                continue
            group = self._groups[running.ticket]
            text = self.supervisor.decode(running.token_ids)
            finish: Literal["stop", "length"] = "stop" if stopped else "length"
            group[running.place] = Completion(running.token_ids, text, running.logprobs, finish, running.seed)
            whole = [completion for completion in group if completion is not None]
            if len(whole) == len(group):
                del self._groups[running.ticket]
                finished.append(Finished(running.ticket, whole))
        self._keep(unfinished)
        return finished

    def _keep(self, indexes: list[int]) -> None:
        """Only these of the running completions go on."""
        if len(indexes) == len(self._running):
            return
        self._running = [self._running[index] for index in indexes]
        if indexes:
            rows = torch.tensor(indexes, device=self._logits_BV.device)
            self._cache.batch_select_indices(rows)
            self._logits_BV = self._logits_BV[rows]
        else:
            self._cache = DynamicCache()


def sample(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """Draw a token a row: temperature, then the smallest set of likeliest tokens that holds `top_p`, then a
    number.

    Inverts the cumulative distribution, so that a row's draw depends on its own number alone and not on the
    batch.
    """
    probability_BV = (logits_BV.double() / temperature).softmax(-1)
    ordered_BV, token_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = ordered_BV.cumsum(-1) - ordered_BV
    ordered_BV = ordered_BV.masked_fill(
        before_BV >= top_p, 0.0
    )  # the first always stays: nothing is before it
    cumulative_BV = ordered_BV.cumsum(-1)
    threshold_B1 = (uniform_B.double() * cumulative_BV[:, -1])[:, None]
    place_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True)
    last_B1 = (ordered_BV > 0).sum(-1, keepdim=True) - 1
    place_B1 = place_B1.minimum(last_B1)  # a number next to 1 can round up to the whole sum
    return token_BV.gather(1, place_B1)[:, 0]
