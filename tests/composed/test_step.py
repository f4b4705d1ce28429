"""A step's gradients: in chunks as in one go, by two workers as by one; its losses against naive ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.composed.examples import Captioned, Triplet
from saga_ray.composed.plan import StageBatch, StagePlan
from saga_ray.composed.step import TOTAL, StageStep, equal
from saga_ray.composed.train.worker import build_optimizer
from saga_ray.config.composed import ComposedSettings
from saga_ray.models import supervisors
from saga_ray.train.step import NonFiniteLoss
from saga_ray.train.world import World

CAPTIONS = ["a red chair", "a blue lamp", "a red chair", "a white table", "a green plant", "a black sofa"]
INSTRUCTIONS = ["make it red", "the same one in blue", "another lamp, but taller", "make it green"]


def settings(**stage: object) -> ComposedSettings:
    made = ComposedSettings.model_validate(
        {"align": {"batch": 6, **stage}, "instruct": {"batch": 4, **stage}}
    )
    made.embedder.lora_rank, made.embedder.lora_dropout = 4, 0.0
    made.instruct.image_weight = 0.5
    return made


def fresh(made: ComposedSettings) -> Embedder:
    embedder = Embedder(supervisors.load("furniture-pocket"))
    embedder.adapt(rank=made.embedder.lora_rank, alpha=16, dropout=0.0, seed=1)
    with torch.no_grad():  # fresh adapters add nothing, and half of their gradient is zero
        for name, parameter in embedder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(len(name)))
    return embedder


def pictures(rows: list[int]) -> Tensor:
    return torch.stack(
        [torch.randint(0, 256, (112, 112, 3), generator=torch.Generator().manual_seed(row)) for row in rows]
    ).to(torch.uint8)


def plan(stage: str, images: bool = True) -> StagePlan:
    if stage == "align":
        return StagePlan([Captioned(row, text) for row, text in enumerate(CAPTIONS)], stage, 6, 1, False)
    triplets = [
        Triplet(row, text, CAPTIONS[row], CAPTIONS[row + 1], (row + 10, row + 20), f"a{row}", f"b{row}")
        for row, text in enumerate(INSTRUCTIONS)
    ]
    return StagePlan(triplets, stage, 4, 1, images)


def batch(stage: str, rank: int = 0, world: int = 1) -> StageBatch:
    planned = plan(stage).planned(0, rank, world)
    return planned.assemble(pictures(list(planned.rows)).numpy())


def gradients(stage: str, made: ComposedSettings, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    embedder = fresh(made)
    StageStep(embedder, made, World(rank, world)).run(batch(stage, rank, world), made.stage(stage))
    return {
        name: parameter.grad.clone()
        for name, parameter in embedder.named_parameters()
        if parameter.grad is not None
    }


def agree(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=1e-3, atol=1e-6 + 1e-4 * float(value.abs().max())), (
            name
        )
    assert any(float(value.abs().max()) > 1e-5 for value in one.values())


@pytest.mark.parametrize("stage", ["align", "instruct"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_have_the_gradient_of_the_whole_batch(stage: str, chunk: int) -> None:
    whole, cut = settings(chunk=0, clip=1e9), settings(chunk=chunk, clip=1e9)
    agree(gradients(stage, whole), gradients(stage, cut))


def test_nested_sizes_are_the_mean_of_the_losses_at_each() -> None:
    made = settings(chunk=0, clip=1e9)
    made.embedder.nested_sizes = [32]
    embedder = fresh(made)
    given = batch("align")
    loss = StageStep(embedder, made, World()).run(given, made.align)[TOTAL]
    expected = []
    with torch.no_grad():
        tokens = {
            row: x
            for row, x in zip(given.rows, embedder.tokens(torch.from_numpy(given.images_BHWC)), strict=True)
        }
        for size in (embedder.width, 32):
            embedder.size = size
            z = embedder.images(torch.stack([tokens[each.picture] for each in given.own]))
            t = embedder.texts([each.caption for each in given.own])
            total = 0.0
            for i, own in enumerate(given.own):
                rivals = [j for j, each in enumerate(given.own) if j == i or each.caption != own.caption]
                logits = torch.stack([z[i] @ t[j] / made.align.temperature for j in rivals])
                total -= float(torch.log_softmax(logits, 0)[rivals.index(i)])
            expected.append(total / len(given.own))
    assert loss == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_stage_two_holds_captions_and_pictures_against_a_query() -> None:
    """Against the loss written out: own target against all targets and all originals."""
    made = settings(chunk=0, clip=1e9)
    embedder = fresh(made)
    given = batch("instruct")
    losses = StageStep(embedder, made, World()).run(given, made.instruct)
    with torch.no_grad():
        x = dict(zip(given.rows, embedder.tokens(torch.from_numpy(given.images_BHWC)), strict=True))
        z = embedder.composed(
            torch.stack([x[each.reference] for each in given.own]), [each.instruction for each in given.own]
        )
        for name, targets, originals in (
            (
                "captions",
                embedder.texts([each.modified for each in given.own]),
                embedder.texts([each.caption for each in given.own]),
            ),
            (
                "images",
                embedder.images(torch.stack([x[row] for row in given.targets])),
                embedder.images(torch.stack([x[each.reference] for each in given.own])),
            ),
        ):
            total = 0.0
            for i, own in enumerate(given.own):
                logits = {("target", j): z[i] @ targets[j] / 0.05 for j in range(len(given.own))}
                for j, other in enumerate(given.own):
                    if name == "images" or other.caption != own.modified:
                        logits["original", j] = z[i] @ originals[j] / 0.05
                    if name == "captions" and j != i and other.modified == own.modified:
                        del logits["target", j]
                total += float(torch.logsumexp(torch.stack(list(logits.values())), 0) - logits["target", i])
            assert losses[f"loss/{name}"] == pytest.approx(total / len(given.own), rel=1e-4)
    assert losses[TOTAL] == pytest.approx(losses["loss/captions"] + 0.5 * losses["loss/images"], rel=1e-5)


def test_equal_names_are_found() -> None:
    found = equal(["a", "b"], ["b", "a", "b"], torch.device("cpu"))
    assert found.tolist() == [[False, True, False], [True, False, True]]


def test_a_loss_that_is_no_number_stops_the_stage() -> None:
    made = settings(chunk=0)
    embedder = fresh(made)
    with torch.no_grad():
        next(iter(embedder.trained())).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss):
        StageStep(embedder, made, World()).run(batch("align"), made.align)


def test_steps_lower_the_loss() -> None:
    made = settings(chunk=0, rate=1e-3)
    embedder = fresh(made)
    step, optimizer = StageStep(embedder, made, World()), build_optimizer(embedder, made.instruct)
    losses = []
    for _ in range(8):
        losses.append(step.run(batch("instruct"), made.instruct)[TOTAL])
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def _worker(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    try:
        made = settings(chunk=2, clip=1e9)
        for stage in ("align", "instruct"):
            torch.save(gradients(stage, made, rank, size), Path(folder) / f"{stage}-{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_workers_have_the_gradient_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(2, str(tmp_path)), nprocs=2)
    for stage in ("align", "instruct"):
        one = gradients(stage, settings(chunk=2, clip=1e9))
        for rank in (0, 1):
            agree(one, torch.load(tmp_path / f"{stage}-{rank}.pt"))
