"""How often the supervisor's verdict is right on a fixed set of held-out pairs, seen through the encoder's
present tokens.

A measure of what training does to the tokens as the supervisor reads them; never trained on. Pairs come from
validation classes, half of one class and half of two, the same pairs at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from saga_ray.config.settings import Settings
from saga_ray.data.table import ImageTable
from saga_ray.models.encoder import Encoder
from saga_ray.models.greedy import greedy
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.prompts.verdict import parse_answer

CHUNK = 32


class VerdictProbe:
    """The fixed pairs, and the greedy answers to them."""

    @classmethod
    def of(
        cls,
        supervisor: Supervisor,
        table: ImageTable,
        settings: Settings,
        agreed: Callable[[Tensor], Tensor] | None = None,
    ) -> VerdictProbe | None:
        """A probe of the settings' pairs; none where the table has no pairs of both kinds. `agreed`: see
        `greedy`."""
        pairs = probe_pairs(np.asarray(table.labels), settings.evaluation.verdict_pairs, settings.seed)
        return cls(supervisor, table, pairs, settings, agreed) if pairs else None

    def __init__(
        self,
        supervisor: Supervisor,
        table: ImageTable,
        pairs: list[tuple[int, int, bool]],
        settings: Settings,
        agreed: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.supervisor, self.pairs, self.agreed = supervisor, pairs, agreed
        self.style = settings.supervisor.prompt
        self.max_new_tokens = settings.rollout.max_new_tokens
        rows = sorted({row for a, b, _ in self.pairs for row in (a, b)})
        self.place = {row: index for index, row in enumerate(rows)}
        self.images_BHWC = torch.from_numpy(
            np.stack([table.read_image(row, settings.data.image_size) for row in rows])
        )

    @torch.no_grad()
    def accuracy(self, encoder: Encoder) -> float:
        """Share of the pairs with a right verdict; an answer without one counts as wrong."""
        device = next(encoder.parameters()).device
        chunks = torch.split(self.images_BHWC, CHUNK)
        x_BND = torch.cat([encoder.tokens(chunk.to(device)) for chunk in chunks])
        right = 0
        for start in range(0, len(self.pairs), CHUNK):
            pairs = self.pairs[start : start + CHUNK]
            a, b = [self.place[pair[0]] for pair in pairs], [self.place[pair[1]] for pair in pairs]
            for answer, (_, _, same) in zip(self._answers(x_BND[a], x_BND[b]), pairs, strict=True):
                right += parse_answer(answer, self.supervisor.verdict_key).verdict is same
        return right / len(self.pairs)

    def _answers(self, x_a_PND: Tensor, x_b_PND: Tensor) -> list[str]:
        tokens_PT = greedy(self.supervisor, x_a_PND, x_b_PND, self.style, self.max_new_tokens, self.agreed)
        return [self.supervisor.decode(tokens.tolist()) for tokens in tokens_PT]


def probe_pairs(labels_N: np.ndarray, count: int, seed: int) -> list[tuple[int, int, bool]]:
    """``count`` pairs of rows, alternately of one class and of two, drawn by ``seed``; none where the table
    has not both kinds.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 0x5EED])
    by_class = {int(label): np.flatnonzero(labels_N == label) for label in np.unique(labels_N)}
    several = [label for label, rows in by_class.items() if len(rows) > 1]
    pairs: list[tuple[int, int, bool]] = []
    if not several or len(by_class) < 2:
        return pairs
    for index in range(count):
        if index % 2 == 0:
            a, b = rng.choice(by_class[int(rng.choice(several))], 2, replace=False)
        else:
            first, second = rng.choice(list(by_class), 2, replace=False)
            a, b = rng.choice(by_class[int(first)]), rng.choice(by_class[int(second)])
        pairs.append((int(a), int(b), index % 2 == 0))
    return pairs
