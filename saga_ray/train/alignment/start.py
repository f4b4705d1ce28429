"""Where the training of a pocket supervisor starts: close to a model that can compare two pictures.

From ordinary random weights a small model spends most of a short training finding out that a verdict means
comparing tokens. Two choices shorten that: the projector keeps what varies most among the tokens, and every
attention head begins by looking for tokens like its own.

Legend: S pictures, N patch tokens, D token width, H width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saga_ray.models.supervisors.pocket import Pocket

SAMPLE = 8000
"""Tokens that the principal directions are computed from."""
LIKENESS = 0.04
"""Spread of the query weights: in width 256 a head's logit of a token with itself is about 3."""
KEY_NOISE = 0.02


@torch.no_grad()
def start_weights(supervisor: Pocket, tokens_SND: Tensor, generator: torch.Generator) -> None:
    """Set projector and attention of a fresh supervisor in place, from the tokens that it will learn from."""
    _principal_directions(supervisor, tokens_SND, generator)
    for layer in supervisor.language_model.model.layers:
        query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
        query.copy_(torch.randn(query.shape, generator=generator) * LIKENESS)
        key.copy_(query + torch.randn(key.shape, generator=generator) * KEY_NOISE)


def _principal_directions(supervisor: Pocket, tokens_SND: Tensor, generator: torch.Generator) -> None:
    """Projector: the tokens' principal directions, each divided by the root of its spread (half whitened)."""
    linear = supervisor.projector.linear
    flat_KD = tokens_SND.flatten(0, 1)
    sample_KD = flat_KD[torch.randperm(len(flat_KD), generator=generator)[:SAMPLE]].float()
    mean_D = sample_KD.mean(0)
    centred_KD = sample_KD - mean_D
    covariance_DD = centred_KD.T @ centred_KD / len(centred_KD)
    variance_D, directions_DD = torch.linalg.eigh(covariance_DD)  # ascending
    kept = min(linear.out_features, linear.in_features)
    spread_H = variance_D[-kept:].clamp(min=1e-12).sqrt()
    weight_HD = (directions_DD[:, -kept:] / spread_H.sqrt()).T
    weight_HD = weight_HD / (centred_KD @ weight_HD.T).std()
    linear.weight.zero_()
    linear.weight[:kept] = weight_HD
    linear.bias.copy_(-(linear.weight @ mean_D))
