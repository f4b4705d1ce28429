"""A rollout engine whose answers are known beforehand: a supervisor of random weights writes noise, of which
nothing could be learned, so its answers are replaced by whole ones of a given length.
"""

from __future__ import annotations

import json

from saga_ray.errors import UserError
from saga_ray.models.supervisors._chat import ChatSupervisor
from saga_ray.prompts.vocabulary import Vocabulary
from saga_ray.rollout.engine import Engine, Finished, PairRequest
from saga_ray.rollout.groups import Completion

HERE = "<here>"
DESCRIPTIONS = ("grey", "dark", "long", "short", "two", "wide", "plain", "round")
"""Of a group's answers in turn: gradients of equal answers would cancel, since advantages sum to 0."""


class ForcedAnswers:
    """Answers of `tokens` tokens in the instruction's format. A group's verdicts are yes and no in turn, so
    that every group is informative. `inner` generates first, and what it wrote is thrown away.

    Raises UserError where so few tokens hold no whole answer.
    """

    name, version = "forced", ""

    def __init__(
        self, supervisor: ChatSupervisor, style: str, tokens: int, inner: Engine | None = None
    ) -> None:
        self.inner = inner
        self.generated: list[int] = []
        """Tokens of each completion that `inner` wrote."""
        self._asked: dict[int, PairRequest] = {}
        self._answers = [
            _answer(supervisor, style, tokens, described, ("yes", "no")[g % 2])
            for g, described in enumerate(DESCRIPTIONS)
        ]

    def submit(self, ticket: int, request: PairRequest) -> None:
        self._asked[ticket] = request
        if self.inner:
            self.inner.submit(ticket, request)

    def step(self) -> list[Finished]:
        if self.inner is None:
            done = list(self._asked)
        else:
            finished = self.inner.step()
            done = [each.ticket for each in finished]
            self.generated += [len(one.token_ids) for each in finished for one in each.completions]
        return [Finished(ticket, self._group(self._asked.pop(ticket))) for ticket in done]

    def abort(self, ticket: int) -> None:
        self._asked.pop(ticket, None)
        if self.inner:
            self.inner.abort(ticket)

    @property
    def idle(self) -> bool:
        return not self._asked

    def close(self) -> None:
        self._asked.clear()
        if self.inner:
            self.inner.close()

    def _group(self, request: PairRequest) -> list[Completion]:
        completions = []
        for g, seed in enumerate(request.seeds):
            token_ids, text = self._answers[g % len(self._answers)]
            completions.append(Completion(token_ids, text, [0.0] * len(token_ids), "stop", seed))
        return completions


def whole_answer(words: Vocabulary, style: str, description: str, verdict: str) -> str:
    """A short answer in the instruction's format, with one description of everything; its differences are
    `HERE`."""
    described = dict.fromkeys(words.attributes, description)
    parts: dict[str, object] = {"differences": HERE, "confidence": "high", "reasoning": "they look alike"}
    if style == "attributes":
        parts = dict.fromkeys(words.item_keys, described) | parts
    return json.dumps(parts | {words.verdict_key: verdict})


def _answer(
    supervisor: ChatSupervisor, style: str, tokens: int, description: str, verdict: str
) -> tuple[list[int], str]:
    """Ids and text; what is missing in length is filled up in the differences."""
    words = supervisor.words
    head, tail = whole_answer(words, style, description, verdict).split(HERE)

    def encode(text: str) -> list[int]:
        ids: list[int] = supervisor.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    before, behind = encode(head), [*encode(tail), supervisor.eos_token_id]
    missing = tokens - len(before) - len(behind)
    if missing < 0:
        raise UserError(
            f"--answer-tokens {tokens}: a whole answer on {len(words.attributes)} attributes has "
            f"{tokens - missing} tokens at least; give that or more"
        )
    ids = [*before, *encode(f" {description}")[:1] * missing, *behind]
    return ids, supervisor.decode(ids)
