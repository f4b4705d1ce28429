"""The counted operations are those that torch counts while small models of the same architectures run: all of
them, to the last one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from saga_ray.models.replay import Replay
from saga_ray.plan import counts
from saga_ray.train.shards import listed_layers
from tests.plan.models import ANSWER, KINDS, PAIRS, Small, operations, small

IMAGES = 3


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(request.param, tmp_path_factory.mktemp(request.param) / "supervisor")


def test_parameters_are_exact(model: Small) -> None:
    sizes = model.sizes
    assert sizes.tower.parameters == sum(p.numel() for p in model.tower.parameters())
    assert sizes.language.parameters == sum(p.numel() for p in model.supervisor.language_model.parameters())
    layers = [sum(p.numel() for p in layer.parameters()) for layer in listed_layers(model.tower)]
    assert (sizes.tower.layer, sizes.tower.listed) == (max(layers), sum(layers))
    decoder: Any = model.supervisor.decoder
    assert {sum(p.numel() for p in layer.parameters()) for layer in decoder.layers} == {
        sizes.language.layer_parameters
    }
    if hasattr(model.supervisor, "projector"):
        assert sizes.projector.parameters == sum(p.numel() for p in model.supervisor.projector.parameters())
    assert sizes.tower.tokens == model.tower.tokens_per_image
    assert sizes.tower.token_width == model.tower.token_width
    assert sizes.tower.pooled_width == model.tower.pooled_width


def test_encode_and_the_towers_backward(model: Small) -> None:
    pictures = model.pictures(IMAGES)
    out: list[torch.Tensor] = []
    with torch.enable_grad():
        encoded = operations(lambda: out.append(model.tower(pictures)))
    through = operations(lambda: out[0].backward(torch.ones_like(out[0])))
    assert encoded == counts.encode(model.sizes.tower, IMAGES)
    assert through == counts.tower_backward(model.sizes.tower, IMAGES)


def test_prefill_and_a_token(model: Small) -> None:
    supervisor, sizes = model.supervisor, model.sizes
    x_PND, style = model.tokens(PAIRS), "attributes"
    cache = DynamicCache(config=supervisor.language_model.config)
    hidden: list[torch.Tensor] = []
    length: list[int] = []

    @torch.no_grad()
    def prefill() -> None:
        prompt = supervisor.prompt_embeddings(x_PND, x_PND, style)
        length.append(prompt.shape[1])
        positions = supervisor.positions(supervisor.image_spans(style), length[0] + 1)[..., None, :]
        read = supervisor.hidden_states(prompt, positions[..., : length[0]], past_key_values=cache)
        supervisor.logits(read[:, -1])
        hidden.append(positions)

    counted = operations(prefill)
    exact = counts.prefill(sizes.language, sizes.projector, 2 * sizes.tower.tokens, length[0])
    assert counted == PAIRS * exact

    @torch.no_grad()
    def token() -> None:
        word = supervisor.answer_embeddings(torch.zeros(PAIRS, 1, dtype=torch.long))
        read = supervisor.hidden_states(word, hidden[0][..., length[0] :], past_key_values=cache)
        supervisor.logits(read[:, -1])

    assert operations(token) == PAIRS * counts.decode_token(sizes.language, length[0] + 1)


def test_a_completion_is_its_tokens(model: Small) -> None:
    language = model.sizes.language
    steps = [counts.decode_token(language, 40 + at) for at in range(1, ANSWER)]
    assert counts.decode(language, 40, ANSWER) == sum(steps)


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("teacher", [True, False])
@pytest.mark.parametrize("recompute", [True, False])
def test_replay(model: Small, shared_prefix: bool, teacher: bool, recompute: bool) -> None:
    sizes, row = model.sizes, model.row(shared_prefix)
    made: list[Replay] = []
    layer = 1 if teacher else None
    forward = operations(lambda: made.append(model.replayed(row, layer, recompute=recompute)))
    backward = operations(lambda: made[0].logp_PGT.sum().backward())
    given: tuple[Any, ...] = (sizes.language, sizes.projector, 2 * sizes.tower.tokens, row)
    verdicts = 2 * int(made[0].verdict_mask_PG.sum()) * sizes.language.head_weights
    assert forward == PAIRS * counts.replay_forward(*given, teacher=teacher) + verdicts
    assert backward == PAIRS * counts.replay_backward(*given, recompute=recompute)
