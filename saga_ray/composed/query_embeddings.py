"""Embeddings of queries, and of the baselines that see only a part of them.

Legend: R prompts (a query has one for each of its instructions), B batch, Q queries, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saga_ray.composed.benchmarks import Query
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.pictures import PictureRows
from saga_ray.config.settings import EmbeddingSettings
from saga_ray.errors import UserError
from saga_ray.retrieval.embed import embeddings

COMPOSED, IMAGE_ONLY, TEXT_ONLY, IMAGE_AND_TEXT = "composed", "image_only", "text_only", "image_and_text"
WAYS = {
    COMPOSED: "composed",
    IMAGE_ONLY: "image only",
    TEXT_ONLY: "text only",
    IMAGE_AND_TEXT: "image + text",
}
"""How a query can be embedded, as results name it and as people read it: by the composed prompt; and the
baselines, which are the reference's image embedding, the instruction's text embedding, and their sum."""


BETWEEN = "\x00"


class _Asked(nn.Module):
    """Composed queries, and beside each its instruction as a text: both in one pass over the stream.

    What goes with a picture is one text there: what the prompt names, and the instruction after `BETWEEN`.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images_BHWC: Tensor, asked: Sequence[str]) -> Tensor:
        """(B, 2E): composed, then text."""
        parts = [each.partition(BETWEEN) for each in asked]
        things, instructions = [part[0] for part in parts], [part[2] for part in parts]
        composed_BE = self.embedder.composed(self.embedder.tokens(images_BHWC), instructions, things)
        return torch.cat([composed_BE, self.embedder.texts(instructions)], dim=1)


def embed_queries(
    queries: Sequence[Query],
    references_QE: NDArray[np.float32],
    embedder: Embedder,
    settings: EmbeddingSettings,
    *,
    text_weight: float = 0.5,
    local: bool | None = None,
    gpus: float = 0.0,
) -> dict[str, NDArray[np.float32]]:
    """L2-normalised z_QE for each of `WAYS`.

    `references_QE` are the image embeddings of the queries' references. Several instructions of a query say
    the same in another order: their embeddings are added. Raises UserError for embeddings that are not
    finite.
    """
    asked = [(row, text) for row, query in enumerate(queries) for text in query.instructions]
    batches = embeddings(
        PictureRows([queries[row].reference for row, _ in asked]),
        _Asked(embedder),
        settings,
        embedder.image_size,
        texts=[f"{queries[row].reference.thing}{BETWEEN}{text}" for row, text in asked],
        local=local,
        gpus=gpus,
    )
    both_RE = np.concatenate(list(batches))
    bad = np.flatnonzero(~np.isfinite(both_RE).all(axis=1))
    if len(bad):
        query = queries[asked[bad[0]][0]]
        raise UserError(
            f"the embedder gives numbers that are not finite for query {query.id}; has its training diverged?"
        )
    both_QE = np.zeros((len(queries), both_RE.shape[1]), dtype=np.float32)
    np.add.at(both_QE, [row for row, _ in asked], both_RE)
    composed_QE, text_QE = map(normalised, np.split(both_QE, 2, axis=1))
    return {
        COMPOSED: composed_QE,
        IMAGE_ONLY: references_QE,
        TEXT_ONLY: text_QE,
        IMAGE_AND_TEXT: image_and_text(references_QE, text_QE, text_weight),
    }


def image_and_text(
    image_QE: NDArray[np.float32], text_QE: NDArray[np.float32], text_weight: float
) -> NDArray[np.float32]:
    """The sum of (1 - `text_weight`) parts image and `text_weight` parts text, L2-normalised."""
    return normalised((1 - text_weight) * image_QE + text_weight * text_QE)


def normalised(z_QE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays."""
    length_Q1 = np.linalg.norm(z_QE, axis=1, keepdims=True)
    unit_QE: NDArray[np.float32] = (z_QE / np.maximum(length_Q1, 1e-12)).astype(np.float32, copy=False)
    return unit_QE
