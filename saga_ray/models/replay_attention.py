"""The attention functions of replay, plugged into the language model while it replays, and the recorded
teacher.

Rows hold a prompt of L tokens and then answers of A tokens each. ``SHARED_PREFIX``: one row a pair, G
answers; the prompt attends to itself, each answer to the prompt and to itself. ``WHOLE``: one row a
completion, one answer. Answers are padded on the right only, so they need no mask but causal order and, in
layers that have one, a sliding window. In the prompt, tokens of an image may attend to later ones of it.

Legend: P pairs, G completions of a pair, B = P x G completions, L prompt length, A answer tokens read, S
row length, R = G x A, h query heads, k key heads, d width of a head, N patch tokens of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARED_PREFIX, WHOLE = "saga_shared_prefix", "saga_whole"


@dataclass
class Teacher:
    """Records where the tokens that describe an image look when they are read, at one layer (paper section
    3.3)."""

    layer: int
    """Counted from 0."""
    group: int
    """G."""
    spans: tuple[slice, slice]
    """Where image a's and image b's tokens stand in the prompt."""
    describes_BA: tuple[Tensor, Tensor]
    """Which answer tokens describe image a, and which image b."""
    attention_PGN: tuple[Tensor, Tensor] | None = field(init=False, default=None)
    """Image a's and image b's, once the layer has run; sums to 1, or is 0 where no token describes the
    image."""

    @torch.no_grad()
    def observe(self, query_BhAd: Tensor, key_BkSd: Tensor, scaling: float, window: int | None) -> None:
        """Compute the attention of all answer tokens again: fused attention never shows it. A layer that is
        recomputed in backward has been seen already."""
        if self.attention_PGN is not None:
            return
        heads, answer = query_BhAd.shape[1:3]
        length = key_BkSd.shape[2] - answer
        heads_per_key = heads // key_BkSd.shape[1]
        hidden_AS = ~_visible(answer, length, window, (), query_BhAd.device)
        precision = torch.promote_types(query_BhAd.dtype, torch.float32)
        total_BAL = query_BhAd.new_zeros((len(query_BhAd), answer, length), dtype=precision)
        for head in range(heads):  # one at a time bounds memory
            query_BAd, key_BSd = (
                query_BhAd[:, head].to(precision),
                key_BkSd[:, head // heads_per_key].to(precision),
            )
            scores_BAS = (query_BAd @ key_BSd.mT * scaling).masked_fill_(hidden_AS, -torch.inf)
            total_BAL += scores_BAS.softmax(-1)[..., :length]
        a_BN, b_BN = (
            (total_BAL[..., span] * describes_BA[..., None]).sum(1)
            for span, describes_BA in zip(self.spans, self.describes_BA, strict=True)
        )
        self.attention_PGN = self._share(a_BN), self._share(b_BN)

    def _share(self, total_BN: Tensor) -> Tensor:
        # dividing by the numbers of heads and of describing tokens would cancel out
        share_BN = total_BN / total_BN.sum(-1, keepdim=True).clamp_min(torch.finfo(total_BN.dtype).tiny)
        return share_BN.reshape(-1, self.group, share_BN.shape[-1])


@dataclass(frozen=True)
class Layout:
    """How rows are made up; travels to the attention functions as the keyword ``layout``."""

    length: int
    """L."""
    group: int
    """G."""
    answer: int
    """A."""
    both_ways: tuple[slice, ...]
    """Spans of the prompt whose tokens attend to each other, also to later ones."""
    teacher: Teacher | None


@contextmanager
def attending(decoder: PreTrainedModel, function: str) -> Iterator[None]:
    """Let a language model's layers use one of the functions below inside a ``with`` block."""
    from transformers import AttentionInterface

    AttentionInterface.register(SHARED_PREFIX, _shared_prefix)
    AttentionInterface.register(WHOLE, _whole)
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation(function)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _shared_prefix(
    module: nn.Module,
    query_PhSd: Tensor,
    key_PkSd: Tensor,
    value_PkSd: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: Layout,
    sliding_window: int | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    _check(module, attention_mask, layout, ignored)
    length, group, answer = layout.length, layout.group, layout.answer

    def answers(x_PhSd: Tensor) -> Tensor:
        pairs, heads, _, width = x_PhSd.shape
        x_PhGAd = x_PhSd[:, :, length:].reshape(pairs, heads, group, answer, width)
        return x_PhGAd.transpose(1, 2).flatten(0, 1)

    def with_prompt(x_PkSd: Tensor) -> Tensor:
        prompt_BkLd = x_PkSd[:, None, :, :length].expand(-1, group, -1, -1, -1).flatten(0, 1)
        return torch.cat([prompt_BkLd, answers(x_PkSd)], dim=2)

    query_BhAd, key_BkSd, value_BkSd = answers(query_PhSd), with_prompt(key_PkSd), with_prompt(value_PkSd)
    _observe(module, layout, query_BhAd, key_BkSd, scaling, sliding_window)
    prompt_PhLd = _attend(
        query_PhSd[:, :, :length],
        key_PkSd[:, :, :length],
        value_PkSd[:, :, :length],
        scaling,
        sliding_window,
        layout.both_ways,
    )
    answer_BhAd = _attend(query_BhAd, key_BkSd, value_BkSd, scaling, sliding_window, ())
    pairs, heads, _, width = query_PhSd.shape
    answer_PRhd = answer_BhAd.transpose(1, 2).reshape(pairs, group * answer, heads, width)
    return torch.cat([prompt_PhLd.transpose(1, 2), answer_PRhd], dim=1), None


def _whole(
    module: nn.Module,
    query_BhSd: Tensor,
    key_BkSd: Tensor,
    value_BkSd: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    layout: Layout,
    sliding_window: int | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    _check(module, attention_mask, layout, ignored)
    _observe(module, layout, query_BhSd[:, :, layout.length :], key_BkSd, scaling, sliding_window)
    row_BhSd = _attend(query_BhSd, key_BkSd, value_BkSd, scaling, sliding_window, layout.both_ways)
    return row_BhSd.transpose(1, 2), None


def _attend(
    query_BhQd: Tensor,
    key_BkSd: Tensor,
    value_BkSd: Tensor,
    scaling: float,
    window: int | None,
    both_ways: tuple[slice, ...],
) -> Tensor:
    """Attention of the last Q of S positions to what they may see."""
    queries, keys = query_BhQd.shape[2], key_BkSd.shape[2]
    causal = queries == keys and not both_ways and (window is None or window >= keys)
    return functional.scaled_dot_product_attention(
        query_BhQd,
        key_BkSd,
        value_BkSd,
        attn_mask=None if causal else _visible(queries, keys - queries, window, both_ways, query_BhQd.device),
        is_causal=causal,
        scale=scaling,
        enable_gqa=query_BhQd.shape[1] != key_BkSd.shape[1],
    )


def _visible(
    queries: int, before: int, window: int | None, both_ways: tuple[slice, ...], device: torch.device
) -> Tensor:
    """Which of ``before + queries`` positions each of the last ``queries`` may see: itself and earlier ones,
    and later ones of its own span among `both_ways`; of all these the window hides what is `window` positions
    back or more."""
    seen_QS = torch.ones(queries, before + queries, dtype=torch.bool, device=device).tril(before)
    for span in both_ways:
        seen_QS[span, span] = True  # spans are of whole rows: nothing is before
    if window is not None:
        seen_QS = seen_QS.triu(before - window + 1)
    return seen_QS


def _observe(
    module: nn.Module,
    layout: Layout,
    query_BhAd: Tensor,
    key_BkSd: Tensor,
    scaling: float,
    window: int | None,
) -> None:
    if layout.teacher is not None and layout.teacher.layer == module.layer_idx:
        layout.teacher.observe(query_BhAd, key_BkSd, scaling, window)


def _check(module: nn.Module, attention_mask: Tensor | None, layout: Layout, ignored: dict[str, Any]) -> None:
    assert attention_mask is None, "replay has masks of its own"
    for unknown in ("softcap", "s_aux"):
        assert ignored.get(unknown) is None, f"replay does not know attention with {unknown}"
    assert not module.training, "replay needs a frozen language model in evaluation mode"
