"""What supervisors of the Qwen2.5-VL and Qwen3-VL architectures share.

Such a supervisor's folder holds

- ``language_model/``: the released checkpoint as it is, or a link to it (configuration, safetensors,
  tokenizer with its chat template, ``preprocessor_config.json``). Its vision weights are the tower's.
- ``supervisor.json``: ``family``, ``name``, ``vocabulary`` (one that ships, or a TOML file in the folder) and
  ``image_size`` (side of the pictures in pixels; 224 unless it is given). So one checkpoint serves several
  vocabularies.

The prompt is the checkpoint's own chat template around both images and the instruction of
`saga_ray.prompts.template`; the answer is written freely and read by `_written`.

Positions have three rows, for time, height and width (M-RoPE, arXiv 2409.12191): text counts on in all three,
an image's tokens share one time and have their row and column, and the text behind goes on after the larger
side.

Legend: P pairs, N patch tokens of an image, D token width, L prompt length, T answer length, H width of the
language model, G completions.
"""

from __future__ import annotations

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
from saga_ray.models.supervisors._chat_prompt import ChatPrompt
from saga_ray.models.supervisors._written import WrittenAnswers
from saga_ray.models.supervisors.base import EnginePrompt, Supervisor
from saga_ray.models.towers._qwen_vl import QwenVLTower, architecture
from saga_ray.prompts import template, vocabulary

CHECKPOINT, PREPROCESSOR = "language_model", "preprocessor_config.json"
IMAGE_SIZE = 224
VISION_WEIGHT = re.compile(r"(?:model\.)?visual\.(.+)")
"""Released and saved checkpoints differ in the names' beginning."""


