"""The step against a second computation of the same gradient; on two workers: `test_two_workers`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saga_ray.config.settings import Settings
from saga_ray.data.batches import StreamedBatch, assemble
from saga_ray.data.plan import Plan
from saga_ray.losses import metric as metric_losses
from saga_ray.losses.distillation import attention_kl_sum
from saga_ray.losses.grpo import group_advantages
from saga_ray.models.encoder import Encoder
from saga_ray.models.replay import replay
from saga_ray.train.step import NonFiniteLoss, Step, StepResult
from saga_ray.train.stopwatch import Stopwatch
from saga_ray.train.teaching import Teacher, completion_tensors
from saga_ray.train.world import World
from tests.tiny import EOS, PIXELS, tiny_supervisor
from tests.train.scripted import ScriptedClient, scripted_group

CLASSES, PICTURES = 8, 4
TOLERANCE = 2e-5


def settings_for(**changes: dict[str, object]) -> Settings:
    values: dict[str, dict[str, object]] = {
        "data": {
            "image_size": PIXELS,
            "classes_per_batch": 4,
            "images_per_class": 2,
            "pairs_per_batch": 4,
            "blocks": 2,
        },
        "rollout": {"group_size": 4, "engine": "transformers", "max_new_tokens": 8},
        "grpo": {"informative_pairs": 5, "max_micro_batches": 3},
        "distillation": {"layer": 1},
        "metric": {"loss": "proxy_anchor"},
        "train": {"replay_pairs": 2},
    }
    for section, change in changes.items():
        values.setdefault(section, {}).update(change)
    return Settings.model_validate(values)


def micro_batches(settings: Settings, rank: int = 0, size: int = 1) -> Iterator[StreamedBatch]:
    """The plan's micro-batches with random pictures, each picture the same on whichever worker it is."""
    labels = np.repeat(np.arange(CLASSES), PICTURES)
    plan = Plan(labels, settings.data, settings.seed)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (len(labels), PIXELS, PIXELS, 3), dtype=np.uint8)
    number = 0
    while True:
        batch = plan.micro_batch(number)
        yield assemble(batch, pictures[list(batch.share(rank, size).rows)], rank, size)
        number += 1


def build(settings: Settings) -> tuple[Encoder, torch.nn.Module, Teacher]:
    torch.manual_seed(0)
    supervisor = tiny_supervisor()
    encoder = Encoder.start_of(supervisor, settings.encoder)
    if settings.encoder.pooling == "attention":
        torch.nn.init.normal_(encoder.pooler.query, std=0.5)
    loss = metric_losses.build(
        settings.metric.loss,
        classes=CLASSES,
        width=encoder.pooler.embedding_size,
        seed=1,
        options=settings.metric.options,
    )
    return encoder, loss, Teacher(supervisor, settings)


def take_step(settings: Settings, rank: int = 0, size: int = 1) -> tuple[StepResult, dict[str, Tensor]]:
    encoder, loss, teacher = build(settings)
    client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
    runner = Step(encoder, loss, teacher, client, settings, World(rank, size), torch.device("cpu"))
    batches = micro_batches(settings, rank, size)
    result = runner.run(0, lambda: next(batches))
    return result, gradients_of(encoder, loss)


def gradients_of(encoder: Encoder, loss: torch.nn.Module) -> dict[str, Tensor]:
    named = [
        *encoder.named_parameters(),
        *((f"proxies.{name}", value) for name, value in loss.named_parameters()),
    ]
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


