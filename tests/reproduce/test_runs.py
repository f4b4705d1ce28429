"""Which runs a table is, and what each needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_ray.config.overrides import resolve
from saga_ray.errors import UserError
from saga_ray.plan.estimate import plan
from saga_ray.plan.hardware import Speed, gpu_named
from saga_ray.plan.supervisors import supervisor_sizes
from saga_ray.plan.workload import Workload
from saga_ray.reproduce.needs import need
from saga_ray.reproduce.runs import Run, runs_of, serves
from saga_ray.reproduce.tables import read_paper

SAGA = read_paper("saga")
SPEED = Speed(gpu_named("h200"))


def runs(table: str, *changes: str, model: str = "qwen3vl-8b", seeds: tuple[int, ...] = (1,)) -> list[Run]:
    known = SAGA.table(table)
    return runs_of(
        SAGA,
        known,
        data=known.data,
        model=model,
        seeds=seeds,
        changes=changes,
        inputs=Path("/inputs"),
    )


def arms_on_cub(table: str) -> list[tuple[tuple[str, ...], list[str]]]:
    return [(run.rows, run.arms) for run in runs(table) if run.data == "cub"]


def test_the_main_table_is_three_runs_a_data_set() -> None:
    # The pre-trained tower comes with SAGA; the baselines pool by the mean, so that neither is an arm of it.
    assert len(runs("1")) == 12 and len(runs("1", seeds=(1, 2, 3))) == 36
    assert arms_on_cub("1") == [
        (("tower", "saga"), ["start", "saga"]),
        (("proxy-anchor",), ["metric"]),
        (("potential-field",), ["metric"]),
    ]


@pytest.mark.parametrize(
    "table, expected",
    [
        ("verdict", [(("verdict-ce", "saga"), ["saga", "verdict-ce"])]),
        (
            "equal-compute",
            [(("same-batches", "equal-compute", "saga"), ["metric", "saga", "equal-compute"])],
        ),
        (
            "ablation",
            [
                (("potential-field",), ["metric"]),
                (("grpo",), ["saga"]),
                (("grpo-generic",), ["saga"]),
                (("distillation", "saga"), ["saga", "distillation"]),
            ],
        ),
    ],
)
def test_rows_of_equal_settings_are_arms_of_one_run(
    table: str, expected: list[tuple[tuple[str, ...], list[str]]]
) -> None:
    assert arms_on_cub(table) == expected


def test_a_width_that_the_preset_has_anyway_is_the_same_run() -> None:
    wide = next(run for run in runs("embedding-size") if run.rows == ("saga-4096",))
    assert wide.identity == runs("1")[0].identity
    narrow = next(run for run in runs("embedding-size") if run.rows == ("saga-128",))
    assert narrow.identity != wide.identity and narrow.settings.encoder.embedding_size == 128


def test_equal_compute_alone_brings_saga_which_it_measures_itself_by() -> None:
    table = SAGA.table("equal-compute").model_copy(update={"rows": ["equal-compute"]})
    (run,) = runs_of(SAGA, table, data=["cub"], model="qwen3vl-8b", seeds=[1], inputs=Path("/inputs"))
    assert run.arms == ["saga", "equal-compute"]


@pytest.mark.parametrize(
    "needed, there, serving",
    [
        (["saga"], ["start", "saga"], True),
        (["start", "saga"], ["saga"], False),
        (["metric"], ["metric", "saga"], False),  # it took SAGA's micro-batches
        (["metric", "saga"], ["start", "metric", "saga"], True),
        (["start"], ["start", "metric"], True),
    ],
)
def test_a_run_of_another_table_serves_where_its_arms_are_the_same(
    needed: list[str], there: list[str], serving: bool
) -> None:
    assert serves(needed, there) == serving


def test_a_run_is_a_command_that_gives_its_settings() -> None:
    run = runs("1", "train.steps=7", seeds=(3,))[1]
    arguments = run.arguments(Path("/out"), resume=False)
    assert arguments[0] == "cub-qwen3vl-8b" and arguments[-2:] == ["--output", "/out"]
    settings = resolve(arguments[0], run.overrides)
    assert settings == run.settings and (settings.seed, settings.train.steps) == (3, 7)
    assert settings.metric.loss == "proxy_anchor" and settings.metric.options == {}
    assert settings.encoder.pooling == "mean" and settings.name.startswith("cub-qwen3vl-8b-proxy-anchor-s3-")
    assert run.arguments(Path("/out"), resume=True)[-2:] == ["--resume", "/out"]


def test_relative_paths_start_in_the_folder_of_inputs() -> None:
    settings = runs("1")[0].settings
    assert settings.data.root == "/inputs/data/CUB_200_2011"
    assert settings.supervisor.path == "/inputs/supervisors/qwen3vl-8b-birds"
    assert runs("1", "data.root=/elsewhere")[0].settings.data.root == "/elsewhere"
    assert runs("1", "data.root=near")[0].settings.data.root == "/inputs/near"


@pytest.mark.parametrize("change", ["seed=2", "arms=[start]", "name=mine"])
def test_what_the_table_decides_is_not_set(change: str) -> None:
    with pytest.raises(UserError, match=f"--set {change.partition('=')[0]}="):
        runs("1", change)


def test_where_results_go_is_not_part_of_a_run_s_identity() -> None:
    assert runs("1", "tracking.uri=http://mlflow:5000")[0].name == runs("1")[0].name
    assert runs("1", "train.steps=7")[0].name != runs("1")[0].name


def test_a_run_of_saga_needs_what_its_plan_says() -> None:
    run = runs("1")[0]
    found = need(run, SPEED, 8)
    made = plan(run.settings, Workload.of(run.settings, supervisor_sizes(run.settings)), SPEED, 8)
    assert found.gpus == 8 and found.changes == made.settings
    assert found.split == f"{made.split.rollout} answer, {made.split.training} train"
    hours = 275 * made.seconds_overlapped / 3600, 275 * made.seconds / 3600
    assert found.hours == pytest.approx(hours)
    alone = need(run, SPEED, None)
    assert (alone.gpus, alone.split) == (1, "answers and trains") and alone.hours[0] > found.hours[1]
    assert run.changed(alone.changes).identity == run.identity  # the preset is made for one GPU


def test_each_arm_costs_its_own() -> None:
    (three, *_) = runs("equal-compute")
    (saga, *_) = runs("1")
    one, all_of_them = need(saga, SPEED, 8), need(three, SPEED, 8)
    # SAGA, as many seconds again, and the micro-batches of SAGA without rollouts.
    assert 2 * one.hours[1] < all_of_them.hours[1] < 2.2 * one.hours[1]


def test_a_baseline_needs_one_gpu_and_no_language_model() -> None:
    baseline, saga = need(runs("1")[2], SPEED, 8), need(runs("1")[0], SPEED, 1)
    assert (baseline.gpus, baseline.split, baseline.changes) == (1, "trains", ())
    # At least weights, gradients and AdamW's moments of 0.6 billion parameters, and not 16 GiB more.
    assert 16 * 0.57e9 / 2**30 < baseline.peak_gib < 40
    assert 0 < baseline.hours[0] == baseline.hours[1] < saga.hours[0] / 100


def test_what_the_cost_model_does_not_know_is_said() -> None:
    with pytest.raises(UserError, match="its sizes are known of none but qwen3vl-8b"):
        need(runs("1", "supervisor.path=supervisors/mine")[0], SPEED, None)
    with pytest.raises(UserError, match="ask for no GPU"):
        need(runs("1", "train.gpus_per_worker=0", "rollout.gpus_per_actor=0")[0], SPEED, None)


def test_a_settings_file_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A job runs in another folder.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cub-mine.toml").write_text('name = "mine"\n')
    table = SAGA.table("verdict")
    paper = SAGA.model_copy(update={"preset": "{data}-{model}.toml"})
    (run,) = runs_of(paper, table, data=["cub"], model="mine", seeds=[1], inputs=tmp_path)
    assert run.preset == str(tmp_path / "cub-mine.toml")
    assert run.name.startswith("cub-mine-verdict-ce_saga-s1-")
