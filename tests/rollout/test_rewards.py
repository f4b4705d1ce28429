"""The verdict's reward."""

from __future__ import annotations

import pytest

from saga_ray.prompts.verdict import parse_answer
from saga_ray.rollout.rewards import verdict_reward


@pytest.mark.parametrize(
    "said, same, reward", [("yes", True, 1), ("yes", False, 0), ("no", True, 0), ("no", False, 1)]
)
def test_a_right_verdict_earns_one_and_a_wrong_one_nothing(said, same, reward):
    text = f'{{"reasoning": "x", "same_model": "{said}"}}'
    assert verdict_reward(text, same, "same_model") == reward
    assert verdict_reward(parse_answer(text, "same_model"), same, "same_model") == reward


@pytest.mark.parametrize("text", ["", '{"same_model": "n', '{"same_model": "unsure"}', '{"other": "no"}'])
@pytest.mark.parametrize("same", [True, False])
def test_what_cannot_be_parsed_earns_nothing_whatever_the_truth(text, same):
    assert verdict_reward(text, same, "same_model") == 0