def whole_gradient(settings: Settings) -> dict[str, Tensor]:
    """The same step as one sum of losses and one backward: no buffers, no shared prefix, no scaling
    afterwards.
    """
    encoder, loss, teacher = build(settings)
    client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
    batches = micro_batches(settings)
    metric, images = torch.zeros(()), 0
    grpo, tokens, distilled, rewarded, accepted = torch.zeros(()), 0, torch.zeros(()), 0, 0
    for round in range(settings.grpo.max_micro_batches):
        batch = next(batches)
        x_BND = encoder.tokens(torch.from_numpy(batch.images_BHWC))
        labels = torch.from_numpy(batch.labels_all)
        metric = metric + loss(encoder.pooler(x_BND)[0], labels) * len(labels)
        images += len(labels)
        for pair in batch.pairs:
            group = scripted_group(0, round, pair.index, client.size)
            if not group.informative or accepted == settings.grpo.informative_pairs:
                continue
            accepted += 1
            x_a, x_b = x_BND[pair.a_local][None], x_BND[pair.b_local][None]
            token_PGT, mask_PGT = completion_tensors([group], EOS, torch.device("cpu"))
            replayed = replay(
                teacher.supervisor,
                x_a,
                x_b,
                token_PGT,
                mask_PGT,
                style=settings.supervisor.prompt,
                layer=settings.distillation.layer,
                temperature=settings.rollout.temperature
                if settings.grpo.policy_probability == "tempered"
                else None,
                shared_prefix=False,
            )
            if settings.grpo.objective == "verdict-ce":
                for g in range(client.size):
                    if replayed.verdict_mask_PG[0, g]:
                        logit_yes, logit_no = replayed.verdict_logits_PG2[0, g]
                        grpo = grpo + torch.log(1 + torch.exp(logit_no - logit_yes))  # all pairs are same
                        tokens += 1
                continue
            advantage = group_advantages(torch.tensor(group.rewards), std="population", epsilon=1e-4)
            grpo = grpo - (advantage[:, None] * replayed.logp_PGT[0])[mask_PGT[0]].sum()
            tokens += int(mask_PGT.sum())
            if settings.distillation.weight == 0:
                continue
            assert replayed.attention_a_PGN is not None and replayed.attention_b_PGN is not None
            beta_a, beta_b = (encoder.pooler.attention(x.detach())[0] for x in (x_a, x_b))
            for g, reward in enumerate(group.rewards):
                teacher_a, teacher_b = replayed.attention_a_PGN[0, g], replayed.attention_b_PGN[0, g]
                if reward == 1 and teacher_a.sum() > 0 and teacher_b.sum() > 0:
                    distilled = distilled + attention_kl_sum(teacher_a[None], beta_a)
                    distilled = distilled + attention_kl_sum(teacher_b[None], beta_b)
                    rewarded += 1
        if accepted == settings.grpo.informative_pairs:
            break
    total = settings.metric.weight * metric / images
    total = total + settings.grpo.weight * grpo / tokens
    divisor = rewarded if settings.distillation.reduction == "mean" else 1
    if settings.distillation.weight > 0:
        total = total + settings.distillation.weight * distilled / divisor
    total.backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), settings.optimizer.clip)
    return gradients_of(encoder, loss)


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(
            got[name], gradient, rtol=1e-3, atol=TOLERANCE * float(gradient.abs().max() + 1e-6)
        ), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"grpo": {"policy_probability": "tempered"}, "distillation": {"weight": 0.5, "reduction": "sum"}},
        {"grpo": {"objective": "verdict-ce", "weight": 0.7}, "distillation": {"weight": 0.0}},
        {"encoder": {"pooling": "mean"}, "distillation": {"weight": 0.0}},
        {"supervisor": {"prompt": "generic"}, "distillation": {"weight": 0.0}, "metric": {"weight": 2.0}},
    ],
    ids=["default", "tempered-sum", "verdict-ce", "mean-pooling", "generic"],
)
def test_a_step_that_refills_has_the_gradient_of_the_summed_losses(
    changes: dict[str, dict[str, object]],
) -> None:
    settings = settings_for(optimizer={"clip": 1e6}, **changes)
    result, gradients = take_step(settings)
    assert len(result.micro_batches) > 1, "this seed was chosen so that the step refills"
    assert result.rollouts["pairs_replayed"] == settings.grpo.informative_pairs
    assert_same(gradients, whole_gradient(settings))


def test_clipping_scales_tower_and_pooler_together_and_leaves_the_proxies_alone() -> None:
    loose, _ = take_step(settings_for(optimizer={"clip": 1e6}))
    clipped_settings = settings_for(optimizer={"clip": loose.gradients["norm"] / 10})
    _, gradients = take_step(clipped_settings)
    assert_same(gradients, whole_gradient(clipped_settings))


def test_recomputing_the_tower_gives_the_gradient_of_holding_its_graph() -> None:
    _, held = take_step(settings_for(train={"tower_graph": "hold"}))
    _, recomputed = take_step(settings_for(train={"tower_graph": "recompute"}))
    assert_same(recomputed, held)


def test_how_many_pairs_are_replayed_at_a_time_does_not_matter() -> None:
    _, two = take_step(settings_for(train={"replay_pairs": 2}))
    _, five = take_step(settings_for(train={"replay_pairs": 5}))
    assert_same(five, two)


def test_a_step_s_parts_follow_one_another_and_a_clock_can_be_given() -> None:
    class Ordered(Stopwatch):
        """Refuses a part inside another."""

        inside = False

        @contextmanager
        def part(self, name: str) -> Iterator[None]:
            assert not self.inside, name
            self.inside = True
            with super().part(name):
                yield
            self.inside = False

    settings = settings_for()
    encoder, loss, teacher = build(settings)
    client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
    device = torch.device("cpu")
    runner, clock = Step(encoder, loss, teacher, client, settings, World(), device), Ordered(device)
    batches = micro_batches(settings)
    result = runner.run(0, lambda: next(batches), clock=clock)
    assert result.seconds is clock.seconds
    parts = {"data", "encode", "submit", "metric", "rollout", "tower", "reduce"}
    assert set(result.seconds) == parts | {"replay_forward", "replay_backward", "distillation"}


