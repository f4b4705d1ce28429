"""The doctor tells what is wrong, in words and by its exit code, and survives checks that die or hang."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from saga_ray.cli import doctor
from saga_ray.cli.command_line import main
from saga_ray.cli.doctor import findings, probes
from saga_ray.cli.doctor.findings import Finding, probed
from saga_ray.config.settings import Settings
from saga_ray.models import supervisors
from tests.tiny import PIXELS, load, tiny_supervisor


def test_versions_are_compared_with_the_pins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = {"torch": "2.13.0+cpu", "ray": "2.59.0", "numpy": "2.3.5"}
    monkeypatch.setattr(findings, "_requirements", lambda extra: list(installed))
    monkeypatch.setattr(findings, "_version", installed.get)
    pins = tmp_path / "constraints.txt"
    monkeypatch.setattr(findings, "shipped", lambda *names: pins)
    pins.write_text("# pinned\nnumpy==2.3.5\nray==2.60.0\ntorch==2.13.0\n")
    found = findings.versions()
    assert found.status == "warning" and "ray 2.59.0 (pinned 2.60.0)" in found.detail
    assert "torch" not in found.detail, "a build's suffix is no other version"
    monkeypatch.setattr(findings, "_requirements", lambda extra: ["torch", "mlflow"])
    assert findings.versions() == Finding("versions", "problem", "not installed: mlflow; run `make setup`")
    monkeypatch.setattr(findings, "_requirements", lambda extra: ["torch"])
    assert findings.versions().status == "ok"


def test_this_environment_has_the_pinned_versions() -> None:
    assert findings.versions().status == "ok", findings.versions().detail


def test_a_place_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "new" / "folder"))
    assert findings.disk().status in ("ok", "warning")
    monkeypatch.setattr(findings.os, "access", lambda *arguments: False)
    assert findings.disk().status == "problem" and "set SAGA_HOME" in findings.disk().detail


def test_a_check_that_hangs_or_dies_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no answer within" in probed("Ray", "ray", Settings(), limit_s=0.01).detail
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **options: subprocess.CompletedProcess(command, -11, "", "lines\nof the crash\n"),
    )
    found = probed("engine parity", "parity", Settings(), limit_s=1)
    assert found.status == "problem" and "of the crash (the check ended with code -11)" in found.detail


def test_faiss_is_checked_in_a_process_of_its_own() -> None:
    found = probed("FAISS", "faiss", Settings(), limit_s=120)
    assert found.status == "ok" and found.detail.startswith("1."), found.detail


def test_an_address_that_nobody_answers_at_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    settings = Settings.model_validate({"tracking": {"uri": "http://127.0.0.1:9"}})
    assert probed("MLflow", "mlflow", settings, limit_s=120).status == "problem"


def test_bytes_kept_for_the_backward_pass_are_counted() -> None:
    layer = torch.nn.Linear(8, 4)
    x_BD = torch.randn(10, 8, requires_grad=True)
    # The product keeps its input; squaring keeps its own; weights are not counted.
    assert probes._kept_bytes(lambda: layer(x_BD) ** 2, layer) == 4 * (10 * 8 + 10 * 4)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Settings for the tests' own supervisor, with the engine that needs no vLLM."""
    tiny_supervisor(tmp_path)
    monkeypatch.setattr(supervisors, "load", lambda path, precision: load(Path(path), precision))
    return {
        "supervisor": {"path": str(tmp_path)},
        "data": {"image_size": PIXELS},
        "rollout": {"engine": "transformers", "max_new_tokens": 8, "group_size": 4, "temperature": 1.0},
        "distillation": {"layer": 1},
    }


def test_an_engine_that_agrees_with_replay_is_fine(tiny: dict[str, Any]) -> None:
    status, detail = probes.engine_parity(Settings.model_validate(tiny))
    assert status == "ok" and detail.startswith("transformers 5."), detail


def test_an_engine_that_differs_from_replay_is_a_problem(tiny: dict[str, Any]) -> None:
    strict = {**tiny, "rollout": {**tiny["rollout"], "parity_tolerance": 1e-12}}
    assert probes.engine_parity(Settings.model_validate(strict))[0] == "problem"


def test_a_batch_that_does_not_fit_is_a_problem(tiny: dict[str, Any]) -> None:
    status, detail = probes.memory_of_a_batch(Settings.model_validate(tiny))
    assert status == "ok", detail
    largest = int(detail.rpartition(" ")[2])
    for pairs, expected in ((largest // 10, "ok"), (10 * largest, "problem")):
        settings = Settings.model_validate({**tiny, "train": {"replay_pairs": pairs}})
        assert probes.memory_of_a_batch(settings)[0] == expected


@pytest.mark.parametrize("status, code", [("ok", 0), ("warning", 0), ("problem", 2)])
def test_only_a_problem_is_a_failure(
    status: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine(settings: Settings) -> Iterator[Finding]:
        yield Finding("cores", "ok", "2")
        yield Finding("memory", status, "as it is")

    monkeypatch.setattr(doctor, "examine", examine)
    assert main(["doctor"]) == code
    assert capsys.readouterr().out.splitlines()[1].split() == [status, "memory", "as", "it", "is"]
    assert main(["doctor", "--json"]) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] == (code == 0) and printed["checks"][1]["status"] == status
