"""Two workers take the step of one, and with parts of their models the steps of two that hold them whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from saga_ray.config.settings import Settings
from saga_ray.losses import metric as metric_losses
from saga_ray.models.encoder import Encoder
from saga_ray.models.greedy import greedy
from saga_ray.models.pooler import Pooler
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.models.towers import clip
from saga_ray.train.checkpoint import Position, checkpoint_folder, restore, training_state
from saga_ray.train.schedule import build_optimizer
from saga_ray.train.shards import gathered, is_shard, listed_layers, shard_language_model, shard_tower
from saga_ray.train.step import Step
from saga_ray.train.teaching import Teacher
from saga_ray.train.world import World
from tests.tiny import PIXELS, TOKEN_WIDTH, tiny_images, tiny_supervisor
from tests.train import test_step as one
from tests.train.scripted import ScriptedClient
from tests.train.test_step import CLASSES, micro_batches, settings_for

WORKERS, CPU = 2, torch.device("cpu")
Changes = dict[str, dict[str, object]]

Case = tuple[str, Changes]
"""What is shared out, and the settings beside it."""

CASES: dict[str, Case] = {
    "tower-computed-twice": ("tower", {"train": {"tower_graph": "recompute"}}),
    "layers-computed-twice": ("language-model", {"train": {"replay_graph": "recompute"}}),
    "both": ("both", {"optimizer": {"clip": 0.01}}),
    "a-worker-without-pairs": ("both", {"grpo": {"informative_pairs": 1}}),
}
MORE: dict[str, Case] = {
    "tower": ("tower", {}),
    "tower-in-bfloat16": ("tower", {"encoder": {"precision": "bfloat16"}}),
    "language-model": ("language-model", {"optimizer": {"clip": 0.01}}),
    "naive": ("language-model", {"grpo": {"replay": "naive"}}),
    "naive-computed-twice": ("both", {"grpo": {"replay": "naive"}, "train": {"replay_graph": "recompute"}}),
    "verdict-ce": ("both", {"grpo": {"objective": "verdict-ce"}, "distillation": {"weight": 0.0}}),
    "random": ("both", {"grpo": {"objective": "random", "policy_probability": "tempered"}}),
    "distillation-alone": ("both", {"grpo": {"weight": 0.0}, "metric": {"weight": 0.0}}),
    "no-distillation": ("both", {"distillation": {"weight": 0.0}}),
}
INTERRUPTED = [("both", "nothing"), ("nothing", "both")]
MORE_INTERRUPTED = [("tower", "tower"), ("language-model", "tower")]
"""What is shared out before a checkpoint and after it."""


def settings_of(shard: str, changes: Changes) -> Settings:
    shared = {"shard": shard, "workers": WORKERS}
    return settings_for(**{**changes, "train": {"replay_pairs": 2, **changes.get("train", {}), **shared}})


class Training:
    """One worker's models and step; its tower has two layers whose widths two workers cannot halve."""

    def __init__(self, settings: Settings, rank: int) -> None:
        torch.manual_seed(0)
        self.supervisor: Supervisor = tiny_supervisor()
        tower = clip.build("clip", PIXELS, 8, TOKEN_WIDTH, 13, 2, 2, "gelu", 1e-5)
        self.encoder = Encoder(tower, Pooler(TOKEN_WIDTH), settings.encoder.precision)
        self.loss = metric_losses.build(
            settings.metric.loss,
            classes=CLASSES,
            width=TOKEN_WIDTH,
            seed=1,
            options=settings.metric.options,
        )
        world = World(rank, WORKERS)
        if settings.train.shards_tower:
            shard_tower(tower, world, CPU)
        if settings.train.shards_language_model:
            shard_language_model(self.supervisor, world, CPU)
        self.encoder.to(CPU)
        self.supervisor.to(CPU)
        self.settings = settings
        self.assert_in_parts()
        self.optimizer = build_optimizer(self.encoder, self.loss, settings.optimizer)
        client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
        teacher = Teacher(self.supervisor, settings)
        self.step = Step(self.encoder, self.loss, teacher, client, settings, world, CPU)
        self.batches = micro_batches(settings, rank, WORKERS)

    def take(self, number: int) -> dict[str, Any]:
        """A step; what it came to."""
        result = self.step.run(number, lambda: next(self.batches))
        own = {name: parameter.grad for name, parameter in self.encoder.named_parameters()}
        gradients = gathered({name: each for name, each in own.items() if each is not None}, keep=True)
        self.optimizer.step()
        self.assert_in_parts()
        pairs = result.rollouts["pairs_replayed"]
        numbers = {**result.losses, **result.gradients, "pairs": pairs}
        return {"numbers": numbers, "gradients": gradients}

    def looked_at(self) -> dict[str, Tensor]:
        """What validation and the verdict's score see, between two steps."""
        images_BHWC = tiny_images(4)
        with torch.inference_mode():
            z_BE = self.encoder(images_BHWC)
        with torch.no_grad():
            x_BND = self.encoder.tokens(images_BHWC)
        agreed = self.step.world.of_first
        answers_PT = greedy(self.supervisor, x_BND[:2], x_BND[2:], "attributes", 8, agreed)
        self.assert_in_parts()
        return {"embeddings": z_BE, "answers": answers_PT}

    def state(self) -> dict[str, Any]:
        return training_state(self.encoder, self.loss, self.optimizer)

    def assert_in_parts(self) -> None:
        """While nothing is computed a worker holds half of what is shared out."""
        decoder: Any = self.supervisor.decoder
        for module, shared in (
            (self.encoder.tower, self.settings.train.shards_tower),
            (self.encoder.pooler, False),
            (decoder.layers, self.settings.train.shards_language_model),
            (decoder.embed_tokens, False),
        ):
            parameters = list(module.parameters())
            assert shared == all(map(is_shard, parameters)) == any(map(is_shard, parameters))
            own = [each.to_local() if is_shard(each) else each for each in parameters]
            share = sum(each.numel() for each in own) / sum(each.numel() for each in parameters)
            assert 0.4 < share < 0.6 if shared else share == 1


