"""The embedder on the shipped supervisor: positions, padding, adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.prompts import composed as prompts

TEXTS = ["the same one in red", "another lamp, but taller and for outdoors", "make it green"]


@pytest.fixture
def embedder() -> Embedder:
    return Embedder(supervisors.load("furniture-pocket"))


@pytest.fixture(scope="module")
def x_BND() -> Tensor:
    pictures = torch.randint(0, 256, (3, 112, 112, 3), generator=torch.Generator().manual_seed(0))
    return Embedder(supervisors.load("furniture-pocket")).tokens(pictures.to(torch.uint8))


def test_a_query_is_the_plain_model_s_last_hidden_state(embedder: Embedder, x_BND: Tensor) -> None:
    """Against transformers' own forward of one unpadded sequence."""
    supervisor = embedder.supervisor
    model, tokenizer = supervisor.language_model, supervisor.tokenizer
    with torch.no_grad():
        z_BE = embedder.composed(x_BND, TEXTS)
        for row, instruction in enumerate(TEXTS):
            words = model.get_input_embeddings()
            first = words(torch.tensor([tokenizer.convert_tokens_to_ids("<first>")]))
            asked = tokenizer(prompts.composed(instruction), add_special_tokens=False, return_tensors="pt")
            text = words(asked["input_ids"][0])
            whole = torch.cat([first, supervisor.projector(x_BND[row : row + 1], 0)[0], text])[None]
            hidden = model(inputs_embeds=whole, output_hidden_states=True).hidden_states[-1][0, -1]
            assert torch.allclose(z_BE[row], hidden / hidden.norm(), atol=2e-6)


def test_what_is_beside_it_in_the_batch_does_not_matter(embedder: Embedder, x_BND: Tensor) -> None:
    with torch.no_grad():
        together = embedder.texts(TEXTS)
        alone = torch.cat([embedder.texts([text]) for text in TEXTS])
    assert torch.allclose(together, alone, atol=2e-6)
    assert not torch.allclose(together[0], together[1], atol=0.01)


def test_image_and_instruction_both_matter(embedder: Embedder, x_BND: Tensor) -> None:
    with torch.no_grad():
        same_text = embedder.composed(x_BND, [TEXTS[0]] * 3)
        same_image = embedder.composed(x_BND[:1].expand(3, -1, -1), TEXTS)
    assert (same_text[0] - same_text[1]).norm() > 1e-3
    assert (same_image[0] - same_image[1]).norm() > 1e-3


def test_no_word_of_the_prompts_is_unknown(embedder: Embedder) -> None:
    unknown = embedder.supervisor.tokenizer.unk_token_id
    for text in (prompts.image(), prompts.text("a red lamp"), prompts.composed("make it red")):
        assert unknown not in embedder.supervisor.embedding_layout(text, image=False)[1]


def test_a_shorter_embedding_is_the_beginning_of_the_longer(embedder: Embedder, x_BND: Tensor) -> None:
    with torch.no_grad():
        whole = embedder.images(x_BND)
        embedder.size = 64
        short = embedder.images(x_BND)
    cut = whole[:, :64]
    assert torch.allclose(short, cut / cut.norm(dim=-1, keepdim=True), atol=1e-6)


def test_an_end_token_moves_the_position_that_is_read(x_BND: Tensor) -> None:
    supervisor = supervisors.load("furniture-pocket")
    with torch.no_grad():
        with_end, without = Embedder(supervisor, end=True).texts(TEXTS), Embedder(supervisor).texts(TEXTS)
    assert (with_end - without).norm() > 1e-3


