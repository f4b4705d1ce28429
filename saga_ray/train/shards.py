"""Weights shared out among the training workers (``train.shard``; FSDP2 of torch): each holds a part of every
layer, and a layer's whole weights exist only while it computes.

A step stays what it is without shards. The tower's gradients are added up over the workers in float32 while
backward runs, and each worker keeps, and its optimizer updates, those of its part. Checkpoints hold whole
tensors, so that a run may go on with other shards or none.

Parts are gathered by all workers together or by none: whatever calls a model with shards must be called by
all of them, equally often and in the same order.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from saga_ray.models.supervisors.base import Supervisor
from saga_ray.train.gradients import square
from saga_ray.train.world import World

if TYPE_CHECKING:  # to import it takes 2 seconds, also in workers that hold their models whole
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor


def shard_tower(tower: nn.Module, world: World, device: torch.device) -> None:
    """Share out a tower, in place: weights, gradients and, built afterwards, the optimizer's state.

    Its layers are those that stand in lists; each is gathered by itself, and what is left with the whole.
    """
    from torch.distributed.fsdp import fully_shard

    # FSDP says so of every tower that returns a view; nothing here writes to tokens in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    for parameter in tower.parameters():
        parameter.data = parameter.data.contiguous()  # not channels-last, which cannot be cut
    mesh = _mesh(world, device)
    for module in (*listed_layers(tower), tower):
        sharded = fully_shard(module, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # the sum; FSDP's own way is the mean
        sharded.set_force_sum_reduction_for_comms(True)


def shard_language_model(supervisor: Supervisor, world: World, device: torch.device) -> None:
    """Share out the layers of a supervisor's frozen language model, in place; they move to the device one by
    one, so that it never holds them all.

    Words and head stay whole on every worker, as do all of a supervisor's other parts: how often they are
    called follows the answers, which are each worker's own.
    """
    from torch.distributed.fsdp import fully_shard

    decoder: Any = supervisor.decoder
    layers = list(decoder.layers)
    of_layers = {id(parameter) for layer in layers for parameter in layer.parameters()}
    whole = {parameter for parameter in decoder.parameters() if id(parameter) not in of_layers}
    mesh = _mesh(world, device)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    fully_shard(decoder, mesh=mesh, ignored_params=whole)  # lets a layer be gathered while another computes


def listed_layers(module: nn.Module) -> list[nn.Module]:
    """The outermost modules with weights that stand in a list, as transformers' blocks do."""
    found = []
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict) or not _is_list(module):
            found += listed_layers(child)
        elif next(child.parameters(), None) is not None:
            found.append(child)
    return found


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential)


def is_shard(tensor: object) -> TypeGuard[DTensor]:
    """Whether this is a worker's part of a tensor."""
    return hasattr(tensor, "full_tensor")


def gathered(state: Any, *, keep: bool) -> Any:
    """A state (dicts, lists, tensors) with whole tensors, on the CPU, in place of shards, which every worker
    must ask for; who does not ``keep`` them gets none in their place. Without shards it is free.
    """
    if isinstance(state, Mapping):
        return {name: gathered(value, keep=keep) for name, value in state.items()}
    if isinstance(state, list):
        return [gathered(value, keep=keep) for value in state]
    if not is_shard(state):
        return state
    whole: Tensor = state.full_tensor().detach()
    return whole.cpu() if keep else None


def shared_out(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round: of each whole tensor this worker's part where the one of the same name in `like`
    is a shard."""
    return {name: _part(value, like[name]) if name in like else value for name, value in state.items()}


def shared_out_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The same for an optimizer's state: what has a parameter's shape is shared out as the parameter is."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {
        index: {
            name: _part(value, parameters[index]) if value.shape == parameters[index].shape else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": parts}


def _part(value: Tensor, like: Tensor) -> Tensor:
    if not is_shard(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    # each worker has the whole: nothing has to be sent
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def clip_(parameters: Iterable[nn.Parameter], limit: float, world: World) -> float:
    """``torch.nn.utils.clip_grad_norm_`` where some gradients are shards, whose squares are added up over the
    workers; others are the same on each worker."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parts = [gradient.to_local() for gradient in gradients if is_shard(gradient)]
    others = [gradient for gradient in gradients if not is_shard(gradient)]
    norm = float((world.sum_numbers([square(parts)])[0] + square(others)) ** 0.5)
    factor = min(1.0, limit / (norm + 1e-6))  # as there
    for gradient in (*parts, *others):
        gradient.mul_(factor)
    return norm


def _mesh(world: World, device: torch.device) -> DeviceMesh:
    from torch.distributed.device_mesh import init_device_mesh

    if device.type == "cuda":
        torch.cuda.set_device(device)  # FSDP computes on the current one
    return init_device_mesh(device.type, (world.size,))
