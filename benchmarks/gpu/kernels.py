"""Which operators and kernels attention takes while answers are replayed, as torch's profiler sees it.

Replay attends twice in a layer: the prompt to itself in causal order, without a mask, and the answers to the
prompt and to themselves, with one (`saga_ray.models.replay_attention`). Not every fused operator takes a mask
together with grouped query heads; the plain one keeps every score for the backward pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from saga_ray.train.stopwatch import Stopwatch

ATTENTION = "aten::scaled_dot_product_attention"
OPERATOR = "aten::_scaled_dot_product"
PLAIN = "_math"
ON_DEVICE = re.compile(r"attention|attn|flash|fmha|sdpa|softmax", re.IGNORECASE)
LONGEST = 110
"""Letters of a kernel's name that are printed: templates are longer than anyone reads."""


@dataclass(frozen=True)
class Kernels:
    """Names, each once, in order of appearance."""

    causal: list[str]
    """Operators of attention without a mask: the prompt's."""
    masked: list[str]
    """Operators of attention with one: the answers'."""
    backward: list[str]
    device: list[str]
    """Of the GPU's kernels, those that look like attention."""

    @property
    def masked_is_fused(self) -> bool:
        """Whether no masked attention was the plain one."""
        return bool(self.masked) and not any(PLAIN in name for name in self.masked)


class _Profiled(Stopwatch):
    """Watches replay alone: the tower attends too."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.events: list[Any] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        if not name.startswith("replay"):
            with super().part(name):
                yield
            return
        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with profile(activities=activities, record_shapes=True) as profiled, super().part(name):
            yield
        self.events += profiled.events() or []


def kernels_of(step: Callable[[Stopwatch], object], device: torch.device) -> Kernels:
    """What the replay of a step takes; `step` is given the clock to use."""
    clock = _Profiled(device)
    step(clock)
    called: dict[bool, dict[str, None]] = {False: {}, True: {}}
    backward: dict[str, None] = {}
    on_device: dict[str, None] = {}
    for event in clock.events:
        if event.device_type != DeviceType.CPU:
            if ON_DEVICE.search(event.name):
                on_device[event.name[:LONGEST]] = None
        elif event.name == ATTENTION:
            masked = bool(event.input_shapes[3])
            called[masked] |= {each.name: None for each in event.cpu_children if OPERATOR in each.name}
        elif event.name.startswith(OPERATOR) and event.name.endswith("backward"):
            backward[event.name] = None
    return Kernels(list(called[False]), list(called[True]), list(backward), list(on_device))
