"""InternVL3 and InternVL3.5 (arXiv 2504.10479 and 2508.18265; InternVLForConditionalGeneration of
transformers, checkpoints whose names end with -hf) as supervisors.

A supervisor's folder, which ``saga supervisor assemble`` makes of a checkpoint:

    supervisor.json    {"family": "internvl", "name": …, "image_token": "<IMG_CONTEXT>", "image_marks": the
                       tokens before and behind a picture's, "end": the token that ends an answer,
                       "vocabulary": a name of `saga_ray/prompts/vocabularies`, or a TOML file in this folder,
                       or null}
    tower/             the vision model and the projector
    language_model/    the language model and its tokenizer, with its chat template, an ordinary Hugging Face
                       folder: what vLLM loads

The seam at which tokens leave the tower is behind the projector; why, and how large pictures are:
`saga_ray.models.towers.internvl`. Prompt and answer: `_chat`.

vLLM is fed by prompt embeddings. It serves the whole architecture too (as InternS1), but that module imports
the library's image and video processors, and so torchvision, before it looks at `image_embeds`; the language
model is a plain decoder with plain positions, so embedding the prompt here loses nothing.

Legend: B pictures, N patch tokens of an image, D token width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _split as split
from saga_ray.models.supervisors._split import SplitSupervisor

FAMILY = "internvl"
FIELDS = (*split.FIELDS, "image_marks")


class InternVL(SplitSupervisor):
    """The language model reads the projector's tokens in the place of words."""

    family = FAMILY

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        language_model: PreTrainedModel,
        tower: towers.Tower,
    ) -> None:
        before, behind = description["image_marks"]
        super().__init__(folder, description, language_model, tower, ((before,), (behind,)))

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """The tower's tokens as they are: the projector has the language model's width."""
        return x_BND.to(self.language_model.dtype)

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """None: the model reads images and words already, so adapters alone train."""
        return iter(())


def load(folder: Path, precision: str) -> InternVL:
    """Read an InternVL supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete, or its language model is none that replay can compute.
    """
    description = split.description_of(folder, split.NEEDED, FIELDS)
    language_model = split.language_model_of(folder, precision)
    tower = split.tower_shape(folder)
    if tower.token_width != language_model.config.hidden_size:
        raise UserError(
            f"The parts in {folder} do not fit: the tower's tokens have {tower.token_width} numbers, and the "
            f"language model reads {language_model.config.hidden_size}."
        )
    supervisor = InternVL(folder, description, language_model, tower)
    supervisor.freeze()
    return supervisor
