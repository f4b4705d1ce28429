"""The training loop of a supervisor: cross entropy on true answers about pairs of pictures, tower frozen.

One step: pairs, half same and half different (half of these hard); their tokens from the bank, some second
pictures mixed with one that turns the verdict round, all disturbed; the true answer as target. A pocket
supervisor's context is its own sampled answer in most steps, so the verdict cannot lean on a description that
is always right. Every few steps the generic style is trained instead.
Consumes the bank; produces weights; waits for nothing.

Legend: P pairs, N patch tokens, D token width, T answer length, L prompt length, H width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.prompts.template import Style
from saga_ray.train.alignment.answers import AnswerKey, own_context
from saga_ray.train.alignment.bank import TokenBank
from saga_ray.train.alignment.pairs import Pairs, PairSampler

LIKENESS_TEMPERATURE = 0.1


@dataclass(frozen=True)
class Check:
    """A look at the validation classes."""

    step: int
    loss: float
    """Mean training loss since the look before."""
    score: float
    """What the best weights are chosen by: the mean verdict accuracy on random and on hard pairs."""


Objective = Callable[[Pairs, Tensor, Tensor, Style, Tensor, bool, torch.Generator], Tensor]
"""The loss of a step's pairs: their tokens x_a_PND and x_b_PND, the style asked for, purity_P (the share of
the second picture that is left in its own tokens), whether the context is to be the model's own, and what
that is sampled with."""


def fit(
    supervisor: Supervisor,
    bank: TokenBank,
    sampler: PairSampler,
    objective: Objective,
    settings: AlignmentSettings,
    score: Callable[[], float] | None,
    say: Callable[[str], None],
) -> list[Check]:
    """Train what is not frozen of `supervisor` in place and leave the weights in it that `score` liked best
    (none: the last).

    Raises:
        FloatingPointError: the loss is not finite.
    """
    rng = np.random.default_rng([settings.seed, 1])
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = _optimizer(supervisor, settings)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trained = {name: each for name, each in supervisor.named_parameters() if each.requires_grad}
    checks: list[Check] = []
    best: dict[str, Tensor] = {}
    losses: list[float] = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * _schedule(step, settings)
        pairs = _draw(sampler, settings.pairs_per_step, rng)
        x_a_PND, x_b_PND, purity_P = _tokens(bank, pairs, sampler, settings, rng, generator)
        generic = step % settings.generic_every == settings.generic_every - 1
        own = rng.random() < settings.own_answers
        style: Style = "generic" if generic else "attributes"
        loss = objective(pairs, x_a_PND, x_b_PND, style, purity_P, own, generator)
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(f"the loss of step {step} is {float(loss.detach())}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        done = step + 1
        if done % settings.check_every == 0 or done == settings.steps:
            checks.append(Check(done, float(np.mean(losses)), score() if score else math.nan))
            losses.clear()
            loss_now, verdicts = checks[-1].loss, checks[-1].score
            scored = f", validation verdicts {verdicts:.3f}" if score else ""
            say(f"step {done}/{settings.steps}: loss {loss_now:.3f}{scored}")
            if chosen(checks) is checks[-1]:
                best = {name: each.detach().clone() for name, each in trained.items()}
    if best:
        supervisor.load_state_dict(best, strict=False)
    return checks


def chosen(checks: Sequence[Check]) -> Check:
    """The look whose weights are kept: the last of the best, or the last where there was nothing to score."""
    return max(checks, key=lambda check: (-math.inf if math.isnan(check.score) else check.score, check.step))


def pocket_objective(supervisor: Pocket, key: AnswerKey, settings: AlignmentSettings) -> Objective:
    """Cross entropy of the true answers, in bfloat16 where asked for, and likeness of the same pairs."""

    def objective(
        pairs: Pairs,
        x_a_PND: Tensor,
        x_b_PND: Tensor,
        style: Style,
        purity_P: Tensor,
        own: bool,
        generator: torch.Generator,
    ) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            loss = alignment_loss(
                supervisor, key, pairs, x_a_PND, x_b_PND, style, purity_P,
                own=own, settings=settings, generator=generator,
            )  # fmt: skip
            return loss + settings.likeness_weight * likeness_loss(supervisor, pairs, x_a_PND, x_b_PND)

    return objective


def alignment_loss(
    supervisor: Pocket,
    key: AnswerKey,
    pairs: Pairs,
    x_a_PND: Tensor,
    x_b_PND: Tensor,
    style: str,
    purity_P: Tensor,
    *,
    own: bool,
    settings: AlignmentSettings,
    generator: torch.Generator,
) -> Tensor:
    """Weighted mean cross entropy of the true answers; `own`: in the context of the model's own ones.

    Where the second picture was mixed with one that turns the verdict round, the verdict's target is
    `purity_P` of the true one and the rest of the other (mixup, Zhang et al. 2018, arXiv 1710.09412).
    """
    slots = key.slots(style)
    target_PT = key.answers(pairs, style)
    prompt_PLH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, style)
    context_PT = target_PT[:, :-1]
    if own:
        sampled = own_context(supervisor, prompt_PLH, slots, generator)
        context_PT = torch.cat([sampled, target_PT[:, sampled.shape[1] : -1]], dim=1)
    words = supervisor.language_model.get_input_embeddings()
    embeddings = torch.cat([prompt_PLH, words(context_PT).to(prompt_PLH.dtype)], dim=1)
    hidden = supervisor.language_model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    logits_PTV = supervisor.language_model.lm_head(hidden[:, prompt_PLH.shape[1] - 1 :])
    log_p_PTV = logits_PTV.float().log_softmax(-1)
    loss_PT = -log_p_PTV.gather(-1, target_PT[..., None])[..., 0]
    weight_T = torch.ones(len(slots))
    weight_T[-2] = settings.verdict_weight
    loss_P = (loss_PT * weight_T).sum(1)
    yes, no = supervisor.verdict_token_ids
    turned_P1 = torch.where(target_PT[:, -2] == yes, no, yes)[:, None]
    turned_P = -log_p_PTV[:, -2].gather(-1, turned_P1)[:, 0]
    loss_P = loss_P + settings.verdict_weight * (1 - purity_P) * (turned_P - loss_PT[:, -2])
    loss: Tensor = loss_P.sum() / (len(pairs) * weight_T.sum())
    return loss


def likeness_loss(supervisor: Pocket, pairs: Pairs, x_a_PND: Tensor, x_b_PND: Tensor) -> Tensor:
    """InfoNCE between the projected pictures of the same pairs: the projector keeps what tells classes
    apart."""
    same_P = torch.from_numpy(pairs.same)
    projector = supervisor.projector
    a_PH, b_PH = (
        functional.normalize(projector.norm(projector.linear(x_PND[same_P])).float().mean(1), dim=-1)
        for x_PND in (x_a_PND, x_b_PND)
    )
    logits_PP = a_PH @ b_PH.T / LIKENESS_TEMPERATURE
    target_P = torch.arange(len(logits_PP))
    forth, back = (functional.cross_entropy(logits, target_P) for logits in (logits_PP, logits_PP.T))
    return (forth + back) / 2


def _draw(sampler: PairSampler, count: int, rng: np.random.Generator) -> Pairs:
    quarter = count // 4
    return sampler.same(2 * quarter, rng) + sampler.different(quarter, rng) + sampler.hard(quarter, rng)


def _tokens(
    bank: TokenBank,
    pairs: Pairs,
    sampler: PairSampler,
    settings: AlignmentSettings,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Both pictures' tokens in random views, the second ones mixed and all disturbed; and purity_P, the share
    of the second picture that is left in its own tokens.

    Factor and drop of a channel are the same for both pictures of a pair: what is equal stays equal, and
    single channels cannot be learned by heart.
    """
    mixed_P = rng.random(len(pairs)) < settings.mixing
    purity_P = torch.from_numpy(np.where(mixed_P, rng.uniform(0.5, 1.0, len(pairs)), 1.0)).float()
    opposites = sampler.opposites(pairs, rng)
    x_a_PND, x_b_PND, x_opposite_PND = (
        bank.take(rows, rng.integers(0, bank.views, len(rows))) for rows in (pairs.a, pairs.b, opposites)
    )
    x_b_PND = torch.lerp(x_opposite_PND, x_b_PND, purity_P[:, None, None])
    count, _, width = x_a_PND.shape
    factor_P1D = (1 + settings.channel_noise * torch.randn(count, 1, width, generator=generator)).clamp(min=0)
    factor_P1D *= torch.rand(count, 1, width, generator=generator) >= settings.channel_drop
    spread = float(x_a_PND.std())
    disturbed = []
    for x_PND in (x_a_PND, x_b_PND):
        noise_PND = torch.randn(x_PND.shape, generator=generator) * (settings.token_noise * spread)
        disturbed.append((x_PND + noise_PND) * factor_P1D)
    return disturbed[0], disturbed[1], purity_P


def _optimizer(supervisor: Supervisor, settings: AlignmentSettings) -> torch.optim.AdamW:
    """AdamW whose decay spares vectors and embeddings."""
    words: Any = supervisor.language_model.get_input_embeddings().weight
    trained = [parameter for parameter in supervisor.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim == 2 and parameter is not words]
    others = [parameter for parameter in trained if parameter.ndim != 2 or parameter is words]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
    )


def _schedule(step: int, settings: AlignmentSettings) -> float:
    warmup = max(1, round(settings.warmup_share * settings.steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, settings.steps - warmup)))
