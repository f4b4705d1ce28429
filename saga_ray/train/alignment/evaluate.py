"""How good a supervisor is: verdicts, descriptions, well-formed answers, and what it does without the right
pictures.

Legend: P pairs, G completions of a pair, N patch tokens, D token width, T answer length, A attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saga_ray.data.table import ImageTable
from saga_ray.models.supervisors._chat import ChatSupervisor
from saga_ray.models.supervisors._pocket_scheme import AnswerScheme
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.prompts.answer import answer_keys
from saga_ray.prompts.template import Style
from saga_ray.prompts.verdict import parse_answer
from saga_ray.prompts.vocabulary import Vocabulary
from saga_ray.train.alignment.answers import free_answers
from saga_ray.train.alignment.bank import TokenBank, fill_bank
from saga_ray.train.alignment.pairs import Pairs, PairSampler, Rows

BATCH = 100
GROUP = 8


@dataclass(frozen=True)
class SupervisorScores:
    """Shares in [0, 1], measured with the likeliest answers unless said otherwise. Pairs are half same,
    half different."""

    pairs: int
    """Random pairs, and as many hard ones."""
    verdict_random: float
    """Right verdicts on random pairs; what cannot be parsed is wrong."""
    verdict_hard: float
    """On pairs of which the different ones agree on the first attribute."""
    generic_random: float
    """Right verdicts in the generic style."""
    generic_hard: float
    verdict_exchanged: float
    """Right verdicts on random pairs when each is shown another pair's pictures."""
    verdict_zeroed: float
    """Right verdicts on random pairs when all image tokens are zero."""
    valid: float
    """Answers that are a complete JSON object with every key and a verdict, all measured answers together."""
    attributes: dict[str, float]
    """Right values by attribute, both descriptions of random pairs."""
    commonest: dict[str, float]
    """The same for always naming the value that is commonest in those pictures."""
    informative_at_1: float
    """Groups of 8 sampled answers to random pairs whose verdicts are not all right or all wrong:
    temperature 1."""
    informative_at_0_7: float
    """The same at temperature 0.7, top-p 0.95."""

    @property
    def attributes_mean(self) -> float:
        """Mean over the attributes."""
        return float(np.mean(list(self.attributes.values())))

    @property
    def commonest_mean(self) -> float:
        """Mean over the attributes."""
        return float(np.mean(list(self.commonest.values())))

    def to_json(self) -> dict[str, Any]:
        """Plain data, rounded."""
        plain = {**vars(self), "attributes_mean": self.attributes_mean, "commonest_mean": self.commonest_mean}
        return {
            name: {k: round(v, 4) for k, v in value.items()} if isinstance(value, dict) else round(value, 4)
            for name, value in plain.items()
        }


def words_of(supervisor: Supervisor) -> AnswerScheme | Vocabulary:
    """What its answers are made of: `item`, `verdict_key` and `attributes`."""
    if isinstance(supervisor, Pocket):
        return supervisor.scheme
    assert isinstance(supervisor, ChatSupervisor), "a supervisor that alignment makes"
    return supervisor.words


def answer_keys_of(supervisor: Supervisor, style: Style) -> list[str]:
    """The keys of a complete answer in their order."""
    words = words_of(supervisor)
    if isinstance(words, Vocabulary):
        return answer_keys(words, style)
    items = [] if style == "generic" else [f"{words.item}_1", f"{words.item}_2"]
    return [*items, "differences", words.verdict_key]


def part_sampler(
    supervisor: Supervisor, part: ImageTable, hard_column: str | None = None, rows: Rows | None = None
) -> PairSampler:
    """Pairs of a part of a table, of some of its rows or of all; hard ones agree on the answers' first
    attribute unless another is named."""
    column = part.attributes[hard_column or next(iter(words_of(supervisor).attributes))]
    rows = np.arange(len(part)) if rows is None else rows
    return PairSampler(rows, part.labels[rows], [column[row] for row in rows], f"this part of {part.name}")


def has_pairs(part: ImageTable) -> bool:
    """Whether pairs of one class and of two can be drawn from it."""
    counts = np.bincount(part.labels) if len(part) else np.zeros(0)
    return len(counts) > 1 and bool(counts.max() > 1)


@torch.no_grad()
def evaluate_supervisor(
    supervisor: Supervisor,
    part: ImageTable,
    seed: int,
    *,
    pairs: int = 400,
    groups: int = 100,
    bank: TokenBank | None = None,
) -> SupervisorScores:
    """Score a supervisor on a part of a table, its classes unseen or not; `bank` saves running the tower.

    Raises:
        UserError: the part has fewer than two classes, or none with two pictures.
    """
    rng = np.random.default_rng([seed, 2])
    sampler = part_sampler(supervisor, part)
    random, hard = (sampler.balanced(pairs, rng, hard=is_hard) for is_hard in (False, True))
    if bank is None:
        rows = np.concatenate([random.a, random.b, hard.a, hard.b])
        bank = fill_bank(supervisor.build_tower().eval().to(supervisor.language_model.device), part, rows)
    judge = _Judge(supervisor, bank)
    said, described = judge.answers(random, "attributes"), {}
    words = words_of(supervisor)
    for name in words.attributes:
        described[name] = _value_shares(part.attributes[name], name, random, said, words.item)
    # In a random circle of the pairs, each is shown the pictures of its neighbour.
    circle = rng.permutation(len(random))
    neighbour = np.empty_like(circle)
    neighbour[circle] = np.roll(circle, 1)
    exchanged = Pairs(random.a[neighbour], random.b[neighbour], random.same)
    drawn = rng.permutation(len(random))[:groups]
    first = Pairs(random.a[drawn], random.b[drawn], random.same[drawn])
    return SupervisorScores(
        pairs=pairs,
        verdict_random=_right(said, random),
        verdict_hard=_right(judge.answers(hard, "attributes"), hard),
        generic_random=_right(judge.answers(random, "generic"), random),
        generic_hard=_right(judge.answers(hard, "generic"), hard),
        verdict_exchanged=_right(judge.answers(exchanged, "attributes"), exchanged),
        verdict_zeroed=_right(judge.answers(random, "attributes", zeroed=True), random),
        informative_at_1=judge.informative(first, 1.0, 1.0, seed),
        informative_at_0_7=judge.informative(first, 0.7, 0.95, seed),
        valid=judge.valid / judge.asked,
        attributes={name: share for name, (share, _) in described.items()},
        commonest={name: share for name, (_, share) in described.items()},
    )


