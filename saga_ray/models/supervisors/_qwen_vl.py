"""What supervisors of the Qwen2.5-VL and Qwen3-VL architectures share.

Such a supervisor's folder, which ``saga supervisor assemble`` makes of a checkpoint:

    supervisor.json    {"family": …, "name": …, "vocabulary": a name of `saga_ray/prompts/vocabularies`, or a
                       TOML file in this folder, or null, "image_size": side of the pictures in pixels}
    language_model/    the checkpoint as it was released: configuration, safetensors, tokenizer with its chat
                       template, preprocessor_config.json. Its vision weights are the tower's.

Prompt and answer: `_chat`.

Positions have three rows, for time, height and width (M-RoPE, arXiv 2409.12191): text counts on in all three,
an image's tokens share one time and have their row and column, and the text behind goes on after the larger
side.

Legend: P pairs, N patch tokens of an image, D token width, L prompt length, T answer length, H width of the
language model, G completions.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL, ChatSupervisor, describe
from saga_ray.models.supervisors.base import EnginePrompt
from saga_ray.models.towers._qwen_vl import QwenVLTower
from saga_ray.models.towers._squares import architecture
from saga_ray.prompts import vocabulary

PREPROCESSOR = "preprocessor_config.json"
VISION_WEIGHT = re.compile(r"(?:model\.)?visual\.(.+)")
"""Released and saved checkpoints differ in the names' beginning."""


