"""Whole trainings of an embedder on a real local Ray: both stages, scores, MLflow, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch

from saga_ray.composed.embedder import Embedder
from saga_ray.composed.identity import find_embedder
from saga_ray.composed.train.prepare import prepare
from saga_ray.composed.train.result import CirTrainingResult, gain, read
from saga_ray.composed.train.run import EVALUATION, run
from saga_ray.config.composed import ComposedSettings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.train.folder import RunFolder
from tests.composed.bars import small_settings, write_bars

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bars in a folder."""
    return write_bars(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def small(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ComposedSettings]]:
    """``small(section={...})``: settings of two stages of a few steps. Their supervisor is named from the
    driver's folder, in which Ray's workers are not.
    """
    here = tmp_path_factory.mktemp("here")
    (here / "mine").symlink_to(supervisors.SHIPPED / "furniture-pocket")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        yield partial(small_settings, data, embedder={"supervisor": "mine"})


@pytest.fixture(scope="module")
def done(
    session_ray: None, small: Callable[..., ComposedSettings], tmp_path_factory: pytest.TempPathFactory
) -> tuple[CirTrainingResult, Path]:
    """A run from its start to its end."""
    output = tmp_path_factory.mktemp("cir") / "run"
    patch = pytest.MonkeyPatch()
    patch.setenv("SAGA_HOME", str(output.parent / "home"))
    try:
        return run(small(), output), output
    finally:
        patch.undo()


def test_a_run_scores_both_stages_beside_their_baselines(done: tuple[CirTrainingResult, Path]) -> None:
    result, output = done
    assert read(output) == result
    assert list(result.stages) == list(result.scored) == ["align", "instruct"]
    assert [result.stages[stage].steps for stage in result.stages] == [2, 3]
    for scored in result.scored.values():
        assert set(scored.measures) == {"composed", "image_only", "text_only", "image_and_text"}
        assert scored.measures["composed"]["queries"] == 12  # of one shape in four colours
    last = result.scored["instruct"].measures["composed"]["recall@1"]
    others = [
        own["recall@1"]
        for scored in result.scored.values()
        for way, own in scored.measures.items()
        if way != "composed"
    ]
    assert gain(result) == pytest.approx(last - max(others))
    assert (output / EVALUATION / "report" / "index.html").is_file()


def test_the_last_stage_s_embedder_is_the_run_s(done: tuple[CirTrainingResult, Path]) -> None:
    _, output = done
    folder = find_embedder(str(output))
    assert folder == RunFolder(output).model("instruct")
    aligned, trained = Embedder.load(RunFolder(output).model("align")), Embedder.load(folder)
    pixels = torch.randint(0, 256, (1, 112, 112, 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = aligned(pixels.to(torch.uint8)) - trained(pixels.to(torch.uint8))
    assert float(difference.norm()) > 1e-3


def test_mlflow_has_a_run_with_a_nested_run_a_stage(done: tuple[CirTrainingResult, Path]) -> None:
    result, output = done
    client = mlflow.MlflowClient(f"sqlite:///{output.parent / 'mlflow.db'}")
    run_id = RunFolder.mlflow_run(output)
    assert run_id is not None
    parent = client.get_run(run_id)
    assert parent.data.params["instruct.image_weight"] == "0.5"
    found = result.scored["instruct"].measures["composed"]["recall@1"]
    assert parent.data.metrics["test/instruct/composed/recall_at_1"] == pytest.approx(found)
    nested = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["start_time ASC"]
    )
    assert [each.data.tags["saga.arm"] for each in nested] == ["align", "instruct"]
    assert all(each.info.status == "FINISHED" for each in nested)
    steps = client.get_metric_history(nested[1].info.run_id, "loss/images")
    assert [metric.step for metric in steps] == [0, 1, 2]


def test_a_run_that_has_ended_is_not_trained_again(
    done: tuple[CirTrainingResult, Path], small: Callable[..., ComposedSettings]
) -> None:
    result, output = done
    again = run(small(), output, resume=True)
    assert again.stages == result.stages
    assert again.scored["instruct"] == result.scored["instruct"]
    assert {way: own["recall@1"] for way, own in again.scored["align"].measures.items()} == {
        way: own["recall@1"] for way, own in result.scored["align"].measures.items()
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data": {"source": "furnitur"}}, "did you mean furniture"),
        ({"embedder": {"supervisor": "nobody"}}, "There is no supervisor 'nobody'"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    changes: dict[str, Any], sentence: str, small: Callable[..., ComposedSettings]
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare(small(**changes))


def test_triplets_that_lack_what_a_loss_needs_are_counted(
    data: Path, small: Callable[..., ComposedSettings], tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (data / "triplets.jsonl").read_text().splitlines()]
    for line in lines[:5]:
        del line["target"]
    for file in data.glob("*.png"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "triplets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = {"source": str(tmp_path)}
    with pytest.raises(UserError, match="has 0 captions and align.steps=2: add some"):
        prepare(small(data=source))
    with pytest.raises(UserError, match=r"48 of 48 triplets are without captions of both"):
        prepare(small(data=source, align={"steps": 0}))
    with pytest.raises(UserError, match=r"5 of 48 triplets are without a target picture"):
        prepare(small(data=source, align={"steps": 0}, instruct={"caption_weight": 0.0}))


def test_an_instruction_beyond_the_context_is_said_before_anything_starts(
    data: Path, small: Callable[..., ComposedSettings], tmp_path: Path
) -> None:
    for file in data.glob("*.png"):
        (tmp_path / file.name).symlink_to(file)
    line = {"reference": "0-red.png", "instruction": "red and " * 200, "target": "0-blue.png"}
    (tmp_path / "triplets.jsonl").write_text((json.dumps(line) + "\n") * 2)
    settings = small(data={"source": str(tmp_path)}, align={"steps": 0}, instruct={"caption_weight": 0.0})
    with pytest.raises(UserError, match=r"reads 256 at most: shorten"):
        prepare(settings)
