"""LLaVA supervisors (Liu et al., arXiv 2304.08485 and 2310.03744; LlavaForConditionalGeneration of
transformers): a CLIP or SigLIP vision transformer, a two-layer projector, and a decoder language model. So is
LLaVA-OneVision (Li et al., arXiv 2408.03326; LlavaOnevisionForConditionalGeneration), which has a learned
mark behind a picture, `image_newline`.

A supervisor's folder, which ``saga supervisor assemble`` makes of a LLaVA checkpoint or of a vision and a
language model, and ``saga supervisor train`` of any vision model and a language model (an external tower):

    supervisor.json         {"family": "llava", "name": …, "image_token": "<image>", "end": the token that
                            ends an answer, "activation": the projector's, "vocabulary": a name of
                            `saga_ray/prompts/vocabularies`, or a TOML file in this folder, or null}
    tower/                  the vision transformer up to the layer whose patch tokens are read, or an external
                            tower
    projector.safetensors   linear_1 and linear_2, and OneVision's image_newline
    language_model/         the language model and its tokenizer, with its chat template, an ordinary
                            Hugging Face folder: what vLLM loads

**The seam** is the tower's patch tokens (`vision_feature_layer`, by default those of the layer before last,
class token dropped); the projector belongs to the frozen language side. Its arithmetic is float32.

A picture of LLaVA-OneVision is one tile and the mark, which is what the library makes of each picture of a
prompt of several. (A picture that stands alone in a prompt it also cuts into tiles; as embedder of composed
retrieval it is one tile here too.)

Prompt and answer: `_chat`. As embedder of composed retrieval the projector
trains beside the adapters (InstructCIR does not say; a freshly assembled one must), the words do not.

Legend: B pictures, N patch tokens of an image, D token width, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _split as split
from saga_ray.models.supervisors._split import SplitSupervisor

FAMILY = "llava"
NEEDED = ("projector.safetensors", *split.NEEDED)
FIELDS = (*split.FIELDS, "activation")


class Projector(nn.Module):
    """Image tokens to the language model's width: two linear maps and an activation between them. `newline`:
    with the mark behind a picture."""

    def __init__(
        self,
        token_width: int,
        hidden_size: int,
        activation: str,
        *,
        bias: bool = True,
        newline: bool = False,
    ) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(token_width, hidden_size, bias=bias)
        self.act = ACT2FN[activation]
        self.linear_2 = nn.Linear(hidden_size, hidden_size, bias=bias)
        self.image_newline = nn.Parameter(torch.zeros(hidden_size)) if newline else None

    def forward(self, x_BND: Tensor) -> Tensor:
        """e_BNH."""
        e_BNH: Tensor = self.linear_2(self.act(self.linear_1(x_BND.to(self.linear_1.weight.dtype))))
        return e_BNH


class Llava(SplitSupervisor):
    """A LLaVA supervisor; `load` reads it from its folder."""

    family = FAMILY

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        language_model: PreTrainedModel,
        tower: towers.Tower,
        projector: Projector,
    ) -> None:
        newline = projector.image_newline is not None
        super().__init__(folder, description, language_model, tower, newline=newline)
        self.projector = projector

    def prompt_words(self, tokens_BT: Tensor) -> Tensor:
        """See `Supervisor`: a placeholder that is no patch's is the mark behind a picture."""
        words_BTH = super().prompt_words(tokens_BT)
        newline_H = self.projector.image_newline
        if newline_H is None:
            return words_BTH
        is_mark_BT1 = (tokens_BT == self.chat.image_token_id)[..., None]
        return torch.where(is_mark_BT1, newline_H.to(words_BTH.dtype), words_BTH)

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """See `Supervisor`."""
        e_BNH: Tensor = self.projector(x_BND)
        return e_BNH

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """The projector's."""
        yield from self.projector.parameters()

    def save(self, folder: Path, tower: towers.Tower) -> None:
        """See `Supervisor`."""
        self.save_projector(folder)
        super().save(folder, tower)

    def save_projector(self, folder: Path) -> None:
        """Write its projector's weights."""
        weights = {
            name: value.detach().cpu().contiguous() for name, value in self.projector.state_dict().items()
        }
        (folder / "projector.safetensors").write_bytes(to_safetensors(weights))


def load(folder: Path, precision: str) -> Llava:
    """Read a LLaVA supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete, or its language model is none that replay can compute.
    """
    description = split.description_of(folder, NEEDED, FIELDS)
    language_model = split.language_model_of(folder, precision)
    weights = {name: value.float() for name, value in load_file(folder / "projector.safetensors").items()}
    hidden_size, token_width = weights["linear_1.weight"].shape
    projector = Projector(
        token_width,
        hidden_size,
        description["activation"],
        bias="linear_1.bias" in weights,
        newline="image_newline" in weights,
    )
    projector.load_state_dict(weights)
    tower = split.tower_shape(folder)
    if (tower.token_width, language_model.config.hidden_size) != (token_width, hidden_size):
        raise UserError(
            f"The parts in {folder} do not fit: the projector maps {token_width} numbers to {hidden_size}, "
            f"the tower has {tower.token_width} and the language model {language_model.config.hidden_size}."
        )
    supervisor = Llava(folder, description, language_model, tower, projector)
    supervisor.freeze()
    return supervisor
