"""The plan of a run: what fits, how GPUs are shared out, what cannot fit, and the released models' sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.config.overrides import resolve
from saga_ray.errors import UserError
from saga_ray.plan.counts import Row
from saga_ray.plan.estimate import Plan, Split, plan, rollout_memory, step_parts, training_available
from saga_ray.plan.hardware import GPUS, Speed, gpu_named
from saga_ray.plan.known import KNOWN
from saga_ray.plan.sizes import ProjectorSizes
from saga_ray.plan.supervisors import supervisor_sizes
from saga_ray.plan.workload import Workload
from tests.models.supervisors import tiny_llava
from tests.models.test_paper_presets import MODELS, released
from tests.plan.models import PROJECTED, small

H200 = Speed(GPUS["h200"])
LARGE, SMALL, POCKET, INTERN = "cub-qwen3vl-8b", "cub-qwen2.5vl-3b", "furniture", "cub-internvl3.5-8b"
TOWER_PARTS = ("visual", "vision_tower", "multi_modal_projector")
"""Of a released model, the modules that are its tower here."""


SHARED_OUT = "train.shard=both", "train.workers=2", "data.blocks=2"
L4 = ("rollout.max_parallel_sequences=32",)
SHORT = "rollout.max_new_tokens=500"


def workload(preset: str, *overrides: str) -> Workload:
    settings = resolve(preset, overrides)
    return Workload.of(settings, supervisor_sizes(settings))


def planned(preset: str, gpus: int, *overrides: str, speed: Speed = H200) -> Plan:
    return plan(resolve(preset, overrides), workload(preset, *overrides), speed, gpus)


@pytest.mark.parametrize("name", MODELS)
def test_the_known_configurations_are_the_released_models(name: str) -> None:
    settings = resolve(f"cub-{name}")
    sizes = supervisor_sizes(settings)
    with torch.device("meta"):
        whole = released(name)
    parts = [part for child, part in whole.model.named_children() if child in TOWER_PARTS]
    tower = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert sizes.tower.parameters == tower
    assert sizes.language.parameters == sum(p.numel() for p in whole.parameters()) - tower
    assert sizes.tower.tokens == MODELS[name][2]
    assert set(MODELS) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_a_checkpoints_config_gives_the_same_sizes(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(KNOWN[name]))
    settings = resolve(f"cub-{name}")
    given_, known = supervisor_sizes(settings, tmp_path), supervisor_sizes(settings)
    assert replace(given_, name=known.name) == known


@pytest.mark.parametrize("kind", PROJECTED)
def test_a_folder_whose_tower_has_the_projector_and_its_checkpoint_give_the_same_sizes(
    kind: str, tmp_path: Path
) -> None:
    of_folder = small(kind, tmp_path).sizes
    size = f"data.image_size={of_folder.tower.image_size}"
    checkpoint = supervisor_sizes(resolve(INTERN, [size]), tmp_path / "checkpoint")
    assert replace(checkpoint, name=of_folder.name) == of_folder
    assert of_folder.projector == ProjectorSizes() and not of_folder.tower_in_engine


def test_a_llava_onevision_folder_and_its_checkpoint_give_the_same_sizes(tmp_path: Path) -> None:
    tiny_llava.onevision_checkpoint(tmp_path / "checkpoint")
    tiny_llava.assemble.of_checkpoint(tmp_path / "checkpoint", tmp_path / "supervisor", "birds")
    folders = tmp_path / "supervisor", tmp_path / "checkpoint"
    of_folder, of_checkpoint = (supervisor_sizes(resolve(LARGE), folder) for folder in folders)
    assert replace(of_checkpoint, name=of_folder.name) == of_folder


def test_an_internvl_has_as_many_positions_at_any_size() -> None:
    """They are of its own pictures, and interpolated for others."""
    here, own = (supervisor_sizes(resolve(INTERN, size)) for size in ((), ("data.image_size=448",)))
    assert (here.tower.tokens, own.tower.tokens) == (64, 256)
    assert here.tower.parameters == own.tower.parameters
    assert own.prompt - here.prompt == 2 * (256 - 64)


@given(
    base=st.tuples(*[st.integers(1, 64)] * 5),
    more=st.tuples(*[st.integers(0, 32)] * 5),
)
def test_more_never_costs_less(base: tuple[int, ...], more: tuple[int, ...]) -> None:
    """Pictures, candidate pairs, informative pairs, group and length of answers."""
    before, after = (_sized(counts) for counts in (base, tuple(map(sum, zip(base, more, strict=True)))))
    for split in (Split(1, 1, True, 0.3), Split(3, 2, False, 0.85)):
        for less, larger in zip(
            step_parts(before, H200, split, 512), step_parts(after, H200, split, 512), strict=True
        ):
            assert larger.operations >= less.operations
            assert larger.bytes >= less.bytes
            assert larger.seconds >= less.seconds
    assert after.training_peak(after.images, 3) >= before.training_peak(before.images, 3)
    assert before.training_peak(before.images, 4) >= before.training_peak(before.images, 3)


SIZED = workload(SMALL, SHORT)


def _sized(counts: tuple[int, ...]) -> Workload:
    images, pairs, informative, group, answer = counts
    row = Row(SIZED.row.prompt, 1 + answer, group)
    return replace(SIZED, images=images, pairs=pairs, informative=informative, row=row, longest=row)


@pytest.mark.parametrize("preset, gpus", [(SMALL, 1), (SMALL, 2), (LARGE, 2), (POCKET, 1)])
def test_the_largest_batches_fit_and_one_more_does_not(preset: str, gpus: int) -> None:
    made = planned(preset, gpus, SHORT)
    work, training = made.workload, made.training
    available = training_available(H200, made.split)
    images = work.images // made.split.training
    assert training.peak <= available == training.available
    most = training.largest_replay_pairs
    assert work.training_peak(images, most) <= available < work.training_peak(images, most + 1)
    most_images, pairs = training.largest_images, work.replay_pairs
    assert work.training_peak(most_images, pairs) <= available < work.training_peak(most_images + 1, pairs)


def test_the_command_itself_refuses_one_more() -> None:
    most = planned(SMALL, 2, SHORT).training.largest_replay_pairs
    planned(SMALL, 2, SHORT, f"train.replay_pairs={most}")
    with pytest.raises(UserError, match=rf"replaying {most + 1} pairs .* set train.replay_pairs={most}$"):
        planned(SMALL, 2, SHORT, f"train.replay_pairs={most + 1}")


@pytest.mark.parametrize("gpus", [1, 2, 5, 8])
def test_the_settings_that_it_asks_for_are_valid(gpus: int) -> None:
    made = planned(LARGE, gpus, SHORT)
    settings = resolve(LARGE, [SHORT, *made.settings])
    assert settings.train.workers == made.split.training
    used = settings.train.workers * settings.train.gpus_per_worker
    assert used + settings.rollout.actors * settings.rollout.gpus_per_actor == gpus
    assert made.seconds_overlapped <= made.seconds


def test_the_split_balances() -> None:
    """No other split that can be made keeps the busier side busy for less long."""
    made = planned(SMALL, 6, speed=Speed(GPUS["h200"], utilisation=0.05))
    work, speed = made.workload, Speed(GPUS["h200"], utilisation=0.05)
    assert made.split.training > 1
    for training in (1, 2, 4):
        split = Split(6 - training, training, False, 0.85)
        parts = step_parts(work, speed, split, made.rollout.sequences)
        answering = sum(part.seconds for part in parts if part.name in ("prefill", "decode"))
        busier = max(answering, sum(part.seconds for part in parts) - answering)
        assert made.seconds_overlapped <= busier + 1e-9


def test_gpus_of_an_actor_hold_and_do_their_part() -> None:
    work = workload(LARGE)
    one, four = Split(4, 1, False, 0.85), Split(4, 1, False, 0.85, parts=4)
    alone, part = rollout_memory(work, H200, one), rollout_memory(work, H200, four)
    assert part.weights == alone.weights / 4 and part.cache_a_token == alone.cache_a_token / 4
    assert part.workspace == alone.workspace
    assert rollout_memory(work, H200, Split(32, 1, False, 0.85, parts=32)).cache_a_token == (
        alone.cache_a_token / work.supervisor.language.key_heads
    ), "beyond a key head a GPU there are copies"

    def costs(split: Split, name: str, pairs: int) -> tuple[int, int]:
        parts = step_parts(replace(work, pairs=pairs), H200, split, 512)
        return next((each.operations, each.bytes) for each in parts if each.name == name)

    for name in ("prefill", "decode"):
        of_one_gpu = costs(Split(1, 1, False, 0.85), name, work.pairs)
        assert costs(four, name, work.pairs) == of_one_gpu, "four GPUs do together what one does"


def test_actors_of_several_gpus_are_planned_and_asked_for() -> None:
    four = "rollout.tensor_parallel=4", "rollout.gpus_per_actor=4"
    for gpus in (5, 6, 8, 9):
        made = planned(LARGE, gpus, SHORT, *four)
        settings = resolve(LARGE, [SHORT, *four, *made.settings])
        assert settings.rollout.gpus_per_actor == settings.rollout.tensor_parallel == 4
        assert settings.rollout.actors * 4 == made.split.rollout
        assert made.split.rollout + made.split.training <= gpus
    with pytest.raises(UserError, match=r"--gpus 4: a rollout actor takes rollout.tensor_parallel=4 of them"):
        planned(LARGE, 4, SHORT, *four)


def test_a_language_model_too_large_for_a_gpu_fits_several() -> None:
    """22 GiB hold a quarter of 8 billion parameters in float32, and not all of them."""
    whole = "supervisor.precision=float32", SHORT
    gpu, work = Speed(GPUS["l4"]), workload(LARGE, *whole)
    with pytest.raises(UserError, match="or raise rollout.tensor_parallel$"):
        rollout_memory(work, gpu, Split(1, 1, False, 0.85))
    assert rollout_memory(work, gpu, Split(4, 1, False, 0.85, parts=4)).sequences >= work.row.group


def test_more_gpus_never_take_longer() -> None:
    seconds = [planned(SMALL, gpus).seconds_overlapped for gpus in (1, 2, 4, 8)]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize(
    "preset, gpus, gpu, overrides, message",
    [
        (LARGE, 1, "l4", (), r"language model of qwen3vl-8b does not fit a rollout GPU: it needs 18\.8 GiB"),
        (LARGE, 2, "l4", L4, "weights, gradients, .* train.shard=both$"),
        (LARGE, 2, "l4", (*L4, "encoder.lora_rank=8"), "train.shard=language-model$"),
        (LARGE, 3, "l4", (*SHARED_OUT, *L4), "train on more GPUs"),
        (LARGE, 2, "l40s", (), "64 pictures in the tower do not fit .* lower data.classes_per_batch"),
        (SMALL, 2, "a100-40", ("train.tower_graph=hold",), "set train.tower_graph=recompute"),
        (
            LARGE,
            2,
            "h100",
            ("train.replay_graph=hold",),
            "1 pair of 8 answers .* train.replay_graph=recompute",
        ),
        (LARGE, 2, "h100", ("rollout.max_new_tokens=16384",), r"left; lower rollout.max_new_tokens or"),
        (LARGE, 0, "h200", (), "--gpus 0"),
        (SMALL, 1, "h200", ("grpo.weight=0", "distillation.weight=0"), "for runs with rollouts"),
        (POCKET, 1, "h200", ("data.image_size=224",), "reads pictures of 112 pixels"),
        (LARGE, 1, "h200", SHARED_OUT, "--gpus 1: train.shard=both .* 2 training GPUs or more"),
        (LARGE, 2, "h200", SHARED_OUT, "--gpus 2: train.shard=both .* no such number is left"),
        (SMALL, 1, "h200", ("data.image_size=225",), "set a multiple of it, for example 224"),
        (
            INTERN,
            1,
            "h200",
            ("data.image_size=225",),
            "28 x 28 pixels: set a multiple of it, for example 224",
        ),
        (SMALL, 1, "h200", ("supervisor.path=nowhere",), "'nowhere' is not on this disk"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    preset: str, gpus: int, gpu: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        planned(preset, gpus, *overrides, speed=Speed(gpu_named(gpu)))
    assert "\n" not in str(raised.value) and ". " not in str(raised.value)


def test_a_folder_without_a_model_and_an_unknown_gpu_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither supervisor.json nor config.json"):
        supervisor_sizes(resolve(LARGE), tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="of the type 'bert'"):
        supervisor_sizes(resolve(LARGE), tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        supervisor_sizes(resolve(LARGE), tmp_path)
    with pytest.raises(UserError, match="knows a100-40, a100-80"):
        gpu_named("tpu")


def test_shorter_answers_take_less_time_and_need_the_same_memory() -> None:
    settings = resolve(LARGE)
    sizes = supervisor_sizes(settings)
    short = plan(settings, Workload.of(settings, sizes, answer_tokens=300), H200, 2)
    longest = plan(settings, Workload.of(settings, sizes), H200, 2)
    assert short.seconds < longest.seconds / 2
    assert (short.training, short.rollout) == (longest.training, longest.rollout)
