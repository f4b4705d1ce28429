"""What a family whose tower ends behind the projector must do, as plain functions: the tests of InternVL,
Idefics3 and Gemma 3 call them. The references are transformers' own whole model and its processor; all is
float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from saga_ray.data.decoding import centre_square
from saga_ray.models import towers
from saga_ray.models.greedy import greedy
from saga_ray.models.supervisors._projected import ProjectedSupervisor
from saga_ray.models.towers._projected import ProjectedTower
from saga_ray.prompts.template import Style, instruction
from tests.models.supervisors import whole_forward
from tests.models.supervisors.tiny_llava import exact_norms, pictures
from tests.models.supervisors.whole_forward import EXACT, Arguments, plain, prompt_ids


@dataclass
class Pair:
    """transformers' own whole model, and the supervisor of its checkpoint, both float64 throughout."""

    whole: Any
    supervisor: ProjectedSupervisor
    size: int
    """Of the pictures."""
    side: int
    """Tokens along it."""
    arguments: Arguments = plain

    def tower(self) -> Any:
        tower = self.supervisor.build_tower().double()
        exact_norms(tower)
        return tower

    @property
    def shown(self) -> torch.Tensor:
        """Two pictures."""
        return pictures(2, self.size)


def exactly(
    whole: Any, supervisor: ProjectedSupervisor, size: int, side: int, arguments: Arguments = plain
) -> Pair:
    """The pair, made float64."""
    for model in (whole, supervisor):
        exact_norms(model.double().requires_grad_(False))
    return Pair(whole, supervisor, size, side, arguments)


# The seam


def check_tokens(pair: Pair) -> None:
    """They are what the language model gets."""
    tower, images_BHWC, count = pair.tower(), pictures(3, pair.size), pair.side**2
    x_BND = tower(images_BHWC)
    given = pair.arguments(torch.zeros(1, 0, dtype=torch.long), tower.pixels(images_BHWC))["pixel_values"]
    expected_BND = pair.whole.get_image_features(given).pooler_output
    torch.testing.assert_close(x_BND, expected_BND, **EXACT)
    width = pair.supervisor.hidden_size
    assert x_BND.shape == (3, count, width)
    assert (tower.tokens_per_image, tower.token_width, tower.pooled_width) == (count, width, width)
    assert expected_BND.std(1).mean() > 0.05, "places are told apart"
    torch.testing.assert_close(tower(images_BHWC[1:2]), x_BND[1:2], **EXACT)
    assert torch.equal(pair.supervisor.image_embeddings(x_BND), x_BND)


def check_tower_is_fresh_and_stored(pair: Pair, folder: Path) -> None:
    """It comes trainable, each time anew, and is stored exactly; all of it takes part, so that no parameter
    is without gradient."""
    first, second = (pair.supervisor.build_tower() for _ in range(2))
    assert isinstance(first, ProjectedTower) and all(each.requires_grad for each in first.parameters())
    with torch.no_grad():
        next(first.projector.parameters()).add_(1)
    assert not torch.equal(first(pair.shown), second(pair.shown))
    towers.save(first, folder)
    assert torch.equal(towers.load(folder)(pair.shown), first(pair.shown))
    first.train()(pair.shown).square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in first.parameters())
    assert first.visual.config._attn_implementation == "sdpa"


def check_preparation(pair: Pair, processor: Any, size: int) -> None:
    """Of a square picture: resized by the data pipeline, normalised by the tower."""
    picture = Image.fromarray(pictures(1, size)[0].numpy())
    expected = torch.as_tensor(processor(picture, return_tensors="pt")["pixel_values"])
    cut = torch.from_numpy(centre_square(picture, pair.size).copy())[None]
    ours = pair.supervisor.build_tower().pixels(cut)  # type: ignore[operator]
    torch.testing.assert_close(ours, expected.reshape(ours.shape), rtol=0, atol=1e-6)


# The prompt


def check_token_ids(pair: Pair, style: Style, processor: Any, **options: Any) -> None:
    """They are those of the model's own processor."""
    supervisor = pair.supervisor
    asked = supervisor.chat._render(instruction(supervisor.words, style), 2, in_parts=True)
    images = [Image.fromarray(picture.numpy()) for picture in pair.shown]
    expected = list(processor(text=asked, images=images, **options)["input_ids"][0])
    assert prompt_ids(supervisor, style) == expected
    span_a, span_b = supervisor.image_spans(style)
    at = [place for place, token in enumerate(expected) if token == supervisor.chat.image_token_id]
    everything = range(len(expected))
    assert at == [*everything[span_a], *everything[span_b]] and len(at) == 2 * pair.side**2


def check_engine_prompts(pair: Pair) -> None:
    """Engines get the same prompt."""
    supervisor = pair.supervisor
    shape = 2, 3, pair.side**2, supervisor.hidden_size
    x_a_PND, x_b_PND = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected_PLH = supervisor.prompt_embeddings(x_a_PND.requires_grad_(True), x_b_PND, "generic")
    for row, prompt in enumerate(supervisor.engine_prompts(x_a_PND, x_b_PND, "generic")):
        assert prompt.embeds_LH is not None and not prompt.embeds_LH.requires_grad
        assert torch.equal(prompt.embeds_LH, expected_PLH[row])
        assert len(prompt.token_ids) == expected_PLH.shape[1]


# Answers


def check_replay(pair: Pair, shared_prefix: bool, layer: int = 1) -> None:
    """See `whole_forward`."""
    whole_forward.check_replay(
        pair.whole, pair.supervisor, pair.tower(), pair.shown, shared_prefix, pair.arguments, layer
    )


def check_greedy_answers(pair: Pair, longest: int = 12) -> None:
    """They are the whole model's."""
    tower = pair.tower()
    x_BND = tower(pair.shown).detach()
    ours_PT = greedy(pair.supervisor, x_BND[:1], x_BND[1:], "generic", longest)
    ids = prompt_ids(pair.supervisor, "generic")
    given = pair.arguments(torch.tensor([ids]), tower.pixels(pair.shown))
    whole_1S = pair.whole.generate(**given, do_sample=False, max_new_tokens=longest)
    theirs = whole_1S[0, len(ids) :].tolist()
    assert len(theirs) > 1 and ours_PT[0].tolist()[: len(theirs)] == theirs


def check_frozen(pair: Pair, layers: int) -> None:
    """No weight gets a gradient."""
    supervisor = pair.supervisor
    assert not any(each.requires_grad for each in supervisor.parameters())
    assert supervisor.layers == layers and not supervisor.training


def check_embedder(pair: Pair, ended: bool) -> None:
    """See `whole_forward`."""
    whole_forward.check_embedder(pair.whole, pair.supervisor, pair.shown, ended, pair.arguments)