class QwenVL(Supervisor):
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
        super().__init__()
        self.folder = folder
        self.name = description["name"]
        self.description, self.tower_config = description, tower_config
        self.vocabulary = vocabulary.load(description["vocabulary"], folder)
        self.verdict_key = self.vocabulary.verdict_key
        self.tokenizer = tokenizer
        self.language_model = language_model
        self.answers = WrittenAnswers(tokenizer, self.vocabulary)
        config: Any = language_model.config
        self.eos_token_id = int(tokenizer.eos_token_id)
        self.image_token_id = int(config.image_token_id)
        (image_token,) = tokenizer.convert_ids_to_tokens([self.image_token_id])
        self.chat = ChatPrompt(tokenizer, image_token, folder / CHECKPOINT)
        with torch.device("meta"):
            tower = towers.build(self.family, tower_config)
        assert isinstance(tower, QwenVLTower)
        self.side = tower.side
        """Tokens along an image's side."""
        self.grid = tower.side * tower.merge
        """Patches along it."""
        self.tokens_per_image, self.token_width = tower.tokens_per_image, tower.token_width
        self._prompts: dict[str, list[int]] = {style: self._prompt(style) for style in template.STYLES}

    def build_tower(self) -> QwenVLTower:
        """A fresh trainable copy of the checkpoint's vision model."""
        tower = towers.build(self.family, self.tower_config)
        assert isinstance(tower, QwenVLTower)
        tower.visual.load_state_dict(_vision_weights(self.folder / CHECKPOINT))
        return tower

    # The prompt

    def prompt_embeddings(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> Tensor:
        """See `Supervisor`: chat template, X_a, X_b, instruction."""
        words_LH = self._words(self._prompts[style])
        a, b = self.image_spans(style)
        parts = [words_LH[: a.start], x_a_PND, words_LH[a.stop : b.start], x_b_PND, words_LH[b.stop :]]
        pairs = len(x_a_PND)
        rows = [part if part.ndim == 3 else part.expand(pairs, -1, -1) for part in parts]
        return torch.cat([row.to(words_LH.dtype) for row in rows], dim=1)

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The prompts' ids and the images' tokens: engines compute positions from where the images stand."""
        x_P2ND = torch.cat([x_a_PND, x_b_PND], dim=1).to("cpu", self.language_model.dtype)
        return [EnginePrompt(list(self._prompts[style]), None, x_ND.clone()) for x_ND in x_P2ND]

    def engine_sequence(self, prompt: EnginePrompt) -> tuple[Tensor, tuple[slice, ...]]:
        """See `Supervisor`."""
        assert prompt.image_embeds_ND is not None
        embeds_LH = self._words(prompt.token_ids).clone()
        spans = self._spans(prompt.token_ids)
        for span, x_ND in zip(spans, torch.split(prompt.image_embeds_ND, self.tokens_per_image), strict=True):
            embeds_LH[span] = x_ND.to(embeds_LH)
        return embeds_LH, spans

    def engine_image_fields(self) -> dict[str, Tensor]:
        """The grid of patches: time, height, width."""
        return {"image_grid_thw": torch.tensor([1, self.grid, self.grid])}

    def image_spans(self, style: str) -> tuple[slice, slice]:
        """Where both images' tokens stand, between the template's own marks."""
        a, b = self._spans(self._prompts[style])
        return a, b

    def _spans(self, token_ids: Sequence[int]) -> tuple[slice, ...]:
        starts = [at for at, token in enumerate(token_ids) if token == self.image_token_id]
        return tuple(slice(at, at + self.tokens_per_image) for at in starts[:: self.tokens_per_image])

    def _prompt(self, style: template.Style) -> list[int]:
        before, between, after = self.chat.around(template.instruction(self.vocabulary, style), images=2)
        image = [self.image_token_id] * self.tokens_per_image
        return [*before, *image, *between, *image, *after]

    def _words(self, token_ids: Sequence[int]) -> Tensor:
        return self.answer_embeddings(torch.tensor(list(token_ids), device=self.language_model.device))

    # As embedder of composed retrieval

    def embedding_layout(self, text: str, *, image: bool) -> tuple[list[int], list[int]]:
        """The chat template around the image and the text."""
        pieces = self.chat.around(text, images=int(image))
        return (pieces[0], pieces[1]) if image else ([], pieces[0])

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

    # The answer

    def answer_tokens(self, style: str) -> int:
        """See `Supervisor`."""
        return self.answers.fewest_tokens(style)

    @property
    def verdict_token_ids(self) -> tuple[int, int]:
        """See `Supervisor`."""
        return self.answers.verdicts

    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        """See `WrittenAnswers`."""
        return self.answers.description_masks(tokens_GT, mask_GT)

    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        """See `WrittenAnswers`."""
        return self.answers.verdict_positions(tokens_GT, mask_GT)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The answer as text."""
        return self.answers.decode(token_ids)

    # Folders

    def save(self, folder: Path, tower: Path) -> None:
        """See `Supervisor`. The vision weights are always the checkpoint's own, with which it was loaded; a
        folder `tower` is not looked for."""
        checkpoint, model = folder / CHECKPOINT, self.language_model
        whole: Any = model
        whole.model.visual = self.build_tower().visual.to(model.dtype)
        try:
            model.save_pretrained(checkpoint)
        finally:
            del whole.model.visual
        self.tokenizer.save_pretrained(checkpoint)
        shutil.copyfile(self.folder / CHECKPOINT / PREPROCESSOR, checkpoint / PREPROCESSOR)
        if (self.folder / self.description["vocabulary"]).is_file():
            shutil.copyfile(
                self.folder / self.description["vocabulary"], folder / self.description["vocabulary"]
            )
        text = json.dumps(self.description, indent=1, ensure_ascii=False) + "\n"
        (folder / "supervisor.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, precision: str) -> QwenVL:
        """Read a supervisor of this family from its folder, frozen.

        Raises:
            UserError: the folder is not complete, or holds another architecture.
        """
        checkpoint = folder / CHECKPOINT
        for name in ("config.json", PREPROCESSOR, "tokenizer_config.json"):
            if not (checkpoint / name).is_file():
                raise UserError(
                    f"The supervisor in {folder} is not complete: {CHECKPOINT}/{name} is missing; put the "
                    "whole released checkpoint there, or a link to it."
                )
        description = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
        for key in ("name", "vocabulary"):
            if not isinstance(description.get(key), str):
                raise UserError(f"{folder / 'supervisor.json'} lacks {key!r}: add it, a text.")
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
            "image_size": description.get("image_size", IMAGE_SIZE),
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
