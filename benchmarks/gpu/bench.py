"""A bench for whole steps of `saga train`, without Ray, data and checkpoints: its own step, replay, losses
and optimizer on random pictures and a random supervisor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from gpu.forced_answers import ForcedAnswers
from gpu.random_models import Built

from saga_ray.config.settings import Settings
from saga_ray.data.batches import StreamedBatch, assemble
from saga_ray.data.plan import Plan
from saga_ray.losses import metric as metric_losses
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.plan import counts
from saga_ray.rollout.engines.transformers import TransformersEngine
from saga_ray.rollout.local import LocalRollouts
from saga_ray.rollout.rewards import Judge
from saga_ray.train.schedule import build_optimizer
from saga_ray.train.step import Step, StepResult
from saga_ray.train.stopwatch import Stopwatch
from saga_ray.train.teaching import Teacher
from saga_ray.train.world import World

CLASSES = 100
"""That are trained on, as in CUB: the metric loss has proxies of so many."""


class Meter(Stopwatch):
    """Times of the parts, and the most memory that tensors held in each."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.peaks: dict[str, int] = {}
        self.under_way = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self.under_way = name
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        with super().part(name):
            yield
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            self.peaks[name] = max(self.peaks.get(name, 0), peak)


class Bench:
    """An encoder that starts from a random supervisor's tower, and everything that its steps need. Answers
    have `rollout.max_new_tokens` tokens; `generate`: the transformers engine writes as many first."""

    def __init__(self, settings: Settings, built: Built, *, generate: bool) -> None:
        self.settings, self.built, self.tokens = settings, built, settings.rollout.max_new_tokens
        self.device = built.supervisor.language_model.device
        width, encoder = built.tower.pooled_width, settings.encoder
        pooler = Pooler(width, encoder.embedding_size, encoder.pooling)
        self.encoder = Encoder(built.tower, pooler, encoder.precision).to(self.device)
        self.loss = metric_losses.build(
            settings.metric.loss,
            classes=CLASSES,
            width=pooler.embedding_size,
            seed=settings.seed,
            options=settings.metric.options,
        ).to(self.device)
        self.optimizer = build_optimizer(self.encoder, self.loss, settings.optimizer)
        labels = np.repeat(np.arange(CLASSES), settings.data.images_per_class)
        self.plan = Plan(labels, settings.data, settings.seed)
        self.engine = None
        if generate:
            most = settings.rollout.max_parallel_sequences
            self.engine = TransformersEngine(built.supervisor, built.sizes.prompt, self.tokens, most)
        self.generated: list[int] = []
        """Tokens of each completion of the last step."""

    def step(self, number: int, clock: Stopwatch, *, update: bool = True, **grpo: object) -> StepResult:
        """A step on the pictures of its number; `grpo` changes settings of that section. Without `update`
        only the gradients are made, and nothing is generated."""
        settings = self.settings.model_copy(update={"grpo": self.settings.grpo.model_copy(update=grpo)})
        supervisor = self.built.supervisor
        engine = self.engine if update else None
        answers = ForcedAnswers(supervisor, settings.supervisor.prompt, self.tokens, engine)
        client = LocalRollouts(answers, settings.grpo.informative_pairs, Judge(supervisor.verdict_key))
        teacher, world = Teacher(supervisor, settings), World()
        runner = Step(self.encoder, self.loss, teacher, client, settings, world, self.device)
        batches = self.batches(number * settings.grpo.max_micro_batches)
        result = runner.run(number, lambda: next(batches), clock=clock)
        if update:
            with clock.part("optimizer"):
                self.optimizer.step()
        self.generated = answers.generated
        return result

    def batches(self, first: int) -> Iterator[StreamedBatch]:
        """The plan's micro-batches from this one on, of random pictures."""
        size = self.settings.data.image_size
        while True:
            batch = self.plan.micro_batch(first)
            rng = np.random.default_rng(first)
            yield assemble(batch, rng.integers(0, 256, (len(batch.rows), size, size, 3), np.uint8), 0, 1)
            first += 1

    def row(self, *, shared: bool) -> counts.Row:
        """How a pair stands in replay."""
        group = self.settings.rollout.group_size
        return counts.Row(self.built.sizes.prompt, self.tokens, group, shared)

    def replay_operations(self, pairs: int, *, shared: bool) -> tuple[int, int]:
        """Of that many pairs, forward and backward."""
        sizes, row = self.built.sizes, self.row(shared=shared)
        given = sizes.language, sizes.projector, 2 * sizes.tower.tokens, row
        teacher = self.settings.distillation.weight > 0
        recompute = self.settings.train.replay_graph == "recompute"
        forward = counts.replay_forward(*given, teacher=teacher)
        return pairs * forward, pairs * counts.replay_backward(*given, recompute=recompute)

    def operations(self, result: StepResult) -> dict[str, int]:
        """Of the parts that `saga plan` counts, in the step last taken."""
        settings, sizes, times = self.settings, self.built.sizes, len(result.micro_batches)
        images = times * settings.data.classes_per_batch * settings.data.images_per_class
        shared = settings.grpo.replay == "shared-prefix"
        forward, backward = self.replay_operations(int(result.rollouts["pairs_replayed"]), shared=shared)
        encode, through = counts.encode(sizes.tower, images), counts.tower_backward(sizes.tower, images)
        trained = [*self.encoder.parameters(), *self.loss.parameters()]
        found = {
            "encode": encode,
            "replay_forward": forward,
            "replay_backward": backward,
            "tower": through + (encode if settings.train.tower_graph == "recompute" else 0),
            "optimizer": counts.optimizer(sum(parameter.numel() for parameter in trained)),
        }
        if self.generated:
            groups = len(self.generated) // settings.rollout.group_size
            prefill = counts.prefill(sizes.language, sizes.projector, 2 * sizes.tower.tokens, sizes.prompt)
            decode = sum(counts.decode(sizes.language, sizes.prompt, each) for each in self.generated)
            found["rollout"] = groups * prefill + decode
        return found
