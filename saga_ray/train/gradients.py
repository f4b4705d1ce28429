"""Where the losses' gradients wait, each by itself, until the step's counts are known.

Shape legend: B images of a micro-batch (this worker's share), N patch tokens, D their width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from saga_ray.models.pooler import Pooler


@dataclass
class TokenBuffer:
    """A micro-batch at its tokens: the leaf where the losses meet, and one gradient buffer a loss, both
    unscaled sums.
    """

    tokens_BND: Tensor
    graph_BND: Tensor | None
    """The tower's output with its graph, when the graph is held; none when it is computed again."""
    metric_BND: Tensor = field(init=False)
    supervisor_BND: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.metric_BND = torch.zeros_like(self.tokens_BND)
        self.supervisor_BND = torch.zeros_like(self.tokens_BND)


class ParameterBuffer:
    """Summed gradients of a module's parameters under one loss."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.used = False

    def add(self, gradients: Iterable[Tensor | None], scale: float = 1.0) -> None:
        """Add one gradient a parameter; none counts as zero."""
        for total, gradient in zip(self.gradients, gradients, strict=True):
            if gradient is not None:
                total.add_(gradient, alpha=scale)
                self.used = True

    def scale_(self, factor: float) -> None:
        """Multiply all of them."""
        for gradient in self.gradients:
            gradient.mul_(factor)

    def of(self, parameters: Iterable[Tensor]) -> Tensor:
        """The gradients of some parameters as one vector."""
        wanted = {id(parameter) for parameter in parameters}
        chosen = [
            g.reshape(-1) for p, g in zip(self.parameters, self.gradients, strict=True) if id(p) in wanted
        ]
        return torch.cat(chosen) if chosen else torch.zeros(0)


def attention_parameters(pooler: Pooler) -> list[nn.Parameter]:
    """The pooler's q and W_k, which attention distillation reaches; none with mean pooling."""
    return [pooler.query, pooler.key] if pooler.pooling == "attention" else []


def cosine(dot: float, square_a: float, square_b: float) -> float:
    """Cosine from a dot product and two squared norms; 0 where a vector is zero."""
    return dot / (square_a * square_b) ** 0.5 if square_a > 0 and square_b > 0 else 0.0


def square(tensors: Iterable[Tensor]) -> float:
    """Squared norm of tensors taken as one vector."""
    return float(sum(float(tensor.double().pow(2).sum()) for tensor in tensors))
