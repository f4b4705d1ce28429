"""Reads answers that a model writes freely, by its own tokenizer: which tokens describe which image, which
one is the verdict.

The pocket supervisor's tokens are whole fragments of an answer; a large model's cut it anywhere. So places
are found in the text (`saga_ray.prompts.spans`) and traced back: a character belongs to the first token with
which the decoded answer reaches it. That asks nothing of a tokenizer but that a longer answer's text begins
with a shorter one's.

Legend: G answers, T answer length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from saga_ray.prompts.spans import spans
from saga_ray.prompts.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class WrittenAnswers:
    """Answers to the template's instruction with the words of a vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> None:
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        yes, no = (self._verdict_token(word) for word in ("yes", "no"))
        self.verdicts = yes, no
        """The tokens that begin yes and no behind the verdict's key and quotation mark."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The answer as text, without tokens such as the end's."""
        text = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text

    def fewest_tokens(self, style: str) -> int:
        """Of an answer that has every key and says nothing, its end included."""
        vocabulary = self.vocabulary
        empty = dict.fromkeys(vocabulary.attributes, "")
        parts: dict[str, object] = {"differences": "", "reasoning": "", vocabulary.verdict_key: "no"}
        if style == "attributes":
            first, second = vocabulary.item_keys
            parts = {first: empty, second: empty, "differences": "", "confidence": "low"} | parts
        return len(self._encode(json.dumps(parts, separators=(",", ":")))) + 1

    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens with a character between the braces of image a's description, and of image b's; all
        false where the answer is not whole or lacks one of them."""
        masks_2GT = torch.zeros(2, *mask_GT.shape, dtype=torch.bool)
        for row, token_ids in enumerate(_rows(tokens_GT, mask_GT)):
            text = self.decode(token_ids)
            described = spans(text, self.vocabulary).descriptions
            if described is None:
                continue
            for mask_of_image, span in zip(masks_2GT, described, strict=True):
                if span.start < span.stop:
                    first, last = (self._token_at(token_ids, text, at) for at in (span.start, span.stop - 1))
                    mask_of_image[row, first : last + 1] = True
        a_GT, b_GT = masks_2GT.to(mask_GT.device)
        return a_GT, b_GT

    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        """Index of the token that begins the verdict of each whole answer, if it is one of `verdicts`; else
        -1."""
        at_G = torch.full(mask_GT.shape[:1], -1)
        for row, token_ids in enumerate(_rows(tokens_GT, mask_GT)):
            text = self.decode(token_ids)
            place = spans(text, self.vocabulary).verdict
            if place is not None:
                index = self._token_at(token_ids, text, place)
                at_G[row] = index if token_ids[index] in self.verdicts else -1
        return at_G.to(mask_GT.device)

    def _token_at(self, token_ids: Sequence[int], text: str, place: int) -> int:
        """The token that brings the character at `place`: the last of the fewest whose text holds it."""
        known, enough = 0, len(token_ids)
        while enough - known > 1:
            middle = (known + enough) // 2
            if self.decode(token_ids[:middle]).startswith(text[: place + 1]):
                enough = middle
            else:
                known = middle
        return enough - 1

    def _verdict_token(self, word: str) -> int:
        text = json.dumps({self.vocabulary.verdict_key: word})
        token_ids = self._encode(text)
        return token_ids[self._token_at(token_ids, text, text.rindex(word))]

    def _encode(self, text: str) -> list[int]:
        token_ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return token_ids


def _rows(tokens_GT: Tensor, mask_GT: Tensor) -> list[list[int]]:
    """Each answer without its padding, which stands on the right."""
    return [row_T[mask_T].tolist() for row_T, mask_T in zip(tokens_GT, mask_GT, strict=True)]
