"""All checks in their order: light ones here, each heavy one in a process of its own with a time limit.

A process of its own, since an engine that crashes or a cluster that hangs must not take the others along.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from saga_ray.config.home import home
from saga_ray.config.names import SOURCE_TREE, shipped
from saga_ray.config.settings import Settings

Status = Literal["ok", "warning", "problem"]
GIB = 2**30
PROBES = {
    "GPUs": ("gpus", 120.0),
    "Ray": ("ray", 180.0),
    "FAISS": ("faiss", 120.0),
    "MLflow": ("mlflow", 180.0),
    "engine parity": ("parity", 600.0),
    "largest batch": ("memory", 180.0),
}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    status: Status
    detail: str


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check's finding, as soon as it is there."""
    yield python()
    yield versions()
    yield cores()
    yield memory()
    yield disk()
    for name, (probe, limit_s) in PROBES.items():
        yield probed(name, probe, settings, limit_s)


def python() -> Finding:
    """The interpreter."""
    fits = sys.version_info[:2] == (3, 11)
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(
        "Python", "ok" if fits else "problem", detail if fits else f"{detail}; Python 3.11 is needed"
    )


def versions() -> Finding:
    """What the package asks for against constraints.txt: missing is a problem, another version a warning."""
    pins = _pins(shipped("constraints.txt", "constraints.txt"))
    extra = "gpu" if _version("vllm") else "cpu"
    missing, other, right = [], [], []
    for name in _requirements(extra):
        installed, pinned = _version(name), pins.get(name)
        if installed is None:
            missing.append(name)
        elif pinned is not None and installed.partition("+")[0] != pinned:
            other.append(f"{name} {installed} (pinned {pinned})")
        else:
            right.append(name)
    if missing:
        return Finding("versions", "problem", f"not installed: {', '.join(missing)}; run `make setup`")
    if other:
        return Finding(
            "versions", "warning", f"not the measured versions: {', '.join(other)}; run `make setup`"
        )
    shown = [
        f"{name} {_version(name)}" for name in ("torch", "transformers", "ray", "mlflow") if name in right
    ]
    return Finding("versions", "ok", f"{len(right)} packages as pinned, extra [{extra}]: {', '.join(shown)}")


def cores() -> Finding:
    """Cores that this process may use."""
    number = len(os.sched_getaffinity(0))
    return Finding(
        "cores", "ok" if number >= 2 else "warning", f"{number}" + ("" if number >= 2 else "; 2 are needed")
    )


def memory() -> Finding:
    """Memory that is free now."""
    import psutil

    state = psutil.virtual_memory()
    status: Status = (
        "ok" if state.available >= 8 * GIB else "warning" if state.available >= 4 * GIB else "problem"
    )
    advice = "" if status == "ok" else "; a demo wants 8 GiB"
    return Finding(
        "memory", status, f"{state.available / GIB:.1f} of {state.total / GIB:.1f} GiB free{advice}"
    )


def disk() -> Finding:
    """Room where runs and stores live, and whether it may be written to."""
    folder = home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "disk", "problem", f"{folder} cannot be written to; set SAGA_HOME to a folder that can"
        )
    free = shutil.disk_usage(existing).free
    status: Status = "ok" if free >= 5 * GIB else "warning" if free >= GIB else "problem"
    return Finding("disk", status, f"{free / GIB:.0f} GiB free at {folder}")


def probed(name: str, probe: str, settings: Settings, limit_s: float) -> Finding:
    """The finding of a probe that runs in a process of its own."""
    command = [sys.executable, "-m", "saga_ray.cli.doctor.probes", probe]
    try:
        ended = subprocess.run(
            command, input=settings.model_dump_json(), capture_output=True, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return Finding(name, "problem", f"no answer within {limit_s:.0f} s")
    return _answer(name, ended.stdout, ended.stderr, ended.returncode)


def _answer(name: str, stdout: str, stderr: str, code: int) -> Finding:
    """A probe's last line on stdout is its finding; a probe that died has none."""
    lines = stdout.strip().splitlines()
    if code == 0 and lines:
        found = json.loads(lines[-1])
        return Finding(name, found["status"], found["detail"])
    words = [line.strip() for line in stderr.splitlines() if line.strip()]
    return Finding(
        name, "problem", f"{words[-1] if words else 'no message'} (the check ended with code {code})"
    )


def _pins(constraints: Path) -> dict[str, str]:
    pins = (
        line.partition("==")
        for line in constraints.read_text().splitlines()
        if "==" in line and line[0] != "#"
    )
    return {name: version for name, _, version in pins}


def _requirements(extra: str) -> Sequence[str]:
    """Names of what the package asks for, by itself and with an extra."""
    try:
        wanted = [Requirement(each) for each in metadata.requires("saga-ray") or []]
        return [each.name for each in wanted if not each.marker or each.marker.evaluate({"extra": extra})]
    except metadata.PackageNotFoundError:
        # A submitted job's copy of the source tree is not installed.
        project = tomllib.loads((SOURCE_TREE / "pyproject.toml").read_text())["project"]
        return [
            Requirement(each).name
            for each in project["dependencies"] + project["optional-dependencies"][extra]
        ]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
