"""One step of a stage: a batch's prompts are embedded, compared over all workers, and leave their gradients.

Legend: b own examples, B those of all workers, N patch tokens, D token width, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from saga_ray.composed.embedder import Embedder, truncated
from saga_ray.composed.examples import Captioned, Triplet
from saga_ray.composed.gradient_cache import cached_backward
from saga_ray.composed.plan import StageBatch
from saga_ray.composed.token_store import TokenStore
from saga_ray.config.composed import AlignSettings, ComposedSettings, InstructSettings
from saga_ray.losses.contrastive import alignment, instruction
from saga_ray.train.step import NonFiniteLoss
from saga_ray.train.world import World

TOTAL, GRADIENT = "loss/total", "gradient/norm"


@dataclass(frozen=True)
class Prompts:
    """What is embedded in one go: prompts of a kind, a text or a picture or both for each."""

    kind: Literal["image", "text", "composed"]
    texts: Sequence[str] = ()
    rows: Sequence[int] = ()
    """Of their pictures."""

    def __len__(self) -> int:
        return max(len(self.texts), len(self.rows))

    def cut(self, chunk: int) -> list[Prompts]:
        """The same in pieces of at most so many."""
        return [
            Prompts(self.kind, self.texts[start : start + chunk], self.rows[start : start + chunk])
            for start in range(0, len(self), chunk)
        ]


Terms = Callable[[Sequence[Tensor]], dict[str, tuple[float, Tensor]]]
"""From the embeddings z_BE of each of the prompts to the losses: name -> weight and value."""


class StageStep:
    """Leaves the gradient of the whole batch, the same on all workers, in ``.grad`` of what trains."""

    def __init__(self, embedder: Embedder, settings: ComposedSettings, world: World) -> None:
        self.embedder, self.world = embedder, world
        self.trained = list(embedder.trained())
        self.sizes = [embedder.width, *settings.embedder.nested_sizes]
        self.store = TokenStore(embedder, settings.data.kept_tokens_gib, settings.evaluation.batch_size)

    def run(self, batch: StageBatch[Any], stage: AlignSettings | InstructSettings) -> dict[str, float]:
        """Embed, compare, and go back; returns the losses, unweighted, their weighted total and the norm of
        the gradient, which is cut to `stage.clip`. Raises NonFiniteLoss.
        """
        tokens = self.store.tokens(batch.rows, batch.images_BHWC)
        if isinstance(stage, AlignSettings):
            prompts, terms = align_terms(batch, stage, self.embedder.device)
        else:
            prompts, terms = instruct_terms(batch, stage, self.embedder.device)
        losses: dict[str, float] = {}

        def loss_of(z_sE: Tensor) -> Tensor:
            # only one's own share of each has a gradient; see World.gather
            z = [self.world.gather(part_bE) for part_bE in torch.split(z_sE, [len(each) for each in prompts])]
            total = z_sE.new_zeros(())
            for size in self.sizes:
                for name, (weight, value) in terms([truncated(part_BE, size) for part_BE in z]).items():
                    total = total + weight * value / len(self.sizes)
                    if size == self.embedder.width:
                        losses[f"loss/{name}"] = value.item()
            return total

        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)
        if not stage.chunk:
            total = loss_of(torch.cat([self._embed(each, tokens) for each in prompts]))
            torch.autograd.backward(total)
        else:
            chunks = [piece for each in prompts for piece in each.cut(stage.chunk)]
            total = cached_backward(lambda chunk: self._embed(chunk, tokens), chunks, loss_of)
        self.world.sum_([parameter.grad for parameter in self.trained if parameter.grad is not None])
        losses[TOTAL] = total.item()
        losses[GRADIENT] = torch.nn.utils.clip_grad_norm_(self.trained, stage.clip).item()
        if not torch.isfinite(torch.tensor([losses[TOTAL], losses[GRADIENT]])).all():
            raise NonFiniteLoss(f"loss {losses[TOTAL]} with a gradient of norm {losses[GRADIENT]}")
        return losses

    def _embed(self, prompts: Prompts, tokens: Mapping[int, Tensor]) -> Tensor:
        if prompts.kind == "text":
            return self.embedder.texts(prompts.texts)
        x_bND = torch.stack([tokens[row] for row in prompts.rows])
        if prompts.kind == "image":
            return self.embedder.images(x_bND)
        return self.embedder.composed(x_bND, prompts.texts)


def align_terms(
    batch: StageBatch[Captioned], stage: AlignSettings, device: torch.device
) -> tuple[list[Prompts], Terms]:
    """Stage 1: an image finds its caption; an equal caption of another image is no negative."""
    prompts = [
        Prompts("image", rows=[each.picture for each in batch.own]),
        Prompts("text", [each.caption for each in batch.own]),
    ]
    captions = [each.caption for each in batch.everything]
    same_BB = equal(captions, captions, device)

    def terms(z: Sequence[Tensor]) -> dict[str, tuple[float, Tensor]]:
        value = alignment(z[0], z[1], stage.temperature, two_sided=stage.two_sided, same_BB=same_BB)
        return {"alignment": (1.0, value)}

    return prompts, terms


def instruct_terms(
    batch: StageBatch[Triplet], stage: InstructSettings, device: torch.device
) -> tuple[list[Prompts], Terms]:
    """Stage 2: image + instruction finds the modified caption among all modified and all original captions,
    and the target picture among all targets and all references.
    """
    own, all_ = batch.own, batch.everything
    prompts = [Prompts("composed", [each.instruction for each in own], [each.reference for each in own])]
    asked = [each.asks or f"line {place}" for place, each in enumerate(all_)]
    shown = [each.shows for each in all_]
    captions = stage.caption_weight > 0
    if captions:
        prompts += [
            Prompts("text", [each.modified for each in own]),
            Prompts("text", [each.caption for each in own]),
        ]
    if stage.image_weight > 0:
        prompts += [
            Prompts("image", rows=batch.targets),
            Prompts("image", rows=[each.reference for each in own]),
        ]
    modified = [each.modified for each in all_]
    same_text = equal(modified, modified, device), equal(modified, [each.caption for each in all_], device)
    same_image = equal(asked, asked, device), equal(asked, shown, device)

    def terms(z: Sequence[Tensor]) -> dict[str, tuple[float, Tensor]]:
        found, rest = {}, list(z[1:])
        if captions:
            target_BE, original_BE, *rest = rest
            value = instruction(z[0], target_BE, original_BE, stage.temperature, *same_text)
            found["captions"] = (stage.caption_weight, value)
        if rest:
            target_BE, original_BE = rest
            value = instruction(z[0], target_BE, original_BE, stage.temperature, *same_image)
            found["images"] = (stage.image_weight, value)
        return found

    return prompts, terms


def equal(a: Sequence[str], b: Sequence[str], device: torch.device) -> Tensor:
    """Where names are equal, len(a) x len(b)."""
    number = {name: place for place, name in enumerate(dict.fromkeys([*a, *b]))}
    a_A, b_B = (torch.tensor([number[name] for name in names], device=device) for names in (a, b))
    return a_A[:, None] == b_B
