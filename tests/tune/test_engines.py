"""For what the engines that trials share are started."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from saga_ray.config.settings import Settings
from saga_ray.train.prepare import prepare
from saga_ray.tune import engines


def test_shared_engines_take_the_longest_answers_and_prompts_of_any_trial(
    small: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = small(["saga"])
    ready = prepare(base)
    trials = [base.model_copy(deep=True) for _ in range(3)]
    trials[1].rollout.max_new_tokens = 40 + base.rollout.max_new_tokens
    trials[2].supervisor.prompt = "generic"
    # this supervisor's prompts are all of one length
    monkeypatch.setattr(engines, "length_of_prompt", lambda _, style: {"attributes": 9, "generic": 12}[style])
    for order in (trials, trials[::-1]):
        made = engines.roomiest(base, order, ready)
        assert made.rollout.max_new_tokens == trials[1].rollout.max_new_tokens
        assert made.supervisor.prompt == "generic"
    assert base.supervisor.prompt == "attributes"
