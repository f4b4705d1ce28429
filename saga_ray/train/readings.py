"""What a step says of itself in the log: gradients that meet, and rollouts.

Pure functions of what the step has summed over all workers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from saga_ray.rollout.client import RoundOutcome
from saga_ray.train.gradients import ParameterBuffer, cosine, square


def gradient_readings(
    at_tokens: Sequence[float],
    pooler_metric: ParameterBuffer,
    pooler_distilled: ParameterBuffer,
    attention: Sequence[nn.Parameter],
) -> dict[str, float]:
    """Norms and cosines of the weighted losses: metric and GRPO at the tokens, metric and distillation at
    q and W_k.

    ``at_tokens``: squared norm of the metric loss's gradient, squared norm of GRPO's, and their dot product.
    ``attention``: the pooler's q and W_k.
    """
    metric_square, supervisor_square, dot = at_tokens
    metric_vector, distilled_vector = pooler_metric.of(attention), pooler_distilled.of(attention)
    pooler_squares = square([metric_vector]), square([distilled_vector])
    return {
        "tokens/metric": metric_square**0.5,
        "tokens/grpo": supervisor_square**0.5,
        "tokens/cosine": cosine(dot, metric_square, supervisor_square),
        "attention/metric": pooler_squares[0] ** 0.5,
        "attention/distillation": pooler_squares[1] ** 0.5,
        "attention/cosine": cosine(
            float((metric_vector.double() * distilled_vector.double()).sum()), *pooler_squares
        ),
    }


def rollout_readings(outcomes: Sequence[RoundOutcome], pairs: float, mismatch: float) -> dict[str, float]:
    """Counts over the step's rounds; ``pairs`` replayed, ``mismatch`` of engine and replay a token."""
    completions = sum(outcome.completions for outcome in outcomes)
    groups = sum(outcome.groups for outcome in outcomes)
    informative = sum(outcome.informative for outcome in outcomes)
    return {
        "requests": sum(outcome.requests for outcome in outcomes),
        "groups": groups,
        "informative": informative,
        "informative_share": informative / max(groups, 1),
        "pairs_replayed": pairs,
        "completions": completions,
        "tokens": sum(outcome.tokens for outcome in outcomes),
        "reward": sum(outcome.reward_sum for outcome in outcomes) / max(completions, 1),
        "truncated": sum(outcome.truncated for outcome in outcomes),
        "unparsable": sum(outcome.unparsable for outcome in outcomes),
        "cancelled": sum(outcome.cancelled for outcome in outcomes),
        "engine_mismatch": mismatch,
    }
