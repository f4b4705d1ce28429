"""The pool on a local Ray: what is accepted never depends on timing, lost groups come back, waits end."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import Engine
from saga_ray.rollout.groups import Group
from saga_ray.rollout.local import LocalRollouts
from saga_ray.rollout.pool import Engines, Pool, PoolClient, open_pool, running_pool, start_engines
from saga_ray.rollout.rewards import Judge
from tests.rollout.scripted import GROUP, KEY, ScriptedEngine, requests

PAIRS = list(range(16))
SHARES = [[pair for pair in PAIRS if pair % 4 in (0, 1)], [pair for pair in PAIRS if pair % 4 in (2, 3)]]
"""Two workers' pairs, as blocks are dealt."""
WANTED = 6

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("session_ray")]


def settings(actors: int = 1, **rollout: Any) -> Settings:
    values: dict[str, Any] = {"actors": actors, "group_size": GROUP, "cpus_per_actor": 0.5, **rollout}
    return Settings.model_validate(
        {"rollout": values, "grpo": {"informative_pairs": WANTED}, "ray": {"wait_for_resources_s": 1}}
    )


class Pools(ExitStack):
    """Pools of scripted engines that are closed at the end of a test."""

    def __call__(self, settings: Settings, **script: Any) -> Pool:
        return self.enter_context(running_pool(settings, "unused", KEY, partial(ScriptedEngine, **script)))

    def engines(self, settings: Settings, **script: Any) -> Engines:
        """Rollout actors for several pools."""
        engines = start_engines(settings, "unused", partial(ScriptedEngine, **script))
        self.callback(engines.close)
        return engines


@pytest.fixture
def pools() -> Iterator[Pools]:
    with Pools() as pools:
        yield pools


def work(
    client: PoolClient, pairs: list[int], step: int, late_s: float = 0.0
) -> tuple[list[Group], list[RoundOutcome]]:
    """One training worker: rounds until K pairs are accepted."""
    groups: list[Group] = []
    outcomes: list[RoundOutcome] = []
    for round in range(3):
        time.sleep(late_s)
        client.submit(step, round, requests(step, round, pairs), PAIRS)
        groups += client.accepted(step, round)
        outcomes.append(client.outcome(step, round))
        if outcomes[-1].accepted_total >= WANTED:
            break
    return groups, outcomes


def two_workers(client: PoolClient, step: int = 0) -> tuple[list[list[Group]], list[list[RoundOutcome]]]:
    copies = [pickle.loads(pickle.dumps(client)) for _ in SHARES]
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(work, copies, SHARES, [step, step], [0.0, 0.1]))
    return [groups for groups, _ in results], [outcomes for _, outcomes in results]


def expected(step: int) -> tuple[list[Group], list[RoundOutcome]]:
    """What one worker with an engine of its own gets."""
    local: Any = LocalRollouts(ScriptedEngine(), WANTED, Judge(KEY))
    return work(local, PAIRS, step)


def untimed(outcomes: list[RoundOutcome]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in vars(outcome).items() if name != "seconds"} for outcome in outcomes
    ]


def test_two_workers_get_what_one_gets_whatever_the_delays(pools: Pools) -> None:
    for delay_seed in (1, 2):
        client = pools(settings(actors=2), delay_seed=delay_seed).client()
        for step in (0, 1):
            groups, outcomes = two_workers(client, step)
            groups_of_one, outcomes_of_one = expected(step)
            assert sorted(groups[0] + groups[1], key=groups_of_one.index) == groups_of_one
            for own, share in zip(groups, SHARES, strict=True):
                assert own == [group for group in groups_of_one if group.pair_index in share]
            assert untimed(outcomes[0]) == untimed(outcomes[1]) == untimed(outcomes_of_one)


def test_accepted_groups_come_before_the_round_is_over(pools: Pools) -> None:
    first = expected(0)[0][0].pair_index
    hanging = frozenset(range(first + 1, 16))
    client = pools(settings(), hang_on=hanging).client()
    client.submit(0, 0, requests(0, 0, PAIRS), PAIRS)
    assert next(client.accepted(0, 0)).pair_index == first


def test_pairs_beyond_the_last_accepted_one_are_cancelled_in_the_engine(pools: Pools, tmp_path: Path) -> None:
    groups, outcomes = expected(0)
    assert len(outcomes) == 1
    hanging = frozenset(range(groups[-1].pair_index + 1, 16))
    pool = pools(settings(), hang_on=hanging, marks=tmp_path)
    assert work(pool.client(), PAIRS, 0)[0] == groups
    assert pool.stats().cancelled == outcomes[0].cancelled == len(hanging)
    wait_for(lambda: len(list(tmp_path.glob("aborted-*"))) == len(hanging))


def test_a_killed_actor_comes_back_and_so_do_its_groups(pools: Pools, tmp_path: Path) -> None:
    pool = pools(settings(actors=2), kill_on=2, delay_seed=3, marks=tmp_path)
    groups, outcomes = two_workers(pool.client())
    assert (tmp_path / "killed").exists()
    assert sorted(groups[0] + groups[1], key=expected(0)[0].index) == expected(0)[0]
    assert untimed(outcomes[0]) == untimed(expected(0)[1])
    assert pool.stats().asked_again > 0
    wait_for(lambda: pool.stats().restarts == 1)
    assert work(pool.client(), PAIRS, 1)[0] == expected(1)[0]


def test_the_only_actor_killed_comes_back(pools: Pools, tmp_path: Path) -> None:
    pool = pools(settings(), kill_on=0, marks=tmp_path)
    assert work(pool.client(), PAIRS, 0)[0] == expected(0)[0]
    assert pool.stats().restarts == 1


