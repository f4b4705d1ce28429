"""Tower tokens of a table's pictures, computed once: the tower is frozen, so alignment never runs it again.

Legend: V views, S pictures of the bank, B pictures at a time, N patch tokens, D token width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saga_ray.config.settings import DataSettings
from saga_ray.data.table import ImageTable
from saga_ray.data.transforms import augment
from saga_ray.models.towers import Tower

BATCH = 32


@dataclass(frozen=True)
class TokenBank:
    """Tokens of some rows of a table. View 0 is the plain picture, the others are augmented."""

    tokens_VSND: Tensor
    """float16, on the CPU."""
    place: dict[int, int]
    """Table row to position S."""

    def take(self, rows: npt.NDArray[np.int64], views: npt.NDArray[np.int64] | int = 0) -> Tensor:
        """x_BND (float32) of these rows, each in its view."""
        places = torch.tensor([self.place[int(row)] for row in rows])
        view = torch.as_tensor(views).expand(len(rows))
        return self.tokens_VSND[view, places].float()

    @property
    def views(self) -> int:
        """V."""
        return self.tokens_VSND.shape[0]


@torch.no_grad()
def fill_bank(
    tower: Tower,
    table: ImageTable,
    rows: npt.NDArray[np.int64],
    *,
    views: int = 0,
    crop_scale: float = 1.0,
    seed: int = 0,
) -> TokenBank:
    """Tokens of these rows: the plain picture and `views` augmented ones, which (seed, view, row)
    determines."""
    rows = np.unique(rows)
    settings = DataSettings(image_size=tower.image_size, crop_scale=crop_scale)
    tokens_VSND = torch.empty(
        views + 1, len(rows), tower.tokens_per_image, tower.token_width, dtype=torch.float16
    )
    device = next(tower.parameters()).device
    for start in range(0, len(rows), BATCH):
        plain = [table.read_image(int(row), tower.image_size) for row in rows[start : start + BATCH]]
        for view in range(views + 1):
            pictures = plain
            if view:
                pictures = [
                    augment(picture, np.random.default_rng([seed, view, int(row)]), settings)
                    for picture, row in zip(plain, rows[start : start + BATCH], strict=True)
                ]
            images_BHWC = torch.from_numpy(np.stack(pictures)).to(device)
            tokens_VSND[view, start : start + len(plain)] = tower(images_BHWC).to(torch.float16)
    return TokenBank(tokens_VSND, {int(row): place for place, row in enumerate(rows)})


def rows_that_fit(labels_S: npt.NDArray[np.int64], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions of at most about `limit` pictures, equally many of each class as far as it has them, two at
    least."""
    if len(labels_S) <= limit:
        return np.arange(len(labels_S))
    order = np.random.default_rng(seed).permutation(len(labels_S))
    rank_S = np.empty(len(labels_S), dtype=np.int64)
    seen: dict[int, int] = {}
    for position in order:
        label = int(labels_S[position])
        rank_S[position] = seen[label] = seen.get(label, -1) + 1
    most = 2
    while np.count_nonzero(rank_S < most + 1) <= limit:
        most += 1
    return np.flatnonzero(rank_S < most)
