"""What supervisors share whose folder holds the vision tower and the language model apart (LLaVA's and those
of `_projected`): the language model's folder is a plain decoder's, and engines are fed by embeddings of the
whole prompt.

Legend: P pairs, N patch tokens of an image, D token width, H width of the language model, L prompt length.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL, ChatSupervisor, describe
from saga_ray.models.supervisors.base import EnginePrompt
from saga_ray.prompts import vocabulary as vocabularies

NEEDED = ("language_model/config.json", "tower/tower.json", "tower/tower.safetensors")
FIELDS = ("name", "image_token", "end", "vocabulary")


class SplitSupervisor(ChatSupervisor):
    """See the module. `description` is what `supervisor.json` says, apart from the family: `FIELDS` and the
    family's own; `tower` gives shapes alone, so it may have no weights."""

    def __init__(
        self,
        folder: Path,
        description: dict[str, Any],
        language_model: PreTrainedModel,
        tower: towers.Tower,
        image_marks: tuple[str, str] = ("", ""),
        template_token: str | None = None,
        newline: bool = False,
    ) -> None:
        named = description["vocabulary"]
        words = vocabularies.load(named, folder) if named else None
        tokenizer = AutoTokenizer.from_pretrained(folder / LANGUAGE_MODEL)
        name, image_token = description["name"], description["image_token"]
        marks = image_marks, template_token, newline
        super().__init__(folder, name, words, tokenizer, image_token, language_model, *marks)
        self.description = description
        self.tokens_per_image, self.token_width = tower.tokens_per_image, tower.token_width
        self.eos_token_id = int(tokenizer.get_vocab()[description["end"]])

    @torch.no_grad()
    def engine_prompts(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> list[EnginePrompt]:
        """The prompts, embedded, for engines fed by prompt embeddings."""
        embeds_PLH = self.prompt_embeddings(x_a_PND, x_b_PND, style).detach().cpu()
        ids = self.prompt_ids(style)
        return [EnginePrompt(list(ids), embeds_LH.clone(), None) for embeds_LH in embeds_PLH]

    def save(self, folder: Path, tower: towers.Tower) -> None:
        """Write everything that `load` needs into an existing folder, the language model in its present
        precision."""
        self.language_model.save_pretrained(folder / LANGUAGE_MODEL)
        self.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
        towers.save(tower, folder / "tower")
        named = self.description["vocabulary"]
        if named and named.endswith(".toml"):
            shutil.copy(self.folder / named, folder / named)
        self.describe(folder, {})

    def describe(self, folder: Path, numbers: dict[str, Any]) -> None:
        """Write `supervisor.json`: what `load` needs, and `numbers` about the supervisor."""
        describe(folder, {"family": self.family, **self.description, **numbers})


def description_of(folder: Path, needed: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    """The `fields` of a supervisor's description. Raises UserError where one of them or a `needed` file is
    missing."""
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        hint = (
            "it holds a checkpoint as transformers stores it: make a supervisor of it with "
            "`saga supervisor assemble --checkpoint`"
            if (folder / "config.json").is_file()
            else "make it again with `saga supervisor assemble`"
        )
        raise UserError(f"The supervisor in {folder} is not complete: {missing[0]} is missing; {hint}.")
    described = json.loads((folder / "supervisor.json").read_text(encoding="utf-8"))
    lacking = [field for field in fields if field not in described]
    if lacking:
        raise UserError(f"{folder / 'supervisor.json'} lacks {lacking[0]!r}; see `saga supervisor assemble`.")
    return {field: described[field] for field in fields}


def language_model_of(folder: Path, precision: str) -> PreTrainedModel:
    """A supervisor's language model."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    language_model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder / LANGUAGE_MODEL, dtype=getattr(torch, precision)
    )
    drop_idle_window(language_model.config)
    return language_model


def tower_shape(folder: Path) -> towers.Tower:
    """A supervisor's tower without weights."""
    stored = json.loads((folder / "tower" / "tower.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        return towers.build(stored["name"], stored["config"])


def drop_idle_window(config: PreTrainedConfig) -> None:
    """Take away a sliding window that no text can leave, as Phi-3.5's of 262,144 of its 131,072 positions:
    all that it does is to make engines and the library compute masks."""
    window = getattr(config, "sliding_window", None)
    if window is not None and window >= config.max_position_embeddings:
        config.sliding_window = None
