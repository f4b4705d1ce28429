"""What a worker holds of weights in parts, and gets from the others: against FSDP of torch as
`saga_ray.train.shards` wraps with it, on one of four workers, the others of which are not there: torch's fake
process group moves nothing."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saga_ray.config.overrides import resolve
from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.models.towers import clip
from saga_ray.plan import memory, traffic
from saga_ray.plan.hardware import GPUS, Speed
from saga_ray.plan.siglip import clip as clip_sizes
from saga_ray.plan.sizes import FLOAT32, ProjectorSizes, Trained
from saga_ray.plan.supervisors import language_sizes
from saga_ray.plan.text import lines, to_json
from saga_ray.train.shards import is_shard, shard_language_model, shard_tower
from saga_ray.train.world import World
from tests.plan.test_plan import LARGE, SHARED_OUT, planned, workload
from tests.tiny import tiny_supervisor

WORKERS, CPU = 4, torch.device("cpu")
LAYERS, WIDTH, PIXELS = 4, 64, 28
PADDING = 0.002
"""What no four workers can have equally many rows of: position embeddings of five tokens."""
AT_LEAST = 0.6
"""What stands whole at a time is at least this share of what is planned for it, and never more."""


@pytest.fixture(scope="module", autouse=True)
def first_of_four() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=WORKERS)
    yield
    dist.destroy_process_group()


class Watched(TorchDispatchMode):
    """The most bytes that stood in memory at one time while this was on, and those that came from other
    workers."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()
        self.most = self.received = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(name in str(func) for name in ("_allgather_base_", "_reduce_scatter_base_")):
            self.received += abs(args[0].nbytes - args[1].nbytes)
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, Tensor) and not is_shard(leaf):
                storage = leaf.untyped_storage()
                self.storages[storage._cdata] = storage
        self.most = max(self.most, sum(storage.nbytes() for storage in self.storages.values()))
        return out


def local_bytes(tensors: Iterable[Any]) -> int:
    """Of a worker's parts, or of tensors that it holds whole."""
    return sum((tensor.to_local() if is_shard(tensor) else tensor).nbytes for tensor in tensors)


def test_a_tower_in_parts() -> None:
    config: dict[str, Any] = {"kind": "clip", "image_size": PIXELS, "patch_size": 14, "width": WIDTH}
    config |= {"hidden": 4 * WIDTH, "layers": LAYERS, "heads": 4, "activation": "gelu", "epsilon": 1e-5}
    tower, sizes = clip.build(**config), clip_sizes(config)
    shard_tower(tower, World(0, WORKERS), CPU)
    optimizer = torch.optim.AdamW(tower.parameters())
    with Watched() as watched:
        tower(torch.zeros(1, PIXELS, PIXELS, 3, dtype=torch.uint8)).sum().backward()
    optimizer.step()

    trained = Trained(sizes.parameters, 0, 0)
    language = language_sizes(tiny_supervisor().language_model.config)
    state = memory.training_state(
        trained, language, ProjectorSizes(), precision=FLOAT32, token_numbers=0, tower_parts=WORKERS
    )
    moments = [m for held in optimizer.state.values() for m in (held["exp_avg"], held["exp_avg_sq"])]
    assert local_bytes(tower.parameters()) == pytest.approx(state.weights, rel=PADDING)
    assert local_bytes(p.grad for p in tower.parameters()) == pytest.approx(state.gradients, rel=PADDING)
    assert local_bytes(moments) == pytest.approx(state.optimizer, rel=PADDING)
    assert memory.update(trained, WORKERS) == state.weights == FLOAT32 * sizes.parameters / WORKERS
    exchanged = traffic.tower_exchanged(sizes, WORKERS, twice=False)
    assert watched.received == pytest.approx(exchanged, rel=PADDING)
    again = traffic.tower_exchanged(sizes, WORKERS, twice=True) - exchanged
    assert again == FLOAT32 * sizes.parameters * (WORKERS - 1) / WORKERS

    whole = watched.most - state.weights - state.gradients - memory.tower_kept(sizes, 1, FLOAT32)
    most = memory.tower_gathered(sizes)
    assert AT_LEAST * most <= whole <= most


def test_a_language_model_in_parts() -> None:
    supervisor = tiny_supervisor()
    sizes = language_sizes(supervisor.language_model.config)
    projector = ProjectorSizes((), supervisor.projection.numel())
    of_layers = FLOAT32 * sizes.layers * sizes.layer_parameters
    beside = watched_reading(supervisor).most - of_layers
    shard_language_model(supervisor, World(0, WORKERS), CPU)
    state = memory.training_state(
        Trained(0, 0, 0), sizes, projector, precision=FLOAT32, token_numbers=0, language_parts=WORKERS
    )
    assert local_bytes(supervisor.parameters()) == state.supervisor
    watched = watched_reading(supervisor)
    assert watched.received == traffic.language_exchanged(sizes, WORKERS, FLOAT32)
    whole, most = watched.most - of_layers / WORKERS - beside, memory.language_gathered(sizes, FLOAT32)
    assert AT_LEAST * most <= whole <= most


def watched_reading(supervisor: Supervisor) -> Watched:
    """Two words through the language model and back."""
    width = supervisor.language_model.config.hidden_size
    with Watched() as watched:
        read = torch.zeros(1, 2, width, requires_grad=True)
        supervisor.hidden_states(read, torch.arange(2)[None]).sum().backward()
    return watched


@pytest.mark.parametrize("shard", ["tower", "language-model", "both"])
def test_parts_are_smaller_with_every_gpu(shard: str) -> None:
    whole, shared = workload(LARGE), workload(LARGE, f"train.shard={shard}", *SHARED_OUT[1:])
    before = whole.state(8)
    assert not whole.exchanged and whole.gathered == (0, 0)
    for workers in (2, 4, 8):
        work = replace(shared, workers=workers)
        state, (tower, language) = work.state(8), work.gathered
        assert (state.optimizer < before.optimizer) == (shard != "language-model") == (tower > 0)
        assert (state.supervisor < before.supervisor) == (shard != "tower") == (language > 0)
        assert work.tower_graph(8) == whole.tower_graph(8) + tower
        assert work.replay(8, 1) == whole.replay(8, 1) + language
        assert work.exchanged > 0
        before = state


def test_a_model_too_large_for_a_gpu_fits_in_parts() -> None:
    """8 billion parameters in bfloat16 are two thirds of a GPU of 22 GiB."""
    asked = "rollout.max_parallel_sequences=32", "rollout.max_new_tokens=64", "data.classes_per_batch=8"
    l4 = Speed(GPUS["l4"])
    with pytest.raises(UserError, match="do not fit a training GPU"):
        planned(LARGE, 5, *asked, speed=l4)
    made = planned(LARGE, 5, *asked, *SHARED_OUT, speed=l4)
    assert made.workload.workers == made.split.training >= 2
    assert made.training.peak <= made.training.available
    settings = resolve(LARGE, [*asked, SHARED_OUT[0], *made.settings])
    assert settings.train.workers == made.split.training
    (gigabytes,) = re.findall(r"each of which gets ([\d.,]+) GB a step", "\n".join(lines(made, l4)))
    assert float(gigabytes) == pytest.approx(made.workload.exchanged / 1e9, rel=0.01)
    assert to_json(made, l4)["in_parts"]["exchanged"] == made.workload.exchanged