class QwenVL(ChatSupervisor):
    """See the module. The language model is the whole architecture without its vision model."""

    architecture: ClassVar[type[PreTrainedModel]]
    image_token_id: int

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        tokenizer: PreTrainedTokenizerBase,
        language_model: PreTrainedModel,
        tower_config: dict[str, Any],
    ) -> None:
        config: Any = language_model.config
        image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
        named = description["vocabulary"]
        words = vocabulary.load(named, folder) if named else None
        super().__init__(folder, description["name"], words, tokenizer, image_token, language_model)
        self.description, self.tower_config = description, tower_config
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.image_token_id = int(config.image_token_id)
        with torch.device("meta"):
            tower = towers.build(self.family, tower_config)
        assert isinstance(tower, QwenVLTower)
        self.side = tower.side
        """Tokens along an image's side."""
        self.grid = tower.side * tower.merge
        """Patches along it."""
        self.tokens_per_image, self.token_width = tower.tokens_per_image, tower.token_width

    def build_tower(self) -> QwenVLTower:
        """A fresh trainable copy of the checkpoint's vision model."""
        tower = towers.build(self.family, self.tower_config)
        assert isinstance(tower, QwenVLTower)
        tower.visual.load_state_dict(_vision_weights(self.folder / LANGUAGE_MODEL))
        return tower

    # The prompt

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The prompts' ids and the images' tokens: engines compute positions from where the images stand."""
        ids = self.prompt_ids(style)
        x_P2ND = torch.cat([x_a_PND, x_b_PND], dim=1).to("cpu", self.language_model.dtype)
        return [EnginePrompt(list(ids), None, x_ND.clone()) for x_ND in x_P2ND]

    def engine_sequence(self, prompt: EnginePrompt) -> tuple[Tensor, tuple[slice, ...]]:
        """See `Supervisor`."""
        assert prompt.image_embeds_ND is not None
        embeds_LH = self._embedded(prompt.token_ids).clone()
        spans = self.spans(prompt.token_ids)
        for span, x_ND in zip(spans, torch.split(prompt.image_embeds_ND, self.tokens_per_image), strict=True):
            embeds_LH[span] = x_ND.to(embeds_LH)
        return embeds_LH, spans

    def engine_image_fields(self) -> dict[str, Tensor]:
        """The grid of patches: time, height, width."""
        return {"image_grid_thw": torch.tensor([1, self.grid, self.grid])}

    # As embedder of composed retrieval

    def image_embeddings(self, x_BND: Tensor) -> Tensor:
        """The tower's tokens as they are: the merger has the language model's width."""
        return x_BND.to(self.language_model.dtype)

    def embedder_parameters(self) -> Iterator[nn.Parameter]:
        """None: the model reads images and words already, so adapters alone train."""
        return iter(())

    # The language model

    @property
    def decoder(self) -> PreTrainedModel:
        """See `Supervisor`: the text part of the architecture."""
        whole: Any = self.language_model
        decoder: PreTrainedModel = whole.model.language_model
        return decoder

    def positions(self, images: Sequence[slice], length: int) -> Tensor:
        """Time, height and width of each of ``length`` tokens: long (3, length)."""
        device = self.language_model.device
        place_N = torch.arange(self.tokens_per_image, device=device)
        image_3N = torch.stack([place_N * 0, place_N // self.side, place_N % self.side])
        rows: list[Tensor] = []
        known = counted = 0
        for span in images:
            text = span.start - known
            rows += [
                torch.arange(counted, counted + text, device=device).expand(3, -1),
                image_3N + counted + text,
            ]
            known, counted = span.stop, counted + text + self.side
        rows.append(torch.arange(counted, counted + length - known, device=device).expand(3, -1))
        return torch.cat(rows, dim=-1)

    # Folders

    def save(self, folder: Path, tower: towers.Tower) -> None:
        """See `Supervisor`: a whole checkpoint again."""
        checkpoint, model = folder / LANGUAGE_MODEL, self.language_model
        whole: Any = model
        assert isinstance(tower, QwenVLTower)
        whole.model.visual = copy.deepcopy(tower.visual).to(model.dtype)
        try:
            model.save_pretrained(checkpoint)
        finally:
            del whole.model.visual
        self.tokenizer.save_pretrained(checkpoint)
        shutil.copyfile(self.folder / LANGUAGE_MODEL / PREPROCESSOR, checkpoint / PREPROCESSOR)
        named = self.description["vocabulary"]
        if named and named.endswith(".toml"):
            shutil.copyfile(self.folder / named, folder / named)
        describe(folder, self.description)

    @classmethod
    def load(cls, folder: Path, precision: str) -> QwenVL:
        """Read a supervisor of this family from its folder, frozen.

        Raises:
            UserError: the folder is not complete, or holds another architecture.
        """
        checkpoint = folder / LANGUAGE_MODEL
        for name in ("config.json", PREPROCESSOR, "tokenizer_config.json"):
            if not (checkpoint / name).is_file():
                raise UserError(
                    f"The supervisor in {folder} is not complete: {LANGUAGE_MODEL}/{name} is missing; make "
                    "it again with `saga supervisor assemble`."
                )
        description = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
        for key in ("name", "vocabulary", "image_size"):
            if key not in description:
                raise UserError(
                    f"{folder / 'supervisor.json'} lacks {key!r}; see `saga supervisor assemble`."
                )
        found = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("model_type")
        if found != cls.family:
            raise UserError(
                f"{checkpoint} holds a model of the type {found!r}, and supervisor.json says {cls.family!r}: "
                "set family to that of the checkpoint."
            )
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        disable_progress_bar()  # type: ignore[no-untyped-call]
        language_model: Any = cls.architecture.from_pretrained(checkpoint, dtype=getattr(torch, precision))
        del language_model.model.visual  # encoders hold towers of their own
        processor = json.loads((checkpoint / PREPROCESSOR).read_text(encoding="utf-8"))
        tower_config = {
            "vision": architecture(language_model.config.vision_config),
            "image_size": description["image_size"],
            "mean": processor["image_mean"],
            "std": processor["image_std"],
        }
        supervisor = cls(folder, description, tokenizer, language_model, tower_config)
        supervisor.freeze()
        return supervisor


def _vision_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The vision model's weights as float32, without reading the language model's."""
    weights: dict[str, Tensor] = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118  # it is no mapping
                if found := VISION_WEIGHT.fullmatch(name):
                    weights[found[1]] = stored.get_tensor(name).float()
    if not weights:
        raise UserError(
            f"{checkpoint} holds no vision weights in *.safetensors: put the whole checkpoint there."
        )
    return weights
