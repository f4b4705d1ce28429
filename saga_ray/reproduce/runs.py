"""The runs that a table needs: rows whose settings are equal are arms of one run.

A run's identity is a hash of the settings that decide its numbers, without its arms: by it a run of another
table in the same folder is found and not repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saga_ray.config.overrides import resolve
from saga_ray.config.presets import find_preset, preset_names
from saga_ray.config.settings import ARM_NAMES, Settings
from saga_ray.data import sources
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.reproduce.tables import Paper, Table
from saga_ray.train.arms import ARMS

NOT_IN_IDENTITY = ("name", "arms", "tracking", "report", "ray")
"""What does not change a number."""
OWN = {"seed": "--seeds", "arms": "the table's rows", "name": "the rows and the seed"}
"""Settings that `--set` cannot give here -> what gives them."""


@dataclass(frozen=True)
class Run:
    """One `saga train`."""

    data: str
    seed: int
    preset: str
    rows: tuple[str, ...]
    changes: tuple[str, ...]
    """Every `--set` but those of inputs, seed, arms and name."""
    placed: tuple[str, ...]
    """Those that place the presets' relative paths in the folder of inputs."""
    settings: Settings

    @property
    def arms(self) -> list[str]:
        """That it trains and scores."""
        return self.settings.arms

    @property
    def name(self) -> str:
        """Of its folder, its MLflow run and its job: what it is, its seed, its identity."""
        return self.settings.name

    @property
    def overrides(self) -> list[str]:
        """Every `--set`."""
        own = [f"seed={self.seed}", f"arms=[{','.join(self.arms)}]", f"name={self.name}"]
        return [*self.changes, *self.placed, *own]

    def arguments(self, output: Path, *, resume: bool) -> list[str]:
        """Of `saga train`."""
        changes = [word for change in self.overrides for word in ("--set", change)]
        return [self.preset, *changes, "--resume" if resume else "--output", str(output)]

    @property
    def identity(self) -> str:
        """See `identity`."""
        return identity(self.settings)

    def changed(self, more: Sequence[str]) -> Run:
        """The same with more settings before those of the command line, which stay the last word."""
        changes = (*more, *self.changes)
        return _run(self.data, self.seed, self.preset, self.rows, changes, self.placed, self.arms)


def identity(settings: Settings) -> str:
    """Eight letters for the settings that decide a run's numbers, its arms aside."""
    values = {
        key: value for key, value in settings.model_dump(mode="json").items() if key not in NOT_IN_IDENTITY
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def runs_of(
    paper: Paper,
    table: Table,
    *,
    data: Sequence[str],
    model: str,
    seeds: Sequence[int],
    changes: Sequence[str] = (),
    inputs: Path,
) -> list[Run]:
    """The runs of a table, seed by seed, data set by data set, in the order of their first rows.

    `inputs`: the folder that relative paths of the presets' pictures and supervisors start from.

    Raises:
        UserError: a preset or a setting is wrong.
    """
    for change in changes:
        name = change.partition("=")[0].strip()
        if name in OWN:
            raise UserError(f"--set {change}: {OWN[name]} give{'s' * (name == 'seed')} {name} of each run")
    runs = []
    for seed in seeds:
        for each in data:
            groups: dict[tuple[str, str], tuple[list[str], list[str], list[str]]] = {}
            for name in table.rows:
                row = paper.rows[name]
                preset = _preset((row.preset or paper.preset).format(data=each, model=model))
                own = [*row.set, *changes]
                bare = resolve(preset, [*own, f"seed={seed}", "arms=[start]"])
                found = groups.setdefault((preset, identity(bare)), (own, _placed(bare, inputs), []))
                found[-1].append(name)
            for (preset, _), (own, placed, rows) in groups.items():
                arms = [paper.rows[name].arm for name in rows]
                runs.append(_run(each, seed, preset, tuple(rows), tuple(own), tuple(placed), arms))
    return runs


def serves(needed: Sequence[str], there: Sequence[str]) -> bool:
    """Whether a run of the same settings with the arms `there` gives what one with the arms `needed` would:
    an arm that takes SAGA's micro-batches or seconds is another where SAGA is trained beside it."""
    follows = any(ARMS[arm].same_batches_as_saga or ARMS[arm].same_seconds_as_saga for arm in needed)
    return set(needed) <= set(there) and not (follows and ("saga" in needed) != ("saga" in there))


def _run(
    data: str,
    seed: int,
    preset: str,
    rows: tuple[str, ...],
    changes: tuple[str, ...],
    placed: tuple[str, ...],
    arms: Sequence[str],
) -> Run:
    wanted = {*arms, "saga"} if "equal-compute" in arms else {*arms}
    listed = ",".join(arm for arm in ARM_NAMES if arm in wanted)
    settings = resolve(preset, [*changes, *placed, f"seed={seed}", f"arms=[{listed}]"])
    name = f"{Path(preset).stem}-{'_'.join(rows)}-s{seed}-{identity(settings)}"
    return Run(data, seed, preset, rows, changes, placed, settings.model_copy(update={"name": name}))


def _preset(name_or_path: str) -> str:
    """A preset's name as it is, a file by its whole path."""
    path = find_preset(name_or_path)
    return name_or_path if name_or_path in preset_names() else str(path.absolute())


def _placed(settings: Settings, inputs: Path) -> list[str]:
    """Settings that place relative paths in the folder of inputs: a job runs in another one."""
    paths = {"supervisor.path": settings.supervisor.path, "data.source": settings.data.source}
    named = {"supervisor.path": supervisors.names(), "data.source": sources.names()}
    wanted = {name: path for name, path in paths.items() if path not in named[name]}
    if settings.data.root is not None:
        wanted["data.root"] = settings.data.root
    return [
        f"{name}={inputs / Path(path).expanduser()}"
        for name, path in wanted.items()
        if not Path(path).expanduser().is_absolute()
    ]
