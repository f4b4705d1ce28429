"""LLaVA supervisors (Liu et al., arXiv 2304.08485 and 2310.03744; LlavaForConditionalGeneration of
transformers): a CLIP or SigLIP vision transformer, a two-layer projector, and a decoder language model.

A supervisor's folder, which ``saga supervisor assemble`` makes of a LLaVA checkpoint or of a vision and a
language model:

    supervisor.json         {"family": "llava", "name": …, "image_token": "<image>", "end": the token that
                            ends an answer, "activation": the projector's, "vocabulary": a name of
                            `saga_ray/prompts/vocabularies`, or a TOML file in this folder, or null}
    tower/                  the vision transformer up to the layer whose patch tokens are read
    projector.safetensors   linear_1 and linear_2
    language_model/         the language model and its tokenizer, with its chat template, an ordinary
                            Hugging Face folder: what vLLM loads

**The seam** is the tower's patch tokens (`vision_feature_layer`, by default those of the layer before last,
class token dropped); the projector belongs to the frozen language side. Its arithmetic is float32.

Prompt and answer: `_chat`. As embedder of composed retrieval the projector
trains beside the adapters (InstructCIR does not say; a freshly assembled one must), the words do not.

Legend: P pairs, G completions, B pictures, N patch tokens of an image, D token width, H width of the language
model, L prompt length, T answer length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import ACT2FN
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL, ChatSupervisor, describe
from saga_ray.models.supervisors.base import EnginePrompt
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.vocabulary import Vocabulary

FAMILY = "llava"
NEEDED = (
    "projector.safetensors",
    "language_model/config.json",
    "tower/tower.json",
    "tower/tower.safetensors",
)
FIELDS = ("name", "image_token", "end", "activation", "vocabulary")


class Projector(nn.Module):
    """Image tokens to the language model's width: two linear maps and an activation between them."""

    def __init__(self, token_width: int, hidden_size: int, activation: str, *, bias: bool = True) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(token_width, hidden_size, bias=bias)
        self.act = ACT2FN[activation]
        self.linear_2 = nn.Linear(hidden_size, hidden_size, bias=bias)

    def forward(self, x_BND: Tensor) -> Tensor:
        """e_BNH."""
        e_BNH: Tensor = self.linear_2(self.act(self.linear_1(x_BND.to(self.linear_1.weight.dtype))))
        return e_BNH


class Llava(ChatSupervisor):
    """A LLaVA supervisor; `load` reads it from its folder."""

    family = FAMILY

    def __init__(
        self,
        folder: Path,
        description: dict[str, str | None],
        vocabulary: Vocabulary | None,
        tokenizer: PreTrainedTokenizerBase,
        language_model: PreTrainedModel,
        projector: Projector,
        tokens_per_image: int,
    ) -> None:
        name, image_token = str(description["name"]), str(description["image_token"])
        super().__init__(folder, name, vocabulary, tokenizer, image_token, language_model)
        self.description = description
        self.projector = projector
        self.tokens_per_image = tokens_per_image
        self.token_width = projector.linear_1.in_features
        self.eos_token_id = int(tokenizer.get_vocab()[str(description["end"])])

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The prompts, embedded, for engines fed by prompt embeddings."""
        embeds_PLH = self.prompt_embeddings(x_a_PND, x_b_PND, style).detach().cpu()
        ids = self.prompt_ids(style)
        return [EnginePrompt(list(ids), embeds_LH.clone(), None) for embeds_LH in embeds_PLH]

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """See `Supervisor`."""
        e_BNH: Tensor = self.projector(x_BND)
        return e_BNH

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """The projector's."""
        yield from self.projector.parameters()

    # Folders

    def save(self, folder: Path, tower: towers.Tower) -> None:
        """Write everything that `load` needs into an existing folder, the language model in its present
        precision."""
        self.language_model.save_pretrained(folder / LANGUAGE_MODEL)
        self.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
        weights = {name: value.detach().contiguous() for name, value in self.projector.state_dict().items()}
        (folder / "projector.safetensors").write_bytes(to_safetensors(weights))
        towers.save(tower, folder / "tower")
        named = self.description["vocabulary"]
        if named and named.endswith(".toml"):
            shutil.copy(self.folder / named, folder / named)
        describe(folder, {"family": FAMILY, **self.description})


def load(folder: Path, precision: str) -> Llava:
    """Read a LLaVA supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete, or its language model is none that replay can compute.
    """
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        hint = (
            "it holds a checkpoint as transformers stores it: make a supervisor of it with "
            "`saga supervisor assemble --checkpoint`"
            if (folder / "config.json").is_file()
            else "make it again with `saga supervisor assemble`"
        )
        raise UserError(f"The supervisor in {folder} is not complete: {missing[0]} is missing; {hint}.")
    described = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
    lacking = [field for field in FIELDS if field not in described]
    if lacking:
        raise UserError(f"{folder / 'supervisor.json'} lacks {lacking[0]!r}; see `saga supervisor assemble`.")
    description = {field: described[field] for field in FIELDS}
    disable_progress_bar()  # type: ignore[no-untyped-call]
    language_model = AutoModelForCausalLM.from_pretrained(
        folder / LANGUAGE_MODEL, dtype=getattr(torch, precision)
    )
    widen_window(language_model.config, folder / LANGUAGE_MODEL)
    weights = {name: value.float() for name, value in load_file(folder / "projector.safetensors").items()}
    hidden_size, token_width = weights["linear_1.weight"].shape
    projector = Projector(
        token_width, hidden_size, description["activation"], bias="linear_1.bias" in weights
    )
    projector.load_state_dict(weights)
    stored = json.loads((folder / "tower" / "tower.json").read_text(encoding="utf-8"))
    with torch.device("meta"):  # its shape alone
        tower = towers.build(stored["name"], stored["config"])
    if (tower.token_width, language_model.config.hidden_size) != (token_width, hidden_size):
        raise UserError(
            f"The parts in {folder} do not fit: the projector maps {token_width} numbers to {hidden_size}, "
            f"the tower has {tower.token_width} and the language model {language_model.config.hidden_size}."
        )
    named = description["vocabulary"]
    supervisor = Llava(
        folder,
        description,
        vocabularies.load(named, folder) if named else None,
        AutoTokenizer.from_pretrained(folder / LANGUAGE_MODEL),
        language_model,
        projector,
        tower.tokens_per_image,
    )
    supervisor.freeze()
    return supervisor


def widen_window(config: PreTrainedConfig, where: Path) -> None:
    """Take away a sliding window that no text can leave, as Phi-3.5's of 262,144 of its 131,072 positions.

    Raises UserError for a smaller one: replay has no windows.
    """
    window = getattr(config, "sliding_window", None)
    if window is None:
        return
    if window < config.max_position_embeddings:
        raise UserError(
            f"The language model in {where} attends to the last {window:,} of its "
            f"{config.max_position_embeddings:,} positions only, which replay cannot do: choose one without "
            "a sliding window, or lower max_position_embeddings in its config.json to that."
        )
    config.sliding_window = None