@torch.no_grad()
def verdict_accuracy(
    supervisor: Supervisor, x_a_PND: Tensor, x_b_PND: Tensor, same_P: Tensor, style: str
) -> float:
    """Share of right verdicts in the likeliest answers; what cannot be parsed is wrong."""
    right, device = 0, supervisor.language_model.device
    for start in range(0, len(same_P), BATCH):
        part = slice(start, start + BATCH)
        x_a, x_b = (x_PND[part].to(device) for x_PND in (x_a_PND, x_b_PND))
        tokens_PT, mask_PT = free_answers(supervisor, x_a, x_b, style)
        for tokens_T, mask_T, same in zip(tokens_PT, mask_PT, same_P[part], strict=True):
            answer = parse_answer(supervisor.decode(tokens_T[mask_T].tolist()), supervisor.verdict_key)
            right += answer.verdict is not None and answer.verdict == bool(same)
    return right / len(same_P)


class _Judge:
    """Asks a supervisor about pairs and counts how many answers are well formed."""

    def __init__(self, supervisor: Supervisor, bank: TokenBank) -> None:
        self.supervisor, self.bank = supervisor, bank
        self.asked = self.valid = 0

    def answers(
        self, pairs: Pairs, style: Style, *, zeroed: bool = False, repeat: int = 1, **sampling: Any
    ) -> list[dict[str, Any]]:
        """The parsed answers, pair by pair, `repeat` of each; an empty object where one is malformed."""
        parsed: list[dict[str, Any]] = []
        device = self.supervisor.language_model.device
        for start in range(0, len(pairs), BATCH // repeat):
            part = slice(start, start + BATCH // repeat)
            x_a_PND, x_b_PND = (
                self.bank.take(rows[part])
                .mul_(0.0 if zeroed else 1.0)
                .to(device)
                .repeat_interleave(repeat, dim=0)
                for rows in (pairs.a, pairs.b)
            )
            tokens_PT, mask_PT = free_answers(self.supervisor, x_a_PND, x_b_PND, style, **sampling)
            for tokens_T, mask_T in zip(tokens_PT, mask_PT, strict=True):
                parsed.append(self._parse(tokens_T[mask_T].tolist(), style))
        return parsed

    def _parse(self, tokens: list[int], style: Style) -> dict[str, Any]:
        words = words_of(self.supervisor)
        answer = parse_answer(self.supervisor.decode(tokens), words.verdict_key)
        payload = answer.payload or {}
        keys = answer_keys_of(self.supervisor, style)
        described = [payload.get(key) for key in keys if key in (f"{words.item}_1", f"{words.item}_2")]
        valid = list(payload) == keys and answer.verdict is not None
        valid = valid and all(
            isinstance(each, dict) and list(each) == list(words.attributes) for each in described
        )
        self.asked += 1
        self.valid += valid
        return payload if valid else {}

    def informative(self, pairs: Pairs, temperature: float, top_p: float, seed: int) -> float:
        """Share of the pairs whose group of sampled answers has both rewards."""
        answers = self.answers(
            pairs,
            "attributes",
            repeat=GROUP,
            temperature=temperature,
            top_p=top_p,
            generator=torch.Generator(self.supervisor.language_model.device).manual_seed(seed),
        )
        groups = Pairs(pairs.a.repeat(GROUP), pairs.b.repeat(GROUP), pairs.same.repeat(GROUP))
        reward_PG = np.array(_verdicts_right(answers, groups)).reshape(len(pairs), GROUP)
        return float(np.mean(reward_PG.any(1) & ~reward_PG.all(1)))


def _verdicts_right(answers: list[dict[str, Any]], pairs: Pairs) -> list[bool]:
    expected = ["yes" if same else "no" for same in pairs.same]
    return [
        bool(said) and list(said.values())[-1] == truth for said, truth in zip(answers, expected, strict=True)
    ]


def _right(answers: list[dict[str, Any]], pairs: Pairs) -> float:
    return float(np.mean(_verdicts_right(answers, pairs)))


def _value_shares(
    values: list[str], name: str, pairs: Pairs, answers: list[dict[str, Any]], item: str
) -> tuple[float, float]:
    """Share of right values of one attribute, and that of always naming the commonest."""
    truth = [values[row] for row in np.concatenate([pairs.a, pairs.b])]
    said = [answer.get(f"{item}_{image}", {}).get(name) for image in (1, 2) for answer in answers]
    commonest = max(sorted(set(truth)), key=truth.count)
    right = [a == b for a, b in zip(said, truth, strict=True)]
    return float(np.mean(right)), float(np.mean([value == commonest for value in truth]))
