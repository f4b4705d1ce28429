"""A small table, reproduced: a run as a job of a real Ray head, one as a process here, and neither twice."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from saga_ray.config.names import SOURCE_TREE
from tests.jobs.nodes import environment, head

TABLES = """
title = "Furniture"
source = "two steps each"
preset = "{data}"
model = "furniture-pocket"
models = ["furniture-pocket"]
data = { furniture = "Furniture" }

[tables.one]
title = "one run"
data = ["furniture"]
rows = ["tower", "attention"]

[tables.two]
title = "and another"
data = ["furniture"]
rows = ["tower", "attention", "mean"]

[rows.tower]
title = "tower"
arm = "start"
paper = { furniture = [83.9, 94.6] }

[rows.attention]
title = "attention pooling"
arm = "metric"

[rows.mean]
title = "mean pooling"
arm = "metric"
set = ["encoder.pooling=mean", "distillation.weight=0"]
"""
SHORT = ("train.steps=2", "evaluation.part=validation", "evaluation.verdict_pairs=0")


def reproduce(folder: Path, table: str, *more: str) -> str:
    """What `saga reproduce` prints, which must succeed."""
    code = "import sys; from saga_ray.cli import main; sys.exit(main())"
    changes = [word for change in SHORT for word in ("--set", change)]
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "reproduce", str(folder / "tables.toml"), "--table", table),
            *("--output", str(folder / "out"), *changes, *more),
        ],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(SOURCE_TREE), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(folder: Path, table: str) -> dict[str, list[str]]:
    """A table's rows: title -> cells."""
    text = (folder / "out" / f"table-{table}.md").read_text(encoding="utf-8")
    lines = [each for each in text.splitlines() if each.startswith("| Furniture")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[1]: row[2:] for row in cells}


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """Paths of sockets may have 107 characters, of which Ray takes about 70."""
    with tempfile.TemporaryDirectory(prefix="saga", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_table_is_filled_in_by_a_job_and_by_a_run_here(tmp_path: Path, ray_folder: Path) -> None:
    (tmp_path / "tables.toml").write_text(TABLES)
    with head(ray_folder, {"CPU": 8}) as up:
        said = reproduce(tmp_path, "one", "--address", up.dashboard)
    assert "run 1 of 1 finished" in said
    first = numbers(tmp_path, "one")
    for row in ("tower", "attention pooling"):
        assert re.fullmatch(r"\d\d\.\d", first[row][0]) and first[row][-1] == "1"
    assert first["tower"][1:4:2] == ["83.9", "94.6"]
    (log,) = (tmp_path / "out" / "logs").iterdir()
    assert "metric (1 of 1)  step 2/2" in log.read_text()

    said = reproduce(tmp_path, "two")
    assert "run 1 of 2 starts" not in said and "metric (1 of 1)  step 2/2" in said
    second = numbers(tmp_path, "two")
    assert {row: second[row] for row in first} == first
    assert re.fullmatch(r"\d\d\.\d", second["mean pooling"][0]) and second["mean pooling"][-1] == "2"
    assert "starts" not in reproduce(tmp_path, "two")
