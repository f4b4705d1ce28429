"""Every family's tower and language model in parts on two workers, against both whole: gradients of a replay
at the tower's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from saga_ray.models import supervisors, towers
from saga_ray.models.replay import replay
from saga_ray.models.towers.conversion import timm
from saga_ray.models.towers.conversion.external import of_checkpoint
from saga_ray.train.shards import gathered, is_shard, listed_layers, shard_language_model, shard_tower
from saga_ray.train.world import World
from tests.models import tiny_external, tiny_timm
from tests.models.supervisors import (
    qwen,
    tiny_gemma3,
    tiny_idefics3,
    tiny_internvl,
    tiny_llava,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WORKERS, CPU = 2, torch.device("cpu")
FAMILIES: dict[str, Callable[[Path], object]] = {
    "llava": lambda folder: tiny_llava.pair(folder),
    "llava-onevision": lambda folder: tiny_llava.both_of(
        tiny_llava.onevision_checkpoint(folder / "checkpoint"), folder
    ),
    "qwen2_5_vl": lambda folder: qwen.write_supervisor("qwen2_5_vl", folder / "supervisor"),
    "qwen3_vl": lambda folder: qwen.write_supervisor("qwen3_vl", folder / "supervisor"),
    "internvl": lambda folder: tiny_internvl.pair(folder, "qwen3", 2 * tiny_internvl.PIXELS),
    "gemma3": lambda folder: tiny_gemma3.pair(folder, tiny_gemma3.PIXELS, 40),
    "idefics3": lambda folder: tiny_idefics3.pair(
        folder, tiny_idefics3.IDEFICS3, tiny_idefics3.IDEFICS3.pixels
    ),
}
"""Writes a supervisor into the folder's `supervisor`."""


def at_tokens(folder: str, x_2ND: Tensor, world: World, shard: bool, recompute: bool) -> Tensor:
    """The gradient of a replay at two pictures' tokens."""
    supervisor = supervisors.load(folder)
    if shard:
        shard_language_model(supervisor, world, CPU)
        supervisor.to(CPU)
    leaf_2ND = x_2ND.detach().requires_grad_(True)
    tokens_1GT = torch.arange(20, 38).reshape(1, 3, 6)
    replayed = replay(
        supervisor,
        leaf_2ND[:1],
        leaf_2ND[1:],
        tokens_1GT,
        torch.ones_like(tokens_1GT).bool(),
        style="generic",
        layer=1,
        temperature=None,
        shared_prefix=not recompute,
        recompute=recompute,
    )
    (gradient_2ND,) = torch.autograd.grad(replayed.logp_PGT.sum(), leaf_2ND)
    return gradient_2ND


def at_weights(tower: towers.Tower, folder: str | None, world: World, shard: bool) -> dict[str, Tensor]:
    """The workers' sum of the gradients at a tower's weights: of a replay, or, without a supervisor, of a
    weighted sum of its tokens; each worker has pictures of its own."""
    if shard:
        shard_tower(tower, world, CPU)
        assert all(map(is_shard, tower.parameters())) and listed_layers(tower)
    generator = torch.Generator().manual_seed(world.rank)
    side = tower.image_size
    images_2HWC = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)
    for recompute in (False, True):
        x_2ND = tower(images_2HWC)
        if folder is None:
            gradient_2ND = torch.randn(x_2ND.shape, generator=generator)
        else:
            gradient_2ND = at_tokens(folder, x_2ND, world, shard, recompute)
        x_2ND.backward(gradient_2ND)
    gradients = {name: parameter.grad for name, parameter in tower.named_parameters()}
    if not shard:
        world.sum_([gradient for gradient in gradients.values() if gradient is not None])
    found: dict[str, Tensor] = gathered(gradients, keep=True)
    return found


def _met(rank: int, folder: str) -> World:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)
    return World(rank, WORKERS)


def _worker(rank: int, folder: str) -> None:
    world = _met(rank, folder)
    found: dict[str, Any] = {}
    for name in [*FAMILIES, "furniture-pocket"]:
        path = name if name == "furniture-pocket" else f"{folder}/{name}/supervisor"
        found[name] = [
            at_weights(supervisors.load(path).build_tower(), path, world, shard) for shard in (True, False)
        ]
    for kind in tiny_external.KINDS:
        found[kind] = [
            at_weights(of_checkpoint(Path(folder, kind)), None, world, shard) for shard in (True, False)
        ]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _worker_with_timm(rank: int, folder: str) -> None:
    world = _met(rank, folder)
    found = {
        kind: [
            at_weights(timm.of_checkpoint(Path(folder, kind)), None, world, shard) for shard in (True, False)
        ]
        for kind in tiny_timm.KINDS
    }
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_gradients_of_every_family_are_those_without_shards(tmp_path: Path) -> None:
    for name, write in FAMILIES.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    for kind in tiny_external.KINDS:
        (tmp_path / kind).mkdir()
        tiny_external.checkpoint(tmp_path / kind, kind)
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=WORKERS)
    check(tmp_path)


def test_gradients_of_towers_of_timm_are_those_without_shards(tmp_path: Path) -> None:
    for kind in tiny_timm.KINDS:
        tiny_timm.checkpoint(tmp_path / kind, kind)
    mp.spawn(_worker_with_timm, args=(str(tmp_path),), nprocs=WORKERS)
    check(tmp_path)


def check(folder: Path) -> None:
    """What the workers found with and without shards is the same."""
    for rank in range(WORKERS):
        found = torch.load(folder / f"{rank}.pt", weights_only=False)
        for name, (sharded, whole) in found.items():
            assert sharded.keys() == whole.keys(), name
            assert sum(bool(gradient.any()) for gradient in whole.values()) > 0.8 * len(whole), name
            for weight, gradient in whole.items():
                scale = float(gradient.abs().max())
                torch.testing.assert_close(
                    sharded[weight], gradient, rtol=1e-4, atol=1e-5 * scale + 1e-9, msg=f"{name} {weight}"
                )
