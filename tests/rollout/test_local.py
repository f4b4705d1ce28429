"""A step's rounds with one engine in this process, against a naive second computation."""

from __future__ import annotations

from saga_ray.prompts.verdict import parse_answer
from saga_ray.rollout.local import LocalRollouts
from saga_ray.rollout.rewards import Judge
from tests.rollout.scripted import KEY, ScriptedEngine, answers, requests

PAIRS = list(range(16))


def naive(step: int, rounds: int, wanted: int) -> list[list[int]]:
    """Accepted pairs of each round: the first informative ones of the plan."""
    accepted: list[list[int]] = []
    for round in range(rounds):
        informative = []
        for request in requests(step, round, PAIRS):
            rewards = {parse_answer(answer.text, KEY).verdict is request.same for answer in answers(request)}
            if len(rewards) == 2 and sum(map(len, accepted)) + len(informative) < wanted:
                informative.append(request.pair)
        accepted.append(informative)
    return accepted


def accepted_pairs(client: LocalRollouts, step: int, rounds: int) -> list[list[int]]:
    found = []
    for round in range(rounds):
        client.submit(step, round, requests(step, round, PAIRS), PAIRS)
        found.append([group.pair_index for group in client.accepted(step, round)])
    return found


def test_takes_the_first_informative_pairs_of_the_plan_over_rounds() -> None:
    wanted = len(naive(3, 1, 1000)[0]) + 2  # the second round gives two more, the third none
    expected = naive(3, 3, wanted)
    assert [bool(pairs) for pairs in expected] == [True, True, False]
    client = LocalRollouts(ScriptedEngine(delay_seed=1), wanted, Judge(KEY))
    assert accepted_pairs(client, 3, 3) == expected
    assert client.outcome(3, 1).accepted_total == wanted
    assert client.outcome(3, 2).cancelled == 16


def test_goes_on_with_fewer_when_rounds_give_too_little() -> None:
    client = LocalRollouts(ScriptedEngine(), 1000, Judge(KEY))
    assert accepted_pairs(client, 0, 2) == naive(0, 2, 1000)
    outcome = client.outcome(0, 1)
    assert outcome.groups == 16 and outcome.cancelled == 0
    assert outcome.accepted_total == sum(map(len, naive(0, 2, 1000)))


def test_outcome_counts_what_the_plan_needed() -> None:
    client = LocalRollouts(ScriptedEngine(delay_seed=2), 4, Judge(KEY))
    client.submit(1, 0, requests(1, 0, PAIRS), PAIRS)
    groups = list(client.accepted(1, 0))
    needed = requests(1, 0, range(groups[-1].pair_index + 1))
    completions = [(answer, request.same) for request in needed for answer in answers(request)]
    verdicts = [parse_answer(answer.text, KEY).verdict for answer, _ in completions]
    outcome = client.outcome(1, 0)
    assert (outcome.requests, outcome.groups, outcome.cancelled) == (16, len(needed), 16 - len(needed))
    assert outcome.informative == outcome.accepted_total == 4
    assert outcome.completions == len(completions) and outcome.tokens == 3 * len(completions)
    assert outcome.truncated == len(needed)
    assert outcome.unparsable == verdicts.count(None) > 0
    same = [same for _, same in completions]
    assert outcome.reward_sum == sum(v is s for v, s in zip(verdicts, same, strict=True))


def test_a_worker_that_starts_again_hears_of_each_round_what_it_heard_before() -> None:
    wanted = len(naive(3, 1, 1000)[0]) + 2  # in the second round
    client = LocalRollouts(ScriptedEngine(), wanted, Judge(KEY))
    heard = []
    for _ in range(2):
        for round in range(2):
            client.submit(3, round, requests(3, round, PAIRS), PAIRS)
            heard.append((list(client.accepted(3, round)), client.outcome(3, round)))
    assert [outcome.accepted_total for _, outcome in heard[:2]] == [wanted - 2, wanted]
    assert heard[2:] == heard[:2]


def test_does_not_wait_for_pairs_beyond_the_last_accepted_one() -> None:
    last = naive(2, 1, 3)[0][-1]
    client = LocalRollouts(ScriptedEngine(hang_on=frozenset(range(last + 1, 16))), 3, Judge(KEY))
    assert accepted_pairs(client, 2, 1) == naive(2, 1, 3)
    assert client.engine.idle, "what is not needed must be cancelled in the engine"


def test_a_new_step_ends_the_one_before() -> None:
    engine = ScriptedEngine(hang_on=frozenset({0}))
    client = LocalRollouts(engine, 3, Judge(KEY))
    client.submit(0, 0, requests(0, 0, PAIRS), PAIRS)
    engine.hang_on = frozenset()
    assert accepted_pairs(client, 1, 1) == naive(1, 1, 3)


def test_groups_carry_what_the_step_needs() -> None:
    client = LocalRollouts(ScriptedEngine(), 1, Judge(KEY))
    client.submit(7, 0, requests(7, 0, PAIRS), PAIRS)
    (group,) = client.accepted(7, 0)
    request = requests(7, 0, [group.pair_index])[0]
    assert (group.same, group.encoder_version, group.prompt_tokens) == (request.same, 7, 3)
    assert tuple(completion.seed for completion in group.completions) == request.seeds
    assert group.completions == answers(request)


def test_what_is_submitted_twice_is_asked_once() -> None:
    client = LocalRollouts(ScriptedEngine(), 3, Judge(KEY))
    for _ in range(2):
        client.submit(4, 0, requests(4, 0, PAIRS), PAIRS)
    assert [group.pair_index for group in client.accepted(4, 0)] == naive(4, 1, 3)[0]
