"""Rollout engines, one file each: a file here with a ``build`` function is an engine of its name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Literal

import torch

from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.engine import Engine
from saga_ray.rollout.tensor_parallel import require_parts


def names() -> list[str]:
    """The engines there are, found by listing this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def build(
    name: str,
    supervisor_path: str | Path,
    settings: RolloutSettings,
    precision: Literal["float32", "bfloat16"],
    style: str,
) -> Engine:
    """Start an engine for a supervisor that is asked with prompts of a style.

    Raises:
        UserError: there is no such engine, it is not installed, prompt and answer do not fit the supervisor's
        positions, or `rollout.tensor_parallel` does not fit its language model.
    """
    if name not in names():
        raise UserError(
            f"there is no rollout engine {name!r}: set rollout.engine to one of {', '.join(names())}"
        )
    supervisor = supervisors.load(supervisor_path, precision)
    require_parts(supervisor, settings)
    prompt_length = length_of_prompt(supervisor, style)
    positions = supervisor.language_model.config.get_text_config().max_position_embeddings
    if prompt_length + settings.max_new_tokens > positions:
        raise UserError(
            f"rollout.max_new_tokens={settings.max_new_tokens} and a prompt of {prompt_length} tokens are "
            f"more than the {positions} positions of supervisor {supervisor.name}: "
            f"set rollout.max_new_tokens to {positions - prompt_length} at most"
        )
    module = importlib.import_module(f"{__name__}.{name}")
    engine: Engine = module.build(supervisor, settings, prompt_length)
    return engine


def length_of_prompt(supervisor: Supervisor, style: str) -> int:
    """L: how many tokens a prompt of two images has."""
    blank_PND = torch.zeros(1, supervisor.tokens_per_image, supervisor.token_width)
    blank_PND = blank_PND.to(supervisor.language_model.device)
    return len(supervisor.engine_prompts(blank_PND, blank_PND, style)[0].token_ids)
