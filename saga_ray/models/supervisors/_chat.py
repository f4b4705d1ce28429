"""What the supervisors share that are asked in a chat template and answer freely: large released models.

A family says how its image tokens are read (`image_embeddings`), how engines are fed, and how its folder
is laid out; layout of the prompt and reading of the answer are here.

Legend: P pairs, G completions, B pictures, N patch tokens of an image, D token width, H width of the language
model, L prompt length, T answer length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.models.supervisors._chat_prompt import ChatPrompt
from saga_ray.models.supervisors._written import WrittenAnswers
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.template import instruction
from saga_ray.prompts.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LANGUAGE_MODEL = "language_model"
"""The folder in a supervisor's that holds the language model and its tokenizer."""


class ChatSupervisor(Supervisor):
    """The prompt is the chat template's, with both pictures before the instruction of
    `saga_ray.prompts.template`. Without a vocabulary only the generic style can be asked.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        vocabulary: Vocabulary | None,
        tokenizer: PreTrainedTokenizerBase,
        image_token: str,
        language_model: PreTrainedModel,
        image_marks: tuple[str, str] = ("", ""),
        template_token: str | None = None,
        newline: bool = False,
    ) -> None:
        super().__init__()
        self.folder, self.name = folder, name
        self.vocabulary = vocabulary
        # The generic style asks of nothing but differences and the verdict.
        self.words = vocabulary or vocabularies.plain(name, ["look"])
        self.verdict_key = self.words.verdict_key
        self.tokenizer, self.language_model = tokenizer, language_model
        where = folder / LANGUAGE_MODEL
        self.chat = ChatPrompt(tokenizer, image_token, where, image_marks, template_token, newline)
        self.answers = WrittenAnswers(tokenizer, self.words)
        self._layouts: dict[str, tuple[list[int], list[int], list[int]]] = {}

    # The prompt

    def prompt_embeddings(self, x_a_PND: Tensor, x_b_PND: Tensor, style: str) -> Tensor:
        """See `Supervisor`: chat template, X_a, X_b, instruction."""
        before, between, after = (
            self._embedded(ids).expand(len(x_a_PND), -1, -1) for ids in self._layout(style)
        )
        a_PNH, b_PNH = (self.image_embeddings(x_PND).to(before.dtype) for x_PND in (x_a_PND, x_b_PND))
        return torch.cat([before, a_PNH, between, b_PNH, after], dim=1)

    def prompt_ids(self, style: str) -> list[int]:
        """The prompt's token ids, the placeholder at each of both images' tokens."""
        before, between, after = self._layout(style)
        image = [self.chat.image_token_id] * self.tokens_per_image
        return [*before, *image, *between, *image, *after]

    def image_spans(self, style: str) -> tuple[slice, slice]:
        """See `Supervisor`."""
        before, between, _ = self._layout(style)
        a = len(before)
        b = a + self.tokens_per_image + len(between)
        return slice(a, a + self.tokens_per_image), slice(b, b + self.tokens_per_image)

    def spans(self, token_ids: Sequence[int]) -> tuple[slice, ...]:
        """Where images' tokens stand in a prompt's token ids."""
        starts = [at for at, token in enumerate(token_ids) if token == self.chat.image_token_id]
        return tuple(slice(at, at + self.tokens_per_image) for at in starts[:: self.tokens_per_image])

    def _layout(self, style: str) -> tuple[list[int], list[int], list[int]]:
        """Token ids before, between and after the two images."""
        if style == "attributes" and self.vocabulary is None:
            raise UserError(
                f"Supervisor {self.name} has no list of attributes to describe: name a vocabulary in "
                f"{self.folder / 'supervisor.json'}, or set supervisor.prompt=generic."
            )
        if style not in self._layouts:
            text = instruction(self.words, "attributes" if style == "attributes" else "generic")
            before, between, after = self.chat.around(text, images=2)
            self._layouts[style] = before, between, after
        return self._layouts[style]

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        """Words, e_LH."""
        return self.prompt_words(torch.tensor(list(ids), dtype=torch.long, device=self.language_model.device))

    # As embedder of composed retrieval

    def embedding_layout(self, text: str, *, image: bool) -> tuple[list[int], list[int]]:
        """The chat template with the image and the text, cut at the image."""
        pieces = self.chat.around(text, images=int(image))
        return (pieces[0], pieces[1]) if image else ([], pieces[0])

    # The answer

    def answer_tokens(self, style: str) -> int:
        """See `Supervisor`."""
        self._layout(style)  # can it be asked?
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


def describe(folder: Path, description: Mapping[str, object]) -> None:
    """Write a supervisor's `supervisor.json`."""
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    (folder / "supervisor.json").write_text(text, encoding="utf-8")