def test_a_group_that_never_comes_ends_the_run_with_a_sentence(pools: Pools) -> None:
    pool = pools(settings(group_timeout_s=0.4, group_retries=1), hang_on=frozenset({1}))
    with pytest.raises(
        UserError,
        match=r"rollout actor 0: the group of step 5, round 0, pair 1 was lost 2 times.*took longer",
    ):
        work(pool.client(), PAIRS, 5)


def test_an_engine_that_always_fails_ends_the_run_with_its_own_traceback(pools: Pools) -> None:
    pool = pools(settings(group_retries=1), raise_on=3)
    with pytest.raises(
        UserError, match=r"step 0, round 0, pair \d+ was lost 2 times.*(?s:.*)the engine lost its mind"
    ):
        work(pool.client(), PAIRS, 0)


def test_a_request_that_an_engine_refuses_is_not_asked_again(pools: Pools) -> None:
    pool = pools(settings(), refuse_on=3)
    with pytest.raises(UserError, match="pair 3 does not fit"):
        work(pool.client(), PAIRS, 0)
    assert pool.stats().asked_again == 0


def test_a_worker_that_does_not_submit_its_share_is_named(pools: Pools) -> None:
    impatient = settings()
    impatient.train.collective_timeout_s = 0.5
    client = pools(impatient).client()
    client.submit(2, 0, requests(2, 0, SHARES[0]), PAIRS)
    with pytest.raises(
        UserError, match=r"step 2, round 0: a training worker has not submitted its pairs \[2, 3, 6"
    ):
        list(client.accepted(2, 0))


def test_a_new_arm_or_a_restarted_one_starts_afresh(pools: Pools) -> None:
    pool = pools(settings(), delay_seed=4)
    first = pool.client()
    first.submit(0, 0, requests(0, 0, SHARES[0]), PAIRS)  # its other worker died
    assert work(pool.client(), PAIRS, 0)[0] == expected(0)[0]  # another arm
    again = pool.client()
    again.submit(3, 0, requests(3, 0, PAIRS), PAIRS)
    assert work(again, PAIRS, 1)[0] == expected(1)[0]  # the same arm, restarted from an earlier step
    assert work(pickle.loads(pickle.dumps(again)), PAIRS, 1)[0] == expected(1)[0]  # from the same step


def test_all_groups_for_the_parity_gate(pools: Pools) -> None:
    groups = pools(settings(actors=2), delay_seed=6).parity_groups(requests(0, 0, PAIRS))
    assert [group.pair_index for group in groups] == PAIRS
    assert {group.informative for group in groups} == {True, False}


def test_no_free_cpu_is_said_at_once(pools: Pools) -> None:
    there = ray.cluster_resources()["CPU"]
    started = time.monotonic()
    with pytest.raises(
        UserError, match=rf"no room for 2 rollout actors: they need 100 CPU \({there:g} in the"
    ):
        pools(settings(actors=2, cpus_per_actor=50))
    assert time.monotonic() - started < 10
    taken = pools(settings(cpus_per_actor=there - 1))
    with pytest.raises(
        UserError, match=rf"no room .* after .* need 2 CPU \({there:g} in the cluster, 1 free"
    ):
        pools(settings(cpus_per_actor=2))
    assert taken.engine_name == "scripted"


def refuse_to_start() -> Engine:
    raise UserError("vLLM cannot be imported")


def fail_to_start() -> Engine:
    raise RuntimeError("out of memory")


def never_start() -> Engine:
    time.sleep(3600)
    raise AssertionError


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (refuse_to_start, "^vLLM cannot be imported$"),
        (fail_to_start, "rollout actor 0 did not start its engine(?s:.*)out of memory"),
        (never_start, r"did not start within rollout.start_timeout_s=10 s: still waiting for \[0\] of 1"),
    ],
)
def test_an_engine_that_does_not_start(build: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        start_engines(settings(start_timeout_s=10 if build is never_start else 200), "unused", build)


def wait_for(condition: Any, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Run:
    """A run of its own process: opens a pool over shared actors and asks for what never comes."""

    def __init__(self, engines: Engines) -> None:
        self.pool = open_pool(engines, settings(), KEY)

    def ask(self, pairs: list[int]) -> None:
        self.pool.client().submit(0, 0, requests(0, 0, pairs), pairs)


def desks(engines: Engines) -> list[str]:
    found: list[str] = ray.get(engines.actors[0].desks.remote())
    return found


def test_runs_that_share_the_actors_get_what_each_gets_alone(pools: Pools) -> None:
    engines = pools.engines(settings(actors=2), delay_seed=3)
    shared = [open_pool(engines, settings(), KEY) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda pool, step: work(pool.client(), PAIRS, step), shared, (0, 1, 2)))
    for step, (groups, outcomes) in enumerate(found):
        alone, outcomes_alone = expected(step)
        assert groups == alone and untimed(outcomes) == untimed(outcomes_alone)
    for pool in shared:
        pool.close()
    wait_for(lambda: desks(engines) == [])


def test_a_run_that_dies_is_forgotten_and_the_others_go_on(pools: Pools, tmp_path: Path) -> None:
    engines = pools.engines(settings(), hang_on=frozenset({99, 98}), marks=tmp_path)
    dying: Any = ray.remote(Run).options(num_cpus=0).remote(engines)
    ray.get(dying.ask.remote([98, 99]))
    wait_for(lambda: len(desks(engines)) == 1)
    pool = open_pool(engines, settings(), KEY)
    ray.kill(dying)
    wait_for(lambda: len(list(tmp_path.glob("aborted-*"))) == 2, limit_s=60)
    assert work(pool.client(), PAIRS, 0)[0] == expected(0)[0]
    assert len(desks(engines)) == 1
    pool.close()