def test_a_step_that_finds_too_few_informative_pairs_goes_on_with_those_it_has() -> None:
    settings = settings_for(grpo={"informative_pairs": 12, "max_micro_batches": 3})
    result, _ = take_step(settings)
    assert len(result.micro_batches) == 3
    assert 0 < result.rollouts["pairs_replayed"] < 12


def test_without_a_metric_loss_the_pooler_keeps_no_gradient() -> None:
    settings = settings_for(metric={"weight": 0.0}, distillation={"weight": 0.0})
    result, gradients = take_step(settings)
    assert not any(name.startswith(("pooler", "proxies")) for name in gradients)
    assert result.gradients["tokens/metric"] == 0 < result.gradients["tokens/grpo"]


def test_distillation_reaches_the_pooler_s_query_and_key_alone() -> None:
    settings = settings_for(metric={"weight": 0.0}, grpo={"weight": 0.0})
    _, gradients = take_step(settings)
    assert set(gradients) == {"pooler.query", "pooler.key"}, "weight decay leaves everything else alone"


@pytest.mark.parametrize("rank, size", [(0, 1), (0, 2), (1, 2)])
def test_permuted_targets_are_as_often_same_on_every_worker_and_the_metric_loss_keeps_its_labels(
    rank: int, size: int
) -> None:
    settings = settings_for(
        data={"classes_per_batch": 8, "pairs_per_batch": 16}, grpo={"shuffle_targets": True}
    )
    encoder, loss, teacher = build(settings)
    client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
    asked: dict[int, bool] = {}

    def submit(step: int, round: int, requests: Any, round_pairs: Any) -> None:
        asked.update({request.pair: request.same for request in requests})
        ScriptedClient.submit(client, step, round, requests, round_pairs)

    client.submit = submit  # type: ignore[method-assign]
    batches = micro_batches(settings, rank, size)
    runner = Step(encoder, loss, teacher, client, settings, World(), torch.device("cpu"))
    batch = next(batches)
    runner._ask(0, 0, batch, runner._encode(batch))
    targets = runner._targets(0, batch)
    truth = {pair.index: pair.same for pair in batch.all_pairs}
    assert sorted(targets.values()) == sorted(truth.values()) and targets != truth
    assert asked == {pair.index: targets[pair.index] for pair in batch.pairs}
    alone = next(micro_batches(settings))
    assert targets == runner._targets(0, alone) and list(batch.labels_all) == list(alone.labels_all)


def test_a_gradient_of_proxies_that_is_not_a_number_stops_the_step() -> None:
    class SteepLoss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proxy = torch.nn.Parameter(torch.zeros(1))

        def forward(self, z_BE: Tensor, labels_B: Tensor) -> Tensor:
            return z_BE.sum() + self.proxy.sqrt().sum()  # 0, but its slope there is infinite

    settings = settings_for(grpo={"weight": 0.0}, distillation={"weight": 0.0})
    encoder, _, _ = build(settings)
    runner = Step(encoder, SteepLoss(), None, None, settings, World(), torch.device("cpu"))
    batches = micro_batches(settings)
    with pytest.raises(NonFiniteLoss, match="step 0"):
        runner.run(0, lambda: next(batches))


def test_the_random_control_is_as_large_as_the_gradient_it_replaces_and_points_elsewhere() -> None:
    real, _ = take_step(settings_for())
    noise, _ = take_step(settings_for(grpo={"objective": "random"}))
    # Pairs share pictures, so norms of sums agree only roughly.
    assert noise.gradients["tokens/grpo"] == pytest.approx(real.gradients["tokens/grpo"], rel=0.35)
    assert noise.losses == pytest.approx(real.losses)


def test_a_loss_that_is_not_a_number_stops_the_step() -> None:
    settings = settings_for()
    encoder, loss, teacher = build(settings)
    with torch.no_grad():
        encoder.pooler.linear.weight[0, 0] = float("nan")
    client = ScriptedClient(settings.grpo.informative_pairs, settings.rollout.group_size)
    runner = Step(encoder, loss, teacher, client, settings, World(), torch.device("cpu"))
    batches = micro_batches(settings)
    with pytest.raises(NonFiniteLoss, match="step 0"):
        runner.run(0, lambda: next(batches))
