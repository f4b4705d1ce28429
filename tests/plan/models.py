"""Small models of the architectures that are planned for, and what running them costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from saga_ray.config.settings import Settings, SupervisorSettings
from saga_ray.models import supervisors
from saga_ray.models.supervisors import Supervisor
from saga_ray.models.towers import Tower
from saga_ray.plan.sizes import SupervisorSizes
from saga_ray.plan.supervisors import supervisor_sizes
from tests.models.supervisors import qwen, tiny_llava

KINDS = ("pocket", "qwen3_vl", "qwen2_5_vl", "llava-clip", "llava-siglip")


@dataclass
class Small:
    """A supervisor with its tower, and the sizes that the plan reads of its folder."""

    supervisor: Supervisor
    tower: Tower
    sizes: SupervisorSizes

    def pictures(self, count: int) -> Tensor:
        side = self.tower.image_size
        generator = torch.Generator().manual_seed(1)
        return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)

    def tokens(self, pairs: int) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        shape = (pairs, self.tower.tokens_per_image, self.tower.token_width)
        return torch.randn(shape, generator=generator)


def small(kind: str, folder: Path, precision: str = "float32") -> Small:
    """One of `KINDS`, its folder written if it does not ship."""
    path: Path | str = folder
    if kind == "pocket":
        path = "furniture-pocket"
    elif kind.startswith("llava"):
        tiny_llava.checkpoint(folder / "checkpoint", "phi3" if kind == "llava-clip" else "qwen2", kind[6:])
        path = folder / "supervisor"
        tiny_llava.assemble.of_checkpoint(folder / "checkpoint", path, "birds")
    else:
        qwen.write_supervisor(kind, folder)
    supervisor = supervisors.load(path, precision)  # type: ignore[arg-type]
    settings = Settings(supervisor=SupervisorSettings(path=str(path)))
    return Small(supervisor, supervisor.build_tower(), supervisor_sizes(settings))


def operations(run: Callable[[], Any]) -> int:
    """What torch counts; plain attention, since its counter does not know the CPU's fused one."""
    with FlopCounterMode(display=False, custom_mapping=CONVOLUTION) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def convolution_backward(
    grad: Any,
    read: Any,
    weight: Any,
    _1: Any,
    _2: Any,
    _3: Any,
    _4: Any,
    _5: Any,
    _6: Any,
    groups: int,
    mask: Any,
    **_: Any,
) -> int:
    """The counter's own takes grouped convolutions for whole ones in the gradient of the weights."""
    pixels = grad[0] * int(torch.tensor(grad[2:]).prod())
    forward = 2 * pixels * int(torch.tensor(weight).prod())
    return forward * (int(mask[0]) + int(mask[1]))


CONVOLUTION: Any = {torch.ops.aten.convolution_backward: convolution_backward}


@contextmanager
def kept_bytes(
    modules: list[nn.Module], counted: list[int], without: list[Tensor] | None = None
) -> Iterator[None]:
    """Bytes that autograd keeps inside the block, each storage once; parameters and buffers are not counted."""
    known = {
        tensor.untyped_storage().data_ptr()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    } | {tensor.untyped_storage().data_ptr() for tensor in without or []}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    counted.append(sum(storage.nbytes() for storage in kept.values()))
