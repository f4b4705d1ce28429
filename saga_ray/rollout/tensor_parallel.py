"""A language model shared out to several GPUs of an actor: can it be, and by how many?

vLLM cuts attention by heads, the perceptron by its inside and words by rows, and ends with a bare assertion
where that leaves a rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import Supervisor

WORDS = 64
"""vLLM rounds a vocabulary up to a multiple of this."""
MOST = 64
"""Parts that are looked for when another number is named."""


def require_parts(supervisor: Supervisor, settings: RolloutSettings) -> None:
    """Raises `UserError` where `rollout.tensor_parallel` parts of the language model cannot be made."""
    parts = settings.tensor_parallel
    if parts == 1:
        return
    if settings.engine != "vllm":
        raise UserError(
            f"rollout.tensor_parallel={parts}, but rollout.engine={settings.engine} runs on one GPU alone: "
            "set rollout.engine=vllm, or rollout.tensor_parallel=1"
        )
    config = supervisor.language_model.config
    rest = next(_rests(config, parts), None)
    if rest is not None:
        possible = [str(each) for each in range(1, MOST + 1) if not any(_rests(config, each))]
        raise UserError(
            f"rollout.tensor_parallel={parts} does not divide the {rest} of {supervisor.name}'s language "
            f"model: set it to one of {', '.join(possible)}"
        )


def _rests(config: Any, parts: int) -> Iterator[str]:
    """What cannot be cut into so many equal parts, in words."""
    text, vision = config.get_text_config(), getattr(config, "vision_config", None)
    key_heads = text.num_key_value_heads or text.num_attention_heads
    sizes = {
        "attention heads": text.num_attention_heads,
        "numbers inside the perceptron": text.intermediate_size,
        "rows of the vocabulary": -(-text.vocab_size // WORDS) * WORDS,
    }
    if vision is not None:  # never runs, but is loaded in parts too
        sizes["heads of the vision model"] = vision.num_heads
        sizes["numbers inside the vision model's perceptron"] = vision.intermediate_size
    yield from (f"{size:,} {what}" for what, size in sizes.items() if size % parts)
    if key_heads % parts and parts % key_heads:  # parts may hold copies of a key head
        yield f"{key_heads} key-value heads"
