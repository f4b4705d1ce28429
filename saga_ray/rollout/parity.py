"""The gate before training: does the rollout engine give tokens the probability that replay gives them?

Both read the same embeddings and tokens, so what differs is arithmetic alone. A larger difference means two
different models (other weights, positions or prompt), and GRPO would follow the gradient of a policy that did
not write the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.rollout.groups import Group

FAR_FACTOR = 10.0
"""A token whose difference is this many times the tolerance of the mean is far off."""
FAR_SHARE = {"float32": 0.0, "bfloat16": 0.01}
"""How many of the tokens may be far off, by the language model's arithmetic. In bfloat16 two right engines
differ by tenths of nats on tokens that the model finds unlikely: others report 0.03 nats a token (root mean
square) at 0.5 billion parameters, 0.011 on average at 4 billion."""


@dataclass(frozen=True)
class ParityReport:
    """Absolute differences of log p a token (nats), between a rollout engine and replay."""

    mean: float
    largest: float
    far: float
    """Share of the tokens that are far off."""
    tokens: int
    tolerance: float
    most_far: float

    @property
    def passed(self) -> bool:
        """False also where a difference is not a number, or nothing was compared."""
        return self.tokens > 0 and self.mean <= self.tolerance and self.far <= self.most_far

    def require(self, engine: str) -> None:
        """Raises `UserError` above the tolerance."""
        if not self.passed:
            raise UserError(
                f"engine parity: log p of {engine} and of replay differ by {self.mean:.3g} "
                f"a token on average, {self.largest:.3g} at most, over {self.tokens} tokens, and "
                f"{self.far:.2%} of them by more than {FAR_FACTOR * self.tolerance:g}; allowed are "
                f"{self.tolerance:g} on average and {self.most_far:.0%} of the tokens: "
                "set supervisor.precision=float32 or raise rollout.parity_tolerance"
            )


def parity(
    groups: Sequence[Group], logp_PGT: Tensor, tolerance: float, precision: str = "float32"
) -> ParityReport:
    """Compare the engine's log p, kept in the groups, with replay's raw log p of the same tokens.

    ``logp_PGT``: P groups in the same order, G completions, T tokens padded on the right; `precision`: the
    language model's, a key of `FAR_SHARE`.
    """
    differences = [
        torch.tensor(completion.logprobs, dtype=torch.float64)
        - logp_T[: len(completion.logprobs)].detach().double().cpu()
        for group, logp_GT in zip(groups, logp_PGT, strict=True)
        for completion, logp_T in zip(group.completions, logp_GT, strict=True)
    ]
    difference = torch.cat(differences).abs() if differences else torch.empty(0, dtype=torch.float64)
    if len(difference) == 0:
        return ParityReport(0.0, 0.0, 0.0, 0, tolerance, FAR_SHARE[precision])
    near = difference <= FAR_FACTOR * tolerance  # what is no number is not
    return ParityReport(
        float(difference.mean()),
        float(difference.max()),
        float((~near).double().mean()),
        len(difference),
        tolerance,
        FAR_SHARE[precision],
    )
