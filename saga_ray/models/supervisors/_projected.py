"""What supervisors share whose tower ends behind the projector (those of InternVL, Idefics3 and Gemma 3): the
language model reads X in the place of words.

A supervisor's folder, which ``saga supervisor assemble`` makes of a checkpoint:

    supervisor.json    {"family": …, "name": …, "image_token": what stands for each of a picture's tokens,
                       "image_marks": what the model's processor writes before and behind them, "end": the
                       token that ends an answer, "vocabulary": a name of `saga_ray/prompts/vocabularies`, or
                       a TOML file in this folder, or null}
    tower/             the vision model and the projector
    language_model/    the language model and its tokenizer, with its chat template, an ordinary Hugging Face
                       folder: what vLLM loads

Prompt and answer: `_chat`. vLLM is fed by prompt embeddings: with a plain decoder of plain positions,
embedding the prompt here loses nothing. (Gemma 3's is none.)

Legend: B pictures, N patch tokens of an image, D token width.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from transformers import PreTrainedModel

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _split as split
from saga_ray.models.supervisors._split import SplitSupervisor

FIELDS = (*split.FIELDS, "image_marks")


class ProjectedSupervisor(SplitSupervisor):
    """See the module."""

    fields: ClassVar[tuple[str, ...]] = FIELDS
    """What `supervisor.json` says."""

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        language_model: PreTrainedModel,
        tower: towers.Tower,
    ) -> None:
        before, behind = description["image_marks"]
        super().__init__(
            folder, description, language_model, tower, (before, behind), description.get("template_token")
        )

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """The tower's tokens as they are: the projector has the language model's width."""
        return x_BND.to(self.language_model.dtype)

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """None: the model reads images and words already, so adapters alone train."""
        return iter(())

    @classmethod
    def load(cls, folder: Path, precision: str) -> Self:
        """Read a supervisor of this family from its folder, frozen.

        Raises:
            UserError: the folder is not complete, or its parts do not fit.
        """
        description = split.description_of(folder, split.NEEDED, cls.fields)
        language_model = split.language_model_of(folder, precision)
        tower = split.tower_shape(folder)
        if tower.token_width != language_model.config.hidden_size:
            raise UserError(
                f"The parts in {folder} do not fit: the tower's tokens have {tower.token_width} numbers, and "
                f"the language model reads {language_model.config.hidden_size}."
            )
        supervisor = cls(folder, description, language_model, tower)
        supervisor.freeze()
        return supervisor
