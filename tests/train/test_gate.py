"""The parity gate's replay: a few pairs at a time, here or in the place of a training worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.replay import replay
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.train.gate import Answered, replayed, replayed_by_worker
from tests.tiny import TOKEN_WIDTH, TOKENS, VOCABULARY

PAIRS, ANSWERS, LENGTH = 5, 3, 6


@pytest.fixture
def settings(small: Callable[..., Settings]) -> Settings:
    return small(["saga"], train={"replay_pairs": 2})


@pytest.fixture
def supervisor(settings: Settings) -> Supervisor:
    return supervisors.load(settings.supervisor.path)


@pytest.fixture
def answered(supervisor: Supervisor) -> Answered:
    drawn = torch.Generator().manual_seed(3)
    x_a_PND, x_b_PND = torch.randn(2, PAIRS, TOKENS, TOKEN_WIDTH, generator=drawn)
    tokens_PGT = torch.randint(0, len(VOCABULARY), (PAIRS, ANSWERS, LENGTH), generator=drawn)
    mask_PGT = torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (PAIRS, ANSWERS, 1), generator=drawn)
    return Answered(x_a_PND, x_b_PND, tokens_PGT, mask_PGT)


def test_a_few_pairs_at_a_time_give_what_all_give(
    settings: Settings, supervisor: Supervisor, answered: Answered
) -> None:
    with torch.no_grad():
        together = replay(
            supervisor,
            answered.x_a_PND,
            answered.x_b_PND,
            answered.tokens_PGT,
            answered.mask_PGT,
            style=settings.supervisor.prompt,
            layer=None,
            temperature=None,
            shared_prefix=False,
        ).logp_PGT
    assert together.shape == (PAIRS, ANSWERS, LENGTH) and bool((together < 0).any())
    torch.testing.assert_close(replayed(settings, supervisor, answered), together, rtol=1e-4, atol=1e-5)


def test_a_training_worker_s_place_gives_what_the_driver_gives(
    session_ray: None, settings: Settings, supervisor: Supervisor, answered: Answered
) -> None:
    elsewhere = replayed_by_worker(settings, answered)
    torch.testing.assert_close(elsewhere, replayed(settings, supervisor, answered), rtol=1e-4, atol=1e-5)


def test_no_room_for_it_is_said(session_ray: None, settings: Settings, answered: Answered) -> None:
    settings.train.cpus_per_worker, settings.ray.wait_for_resources_s = 100.0, 0.5
    with pytest.raises(UserError, match="place of a training worker was not free within .*=0.5 s"):
        replayed_by_worker(settings, answered)
