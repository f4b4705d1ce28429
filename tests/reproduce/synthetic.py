"""Runs that were never run: results as `saga train` writes them, and a runner that writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from saga_ray.config.overrides import resolve
from saga_ray.reproduce.submit import Ended
from saga_ray.retrieval.record import DataRecord
from saga_ray.train.folder import write_json
from saga_ray.train.result import ArmResult, Result

Measured = Mapping[str, tuple[float, float]]
"""Arm -> R@1 and R@4 in per cent."""


def begin(folder: Path, arguments: Sequence[str]) -> None:
    """What is there as soon as a run has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", resolve(arguments[0], changes(arguments)).model_dump())


def finish(folder: Path, measured: Measured, seed: int = 1) -> None:
    """A finished run's result."""
    folder.mkdir(parents=True, exist_ok=True)
    test: dict[str, ArmResult] = {
        arm: ArmResult.model_validate(
            {
                "recall@1": first / 100,
                "recall@2": first / 100,
                "recall@4": fourth / 100,
                "recall@8": fourth / 100,
                "map@r": 0.5,
                "r_precision": 0.5,
                "nmi": 0.5,
                "queries": 10,
                "queries_left_out": 0,
            }
        )
        for arm, (first, fourth) in measured.items()
    }
    data = DataRecord(
        source="cub",
        note="",
        hash="0" * 64,
        train_images=10,
        train_classes=2,
        test_images=10,
        test_classes=2,
        skipped=0,
    )
    Result(name=folder.name, seed=seed, test={**test}, data=data, seconds=1.0, versions={}).write(folder)


def changes(arguments: Sequence[str]) -> list[str]:
    """What `--set` gives in the arguments of `saga train`."""
    return [value for flag, value in zip(arguments, arguments[1:], strict=False) if flag == "--set"]


def folder_of(arguments: Sequence[str]) -> Path:
    """Of the run, new or resumed."""
    place = arguments.index("--resume" if "--resume" in arguments else "--output")
    return Path(arguments[place + 1])


class Scripted:
    """A runner whose runs end at the second look: `measured` says what a run's arms measure, or fails it by
    a `ValueError` that holds what it printed."""

    def __init__(self, measured: Callable[[str, list[str]], Measured]) -> None:
        self.measured = measured
        self.started: list[list[str]] = []
        self.names: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.stopped: list[str] = []

    def start(self, name: str, arguments: Sequence[str], log: Path) -> ScriptedRun:
        assert log.parent.is_dir()
        self.started.append(list(arguments))
        self.names.append(name)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        begin(folder_of(arguments), arguments)
        return ScriptedRun(self, name, list(arguments))


class ScriptedRun:
    """One of them."""

    def __init__(self, runner: Scripted, name: str, arguments: list[str]) -> None:
        self.runner, self.name, self.arguments = runner, name, arguments
        self.looks = 0

    def ended(self) -> Ended | None:
        self.looks += 1
        if self.looks < 2:
            return None
        self.runner.at_once -= 1
        settings = resolve(self.arguments[0], changes(self.arguments))
        try:
            found = self.runner.measured(self.name, settings.arms)
        except ValueError as failure:
            return Ended(False, str(failure))
        if found:
            finish(folder_of(self.arguments), found, settings.seed)
        return Ended(True, "")

    def stop(self) -> None:
        self.runner.stopped.append(self.name)
