"""Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299) as supervisors: Idefics3ForConditionalGeneration
and SmolVLMForConditionalGeneration of transformers, which compute the same, with a Llama language model.

A supervisor's folder: `_projected`. The seam at which tokens leave the tower is behind the connector; how
large pictures are: `saga_ray.models.towers.idefics3`.

A picture is one tile, so it stands in the prompt as the processor writes one that it does not split: as the
"global image", ``<fake_token_around_image><global-img>``, the placeholder ``<image>`` once a token,
``<fake_token_around_image>``. Idefics3-8B has no token ``<global-img>`` and reads it as words.

vLLM is fed by prompt embeddings. It takes `image_embeds` of the whole architecture too, but would hold the
vision model then, which never runs there.
"""

from __future__ import annotations

from pathlib import Path

from saga_ray.models.supervisors._projected import ProjectedSupervisor

FAMILY = "idefics3"


class Idefics3(ProjectedSupervisor):
    """See the module."""

    family = FAMILY


def load(folder: Path, precision: str) -> Idefics3:
    """Read an Idefics3 or SmolVLM supervisor from its folder, frozen. Raises UserError: see
    `ProjectedSupervisor`."""
    return Idefics3.load(folder, precision)
