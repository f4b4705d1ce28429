"""Low-rank adapters on towers: nothing changes at first, they alone train, and what is stored needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from saga_ray.config.settings import EncoderSettings, OptimizerSettings
from saga_ray.losses import metric
from saga_ray.models import adapters
from saga_ray.models.encoder import Encoder
from saga_ray.train.checkpoint import Position, checkpoint_folder, restore, training_state
from saga_ray.train.schedule import build_optimizer
from tests.plan.models import Small, small

KINDS = ("pocket", "qwen3_vl")
"""One of convolutions, one of linear layers."""
RANK = 2


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Small:
    return small(request.param, tmp_path_factory.mktemp(request.param) / "supervisor")


def start(model: Small, seed: int = 1) -> Encoder:
    encoder = Encoder.start_of(model.supervisor, EncoderSettings(embedding_size=16))
    adapters.adapt(encoder.tower, rank=RANK, alpha=4, seed=seed)
    return encoder


def learn(encoder: Encoder, optimizer: torch.optim.Optimizer, pictures: Tensor, steps: int) -> None:
    target = torch.linspace(-1, 1, 16)
    for _ in range(steps):
        optimizer.zero_grad()
        # at all tokens too: the pooler does not read DeepStack's features
        loss = (encoder(pictures) - target).square().sum() + encoder.tokens(pictures).square().mean()
        loss.backward()
        optimizer.step()


def test_they_begin_as_nothing_and_alone_train(model: Small) -> None:
    pictures = model.pictures(3)
    whole = Encoder.start_of(model.supervisor, EncoderSettings(embedding_size=16))
    encoder = start(model)
    torch.testing.assert_close(encoder(pictures), whole(pictures), rtol=1e-5, atol=1e-6)
    before = {name: value.clone() for name, value in encoder.tower.state_dict().items()}

    loss = metric.build("infonce", classes=2, width=16, seed=1, options={})
    learn(encoder, build_optimizer(encoder, loss, OptimizerSettings(tower_rate=1e-2)), pictures, 2)
    changed = {name for name, value in encoder.tower.state_dict().items() if not value.equal(before[name])}
    assert changed == set(adapters.adapters_of(encoder.tower)), "all adapters changed, and nothing else"
    trained = sum(p.numel() for p in encoder.tower.parameters() if p.requires_grad)
    assert trained < sum(p.numel() for p in whole.tower.parameters()) / 2


def test_a_stored_encoder_is_a_plain_one_that_computes_the_same(model: Small, tmp_path: Path) -> None:
    pictures, encoder = model.pictures(3), start(model)
    learn(encoder, torch.optim.SGD(encoder.parameters(), lr=0.1), pictures, 2)
    encoder.save(tmp_path / "encoder")
    stored = Encoder.load(tmp_path / "encoder")
    assert not adapters.adapters_of(stored)
    torch.testing.assert_close(stored(pictures), encoder(pictures), rtol=1e-4, atol=1e-5)
    whole = Encoder.start_of(model.supervisor, EncoderSettings(embedding_size=16))
    assert (stored(pictures) - whole(pictures)).abs().max() > 1e-3, "something was learnt"


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(model: Small, tmp_path: Path) -> None:
    pictures = model.pictures(3)
    loss = metric.build("proxy_anchor", classes=2, width=16, seed=1, options={})
    through, stopped, resumed = start(model), start(model), start(model)
    optimizers = [build_optimizer(each, loss, OptimizerSettings()) for each in (through, stopped, resumed)]
    learn(through, optimizers[0], pictures, 4)
    learn(stopped, optimizers[1], pictures, 2)
    state = training_state(stopped, loss, optimizers[1])
    with checkpoint_folder(tmp_path, stopped, state, Position(2, 2), []) as folder:
        assert restore(folder, resumed, loss, optimizers[2]) == Position(2, 2)
    learn(resumed, optimizers[2], pictures, 2)
    for name, value in through.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-6, atol=1e-7)


def test_workers_begin_with_the_same_adapters(model: Small) -> None:
    one, other, third = (adapters.adapters_of(start(model, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert any(not torch.equal(value, third[name]) for name, value in one.items())


def test_without_adapters_the_state_is_the_modules_own(model: Small) -> None:
    encoder = Encoder.start_of(model.supervisor, EncoderSettings())
    assert adapters.adapters_of(encoder) == {}
    state = encoder.state_dict()
    found = adapters.merged(encoder)
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
