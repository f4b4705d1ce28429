"""What the supervisor teaches with one accepted group: gradients at the pair's tokens and at the pooler's
attention.

Replays a few pairs at a time through the frozen supervisor (`models.replay`), so memory is bounded by
`train.replay_pairs` however many pairs a step has. Shape legend: P pairs replayed together, G completions, T
their length, N patch tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saga_ray.config.settings import Settings
from saga_ray.losses.distillation import attention_kl_sum
from saga_ray.losses.grpo import group_advantages, grpo_loss_sum, verdict_cross_entropy_sum
from saga_ray.models.pooler import Pooler
from saga_ray.models.replay import Replay, replay
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.groups import Group
from saga_ray.train.gradients import ParameterBuffer, TokenBuffer
from saga_ray.train.stopwatch import Stopwatch


@dataclass(frozen=True)
class AcceptedPair:
    """An informative group and where its two pictures stand in this worker's share of the micro-batch."""

    group: Group
    a: int
    b: int
    micro_batch: int


@dataclass
class Taught:
    """Unscaled sums over the accepted pairs of a step; the counts that scale them follow once all workers are
    done.
    """

    objective_sum: float = 0.0
    objective_count: float = 0.0
    """Generated tokens for GRPO, verdicts for verdict cross entropy: the |T| that the gradient is divided by.
    """
    distillation_sum: float = 0.0
    rewarded: float = 0.0
    """Rollouts with the right verdict whose answer describes both pictures."""
    pairs: int = 0
    mismatch_sum: float = 0.0
    """Sum over tokens of |engine's log p - replay's log p|, same embeddings."""
    mismatch_tokens: float = 0.0


