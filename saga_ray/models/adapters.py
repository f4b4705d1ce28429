"""LoRA on a tower (arXiv 2106.09685): low-rank maps beside its linear layers train in place of its weights,
so that AdamW's moments and the gradients that workers add up are a few per cent of the tower's.

The paper trains the tower whole. An encoder that is stored has its adapters added to its weights, so nothing
behind training knows of them; a checkpoint keeps them apart, to go on exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BASE, ADAPTER = ".base_layer.", ".lora_"


def adapt(tower: nn.Module, *, rank: int, alpha: int, seed: int) -> None:
    """Put fresh adapters on all linear layers and pointwise convolutions of a tower, in place, and let them
    alone train. They begin at zero: the tower computes what it did."""
    from peft import LoraConfig, inject_adapter_in_model

    tower.requires_grad_(False)
    targets = [name for name, layer in tower.named_modules() if _linear(layer)]
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, tower)


def _linear(layer: nn.Module) -> bool:
    pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear) or pointwise


def merged(module: nn.Module) -> dict[str, Tensor]:
    """The state that the module would have without adapters: each is added to the weight beside it."""
    layers: dict[str, Any] = {name: layer for name, layer in module.named_modules() if _adapted(layer)}
    state = {}
    for name, value in module.state_dict().items():
        if BASE in name:
            place, _, leaf = name.rpartition(BASE)
            (adapter,) = layers[place].active_adapters
            delta = layers[place].get_delta_weight(adapter) if leaf == "weight" else 0.0
            state[f"{place}.{leaf}"] = value + delta
        elif ADAPTER not in name:
            state[name] = value
    return state


def _adapted(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "base_layer", None), nn.Module)


def adapters_of(module: nn.Module) -> dict[str, Tensor]:
    """The adapters' own state; empty where there are none."""
    return {name: value for name, value in module.state_dict().items() if ADAPTER in name}


def restore(module: nn.Module, state: dict[str, Tensor], adapters: dict[str, Tensor]) -> None:
    """Load what `merged` and `adapters_of` gave. Where there are adapters the weights beside them stay: they
    never train, and `state` has the adapters added to them."""
    if adapters:
        adapted = {name.partition(ADAPTER)[0] for name in adapters}
        state = {name: value for name, value in state.items() if name.rpartition(".")[0] not in adapted}
    problems = module.load_state_dict(state | adapters, strict=False)
    assert not problems.unexpected_keys, problems
    assert all(BASE in name for name in problems.missing_keys), problems
