"""The pooler: one learned query looks over an image's tokens, a linear map and L2 norm make the embedding.

beta = softmax(q W_k X^T / sqrt(D)) over the tokens, z = L2norm(Linear(beta X)); no value projection
(paper section 3.1). It begins as mean pooling: q = 0 makes beta uniform, and Linear (without bias) begins as
the identity or, where the embedding is narrower than the tokens, as a fixed random projection with orthogonal
rows. W_k begins as the identity, and has no gradient until q has moved.

Legend: B images, N patch tokens, D token width, E embedding size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Pooling = Literal["attention", "mean"]


class Pooler(nn.Module):
    """Tokens to one embedding (paper section 3.1, c_phi)."""

    def __init__(self, token_width: int, embedding_size: int | None = None, pooling: Pooling = "attention"):
        """The first `token_width` numbers of a token are read. An embedding of size none is as wide."""
        super().__init__()
        self.token_width = token_width
        self.embedding_size = embedding_size or token_width
        self.pooling: Pooling = pooling
        if pooling == "attention":
            self.query = nn.Parameter(torch.zeros(token_width))
            self.key = nn.Parameter(torch.eye(token_width))
        self.linear = nn.Linear(token_width, self.embedding_size, bias=False)
        self.linear.weight.data.copy_(_start_of_linear(self.embedding_size, token_width))

    def attention(self, x_BND: Tensor) -> Tensor:
        """beta_BN: where the query looks; sums to 1 over the tokens. Uniform with mean pooling."""
        x_BND = x_BND[..., : self.token_width]
        if self.pooling == "mean":
            return x_BND.new_full(x_BND.shape[:-1], 1 / x_BND.shape[-2])
        scores_BN: Tensor = x_BND @ (self.query @ self.key) / self.token_width**0.5
        return scores_BN.softmax(-1)

    def forward(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """The L2-normalised embedding z_BE and the attention beta_BN that made it."""
        x_BND = x_BND[..., : self.token_width]
        beta_BN = self.attention(x_BND)
        pooled_BD = torch.einsum("bn,bnd->bd", beta_BN, x_BND)
        return functional.normalize(self.linear(pooled_BD), dim=-1), beta_BN


def _start_of_linear(embedding_size: int, token_width: int) -> Tensor:
    if embedding_size == token_width:
        return torch.eye(token_width)
    weight_ED = torch.empty(embedding_size, token_width)
    nn.init.orthogonal_(weight_ED, generator=torch.Generator().manual_seed(0))
    return weight_ED
