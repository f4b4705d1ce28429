"""One optimizer step of SAGA (paper section 3, design rules 2 to 5).

Consumes micro-batches until K informative pairs are found, produces the summed gradient of all workers in
``.grad``, and waits for the rollout client alone. Shape legend: B images of this worker's share of a
micro-batch, N patch tokens, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from saga_ray.config.settings import Settings
from saga_ray.data.batches import StreamedBatch
from saga_ray.models.encoder import Encoder
from saga_ray.rollout.client import RolloutClient, RoundOutcome
from saga_ray.rollout.engine import PairRequest, Sampling, completion_seed
from saga_ray.rollout.groups import Group
from saga_ray.train.gradients import ParameterBuffer, TokenBuffer, attention_parameters, square
from saga_ray.train.readings import gradient_readings, rollout_readings
from saga_ray.train.shards import clip_, is_shard
from saga_ray.train.stopwatch import Stopwatch
from saga_ray.train.teaching import AcceptedPair, Taught, Teacher
from saga_ray.train.world import World


class NonFiniteLoss(RuntimeError):
    """A loss or gradient is no longer a number: the run stops before its next checkpoint."""


@dataclass
class StepResult:
    """What a step did, summed over all workers; ``.grad`` of every parameter is set."""

    step: int
    micro_batches: list[int]
    losses: dict[str, float]
    """Those of weight above 0, unweighted, and their weighted `total`."""
    gradients: dict[str, float]
    rollouts: dict[str, float]
    seconds: dict[str, float]
    sample: tuple[StreamedBatch, Group, AcceptedPair] | None


@dataclass
class _Gathered:
    """A step under way on this worker."""

    batches: list[tuple[StreamedBatch, TokenBuffer]] = field(default_factory=list)
    images: int = 0
    metric_sum: float = 0.0
    taught: Taught = field(default_factory=Taught)
    outcomes: list[RoundOutcome] = field(default_factory=list)
    sample: tuple[StreamedBatch, Group, AcceptedPair] | None = None


class Step:
    """The step of one worker; holds what stays the same from step to step."""

    def __init__(
        self,
        encoder: Encoder,
        metric_loss: nn.Module,
        teacher: Teacher | None,
        client: RolloutClient | None,
        settings: Settings,
        world: World,
        device: torch.device,
    ) -> None:
        assert (teacher is None) == (client is None), "rollouts need both a teacher and a client"
        self.encoder, self.metric_loss = encoder, metric_loss
        self.teacher, self.client = teacher, client
        self.settings, self.world, self.device = settings, world, device

    def run(
        self,
        step: int,
        next_batch: Callable[[], StreamedBatch],
        rounds: int | None = None,
        clock: Stopwatch | None = None,
    ) -> StepResult:
        """Gather the step's gradients. ``rounds`` fixes the number of micro-batches (arms that repeat another
        arm's batches); ``clock`` takes the times instead of one of the step's own.
        """
        clock = clock or Stopwatch(self.device)
        gathered = _Gathered()
        pooler_metric, pooler_distilled = (
            ParameterBuffer(self.encoder.pooler),
            ParameterBuffer(self.encoder.pooler),
        )
        proxies = ParameterBuffer(self.metric_loss)
        grpo = self.settings.grpo
        for round_number in range(rounds or (grpo.max_micro_batches if self.client else 1)):
            with clock.part("data"):
                batch = next_batch()
            with clock.part("encode"):
                buffer = self._encode(batch)
            gathered.batches.append((batch, buffer))
            if self.client:
                with clock.part("submit"):
                    self._ask(step, round_number, batch, buffer)
            with clock.part("metric"):
                self._metric(batch, buffer, pooler_metric, proxies, gathered)
            if self.client:
                self._learn_from_rollouts(
                    step, round_number, batch, buffer, pooler_distilled, gathered, clock
                )
                if rounds is None and gathered.outcomes[-1].accepted_total >= grpo.informative_pairs:
                    break
        return self._finish(step, gathered, pooler_metric, pooler_distilled, proxies, clock)

    def _encode(self, batch: StreamedBatch) -> TokenBuffer:
        hold = self.settings.train.tower_graph == "hold"
        with torch.enable_grad() if hold else torch.no_grad():
            x_BND = self.encoder.tokens(self._images(batch)).float()
        return TokenBuffer(x_BND.detach().requires_grad_(True), x_BND if hold else None)

    def _images(self, batch: StreamedBatch) -> Tensor:
        return torch.as_tensor(batch.images_BHWC).to(self.device, non_blocking=True)

    def _ask(self, step: int, round_number: int, batch: StreamedBatch, buffer: TokenBuffer) -> None:
        """Send this worker's pairs to the rollout actors; the supervisor answers while the metric loss is
        computed.
        """
        assert self.teacher is not None and self.client is not None
        pairs = batch.pairs
        targets = self._targets(step, batch)
        a, b = [pair.a_local for pair in pairs], [pair.b_local for pair in pairs]
        tokens_BND = buffer.tokens_BND.detach()
        style = self.settings.supervisor.prompt
        prompts = self.teacher.supervisor.engine_prompts(tokens_BND[a], tokens_BND[b], style) if pairs else []
        requests = [
            PairRequest(
                step=step,
                round=round_number,
                pair=pair.index,
                same=targets[pair.index],
                prompt=prompt,
                seeds=tuple(
                    completion_seed(self.settings.seed, step, round_number, pair.index, g)
                    for g in range(self.settings.rollout.group_size)
                ),
                sampling=Sampling.of(self.settings.rollout),
                encoder_version=step,
            )
            for pair, prompt in zip(pairs, prompts, strict=True)
        ]
        self.client.submit(step, round_number, requests, [pair.index for pair in batch.all_pairs])

    def _targets(self, step: int, batch: StreamedBatch) -> dict[int, bool]:
        """What reward compares the verdict with: the truth, or (control) the truth of another pair of the
        micro-batch.
        """
        same = [pair.same for pair in batch.all_pairs]
        if self.settings.grpo.shuffle_targets:
            order = np.random.default_rng([self.settings.seed & 0xFFFFFFFF, step, batch.id]).permutation(
                len(same)
            )
            same = [same[index] for index in order]
        return {pair.index: target for pair, target in zip(batch.all_pairs, same, strict=True)}

    def _metric(
        self,
        batch: StreamedBatch,
        buffer: TokenBuffer,
        pooler_metric: ParameterBuffer,
        proxies: ParameterBuffer,
        gathered: _Gathered,
    ) -> None:
        """The metric loss of the whole micro-batch, weighted by its images; its gradient at this worker's
        tokens and at the pooler.
        """
        images = len(batch.labels_all)
        gathered.images += images
        if self.settings.metric.weight == 0:
            return
        z_bE, _ = self.encoder.pooler(buffer.tokens_BND)
        labels_B = torch.as_tensor(np.asarray(batch.labels_all), dtype=torch.long, device=self.device)
        loss = self.metric_loss(self.world.gather(z_bE), labels_B)
        gathered.metric_sum += float(loss.detach()) * images
        inputs = [buffer.tokens_BND, *pooler_metric.parameters, *proxies.parameters]
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        buffer.metric_BND.add_(gradients[0], alpha=images)
        pooler_metric.add(gradients[1 : 1 + len(pooler_metric.parameters)], images)
        # All workers compute the whole batch's loss, so each has the proxies' whole gradient.
        proxies.add(gradients[1 + len(pooler_metric.parameters) :], images / self.world.size)

    def _learn_from_rollouts(
        self,
        step: int,
        round_number: int,
        batch: StreamedBatch,
        buffer: TokenBuffer,
        pooler_distilled: ParameterBuffer,
        gathered: _Gathered,
        clock: Stopwatch,
    ) -> None:
        """Replay accepted groups in plan order, as they are decided; others may still be being generated.

        Where workers hold parts of the language model they replay together, equally often, once all have
        their groups.
        """
        assert self.teacher is not None and self.client is not None
        parts: Iterable[list[AcceptedPair]] = self._accepted(step, round_number, batch, gathered, clock)
        if self.settings.train.shards_language_model:
            own = list(parts)
            with clock.part("rollout"):
                most = int(self.world.largest(len(own)))
            parts = [*own, *([] for _ in range(most - len(own)))]
        for pairs in parts:
            if not pairs:
                self.teacher.accompany(buffer, clock=clock)
                continue
            self.teacher.teach(
                pairs,
                buffer,
                self.encoder.pooler,
                pooler_distilled,
                gathered.taught,
                step=step,
                clock=clock,
            )
        with clock.part("rollout"):
            gathered.outcomes.append(self.client.outcome(step, round_number))

    def _accepted(
        self,
        step: int,
        round_number: int,
        batch: StreamedBatch,
        gathered: _Gathered,
        clock: Stopwatch,
    ) -> Iterator[list[AcceptedPair]]:
        """This worker's accepted pairs in plan order, as many at a time as are replayed together, as soon as
        there are so many."""
        assert self.client is not None
        place = {pair.index: pair for pair in batch.pairs}
        accepted = self.client.accepted(step, round_number)
        waiting: list[AcceptedPair] = []
        ended = False
        while not ended:
            with clock.part("rollout"):
                group = next(accepted, None)
            ended = group is None
            if group is not None:
                pair = place[group.pair_index]
                waiting.append(AcceptedPair(group, pair.a_local, pair.b_local, batch.id))
                if gathered.sample is None:
                    gathered.sample = (batch, group, waiting[-1])
            if waiting and (ended or len(waiting) == self.settings.train.replay_pairs):
                yield waiting
                waiting = []

    def _finish(
        self,
        step: int,
        gathered: _Gathered,
        pooler_metric: ParameterBuffer,
        pooler_distilled: ParameterBuffer,
        proxies: ParameterBuffer,
        clock: Stopwatch,
    ) -> StepResult:
        """Counts are known: scale, send the sum through the tower, add up over the workers."""
        settings, taught = self.settings, gathered.taught
        with clock.part("reduce"):
            totals = self.world.sum_numbers(
                [
                    taught.objective_sum,
                    taught.objective_count,
                    taught.distillation_sum,
                    taught.rewarded,
                    float(taught.pairs),
                    taught.mismatch_sum,
                    taught.mismatch_tokens,
                ]
            )
        objective_sum, objective_count, distillation_sum, rewarded, pairs, mismatch_sum, mismatch_tokens = (
            totals
        )
        metric_scale = settings.metric.weight / gathered.images
        objective_scale = settings.grpo.weight / max(objective_count, 1.0)
        distillation_divisor = max(rewarded, 1.0) if settings.distillation.reduction == "mean" else 1.0
        pooler_metric.scale_(metric_scale)
        proxies.scale_(metric_scale)
        pooler_distilled.scale_(settings.distillation.weight / distillation_divisor)
        for _, buffer in gathered.batches:
            buffer.metric_BND.mul_(metric_scale)
            buffer.supervisor_BND.mul_(objective_scale)
        self.encoder.zero_grad(set_to_none=True)
        if settings.metric.weight > 0 or settings.grpo.weight > 0:  # distillation does not reach the tower
            with clock.part("tower"):
                self._through_tower(gathered)
        tower = [parameter for parameter in self.encoder.tower.parameters() if parameter.requires_grad]
        with clock.part("reduce"):
            at_tokens = self.world.sum_numbers(
                [
                    square(buffer.metric_BND for _, buffer in gathered.batches),
                    square(buffer.supervisor_BND for _, buffer in gathered.batches),
                    sum(
                        float((buffer.metric_BND * buffer.supervisor_BND).sum(dtype=torch.float64))
                        for _, buffer in gathered.batches
                    ),
                ]
            )
            # Those of shards were added up in backward.
            tower_gradients = [
                parameter.grad
                for parameter in tower
                if parameter.grad is not None and not is_shard(parameter.grad)
            ]
            self.world.sum_(
                [*tower_gradients, *pooler_metric.gradients, *pooler_distilled.gradients, *proxies.gradients]
            )
        gradients = gradient_readings(
            at_tokens, pooler_metric, pooler_distilled, attention_parameters(self.encoder.pooler)
        )
        self._set_gradients(pooler_metric, pooler_distilled, proxies)
        losses = {}
        if settings.metric.weight > 0:
            losses["metric"] = gathered.metric_sum / gathered.images
        if self.client and settings.grpo.weight > 0:
            losses["grpo"] = objective_sum / max(objective_count, 1.0)
        if self.client and settings.distillation.weight > 0:
            losses["distillation"] = distillation_sum / distillation_divisor
        weights = {
            "metric": settings.metric.weight,
            "grpo": settings.grpo.weight,
            "distillation": settings.distillation.weight,
        }
        losses["total"] = sum(weights[name] * loss for name, loss in losses.items())
        gradients["norm"] = self._clip(tower)
        norms = (gradients["norm"], square(proxies.gradients) ** 0.5)  # proxies are not clipped
        if not all(np.isfinite(value) for value in (*losses.values(), *norms)):
            raise NonFiniteLoss(f"step {step}: losses {losses}, gradient norms {norms}")
        rollouts = (
            rollout_readings(gathered.outcomes, pairs, mismatch_sum / max(mismatch_tokens, 1.0))
            if self.client
            else {}
        )
        return StepResult(
            step,
            [batch.id for batch, _ in gathered.batches],
            losses,
            gradients,
            rollouts,
            clock.seconds,
            gathered.sample,
        )

    def _through_tower(self, gathered: _Gathered) -> None:
        """One backward through the tower a micro-batch, with the losses' gradients at its tokens added up."""
        for batch, buffer in gathered.batches:
            x_BND = (
                buffer.graph_BND
                if buffer.graph_BND is not None
                else self.encoder.tokens(self._images(batch)).float()
            )
            torch.autograd.backward(x_BND, buffer.metric_BND + buffer.supervisor_BND)
            buffer.graph_BND = None

    def _set_gradients(
        self, pooler_metric: ParameterBuffer, pooler_distilled: ParameterBuffer, proxies: ParameterBuffer
    ) -> None:
        """A parameter that no loss of this run reaches keeps no gradient, so that weight decay leaves it
        alone.
        """
        settings = self.settings
        attention = {id(parameter) for parameter in attention_parameters(self.encoder.pooler)}
        for parameter, metric, distilled in zip(
            pooler_metric.parameters, pooler_metric.gradients, pooler_distilled.gradients, strict=True
        ):
            reached = settings.metric.weight > 0 or (
                settings.distillation.weight > 0 and id(parameter) in attention
            )
            parameter.grad = metric + distilled if reached else None
        for parameter, gradient in zip(proxies.parameters, proxies.gradients, strict=True):
            parameter.grad = gradient if settings.metric.weight > 0 else None

    def _clip(self, tower: list[nn.Parameter]) -> float:
        """Clip tower and pooler together (paper: 1.0); the proxies have a scale of their own and are left
        alone.
        """
        parameters, limit = [*tower, *self.encoder.pooler.parameters()], self.settings.optimizer.clip
        if self.settings.train.shards_tower:
            return clip_(parameters, limit, self.world)
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit))
