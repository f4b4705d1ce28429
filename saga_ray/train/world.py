"""The training workers together: sums, gathered embeddings, agreed numbers. With one worker all of it is
free.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


class World:
    """This worker's place among ``size`` workers; uses the process group that Ray Train set up."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @staticmethod
    def current() -> World:
        """The world of the process group, or a world of one where there is none."""
        if dist.is_available() and dist.is_initialized():
            return World(dist.get_rank(), dist.get_world_size())
        return World()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over the workers, in one collective."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def sum_numbers(self, numbers: Sequence[float]) -> list[float]:
        """Sums of numbers over the workers, exact for counts."""
        if self.size == 1:
            return list(numbers)
        vector = torch.tensor(list(numbers), dtype=torch.float64)
        device_vector = vector.to(_collective_device())
        dist.all_reduce(device_vector)
        return [float(value) for value in device_vector.cpu()]

    def gather(self, z_bE: Tensor) -> Tensor:
        """Embeddings of the whole micro-batch: the workers' shares (b each, B = b x workers) in rank order.

        Only the own share carries a gradient. Every worker computes the same loss of the whole batch, so the
        gradient at its own share is exact, and the shares' gradients together are that of the whole: nothing
        is counted twice.
        """
        if self.size == 1:
            return z_bE
        shares = [torch.empty_like(z_bE) for _ in range(self.size)]
        dist.all_gather(shares, z_bE.detach().contiguous())
        shares[self.rank] = z_bE
        return torch.cat(shares)

    def largest(self, number: float) -> float:
        """The workers' largest number."""
        if self.size == 1:
            return number
        vector = torch.tensor([number], dtype=torch.float64, device=_collective_device())
        dist.all_reduce(vector, dist.ReduceOp.MAX)
        return float(vector.item())

    def of_first(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, in place of this worker's of the same shape."""
        if self.size > 1:
            tensor = tensor.contiguous()
            dist.broadcast(tensor, src=0)
        return tensor

    def broadcast_number(self, number: float) -> float:
        """Rank 0's number, so that all workers decide alike (time budgets)."""
        if self.size == 1:
            return number
        vector = torch.tensor([number], dtype=torch.float64, device=_collective_device())
        dist.broadcast(vector, src=0)
        return float(vector.item())


def _collective_device() -> torch.device:
    return (
        torch.device("cuda", torch.cuda.current_device())
        if dist.get_backend() == "nccl"
        else torch.device("cpu")
    )
