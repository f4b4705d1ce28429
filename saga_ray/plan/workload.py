"""What one step of a run is, in counts, and what its GPUs have to hold."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace

from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.errors import UserError
from saga_ray.plan import memory, traffic
from saga_ray.plan.counts import Row
from saga_ray.plan.lora import adapted
from saga_ray.plan.sizes import BYTES, SupervisorSizes, TowerSizes, Trained, pooler_parameters


@dataclass(frozen=True)
class Workload:
    """A step over all workers: micro-batches of `images` pictures and `pairs` pairs until `informative` of
    them have been replayed."""

    supervisor: SupervisorSizes
    tower: TowerSizes
    """The supervisor's, with adapters if the run has them."""
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
    workers: int
    """That train."""
    shards_tower: bool
    """Each of them holds a part of the tower,"""
    shards_language_model: bool
    """and of the language model's layers."""

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
        tower, rank = supervisor.tower, settings.encoder.lora_rank
        if rank is not None:
            tower = adapted(tower, rank)
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
            tower=tower,
            trained=Trained(
                tower.parameters - tower.untrained, pooler, _proxies(settings, width), tower.untrained
            ),
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
            workers=settings.train.workers,
            shards_tower=settings.train.shards_tower,
            shards_language_model=settings.train.shards_language_model,
        )

    @property
    def tower_parts(self) -> int:
        """Workers over which the tower is shared out."""
        return self.workers if self.shards_tower else 1

    @property
    def language_parts(self) -> int:
        """Those over which the language model's layers are."""
        return self.workers if self.shards_language_model else 1

    @property
    def updated(self) -> int:
        """Parameters that a worker's optimizer updates."""
        return self.trained.held(self.tower_parts)

    @property
    def update(self) -> int:
        """Bytes that the update takes beside the state."""
        return memory.update(self.trained, self.tower_parts)

    @property
    def gathered(self) -> tuple[int, int]:
        """Bytes of tower and language model that stand whole at a time where they are in parts."""
        tower = memory.tower_gathered(self.tower) if self.tower_parts > 1 else 0
        language = memory.language_gathered(self.supervisor.language, self.language_precision)
        return tower, language if self.language_parts > 1 else 0

    @property
    def exchanged(self) -> int:
        """Bytes that a worker gets from the others in a step for what is in parts."""
        tower = traffic.tower_exchanged(self.tower, self.tower_parts, twice=not self.hold)
        replays = math.ceil(math.ceil(self.informative / self.workers) / self.replay_pairs)
        language = traffic.language_exchanged(
            self.supervisor.language, self.language_parts, self.language_precision
        )
        return self.micro_batches * tower + replays * language

    def state(self, images: int) -> memory.TrainingState:
        """What a worker with so many of a micro-batch's pictures holds all the time, in a step that takes the
        most micro-batches."""
        tower = self.tower
        return memory.training_state(
            self.trained,
            self.supervisor.language,
            self.supervisor.projector,
            precision=self.language_precision,
            token_numbers=self.most_micro_batches * images * tower.tokens * tower.token_width,
            tower_parts=self.tower_parts,
            language_parts=self.language_parts,
        )

    def tower_graph(self, images: int) -> int:
        """The largest graph of the tower, one micro-batch's, or all that are held, and what stands whole of a
        tower in parts."""
        return self._graph(images) + self.gathered[0]

    def _graph(self, images: int) -> int:
        graphs = self.most_micro_batches if self.hold else 1
        return graphs * memory.tower_kept(self.tower, images, self.tower_precision)

    def replay(self, images: int, pairs: int) -> int:
        """The most that replaying so many pairs takes beside the state: held graphs of the tower too."""
        held = self._graph(images) if self.hold else 0
        peak = memory.replay_peak(
            self.supervisor.language,
            self.longest,
            self.language_precision,
            pairs,
            recompute=self.recompute,
        )
        return held + peak + self.gathered[1]

    def training_peak(self, images: int, pairs: int) -> int:
        """The most that a worker ever holds: its state and the largest of replay, the tower's backward and
        the update. The metric loss's own tensors are gone before replay and are not counted."""
        phases = (self.replay(images, pairs), self.tower_graph(images), self.update)
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
