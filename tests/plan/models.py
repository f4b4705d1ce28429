"""Small models of the architectures that are planned for, and what running them costs."""

from __future__ import annotations

import math
import weakref
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
from saga_ray.models.replay import Replay, replay
from saga_ray.models.supervisors import Supervisor
from saga_ray.models.supervisors._assemble import of_checkpoint
from saga_ray.models.towers import Tower
from saga_ray.models.towers.conversion import external
from saga_ray.plan.counts import Row
from saga_ray.plan.sizes import SupervisorSizes
from saga_ray.plan.supervisors import supervisor_sizes
from tests.models import tiny_external
from tests.models.supervisors import qwen, tiny_gemma3, tiny_idefics3, tiny_internvl, tiny_llava

PAIRS, GROUP, ANSWER = 2, 3, 9
INTERNVL: dict[str, tuple[str, int, dict[str, Any]]] = {
    "internvl": ("qwen3", tiny_internvl.PIXELS, {}),
    "internvl-other": (
        "llama",
        84,
        {"attention_bias": False, "use_qk_norm": True, "norm_type": "rms_norm", "use_mean_pooling": False},
    ),
}
"""Language model, size of pictures, vision model: at its own size, and interpolated with all else that
InternViT can be."""
PROJECTED = (*INTERNVL, "smolvlm", "gemma3")
KINDS = ("pocket", "qwen3_vl", "qwen2_5_vl", "llava-clip", "llava-siglip", *PROJECTED, "external")


@dataclass
class Small:
    """A supervisor with its tower, and the sizes that the plan reads of its folder."""

    supervisor: Supervisor
    tower: Tower
    sizes: SupervisorSizes

    def pictures(self, count: int) -> Tensor:
        return pictures(self.tower, count)

    def tokens(self, pairs: int) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        shape = (pairs, self.tower.tokens_per_image, self.tower.token_width)
        return torch.randn(shape, generator=generator)

    def replayed(self, row: Row, layer: int | None, *, recompute: bool = False) -> Replay:
        """`PAIRS` pairs' random answers again; every answer is whole."""
        x_a, x_b = (self.tokens(PAIRS).requires_grad_(True) for _ in range(2))
        shape = (PAIRS, row.group, row.answer)
        tokens = torch.randint(3, 40, shape, generator=torch.Generator().manual_seed(3))
        return replay(
            self.supervisor,
            x_a,
            x_b,
            tokens,
            torch.ones_like(tokens, dtype=torch.bool),
            style="attributes",
            layer=layer,
            temperature=None,
            shared_prefix=row.shared_prefix,
            recompute=recompute,
        )

    def row(self, shared_prefix: bool = True) -> Row:
        """How they stand; the prompt's length is the model's own, which the plan may have to guess."""
        x_PND = self.tokens(1)
        prompt = self.supervisor.prompt_embeddings(x_PND, x_PND, "attributes").shape[1]
        return Row(prompt, ANSWER, GROUP, shared_prefix)


def pictures(tower: Tower, count: int) -> Tensor:
    """Random ones."""
    generator = torch.Generator().manual_seed(1)
    shape = (count, tower.image_size, tower.image_size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def small(kind: str, folder: Path, precision: str = "float32") -> Small:
    """One of `KINDS`, its folder written if it does not ship."""
    path: Path | str = folder
    if kind == "pocket":
        path = "furniture-pocket"
    elif kind == "external":
        tiny_external.checkpoint(folder / "vision", "dinov3_vit")
        tiny_llava.language_model(folder / "language")
        path, tower = folder / "supervisor", external.of_checkpoint(folder / "vision")
        words = tiny_llava.assemble.tokenizer_with_image(folder / "language")
        put_together = tiny_llava.assemble.put_together
        put_together(tower, torch.float32, folder / "language", words, path, "birds", 0)
    elif kind.startswith("qwen"):
        qwen.write_supervisor(kind, folder)
    else:
        size = checkpoint(kind, folder / "checkpoint")
        path = folder / "supervisor"
        of_checkpoint(folder / "checkpoint", path, "birds", size)
    supervisor = supervisors.load(path, precision)  # type: ignore[arg-type]
    settings = Settings(supervisor=SupervisorSettings(path=str(path)))
    return Small(supervisor, supervisor.build_tower(), supervisor_sizes(settings))


def checkpoint(kind: str, folder: Path) -> int | None:
    """Write one; returns the size of pictures, where its tower has a choice."""
    if kind.startswith("llava"):
        tiny_llava.checkpoint(folder, "phi3" if kind == "llava-clip" else "qwen2", kind[6:])
        return None
    if kind == "smolvlm":
        tiny_idefics3.checkpoint(folder, tiny_idefics3.SMOLVLM)
        return 96
    if kind == "gemma3":
        tiny_gemma3.checkpoint(folder)
        return 84
    language, size, vision = INTERNVL[kind]
    tiny_internvl.checkpoint(folder, language, vision)
    return size


def operations(run: Callable[[], Any]) -> int:
    """What torch counts; plain attention, since its counter does not know the CPU's fused one."""
    with FlopCounterMode(display=False, custom_mapping=CONVOLUTION) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def convolution_backward(grad: Any, read: Any, weight: Any, *rest: Any, **_: Any) -> int:
    """The counter's own takes grouped convolutions for whole ones in the gradient of the weights."""
    forward = 2 * grad[0] * math.prod(grad[2:]) * math.prod(weight)
    return forward * sum(rest[-1][:2])


CONVOLUTION: Any = {torch.ops.aten.convolution_backward: convolution_backward}


@contextmanager
def kept_bytes(modules: list[nn.Module], counted: list[int]) -> Iterator[None]:
    """Bytes that autograd still keeps at the block's end, each storage once; not parameters and buffers. What
    is computed inside must be held until then."""
    known = {
        tensor.untyped_storage().data_ptr()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }
    packed: list[weakref.ref[Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        packed.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    storages = [tensor.untyped_storage() for kept in packed if (tensor := kept()) is not None]
    kept = {storage.data_ptr(): storage.nbytes() for storage in storages if storage.data_ptr() not in known}
    counted.append(sum(kept.values()))
