"""All that a run needs before its first arm, and whether it fits together.

Made without side effects, before Ray or MLflow is touched: bad input leaves nothing behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.data.plan import plan_for
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.losses import metric as metric_losses
from saga_ray.models import supervisors
from saga_ray.models.encoder import Encoder
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.retrieval.protocol import Protocol
from saga_ray.rollout.tensor_parallel import require_parts
from saga_ray.train.arms import ARMS, arm_settings, needs_rollouts


@dataclass(frozen=True)
class Ready:
    """What every arm starts from."""

    table: ImageTable
    supervisor: Supervisor
    start: Encoder
    rollouts: bool
    """Whether any arm asks the supervisor."""


def prepare(settings: Settings) -> Ready:
    """Load data and supervisor. Raises UserError where they do not fit the settings."""
    table = sources.load(settings.data, settings.seed)
    _require_unseen_classes(table, settings)
    supervisor = supervisors.load(settings.supervisor.path, settings.supervisor.precision)
    start = Encoder.start_of(supervisor, settings.encoder)
    trained = [arm_settings(settings, ARMS[name]) for name in settings.arms if ARMS[name].trains]
    rollouts = any(map(needs_rollouts, trained))
    _require_fit(supervisor, start, settings, rollouts=rollouts)
    train = table.part("train")
    plan_for(train, settings.data, settings.seed)
    metric_losses.build(
        settings.metric.loss,
        classes=len(train.classes),
        width=start.pooler.embedding_size,
        seed=settings.seed,
        options=settings.metric.options,
    )
    return Ready(table, supervisor, start, rollouts)


def require_classes(table: ImageTable, source: str, part: str) -> None:
    """There must be something to score in a part. Raises UserError."""
    scored = table.part(part)
    protocol = Protocol.of(scored.roles, len(scored))
    if np.any(protocol.positives(scored.labels) > 0):
        return
    if not protocol.leave_one_out:
        raise UserError(
            f"{source} has no {part} class with both a query and a picture in the gallery, so nothing can be "
            "scored; complete the release"
        )
    raise UserError(
        f"{source} has no {part} class with two pictures or more, "
        f"so nothing can be scored; mark some classes as {part} in its column split, "
        f"or raise data.{part}_share"
    )


def _require_unseen_classes(table: ImageTable, settings: Settings) -> None:
    """There must be something to score, and no arm may have seen it."""
    require_classes(table, settings.data.source, settings.evaluation.part)
    trained = set(table.part("train").classes)
    for other in ("test", "validation"):
        seen = sorted(trained & set(table.part(other).classes))
        if seen:
            raise UserError(
                f"{settings.data.source}: class {seen[0]!r} is in both train and {other}"
                f"{f', as are {len(seen) - 1} others' if len(seen) > 1 else ''}; a run is scored on classes "
                "that it never saw, so give every class one split; `saga data check` lists them"
            )


def _require_fit(supervisor: Supervisor, start: Encoder, settings: Settings, *, rollouts: bool) -> None:
    if start.tower.image_size != settings.data.image_size:
        raise UserError(
            f"data.image_size={settings.data.image_size}, but the tower of supervisor "
            f"{supervisor.name} reads {start.tower.image_size} pixels: "
            f"set data.image_size={start.tower.image_size}"
        )
    if settings.distillation.weight > 0 and settings.distillation.layer >= supervisor.layers:
        raise UserError(
            f"distillation.layer={settings.distillation.layer}, but supervisor {supervisor.name} "
            f"has layers 0 to {supervisor.layers - 1}"
        )
    needed = supervisor.answer_tokens(settings.supervisor.prompt)
    if rollouts and needed > settings.rollout.max_new_tokens:
        raise UserError(
            f"rollout.max_new_tokens={settings.rollout.max_new_tokens}, but a whole answer of supervisor "
            f"{supervisor.name} takes {needed} tokens, so that every answer would be cut off: "
            f"set rollout.max_new_tokens={needed} or more"
        )
    if rollouts:
        require_parts(supervisor, settings.rollout)
