"""Gemma 3 (arXiv 2503.19786; Gemma3ForConditionalGeneration of transformers) as supervisor.

A supervisor's folder: `_projected`, and in its description "template_token", what the chat template writes
for a picture: ``<start_of_image>``. In its place stand two line ends, ``<start_of_image>``,
``<image_soft_token>`` once a token, ``<end_of_image>`` and two line ends. The seam at which tokens leave the
tower is behind the projector; how large pictures are: `saga_ray.models.towers.gemma3`.

The language model differs from a plain decoder in two ways. Most layers see a window of the last positions
only (of 1,024 in the models that read pictures), and so show no attention to a picture that is farther away:
the layer that teaches attention should be one of the others, every sixth. And tokens of one image attend to
each other, also to later ones; behind a window, to those that it does not hide. Both are a matter of masks:
the library's own where a prompt is read, and replay's (`saga_ray.models.replay_attention`).

vLLM cannot be its engine. It masks so for pictures that its own processor and vision model have read, on
GPUs, and takes no tokens of theirs from elsewhere ("Gemma3 does not support image_embeds"); prompt embeddings
it reads causally.

Legend: B prompts, S sequence length, L prompt length, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.gemma3.modeling_gemma3 import create_masks_for_vision_model

from saga_ray.models.supervisors import _projected as projected
from saga_ray.models.supervisors._projected import ProjectedSupervisor
from saga_ray.models.supervisors.base import EnginePrompt

FAMILY = "gemma3"


class Gemma3(ProjectedSupervisor):
    """See the module."""

    family = FAMILY
    fields = (*projected.FIELDS, "template_token")
    images_attend_both_ways = True

    def positions(self, images: Sequence[slice], length: int) -> Tensor:
        """Two rows: the place of each of ``length`` tokens, and of which image it is, from 1; 0: of none."""
        place_S = super().positions(images, length)
        image_S = torch.zeros_like(place_S)
        for number, span in enumerate(images, start=1):
            image_S[span] = number
        return torch.stack([place_S, image_S])

    def engine_sequence(self, prompt: EnginePrompt) -> tuple[Tensor, tuple[slice, ...]]:
        """See `Supervisor`."""
        embeds_LH, _ = super().engine_sequence(prompt)
        return embeds_LH, self.spans(prompt.token_ids)

    def hidden_states(self, embeddings_BSH: Tensor, positions: Tensor, **attention: Any) -> Tensor:
        """See `Supervisor`. Replay has masks of its own."""
        place_BS, image_BS = positions
        if "layout" not in attention and bool(image_BS.any()):
            attention["attention_mask"] = create_masks_for_vision_model(
                config=self.decoder.config,
                inputs_embeds=embeddings_BSH,
                attention_mask=attention.get("attention_mask"),
                past_key_values=attention.get("past_key_values"),
                position_ids=None,
                block_sequence_ids=(image_BS - 1).expand(len(embeddings_BSH), -1),
            )
        return super().hidden_states(embeddings_BSH, place_BS, **attention)


def load(folder: Path, precision: str) -> Gemma3:
    """Read a Gemma 3 supervisor from its folder, frozen. Raises UserError: see `ProjectedSupervisor`."""
    return Gemma3.load(folder, precision)
