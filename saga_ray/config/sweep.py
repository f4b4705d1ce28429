"""A sweep: a base preset, what is searched in it, how, and how much. Its files are ``tune_spaces/*.toml``.

Any setting of a run can be searched by its dotted name, but for those that the trials of a sweep share.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from saga_ray.config.checking import check_as
from saga_ray.config.help import SettingHelp
from saga_ray.config.names import nearest, shipped
from saga_ray.config.overrides import apply, place, setting_named
from saga_ray.config.points import points
from saga_ray.config.presets import Command, preset_names, read_preset
from saga_ray.config.searched import AnySettings, last_trained, of_every_trial, searched
from saga_ray.config.settings import ARM_NAMES, Count, Section, Seed
from saga_ray.errors import UserError

CHECKED = 2000
"""Trials of a sweep, of those that are known beforehand, whose settings are checked before it starts."""


class Parameter(Section):
    """What is searched has this in common."""

    when: dict[str, Any] = Field(
        default_factory=dict,
        description="searched only where these other searched settings have these values",
    )


class Choice(Parameter):
    """One of several values."""

    kind: Literal["choice"]
    values: Annotated[list[Any], Field(min_length=1)]

    def can_be(self, value: Any) -> bool:
        """Whether a trial can have this value."""
        return value in self.values


class Range(Parameter):
    """A number between two, even, even in its logarithm, or whole."""

    kind: Literal["uniform", "log-uniform", "integer"]
    low: float
    high: float

    @model_validator(mode="after")
    def _fits_together(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
        if self.kind == "log-uniform" and self.low <= 0:
            raise ValueError("low must be above 0 for a log-uniform parameter")
        if self.kind == "integer" and (self.low % 1 or self.high % 1):
            raise ValueError("low and high of an integer parameter must be whole numbers")
        return self

    def can_be(self, value: Any) -> bool:
        """Whether a trial can have this value, and not merely one close to it."""
        return self.kind == "integer" and value in range(int(self.low), int(self.high) + 1)


AnyParameter: TypeAlias = Annotated[Choice | Range, Field(discriminator="kind")]
Values: TypeAlias = dict[str, Any]
"""A trial's searched settings: dotted name -> value."""


