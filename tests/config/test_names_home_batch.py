"""Small parts of the configuration: names, places, the batch equation."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from saga_ray.config import names
from saga_ray.config.batch import BatchEquation
from saga_ray.config.help import settings_help
from saga_ray.config.home import find_run, home, new_run_folder, output_home
from saga_ray.config.names import modules_in, nearest, shipped
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError


def test_config_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, saga_ray.config.overrides, saga_ray.config.batch, saga_ray.config.home;"
        "from saga_ray.cli.command_line import parser; parser();"
        "print(*{'torch', 'ray', 'mlflow', 'transformers', 'numpy'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "\n"
    )


def test_names_come_from_listing_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "PACKAGE", tmp_path)
    folder = tmp_path / "losses"
    (folder / "deep").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "deep" / "__init__.py").touch()
    for name in ("__init__.py", "_base.py", "base.py", "triplet.py", "notes.txt"):
        (folder / name).touch()
    assert modules_in("losses") == ["deep", "triplet"]


def test_an_installed_wheel_finds_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shipped("jobs/presets", "presets").is_dir()
    monkeypatch.setattr(names, "SOURCE_TREE", tmp_path)
    monkeypatch.setattr(names, "PACKAGE", tmp_path / "saga_ray")
    assert shipped("jobs/presets", "presets") == tmp_path / "saga_ray/shipped/presets"


@pytest.mark.parametrize(
    "word, meant", [("Furniture", "furniture"), ("multi-similarity", "multi_similarity"), ("qqq", None)]
)
def test_the_nearest_name(word: str, meant: str | None) -> None:
    assert nearest(word, ["furniture", "multi_similarity"]) == meant


def test_home_is_the_variable_or_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path))
    assert home() == tmp_path
    folder = new_run_folder("trial", datetime(2026, 1, 2, 3, 4, 5))
    assert folder == tmp_path / "runs" / "trial-20260102-030405"
    assert output_home(folder) == tmp_path / "runs"
    monkeypatch.setenv("SAGA_HOME", "")
    assert home() == Path.home() / "saga"


def test_a_run_is_found_by_folder_or_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path))
    folder = tmp_path / "runs" / "trial"
    folder.mkdir(parents=True)
    assert find_run("trial") == find_run(str(folder)) == folder
    with pytest.raises(UserError, match="there is no run 'other'"):
        find_run("other")


def test_the_batch_equation() -> None:
    settings = Settings.model_validate(
        {
            "data": {"classes_per_batch": 8, "images_per_class": 3, "pairs_per_batch": 12, "blocks": 2},
            "rollout": {"group_size": 5, "max_new_tokens": 10},
            "grpo": {"informative_pairs": 4, "max_micro_batches": 3},
        }
    )
    equation = BatchEquation.of(settings)
    assert (equation.images, equation.sequences, equation.tokens) == (24, 60, 600)
    assert (equation.replayed_sequences, equation.replayed_tokens) == (20, 200)
    text = "\n".join(equation.lines())
    assert (
        "12 pairs x 5 completions = 60 sequences" in text
        and "72 images" in text
        and "1,800 generated" in text
    )


def test_allowed_values_in_words() -> None:
    helps = settings_help()
    assert helps["data.image_size"].allowed == "a whole number of at least 1"
    assert helps["encoder.embedding_size"].allowed == "a whole number of at least 1, or none"
    assert helps["encoder.pooling"].allowed == "one of attention, mean"
    assert helps["optimizer.beta1"].allowed == "a number of at least 0 and below 1"
    assert helps["rollout.resources"].allowed == "a table of numbers"
    assert (helps["grpo.weight"].default, helps["grpo.weight"].section) == ("1.0", "grpo")
