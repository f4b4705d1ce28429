"""The verdict score during training: which pairs, and the same answers as asked for one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.data.table import ImageTable
from saga_ray.models.encoder import Encoder
from saga_ray.prompts.verdict import parse_answer
from saga_ray.train.verdicts import VerdictProbe, probe_pairs
from tests.tiny import EOS, tiny_supervisor


@given(st.lists(st.integers(0, 4), max_size=20), st.integers(0, 9))
def test_pairs_are_half_of_one_class_and_half_of_two_and_always_the_same(
    labels: list[int], seed: int
) -> None:
    pairs = probe_pairs(np.array(labels, dtype=np.int64), 10, seed)
    counts = np.bincount(labels) if labels else np.zeros(0)
    if (counts > 0).sum() < 2 or counts.max() < 2:
        assert pairs == []
        return
    assert [same for _, _, same in pairs] == [True, False] * 5
    assert all(a != b and (labels[a] == labels[b]) == same for a, b, same in pairs)
    assert pairs == probe_pairs(np.array(labels, dtype=np.int64), 10, seed)


@pytest.fixture(scope="module")
def table(small: Callable[..., Settings]) -> ImageTable:
    settings = small(["saga"])
    return sources.load(settings.data, settings.seed)


def test_the_score_is_that_of_asking_pair_by_pair(table: ImageTable, small: Callable[..., Settings]) -> None:
    settings, supervisor = small(["saga"], evaluation={"verdict_pairs": 10}), tiny_supervisor()
    encoder = Encoder.start_of(supervisor, settings.encoder)
    validation = table.part("validation")
    probe = VerdictProbe.of(supervisor, validation, settings)
    assert probe is not None
    right = 0
    for a, b, same in probe.pairs:
        x_a, x_b = (
            encoder.tokens(torch.tensor(validation.read_image(row, settings.data.image_size)[None]))
            for row in (a, b)
        )
        e_1LH = supervisor.prompt_embeddings(x_a, x_b, "attributes")
        tokens: list[int] = []
        while len(tokens) < settings.rollout.max_new_tokens and (not tokens or tokens[-1] != EOS):
            positions = supervisor.positions((), e_1LH.shape[1])[None]
            hidden_1LH = supervisor.hidden_states(e_1LH, positions)
            tokens.append(int(supervisor.logits(hidden_1LH[0, -1:]).argmax()))
            e_1LH = torch.cat([e_1LH, supervisor.answer_embeddings(torch.tensor([tokens[-1:]]))], dim=1)
        right += parse_answer(supervisor.decode(tokens), supervisor.verdict_key).verdict is same
    assert probe.accuracy(encoder) == right / 10


def test_without_pairs_there_is_no_score(table: ImageTable, small: Callable[..., Settings]) -> None:
    one_class = table.part("validation")
    kept = one_class.labels == 0
    assert kept.any() and probe_pairs(one_class.labels[kept], 8, 1) == []