class SweepSettings(Section):
    """One sweep."""

    name: str = Field("sweep", description="name of the sweep, of its folder and of its MLflow run")
    command: Command = Field(
        "train",
        description="what a trial is: `train`, a run of `saga train`, all of which share the rollout actors; "
        "or `cir`, a run of `saga cir train`, which needs none",
    )
    preset: str = Field("furniture", description="the preset, or settings file, that is searched around")
    set: dict[str, Any] = Field(
        default_factory=dict, description="settings that differ from the preset in all trials, by dotted name"
    )
    arm: str = Field(
        "saga",
        description="what `saga train` trains: " + ", ".join(ARM_NAMES[1:]) + "; `saga cir train` has none",
    )
    parameters: dict[str, AnyParameter] = Field(
        default_factory=dict,
        description="dotted name of a setting -> kind (choice, uniform, log-uniform, integer) and its values "
        "or low and high",
    )
    metric: Literal["map@r", "recall@1", "recall@5", "recall@10"] = Field(
        "map@r",
        description="what decides, over the validation classes: map@r or recall@1; or over the validation "
        "queries of composed retrieval: recall@1, @5 or @10",
    )
    mode: Literal["max", "min"] = Field("max", description="whether more of it is better")
    searcher: Literal["random", "grid", "optuna"] = Field(
        "optuna",
        description="`optuna`: its TPE, which learns from trials that have ended; `random`; `grid`: every "
        "combination of choices",
    )
    trials: Count = Field(8, description="trials in all; a grid has as many as it has points")
    repeats: Count = Field(
        1, description="trials of each point of a grid, by seeds 1, 2, and so on of the run"
    )
    scheduler: Literal["none", "asha", "pbt"] = Field(
        "none",
        description="`asha` stops trials that are behind others at the same step; `pbt` lets them go on from "
        "a better one's weights, with its settings changed a little",
    )
    validate_every: Count = Field(
        20,
        description="steps between two looks at the validation classes; composed retrieval's last stage is "
        "looked at, and its steps count",
    )
    grace_steps: Count = Field(20, description="ASHA stops no trial before this step")
    reduction: Annotated[float, Field(gt=1)] = Field(
        2.0, description="ASHA lets one trial in so many go on at each rung"
    )
    perturb_every: Count = Field(20, description="steps between two exchanges of PBT")
    concurrency: Count = Field(1, description="trials at the same time")
    minutes: Annotated[float, Field(gt=0)] | None = Field(
        None, description="no trial starts after this long, and those under way are stopped; none: no limit"
    )
    retries: Annotated[int, Field(ge=0)] = Field(1, description="times that a failed trial goes on")
    runners_up: Annotated[int, Field(ge=0)] = Field(
        1, description="trials after the best that are scored on the test classes, or queries, too"
    )
    seed: Seed = Field(1, description="seed of the search")

    @model_validator(mode="after")
    def _fits_together(self) -> SweepSettings:
        if not self.parameters:
            raise ValueError("parameters: there is nothing to search")
        known = searched(self.command)
        if misfit := known.misfit(self):
            raise ValueError(misfit)
        if self.metric not in known.metrics:
            raise ValueError(
                f"metric: trials of `{known.typed}` are not measured by {self.metric}; choose from "
                + ", ".join(known.metrics)
            )
        ranges = [name for name, each in self.parameters.items() if isinstance(each, Range)]
        if self.searcher == "grid" and ranges:
            raise ValueError(f"searcher: a grid takes choices alone, and {ranges[0]} is a range")
        if self.searcher != "grid" and self.repeats > 1:
            raise ValueError("repeats: only a grid's points are repeated")
        if self.scheduler == "pbt" and self.concurrency < self.trials:
            raise ValueError(
                f"scheduler: pbt compares trials that run at the same time: set concurrency={self.trials}"
            )
        for name, parameter in self.parameters.items():
            for other, wanted in parameter.when.items():
                if other not in self.parameters or other == name:
                    raise ValueError(f"parameters: {name} depends on {other!r}, which is not searched")
                if not self.parameters[other].can_be(wanted):
                    raise ValueError(
                        f"parameters: {name} is searched when {other} = {wanted!r}, which no trial has; "
                        f"{_there_is(other, self.parameters[other])}"
                    )
            if self.scheduler == "pbt" and (parameter.when or isinstance(parameter, Choice)):
                raise ValueError(
                    f"scheduler: pbt changes numbers while it trains; {name} is a choice or depends on others"
                )
        return self

    @property
    def known_beforehand(self) -> bool:
        """Whether the trials' values are those of `points`, and not suggested or drawn while it searches."""
        return self.searcher != "optuna" and self.scheduler != "pbt"


def _there_is(name: str, parameter: AnyParameter) -> str:
    """What a condition on a parameter may ask for, in words."""
    if isinstance(parameter, Choice):
        return f"choose from {', '.join(map(repr, parameter.values))}"
    if parameter.kind == "integer":
        return f"choose a whole number between {parameter.low:g} and {parameter.high:g}"
    return f"{name} is {parameter.kind}, and others can depend on a choice or an integer only"


