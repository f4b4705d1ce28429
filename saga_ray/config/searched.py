"""What sweeps know of a command whose settings they search: `saga train`, or `saga cir train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from saga_ray.config.checking import check, check_as
from saga_ray.config.composed import LOOKS, ComposedSettings
from saga_ray.config.presets import Command
from saga_ray.config.settings import ARM_NAMES, Settings

if TYPE_CHECKING:
    from saga_ray.config.sweep import SweepSettings

AnySettings: TypeAlias = Settings | ComposedSettings
"""Of a trial."""


@dataclass(frozen=True)
class Searched:
    """One of the commands."""

    typed: str
    """As it is typed."""
    what: str
    """That a trial trains, in words; `{arm}`: the sweep's."""
    model: type[AnySettings]
    """Its settings."""
    checked: Callable[[Mapping[str, Any], str, Mapping[str, str] | None], AnySettings]
    """Makes them of nested plain values, see `config.checking`."""
    steps: str
    """The setting that says how long an arm or stage trains, `{arm}`."""
    shared: tuple[str, ...]
    """Settings, and beginnings of their names, that are the same for all trials of a sweep."""
    own: Callable[[SweepSettings], dict[str, Any]]
    """Settings of every trial beside those of `of_every_trial`, by dotted name."""
    misfit: Callable[[SweepSettings], str | None]
    """What of a sweep cannot be with this command."""
    held_out: str
    """What is held out for validation and test."""
    metrics: tuple[str, ...]
    """What a look at validation measures."""
    tested: tuple[str, ...]
    """Measures of the test that the report shows."""
    headline: Mapping[str, str]
    """Those that the console shows: heading -> name."""


def of_every_trial(sweep: SweepSettings) -> dict[str, Any]:
    """Settings of every trial, by dotted name: it is scored on validation alone."""
    return {
        "evaluation.part": "validation",
        "evaluation.validate_every": sweep.validate_every,
        "train.checkpoint_every": sweep.validate_every,
        "tracking.system_metrics": False,
        **searched(sweep.command).own(sweep),
    }


def last_trained(settings: AnySettings) -> tuple[str, int]:
    """A trial's arm, or its last stage, which is looked at while it trains; and the steps of it."""
    return list(settings.trained.items())[-1]


def _misfit_of_encoders(sweep: SweepSettings) -> str | None:
    if sweep.arm not in ARM_NAMES[1:]:
        return f"arm: {sweep.arm!r} is not an arm; choose from {', '.join(ARM_NAMES[1:])}"
    return None


def _misfit_of_embedders(sweep: SweepSettings) -> str | None:
    if sweep.arm != "saga":
        return f"arm: {sweep.arm!r} is an arm of `saga train`; with command=cir leave it out"
    if "data.source" in sweep.parameters:
        return "parameters: data.source brings its own queries, by which trials could not be compared"
    for name in sweep.parameters if sweep.scheduler == "pbt" else ():
        # it compares trials while stage 2 trains
        if not name.startswith("instruct.") or name == "instruct.steps":
            return f"scheduler: pbt changes numbers between two steps of stage 2, which does not read {name}"
    return None


_SEARCHED: dict[Command, Searched] = {
    "train": Searched(
        typed="saga train",
        what="arm {arm}",
        model=Settings,
        checked=check,
        steps="train.steps",
        shared=(
            "name",
            "arms",
            "supervisor.path",
            "supervisor.precision",
            "rollout.engine",
            "rollout.actors",
            "rollout.cpus_per_actor",
            "rollout.gpus_per_actor",
            "rollout.tensor_parallel",
            "rollout.threads_per_actor",
            "rollout.resources",
            "rollout.memory_share",
            "rollout.kv_cache_gib",
            "rollout.max_parallel_sequences",
            "evaluation.part",
            "evaluation.validate_every",
            "tracking.",
            "ray.",
        ),
        own=lambda sweep: {"arms": [sweep.arm]},
        misfit=_misfit_of_encoders,
        held_out="classes",
        metrics=("map@r", "recall@1"),
        tested=("recall@1", "recall@4", "map@r", "r_precision", "nmi"),
        headline={"R@1": "recall@1", "MAP@R": "map@r"},
    ),
    "cir": Searched(
        typed="saga cir train",
        what="composed retrieval",
        model=ComposedSettings,
        checked=partial(check_as, ComposedSettings),
        steps="{arm}.steps",
        shared=(
            "name",
            "train.checkpoint_every",
            "evaluation.part",
            "evaluation.validate_every",
            "tracking.",
            "ray.",
        ),
        own=lambda sweep: {},
        misfit=_misfit_of_embedders,
        held_out="queries",
        metrics=LOOKS,
        tested=(*LOOKS, "image_only/recall@1", "text_only/recall@1", "image_and_text/recall@1"),
        headline={"R@1": "recall@1", "R@10": "recall@10"},
    ),
}


def searched(command: Command) -> Searched:
    """What is known of a command."""
    return _SEARCHED[command]
