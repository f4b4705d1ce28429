"""The parity gate: before training, the rollout engine and the replay must give the same log-probabilities on
the same embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import GetTimeoutError
from torch import Tensor

from saga_ray.config.settings import Settings
from saga_ray.data.plan import plan_for
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models import supervisors
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
    answered = Answered(x_BND[a], x_BND[b], tokens_PGT, mask_PGT)
    if settings.train.gpus_per_worker:
        logp_PGT = replayed_by_worker(settings, answered)
    else:
        logp_PGT = replayed(settings, supervisor, answered)
    report = parity(groups, logp_PGT, settings.rollout.parity_tolerance, settings.supervisor.precision)
    report.require(f"{pool.engine_name} {pool.engine_version}")
    return report


@dataclass(frozen=True)
class Answered:
    """Answers and the images that they are about: P pairs, N patch tokens, D width, G answers, T tokens."""

    x_a_PND: Tensor
    x_b_PND: Tensor
    tokens_PGT: Tensor
    mask_PGT: Tensor


@torch.no_grad()
def replayed(settings: Settings, supervisor: Supervisor, answered: Answered) -> Tensor:
    """logp_PGT of the answers' tokens, as many pairs at a time as in training; where the supervisor is."""
    device = next(supervisor.parameters()).device
    x_a_PND, x_b_PND, tokens_PGT, mask_PGT = (
        torch.split(part, settings.train.replay_pairs)
        for part in (answered.x_a_PND, answered.x_b_PND, answered.tokens_PGT, answered.mask_PGT)
    )
    found = [
        replay(
            supervisor,
            *(part.to(device) for part in parts),
            style=settings.supervisor.prompt,
            layer=None,
            temperature=None,
            shared_prefix=settings.grpo.replay == "shared-prefix",
        ).logp_PGT.cpu()
        for parts in zip(x_a_PND, x_b_PND, tokens_PGT, mask_PGT, strict=True)
    ]
    return torch.cat(found)


def replayed_by_worker(settings: Settings, answered: Answered) -> Tensor:
    """The same with what a training worker has. The driver is on a node without GPU, and one thread of its
    would take hours with a large language model. On CPUs of that node where the workers share the language
    model out, since it does not fit one GPU.

    Raises UserError where no training worker's place is free within `ray.wait_for_resources_s`.
    """
    train = settings.train
    worker: Any = (
        ray.remote(_Replaying)
        .options(
            num_cpus=train.cpus_per_worker,
            num_gpus=0 if train.shards_language_model else train.gpus_per_worker,
            resources=train.resources,
        )
        .remote()
    )
    try:
        ray.get(worker.placed.remote(), timeout=settings.ray.wait_for_resources_s)
    except GetTimeoutError as error:
        raise UserError(
            "engine parity: the place of a training worker was not free within "
            f"ray.wait_for_resources_s={settings.ray.wait_for_resources_s:g} s; wait for other jobs to end, "
            "or lower train.cpus_per_worker or train.gpus_per_worker"
        ) from error
    else:
        supervisor = supervisors.anywhere(settings.supervisor.path)
        logp_PGT = ray.get(worker.replayed.remote(settings, supervisor, answered))
        assert isinstance(logp_PGT, Tensor)
        return logp_PGT
    finally:
        ray.kill(worker)


class _Replaying:
    """In the place of a training worker."""

    def placed(self) -> bool:
        return True

    def replayed(self, settings: Settings, supervisor: str, answered: Answered) -> Tensor:
        torch.set_num_threads(max(settings.train.threads_per_worker, int(settings.train.cpus_per_worker)))
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        loaded = supervisors.load(supervisor, settings.supervisor.precision).to(device)
        return replayed(settings, loaded, answered)
