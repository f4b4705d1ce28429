"""`make demo` fails when it was not the real thing that ran."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from saga_ray.config.names import SOURCE_TREE


@pytest.mark.parametrize(
    "engine, pairs, said",
    [
        ("vllm", 400, ""),
        ("transformers", 400, "the rollout engine was transformers, not vllm"),
        ("vllm", 399, "3.99 pairs were replayed a step, fewer than 4"),
    ],
)
def test_the_engine_must_be_vllm_and_four_pairs_a_step_replayed(
    engine: str, pairs: int, said: str, tmp_path: Path
) -> None:
    saga = {"engine": {"name": engine, "version": "1"}, "steps": 100, "pairs_replayed": pairs}
    (tmp_path / "result.json").write_text(json.dumps({"test": {"saga": saga}}))
    done = subprocess.run(
        [sys.executable, str(SOURCE_TREE / ".ci" / "check_demo.py"), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, said in done.stderr) == (1 if said else 0, True)
