"""The parity gate: before training, the rollout engine and the replay must give the same log-probabilities on
the same embeddings.
"""

from __future__ import annotations

import numpy as np
import torch

from saga_ray.config.settings import Settings
from saga_ray.data.plan import plan_for
from saga_ray.data.table import ImageTable
from saga_ray.models.encoder import Encoder
from saga_ray.models.replay import replay
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.engine import PairRequest, Sampling, completion_seed
from saga_ray.rollout.parity import ParityReport, parity
from saga_ray.rollout.pool import Pool
from saga_ray.train.teaching import completion_tensors


@torch.no_grad()
def parity_gate(
    settings: Settings, supervisor: Supervisor, start: Encoder, train: ImageTable, pool: Pool
) -> ParityReport:
    """Let the engine answer a few training pairs and replay its answers; raises `UserError` above the
    tolerance.
    """
    batch = plan_for(train, settings.data, settings.seed).micro_batch(0)
    pairs = batch.pairs[: settings.rollout.parity_pairs]
    positions = sorted({position for pair in pairs for position in (pair.a, pair.b)})
    images = torch.from_numpy(
        np.stack([train.read_image(batch.rows[position], settings.data.image_size) for position in positions])
    )
    x_BND = start.tokens(images).float()
    a = [positions.index(pair.a) for pair in pairs]
    b = [positions.index(pair.b) for pair in pairs]
    prompts = supervisor.engine_prompts(x_BND[a], x_BND[b], settings.supervisor.prompt)
    groups = pool.parity_groups(
        [
            PairRequest(
                step=0,
                round=0,
                pair=pair.index,
                same=pair.same,
                prompt=prompt,
                seeds=tuple(
                    completion_seed(settings.seed, 0, 0, pair.index, g)
                    for g in range(settings.rollout.group_size)
                ),
                sampling=Sampling.of(settings.rollout),
                encoder_version=0,
            )
            for pair, prompt in zip(pairs, prompts, strict=True)
        ]
    )
    tokens_PGT, mask_PGT = completion_tensors(groups, supervisor.eos_token_id, torch.device("cpu"))
    replayed = replay(
        supervisor,
        x_BND[a],
        x_BND[b],
        tokens_PGT,
        mask_PGT,
        style=settings.supervisor.prompt,
        layer=None,
        temperature=None,
        shared_prefix=settings.grpo.replay == "shared-prefix",
    )
    report = parity(groups, replayed.logp_PGT, settings.rollout.parity_tolerance)
    report.require(f"{pool.engine_name} {pool.engine_version}")
    return report
