"""Metric losses, one file each: a module of this folder is a loss, and its file name is the loss's name.

A loss module holds `DEFAULTS` (option -> default, commented) and `class Loss(MetricLoss)`, see `base.py`.
Adding a loss means adding a file; nothing else changes. Importing this package loads neither torch nor any
loss, so that settings can list the names.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from saga_ray.config.names import modules_in, nearest
from saga_ray.errors import UserError

if TYPE_CHECKING:
    from saga_ray.losses.metric.base import MetricLoss


def names() -> list[str]:
    """Names of the metric losses: the modules of this folder."""
    return modules_in("losses/metric")


def build(
    name: str, *, classes: int, width: int, seed: int, options: Mapping[str, float | int] | None = None
) -> MetricLoss:
    """Build a metric loss with its proxies, if it has any.

    `classes` is the number of training classes, `width` the embedding width E, `seed` fixes the proxies'
    start (the global random state stays untouched), and `options` replaces some of the loss's `DEFAULTS`.

    Raises UserError for an unknown loss, an unknown option or an option out of range.
    """
    if name not in names():
        raise UserError(
            f"unknown metric loss {name!r}{_meant(name, names())}; choose one of {', '.join(names())}"
        )
    import torch

    module = importlib.import_module(f"{__name__}.{name}")
    defaults: dict[str, float | int] = module.DEFAULTS
    for option in options or {}:
        if option not in defaults:
            raise UserError(
                f"metric loss {name!r} has no option {option!r}{_meant(option, list(defaults))}; "
                f"its options are {', '.join(defaults)}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        loss: MetricLoss = module.Loss({**defaults, **(options or {})}, classes, width)
    return loss


def _meant(word: str, known: list[str]) -> str:
    meant = nearest(word, known)
    return f" (did you mean {meant!r}?)" if meant else ""