def through(settings: Settings, rank: int) -> dict[str, Any]:
    """Three steps."""
    training = Training(settings, rank)
    first = training.take(0)
    seen = training.looked_at()
    return {"steps": [first, training.take(1), training.take(2)], "seen": seen, "state": training.state()}


def interrupted(before: Settings, after: Settings, rank: int, storage: Path) -> dict[str, Any]:
    """The same, but its third step is that of another training which takes the first one's checkpoint."""
    stopped, resumed = Training(before, rank), Training(after, rank)
    for number in range(2):
        stopped.take(number)
    with checkpoint_folder(storage, stopped.encoder, stopped.state(), Position(2, 2), []) as folder:
        restore(folder, resumed.encoder, resumed.loss, resumed.optimizer)
    resumed.batches = stopped.batches
    resumed.take(2)
    return resumed.state()


def _worker(rank: int, folder: str, cases: dict[str, Case], pairs: list[tuple[str, str]]) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORKERS)
    result, gradients = one.take_step(settings_for(), rank, WORKERS)
    found: dict[Any, Any] = {"step": (result.losses, result.gradients, result.rollouts, gradients)}
    for name, (shard, changes) in cases.items():
        found[name] = [through(settings_of(each, changes), rank) for each in (shard, "nothing")]
    through_state = through(settings_of("nothing", {}), rank)["state"]
    storage = Path(folder, f"storage-{rank}")
    storage.mkdir()
    for pair in pairs:
        before, after = (settings_of(shard, {}) for shard in pair)
        found[pair] = [interrupted(before, after, rank, storage), through_state]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


Found = list[dict[Any, Any]]
"""Of each worker: what a case came to with shards, or an interrupted training, and what it should be."""


def found_by_two(folder: Path, cases: dict[str, Case], pairs: list[tuple[str, str]]) -> Found:
    mp.spawn(_worker, args=(str(folder), cases, pairs), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORKERS)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_by_two(tmp_path_factory.mktemp("shards"), CASES, INTERRUPTED)


@pytest.fixture(scope="module")
def more_found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_by_two(tmp_path_factory.mktemp("more-shards"), MORE, MORE_INTERRUPTED)


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """To float32's rounding; tensors relative to their largest number.

    Not compared is a key's bias: no attention depends on it, so its gradient is rounding alone, of which
    AdamW makes steps.
    """
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name, value in expected.items():
            if not str(name).endswith("k_proj.bias"):
                assert_same(found[name], value, f"{where}/{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{where}/{index}")
    elif isinstance(expected, Tensor):
        assert type(found) is type(expected) and found.shape == expected.shape, where
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        difference = float((found - expected).abs().max()) if expected.numel() else 0.0
        assert difference <= 1e-6 * max(largest, 1e-2), (where, difference, largest)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6), where
    else:
        assert found == expected, where


def test_one_and_two_workers_agree_on_all_losses_and_gradients_of_a_step_that_refills(found: Found) -> None:
    result, alone = one.take_step(settings_for())
    assert len(result.micro_batches) > 1
    for of_worker in found:
        losses, readings, rollouts, gradients = of_worker["step"]
        assert losses == pytest.approx(result.losses, rel=1e-4)
        assert readings == pytest.approx(result.gradients, rel=1e-3, abs=1e-6)
        assert rollouts["pairs_replayed"] == result.rollouts["pairs_replayed"]
        one.assert_same(gradients, alone)


@pytest.mark.parametrize("case", CASES)
def test_steps_with_shards_are_those_without(found: Found, case: str) -> None:
    for of_worker in found:
        assert_same(*of_worker[case], case)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE)
def test_steps_with_shards_are_those_without_whatever_is_trained(more_found: Found, case: str) -> None:
    for of_worker in more_found:
        assert_same(*of_worker[case], case)


@pytest.mark.parametrize("pair", INTERRUPTED)
def test_a_checkpoint_holds_whole_tensors_and_is_shared_out_again(
    found: Found, pair: tuple[str, str]
) -> None:
    for of_worker in found:
        assert_same(*of_worker[pair])


@pytest.mark.slow
@pytest.mark.parametrize("pair", MORE_INTERRUPTED)
def test_training_goes_on_with_shards_from_any_checkpoint(more_found: Found, pair: tuple[str, str]) -> None:
    for of_worker in more_found:
        assert_same(*of_worker[pair])


def test_layers_are_the_outermost_modules_with_weights_in_a_list() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    branches = nn.ModuleList([nn.Linear(2, 2), nn.ModuleList([nn.Linear(2, 2)]), nn.Identity()])
    module = nn.ModuleDict({"branches": branches, "block": nn.ModuleList([inner]), "other": nn.Linear(2, 2)})
    assert listed_layers(module) == [branches[0], branches[1][0], inner]  # type: ignore[index]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"train": {"shard": "both"}}, "train.workers is 1: set 2 or more"),
        (
            {"train": {"shard": "tower", "workers": 2}, "encoder": {"lora_rank": 4}},
            "set train.shard=language-model or nothing",
        ),
    ],
)
def test_shards_that_cannot_be_are_refused(changes: Changes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_for(**changes)
