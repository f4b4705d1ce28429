"""Which tokens of a freely written answer describe the pictures, and which one is the verdict.

A large supervisor writes JSON as it likes, cut into the tokens of its vocabulary: the answer is found in the
text (`saga_ray.prompts.objects`, as the reward finds it), and the text's spans are carried back to tokens.

Legend: G completions, T answer length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from saga_ray.prompts.objects import located, members

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_CHARACTER = 4
"""Tokens, at most, that make one character: bytes of UTF-8."""
BROKEN = "\ufffd"


@dataclass(frozen=True)
class _Reading:
    first: tuple[int, ...]
    """Tokens that describe image a."""
    second: tuple[int, ...]
    verdict: int
    """-1: none."""


class WrittenAnswer:
    """Reads answers with the keys `item_keys`, one a picture, and `verdict_key`."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, item_keys: tuple[str, str], verdict_key: str
    ) -> None:
        self.tokenizer: Any = tokenizer
        self.item_keys, self.verdict_key = item_keys, verdict_key
        self.verdict_token_ids = self._verdict_token_ids()
        self._read = lru_cache(maxsize=512)(self._read_answer)  # masks and verdicts ask one after the other
        self._decode_cached = lru_cache(maxsize=65536)(self.decode)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text, without special tokens."""
        text: str = self.tokenizer.decode(
            list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def description_masks(self, tokens_GT: Tensor, mask_GT: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens inside the values of both item keys, attributes' names and values, without the outer
        braces; all false where the answer has no complete object with both of them and the verdict's key.
        """
        a_GT, b_GT = (torch.zeros_like(mask_GT) for _ in range(2))
        for row, reading in enumerate(self._readings(tokens_GT, mask_GT)):
            a_GT[row, list(reading.first)] = True
            b_GT[row, list(reading.second)] = True
        return a_GT, b_GT

    def verdict_positions(self, tokens_GT: Tensor, mask_GT: Tensor) -> Tensor:
        """Index of the token that begins the verdict that the reward reads, -1 where it is not one of
        `verdict_token_ids`."""
        found = [reading.verdict for reading in self._readings(tokens_GT, mask_GT)]
        return torch.tensor(found, dtype=torch.long, device=tokens_GT.device)

    def _readings(self, tokens_GT: Tensor, mask_GT: Tensor) -> list[_Reading]:
        rows = zip(tokens_GT.cpu(), mask_GT.cpu(), strict=True)
        # Masks are true from the left on, so an index among the real tokens is one among all.
        return [self._read(tuple(tokens_T[mask_T].tolist())) for tokens_T, mask_T in rows]

    def _read_answer(self, token_ids: tuple[int, ...]) -> _Reading:
        pieces = self.pieces(token_ids)
        text = "".join(pieces)
        starts = [start for start, answer in located(text, self.verdict_key) if self.verdict_key in answer]
        if not starts:
            return _Reading((), (), -1)
        spans = members(text, starts[-1])  # the last such object wins, as in the reward
        ends, total = [], 0
        for piece in pieces:
            total += len(piece)
            ends.append(total)
        begins = [0, *ends[:-1]]

        def inside(key: str) -> tuple[int, ...]:
            begin, end = spans.get(key, (0, 0))
            if not text.startswith(("{", '"'), begin):  # neither attributes nor a sentence
                return ()
            # A part of a character, which has no text of its own, stands where the character does.
            return tuple(
                place
                for place, (start, stop) in enumerate(zip(begins, ends, strict=True))
                if begin < start and stop < end
            )

        first, second = map(inside, self.item_keys)
        if not first or not second:
            first = second = ()
        word = spans[self.verdict_key][0] + 1  # after the quotation mark
        at = next(place for place, end in enumerate(ends) if end > word)
        known = token_ids[at] in self.verdict_token_ids
        return _Reading(first, second, at if known else -1)

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token where it stands: their concatenation is the answer's text.

        A token that is only a part of a character has none; the character is the last part's. A token's
        text depends on the one before it (a leading space), so each is decoded with what came before.
        """
        pieces: list[str] = []
        start = known = 0
        for end in range(1, len(token_ids) + 1):
            before = self._decode_cached(tuple(token_ids[start:known]))
            now = self._decode_cached(tuple(token_ids[start:end]))
            whole = not now.endswith(BROKEN) or end - known >= LONGEST_CHARACTER
            if len(now) > len(before) and whole:
                pieces.append(now[len(before) :])
                start, known = known, end
            else:
                pieces.append("")
        return pieces

    def _verdict_token_ids(self) -> tuple[int, int]:
        """The first tokens in which answers differ that say yes and no."""
        yes, no = (
            self.tokenizer(f'{{"{self.verdict_key}": "{word}"}}', add_special_tokens=False)["input_ids"]
            for word in ("yes", "no")
        )
        differing = [(of_yes, of_no) for of_yes, of_no in zip(yes, no, strict=False) if of_yes != of_no]
        assert differing, "the tokenizer cannot tell yes from no"
        return differing[0]
