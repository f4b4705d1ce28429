"""What one step of a run is, in counts, and what its GPUs have to hold."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace

from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.errors import UserError
from saga_ray.plan import memory
from saga_ray.plan.counts import Row
from saga_ray.plan.sizes import BYTES, SupervisorSizes, Trained, pooler_parameters


@dataclass(frozen=True)
class Workload:
    """A step over all workers: micro-batches of `images` pictures and `pairs` pairs until `informative` of
    them have been replayed."""

    supervisor: SupervisorSizes
    trained: Trained
    row: Row
    """A pair with answers as long as expected, for what is computed."""
    longest: Row
    """A pair with the longest answers that are allowed, for what must fit."""
    images: int
    pairs: int
    micro_batches: int
    """So many are expected."""
    most_micro_batches: int
    informative: int
    """Pairs that a step replays."""
    informative_share: float
    """Of the candidate pairs; how many micro-batches are expected follows from it."""
    replay_pairs: int
    """At a time."""
    max_sequences: int
    tower_precision: int
    language_precision: int
    hold: bool
    """Graphs of the tower are kept until the step's end."""
    recompute: bool
    """The language model's layers are computed a second time in backward."""
    teacher: bool
    """One layer's attention is recorded."""
    steps: int
    answer_known: bool

    @classmethod
    def of(
        cls,
        settings: Settings,
        supervisor: SupervisorSizes,
        *,
        answer_tokens: int | None = None,
        informative_share: float = 0.5,
    ) -> Workload:
        """A run's step. `answer_tokens`: length of an answer; none: the family's own, else
        rollout.max_new_tokens. `informative_share`: share of pairs whose answers have reward variance.

        Raises:
            UserError: the run has no rollouts, or the supervisor's tower reads pictures of another size.
        """
        if settings.grpo.weight == 0 and settings.distillation.weight == 0:
            raise UserError(
                "`saga plan` is for runs with rollouts, and grpo.weight and distillation.weight are 0"
            )
        if settings.encoder.lora_rank is not None:
            raise UserError(
                "`saga plan` counts towers that train whole, and encoder.lora_rank is set: leave it out for "
                "an upper bound, since adapters take less memory"
            )
        if settings.train.shard != "nothing":
            raise UserError(
                "`saga plan` counts whole weights on every training GPU and no traffic between them, and "
                f"train.shard={settings.train.shard}: leave it out for an upper bound of memory"
            )
        tower = supervisor.tower
        if tower.image_size != settings.data.image_size:
            raise UserError(
                f"data.image_size={settings.data.image_size}, but the tower of {supervisor.name} reads "
                f"pictures of {tower.image_size} pixels: set that"
            )
        limit = settings.rollout.max_new_tokens
        known = answer_tokens or supervisor.answer
        pairs, wanted = settings.data.pairs_per_batch, settings.grpo.informative_pairs
        needed = math.ceil(wanted / max(pairs * informative_share, 1e-9))
        width = settings.encoder.embedding_size or tower.pooled_width
        pooler = pooler_parameters(tower.pooled_width, width, settings.encoder.pooling)
        row = Row(
            supervisor.prompt,
            max(2, min(known or limit, limit)),
            settings.rollout.group_size,
            settings.grpo.replay == "shared-prefix",
        )
        return cls(
            supervisor=supervisor,
            trained=Trained(tower.parameters, pooler, _proxies(settings, width)),
            row=row,
            longest=replace(row, answer=max(2, limit)),
            images=settings.data.classes_per_batch * settings.data.images_per_class,
            pairs=pairs,
            micro_batches=max(1, min(needed, settings.grpo.max_micro_batches)),
            most_micro_batches=settings.grpo.max_micro_batches,
            informative=wanted,
            informative_share=informative_share,
            replay_pairs=settings.train.replay_pairs,
            max_sequences=settings.rollout.max_parallel_sequences,
            tower_precision=BYTES[settings.encoder.precision],
            language_precision=BYTES[settings.supervisor.precision],
            hold=settings.train.tower_graph == "hold",
            recompute=settings.train.replay_graph == "recompute",
            teacher=settings.distillation.weight > 0,
            steps=settings.train.steps,
            answer_known=known is not None,
        )

    def state(self, images: int) -> memory.TrainingState:
        """What a worker with so many of a micro-batch's pictures holds all the time, in a step that takes the
        most micro-batches."""
        tower = self.supervisor.tower
        return memory.training_state(
            self.trained,
            self.supervisor.language,
            self.supervisor.projector,
            precision=self.language_precision,
            token_numbers=self.most_micro_batches * images * tower.tokens * tower.token_width,
        )

    def tower_graph(self, images: int) -> int:
        """The largest graph of the tower: one micro-batch's, or all that are held."""
        graphs = self.most_micro_batches if self.hold else 1
        return graphs * memory.tower_kept(self.supervisor.tower, images, self.tower_precision)

    def replay(self, images: int, pairs: int) -> int:
        """The most that replaying so many pairs takes beside the state: held graphs of the tower too."""
        held = self.tower_graph(images) if self.hold else 0
        peak = memory.replay_peak(
            self.supervisor.language,
            self.longest,
            self.language_precision,
            pairs,
            recompute=self.recompute,
        )
        return held + peak

    def training_peak(self, images: int, pairs: int) -> int:
        """The most that a worker ever holds: its state and the largest of replay, the tower's backward and
        the update. The metric loss's own tensors are gone before replay and are not counted."""
        phases = (self.replay(images, pairs), self.tower_graph(images), memory.update(self.trained))
        return self.state(images).total + max(phases)


def _proxies(settings: Settings, width: int) -> int:
    """Numbers in the metric loss's proxies; 0 where a source's number of classes is not published."""
    source = settings.data.source
    if source not in sources.names():
        return 0
    official = getattr(importlib.import_module(f"saga_ray.data.sources.{source}"), "OFFICIAL", {})
    classes = official.get("train", (0, 0))[1]
    defaults = importlib.import_module(f"saga_ray.losses.metric.{settings.metric.loss}").DEFAULTS
    per_class = {**defaults, **settings.metric.options}.get("proxies_per_class", 1)
    proxied = settings.metric.loss in ("potential_field", "proxy_anchor") and settings.metric.weight > 0
    return int(classes * per_class * width) if proxied else 0