class Teacher:
    """Turns accepted pairs into gradients; holds nothing but the frozen supervisor and the settings."""

    def __init__(self, supervisor: Supervisor, settings: Settings) -> None:
        self.supervisor = supervisor
        self.settings = settings

    def teach(
        self,
        pairs: Sequence[AcceptedPair],
        buffer: TokenBuffer,
        pooler: Pooler,
        distilled: ParameterBuffer,
        taught: Taught,
        *,
        step: int,
        clock: Stopwatch,
    ) -> None:
        """Replay ``pairs`` and add what they teach to ``buffer.supervisor_BND``, ``distilled`` and
        ``taught``.
        """
        if not pairs:
            return
        settings = self.settings
        a = torch.tensor([pair.a for pair in pairs], device=buffer.tokens_BND.device)
        b = torch.tensor([pair.b for pair in pairs], device=buffer.tokens_BND.device)
        x_a_PND = buffer.tokens_BND[a].detach().requires_grad_(True)
        x_b_PND = buffer.tokens_BND[b].detach().requires_grad_(True)
        tokens_PGT, mask_PGT = completion_tensors(
            [pair.group for pair in pairs], self.supervisor.eos_token_id, x_a_PND.device
        )
        reward_PG = torch.tensor(
            [pair.group.rewards for pair in pairs], dtype=torch.float32, device=x_a_PND.device
        )
        with clock.part("replay_forward"):
            replayed = self._replay(x_a_PND, x_b_PND, tokens_PGT, mask_PGT)
        taught.pairs += len(pairs)
        self._compare_with_engine(pairs, replayed, mask_PGT, taught)
        if settings.grpo.weight > 0:
            with clock.part("replay_backward"):
                loss, count = self._objective(pairs, replayed, mask_PGT, reward_PG)
                taught.objective_sum += float(loss.detach())
                taught.objective_count += count
                gradient_a, gradient_b = torch.autograd.grad(loss, [x_a_PND, x_b_PND])
                if settings.grpo.objective == "random":
                    gradient_a, gradient_b = self._noise_as_large(pairs, gradient_a, gradient_b, step)
                buffer.supervisor_BND.index_add_(0, a, gradient_a)
                buffer.supervisor_BND.index_add_(0, b, gradient_b)
        if settings.distillation.weight > 0:
            right_PG = torch.tensor([pair.group.right for pair in pairs], device=x_a_PND.device)
            with clock.part("distillation"):
                self._distil(
                    x_a_PND.detach(), x_b_PND.detach(), replayed, right_PG, pooler, distilled, taught
                )

    def accompany(self, buffer: TokenBuffer, *, clock: Stopwatch) -> None:
        """Replay a made-up pair that counts for nothing: where workers hold parts of the language model, its
        layers can be gathered, forward and backward, by all of them together alone."""
        x_a_PND, x_b_PND = (buffer.tokens_BND[:1].detach().requires_grad_(True) for _ in range(2))
        tokens_PGT = torch.full((1, 1, 2), self.supervisor.eos_token_id, device=x_a_PND.device)
        with clock.part("replay_forward"):
            replayed = self._replay(x_a_PND, x_b_PND, tokens_PGT, torch.ones_like(tokens_PGT).bool())
        if self.settings.grpo.weight > 0:
            with clock.part("replay_backward"):
                torch.autograd.grad(replayed.logp_PGT.sum(), [x_a_PND, x_b_PND])

    def _replay(self, x_a_PND: Tensor, x_b_PND: Tensor, tokens_PGT: Tensor, mask_PGT: Tensor) -> Replay:
        settings = self.settings
        return replay(
            self.supervisor,
            x_a_PND,
            x_b_PND,
            tokens_PGT,
            mask_PGT,
            style=settings.supervisor.prompt,
            layer=settings.distillation.layer if settings.distillation.weight > 0 else None,
            temperature=settings.rollout.temperature
            if settings.grpo.policy_probability == "tempered"
            else None,
            shared_prefix=settings.grpo.replay == "shared-prefix",
            recompute=settings.train.replay_graph == "recompute",
        )

    def _objective(
        self, pairs: Sequence[AcceptedPair], replayed: Replay, mask_PGT: Tensor, reward_PG: Tensor
    ) -> tuple[Tensor, float]:
        grpo = self.settings.grpo
        if grpo.objective == "verdict-ce":
            same_P = torch.tensor([pair.group.same for pair in pairs], device=mask_PGT.device)
            found_PG = replayed.verdict_mask_PG
            # Column 0 is "yes" (same class), column 1 "no".
            target_PG = torch.where(same_P, 0, 1)[:, None].expand_as(found_PG)
            loss = verdict_cross_entropy_sum(replayed.verdict_logits_PG2[found_PG], target_PG[found_PG])
            return loss, float(found_PG.sum())
        total = replayed.logp_PGT.new_zeros(())
        for index in range(len(pairs)):
            advantage_G = group_advantages(
                reward_PG[index], std=grpo.advantage_std, epsilon=grpo.advantage_epsilon
            )
            total = total + grpo_loss_sum(replayed.logp_PGT[index], mask_PGT[index], advantage_G)
        return total, float(mask_PGT.sum())

    def _noise_as_large(
        self, pairs: Sequence[AcceptedPair], gradient_a: Tensor, gradient_b: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Gaussian noise of each pair's own gradient norm, seeded by run, step, micro-batch and pair: the
        random-gradient control.
        """
        noise_a, noise_b = torch.empty_like(gradient_a), torch.empty_like(gradient_b)
        for index, pair in enumerate(pairs):
            rng = np.random.default_rng(
                [self.settings.seed & 0xFFFFFFFF, step, pair.micro_batch, pair.group.pair_index]
            )
            noise = torch.from_numpy(rng.standard_normal((2, *gradient_a.shape[1:]), dtype=np.float32)).to(
                gradient_a
            )
            norm = (gradient_a[index].pow(2).sum() + gradient_b[index].pow(2).sum()).sqrt()
            noise *= norm / noise.norm()
            noise_a[index], noise_b[index] = noise[0], noise[1]
        return noise_a, noise_b

    def _distil(
        self,
        x_a_PND: Tensor,
        x_b_PND: Tensor,
        replayed: Replay,
        right_PG: Tensor,
        pooler: Pooler,
        distilled: ParameterBuffer,
        taught: Taught,
    ) -> None:
        """KL(teacher attention | pooler attention) over right rollouts: gradient to the pooler's query and
        key alone.
        """
        assert replayed.attention_a_PGN is not None and replayed.attention_b_PGN is not None
        described_PG = (replayed.attention_a_PGN.sum(-1) > 0) & (replayed.attention_b_PGN.sum(-1) > 0)
        taught_PG = right_PG & described_PG
        if not bool(taught_PG.any()):
            return
        pair_R = taught_PG.nonzero()[:, 0]
        beta_a_RN = pooler.attention(x_a_PND)[pair_R]
        beta_b_RN = pooler.attention(x_b_PND)[pair_R]
        loss = attention_kl_sum(replayed.attention_a_PGN[taught_PG], beta_a_RN) + attention_kl_sum(
            replayed.attention_b_PGN[taught_PG], beta_b_RN
        )
        distilled.add(torch.autograd.grad(loss, distilled.parameters, allow_unused=True))
        taught.distillation_sum += float(loss.detach())
        taught.rewarded += float(taught_PG.sum())

    def _compare_with_engine(
        self, pairs: Sequence[AcceptedPair], replayed: Replay, mask_PGT: Tensor, taught: Taught
    ) -> None:
        """Same embeddings, two engines: how far apart their log-probabilities are (raw ones only)."""
        if self.settings.grpo.policy_probability == "tempered":
            return
        engine_PGT = torch.zeros(mask_PGT.shape)
        for p, pair in enumerate(pairs):
            for g, completion in enumerate(pair.group.completions):
                engine_PGT[p, g, : len(completion.logprobs)] = torch.tensor(completion.logprobs)
        difference_PGT = (
            engine_PGT.to(mask_PGT.device) - replayed.logp_PGT.detach().float()
        ).abs() * mask_PGT
        taught.mismatch_sum += float(difference_PGT.sum())
        taught.mismatch_tokens += float(mask_PGT.sum())


def completion_tensors(groups: Sequence[Group], padding: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask (P, G, T) of groups of completions, padded on the right to the longest."""
    longest = max(len(completion.token_ids) for group in groups for completion in group.completions)
    size = len(groups[0].completions)
    tokens_PGT = torch.full((len(groups), size, longest), padding, dtype=torch.long)
    mask_PGT = torch.zeros((len(groups), size, longest), dtype=torch.bool)
    for p, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            tokens_PGT[p, g, : len(completion.token_ids)] = torch.tensor(completion.token_ids)
            mask_PGT[p, g, : len(completion.token_ids)] = True
    return tokens_PGT.to(device), mask_PGT.to(device)