def space_names() -> list[str]:
    """The spaces that ship."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def resolve_sweep(name_or_path: str, overrides: Sequence[str] = ()) -> SweepSettings:
    """A sweep from its file, then the overrides; every setting that it names is checked. Raises UserError."""
    path = _find(name_or_path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    origins = {apply(values, override, SweepSettings): f"--set {override}" for override in overrides}
    sweep = check_as(SweepSettings, values, str(path), origins)
    _require_own_preset(sweep, str(path))
    known = searched(sweep.command)
    for name in (*sweep.set, *sweep.parameters):
        setting = setting_named(name, str(path), known.model)
        if any(
            name == shared or (shared.endswith(".") and name.startswith(shared)) for shared in known.shared
        ):
            raise UserError(f"{name} in {path} is the same for all trials of a sweep: set it in the preset")
        if name in sweep.parameters:
            _require_fractions(setting, sweep.parameters[name], str(path))
    found = [trial_settings(sweep, values, origin=str(path)) for values in corners(sweep)]
    for settings in [*found, *_settings_of_points(sweep, str(path))]:
        arm, steps = last_trained(settings)
        if sweep.scheduler == "asha" and sweep.grace_steps > steps:
            raise UserError(
                f"grace_steps={sweep.grace_steps} in {path} is more than "
                f"{known.steps.format(arm=arm)}={steps}, so ASHA would stop nothing: lower it, or set "
                "scheduler=none"
            )
    return sweep


def _require_fractions(setting: SettingHelp, parameter: AnyParameter, origin: str) -> None:
    """Of a setting that is searched between its ends."""
    if parameter.kind in ("uniform", "log-uniform") and setting.kind not in ("number", "object"):
        instead = "integer or choice" if setting.kind == "integer" else "choice"
        raise UserError(
            f"{setting.name} in {origin} must be {setting.allowed}, and kind={parameter.kind} draws any "
            f"number between low and high: set kind={instead}"
        )


def _settings_of_points(sweep: SweepSettings, origin: str) -> list[AnySettings]:
    """Of trials that are known beforehand, each of which must be able to run. Raises UserError."""
    found = []
    for number, values in enumerate(points(sweep)[:CHECKED] if sweep.known_beforehand else [], 1):
        try:
            found.append(trial_settings(sweep, values, origin=origin))
        except UserError as error:
            named = ", ".join(f"{name} = {value!r}" for name, value in values.items())
            raise UserError(
                f"trial {number} of {origin} could not run with {named}: {error}; leave a value out, or say "
                "with `when` where it is searched"
            ) from error
    return found


def _require_own_preset(sweep: SweepSettings, origin: str) -> None:
    """A preset of the other command is a slip of `command`."""
    other: Command = "cir" if sweep.command == "train" else "train"
    if sweep.preset in preset_names(other):
        raise UserError(
            f"preset = {sweep.preset!r} in {origin} is a preset of `{searched(other).typed}`: "
            f"set command={other}, or choose from {', '.join(preset_names(sweep.command))}"
        )


def trial_settings(
    sweep: SweepSettings, values: Mapping[str, Any], *, origin: str = "the sweep"
) -> AnySettings:
    """The settings of a trial with these values: scored on validation, one arm where there are arms. Raises
    UserError.
    """
    return _placed(sweep, {**sweep.set, **of_every_trial(sweep), **values}, origin)


def preset_settings(sweep: SweepSettings, values: Mapping[str, Any]) -> AnySettings:
    """The preset with what the sweep sets and a trial's values: what the command takes as it is."""
    return _placed(sweep, {**sweep.set, **values, "name": sweep.name}, "the sweep")


def _placed(sweep: SweepSettings, values: Mapping[str, Any], origin: str) -> AnySettings:
    nested, path = read_preset(sweep.preset, sweep.command)
    for name, value in values.items():
        place(nested, name, value, origin)
    return searched(sweep.command).checked(nested, str(path), dict.fromkeys(values, origin))


def corners(sweep: SweepSettings) -> list[Values]:
    """Values at every parameter's ends, the others at their first, so that what no trial could run with is
    known before any has started.
    """

    def ends(parameter: Choice | Range) -> list[Any]:
        if isinstance(parameter, Choice):
            return parameter.values
        low, high = parameter.low, parameter.high
        return [int(low), int(high)] if parameter.kind == "integer" else [low, high]

    first = {name: ends(parameter)[0] for name, parameter in sweep.parameters.items()}
    corners = []
    for name, parameter in sweep.parameters.items():
        for end in ends(parameter):
            corner = first | parameter.when | {name: end}
            corners.append(
                {
                    other: value
                    for other, value in corner.items()
                    if all(corner[key] == wanted for key, wanted in sweep.parameters[other].when.items())
                }
            )
    return corners


def _folder() -> Path:
    return shipped("tune_spaces", "tune_spaces")


def _find(name_or_path: str) -> Path:
    names = space_names()
    if (stem := name_or_path.replace("-", "_")) in names:
        return _folder() / f"{stem}.toml"
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    meant = nearest(path.stem.replace("-", "_"), names)
    hint = f"did you mean {meant!r}? " if meant else ""
    raise UserError(
        f"there is no sweep {name_or_path!r}; {hint}there are {', '.join(names)}, or give a TOML file"
    )
