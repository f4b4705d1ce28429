"""What a completion is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from saga_ray.prompts.verdict import ParsedAnswer
from saga_ray.rollout.rewards import STATED, Judge, reward

DESIGNS = ("verdict", "parsed", "confidence")


@pytest.mark.parametrize(
    "said, same, worth", [("yes", True, 1), ("yes", False, 0), ("no", True, 0), ("no", False, 1)]
)
def test_a_right_verdict_earns_one_and_a_wrong_one_nothing(said, same, worth):
    judged = Judge("same_model")(f'{{"reasoning": "x", "same_model": "{said}"}}', same)
    assert (judged.reward, judged.right, judged.parsed) == (worth, worth == 1, True)


@pytest.mark.parametrize("text", ["", '{"same_model": "n', '{"same_model": "unsure"}', '{"other": "no"}'])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("design", DESIGNS)
def test_what_cannot_be_parsed_earns_nothing_whatever_the_truth(text, same, design):
    judged = Judge("same_model", design)(text, same)
    assert (judged.reward, judged.right, judged.parsed) == (0, False, False)


def test_an_answer_that_can_be_read_is_worth_half_where_that_is_asked_for():
    judge = Judge("same", "parsed")
    assert [judge(f'{{"same": "{said}"}}', True).reward for said in ("yes", "no")] == [1, 0.5]


def test_to_be_sure_pays_where_one_is_right_and_costs_where_one_is_wrong():
    judge = Judge("same", "confidence")
    answer = '{{"confidence": "{}", "same": "yes"}}'.format
    right = [judge(answer(word), True).reward for word in ("high", "medium", "low")]
    wrong = [judge(answer(word), False).reward for word in ("high", "medium", "low")]
    assert right == sorted(right, reverse=True) and wrong == sorted(wrong)
    assert min(right) > max(wrong) and len({*right, *wrong}) == 6
    assert judge('{"same": "yes"}', True).reward == judge(answer("Medium."), True).reward


@given(truth=some.floats(0.5, 1.0), said=some.sampled_from(sorted(STATED)))
def test_the_best_word_is_the_nearest_to_how_often_one_is_right(truth, said):
    """A proper score: over many answers that are right with this probability."""

    def worth(word):
        answer = ParsedAnswer(True, {"confidence": word})
        return truth * reward(answer, True, "confidence") + (1 - truth) * reward(answer, False, "confidence")

    nearest = min(STATED, key=lambda word: abs(STATED[word] - truth))
    assert worth(nearest) >= worth(said) - 1e-12


@given(
    verdict=some.sampled_from([True, False, None]),
    same=some.booleans(),
    design=some.sampled_from(DESIGNS),
    word=some.one_of(some.none(), some.text(), some.integers(), some.sampled_from(sorted(STATED))),
)
def test_rewards_lie_between_0_and_1_and_right_is_worth_more_than_wrong(verdict, same, design, word):
    answer = ParsedAnswer(verdict, {"confidence": word})
    worth = reward(answer, same, design)
    assert 0 <= worth <= 1
    if verdict is not None:
        assert reward(answer, verdict, design) > reward(answer, not verdict, design)