def test_adapters_begin_without_effect_train_and_merge(embedder: Embedder, x_BND: Tensor) -> None:
    names = set(embedder.state_dict())
    assert not list(embedder.trained())
    with torch.no_grad():
        before = embedder.composed(x_BND, TEXTS)
    embedder.adapt(rank=4, alpha=8, dropout=0.0, seed=1)
    assert torch.allclose(embedder.composed(x_BND, TEXTS), before, atol=1e-6)
    optimizer = torch.optim.SGD(embedder.trained(), lr=0.1)
    for _ in range(2):  # the first step moves the adapters' second maps alone
        embedder.composed(x_BND, TEXTS)[:, 0].sum().backward()
        optimizer.step()
    with torch.no_grad():
        adapted = embedder.composed(x_BND, TEXTS)
        assert (adapted - before).norm() > 1e-3
        embedder.merge()
        assert torch.allclose(embedder.composed(x_BND, TEXTS), adapted, atol=1e-5)
    assert set(embedder.state_dict()) == names and not list(embedder.trained())


def test_the_tower_and_the_adapted_weights_stay_as_they_are(embedder: Embedder, x_BND: Tensor) -> None:
    embedder.adapt(rank=4, alpha=8, dropout=0.0, seed=1)
    trained = {id(parameter) for parameter in embedder.trained()}
    assert not any(id(parameter) in trained for parameter in embedder.tower.parameters())
    names = {name for name, each in embedder.named_parameters() if id(each) in trained}
    assert all("lora_" in name or "projector" in name or "embed_tokens" in name for name in names)


def test_dropout_is_for_training_alone(embedder: Embedder, x_BND: Tensor) -> None:
    embedder.adapt(rank=4, alpha=8, dropout=0.5, seed=1)
    with torch.no_grad():
        for parameter in embedder.trained():
            parameter.add_(0.01)
        embedder.train()
        assert not torch.equal(embedder.images(x_BND), embedder.images(x_BND))
        embedder.eval()
        assert torch.equal(embedder.images(x_BND), embedder.images(x_BND))


def test_a_saved_embedder_embeds_alike(x_BND: Tensor, tmp_path: Path) -> None:
    made = Embedder(supervisors.load("furniture-pocket"), width=48, end=True, seed=3)
    made.size = 32
    made.save(tmp_path / "model")
    read = Embedder.load(tmp_path / "model")
    with torch.no_grad():
        z_BE, again_BE = made.composed(x_BND, TEXTS), read.composed(x_BND, TEXTS)
    assert z_BE.shape == (3, 32)
    assert torch.allclose(z_BE, again_BE, atol=1e-3)  # weights are stored as float16
    assert torch.allclose(again_BE.norm(dim=-1), torch.ones(3))


def test_an_embedder_is_read_in_the_precision_in_which_it_was_trained(tmp_path: Path) -> None:
    Embedder(supervisors.load("furniture-pocket", "bfloat16")).save(tmp_path / "model")
    read = Embedder.load(tmp_path / "model")
    assert read.supervisor.language_model.dtype == torch.bfloat16
    assert next(read.tower.parameters()).dtype == torch.float32


def test_a_model_that_has_diverged_is_not_stored(embedder: Embedder, tmp_path: Path) -> None:
    with torch.no_grad():
        next(embedder.supervisor.language_model.parameters()).mul_(1e9)
    with pytest.raises(UserError, match="its training has diverged"):
        embedder.save(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.safetensors"))


def test_an_instruction_beyond_the_context_is_refused(embedder: Embedder, x_BND: Tensor) -> None:
    with pytest.raises(UserError, match=r"reads 256 at most: shorten"):
        embedder.composed(x_BND[:1], ["and in red " * 200])


def test_a_folder_without_an_embedder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"embedder\.json is missing"):
        Embedder.load(tmp_path)


def test_prompts_may_name_what_is_shown(embedder: Embedder, x_BND: Tensor) -> None:
    things = ["lamp", "", "chair"]
    with torch.no_grad():
        named, plain = embedder.images(x_BND, things), embedder.images(x_BND)
        asked, unasked = embedder.composed(x_BND, TEXTS, things), embedder.composed(x_BND, TEXTS)
    for one, other in ((named, plain), (asked, unasked)):
        differs = (one - other).norm(dim=-1) > 1e-3
        assert differs.tolist() == [True, False, True]
