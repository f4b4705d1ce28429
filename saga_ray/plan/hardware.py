"""GPUs as their makers publish them, and how much of that a run gets.

Arithmetic and bandwidth: NVIDIA's data sheets, dense (half of what is printed "with sparsity"); float32 is
that of the ordinary cores, since torch does not use TF32 unless told. Memory is what is left of the printed
size for CUDA programs (`torch.cuda.get_device_properties`), rounded down.
"""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.errors import UserError
from saga_ray.plan.sizes import BFLOAT16

UTILISATION = 0.4
"""Share of the arithmetic that large products get in training code without hand-written kernels; published
runs report 0.3 to 0.5. Not measured here."""
BANDWIDTH_SHARE = 0.6
"""Share of the bandwidth that decoding gets. Not measured here."""
CONTEXT_GIB = 1.0
"""CUDA's own and the kernels'."""
FRAGMENTS = 0.05
"""Share of a GPU's memory that the allocator cannot give out."""


@dataclass(frozen=True)
class Gpu:
    """One kind."""

    name: str
    memory_gib: float
    bfloat16_tflops: float
    float32_tflops: float
    bandwidth_gbs: float
    """GB/s, 10^9 bytes."""

    def flops(self, precision: int) -> float:
        """Operations a second in numbers of so many bytes."""
        return 1e12 * (self.bfloat16_tflops if precision == BFLOAT16 else self.float32_tflops)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40", 39.0, 312.0, 19.5, 1555.0),  # A100 SXM4 40 GB
        Gpu("a100-80", 79.0, 312.0, 19.5, 2039.0),  # A100 SXM4 80 GB
        Gpu("h100", 79.0, 989.0, 67.0, 3350.0),  # H100 SXM5 80 GB
        Gpu("h200", 139.0, 989.0, 67.0, 4800.0),  # H200 SXM 141 GB
        Gpu("l40s", 44.0, 362.0, 91.6, 864.0),  # L40S 48 GB
        Gpu("l4", 22.0, 121.0, 30.3, 300.0),  # L4 24 GB
    )
}


@dataclass(frozen=True)
class Speed:
    """A kind of GPU and the shares of it that are counted on."""

    gpu: Gpu
    utilisation: float = UTILISATION
    bandwidth: float = BANDWIDTH_SHARE

    def seconds(self, operations: float, bytes_: float, precision: int) -> float:
        """The longer of arithmetic and memory: they overlap."""
        arithmetic = operations / (self.gpu.flops(precision) * self.utilisation)
        return max(arithmetic, bytes_ / (self.gpu.bandwidth_gbs * 1e9 * self.bandwidth))


def gpu_named(name: str) -> Gpu:
    """A kind by its name.

    Raises:
        UserError: none is called that.
    """
    if name.lower() not in GPUS:
        raise UserError(f"--gpu {name}: `saga plan` knows {', '.join(GPUS)}")
    return GPUS[name.lower()]
