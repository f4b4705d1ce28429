"""InternVL3 and InternVL3.5 (arXiv 2504.10479 and 2508.18265; InternVLForConditionalGeneration of
transformers, checkpoints whose names end with -hf) as supervisors.

A supervisor's folder: `_projected`, with ``<IMG_CONTEXT>`` as placeholder between ``<img>`` and ``</img>``.
The seam at which tokens leave the tower is behind the projector; why, and how large pictures are:
`saga_ray.models.towers.internvl`.

vLLM serves the whole architecture too (as InternS1), but that module imports the library's image and video
processors, and so torchvision, before it looks at `image_embeds`: it is fed by prompt embeddings.
"""

from __future__ import annotations

from pathlib import Path

from saga_ray.models.supervisors._projected import ProjectedSupervisor

FAMILY = "internvl"


class InternVL(ProjectedSupervisor):
    """See the module."""

    family = FAMILY


def load(folder: Path, precision: str) -> InternVL:
    """Read an InternVL supervisor from its folder, frozen. Raises UserError: see `ProjectedSupervisor`."""
    return InternVL.load(folder, precision)
