"""`saga supervisor train` with the tower of a vision model's checkpoint: before a pocket language model, and
before a frozen one, whose projector learns."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saga_ray.cli.command_line import main
from saga_ray.config.alignment import AlignmentSettings
from saga_ray.models import supervisors
from saga_ray.models.replay import replay
from saga_ray.models.supervisors.llava import Llava
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.models.towers.external import ExternalTower
from saga_ray.models.towers.timm import TimmTower
from saga_ray.train.alignment.pairs import Pairs
from saga_ray.train.alignment.written import WrittenKey, written_objective
from tests.models import tiny_timm
from tests.models.supervisors.tiny_llava import language_model
from tests.models.tiny_external import checkpoint, pictures

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "grey": (120, 120, 120)}
FEW = ["steps=2", "pairs_per_step=4", "check_pairs=8", "views=1"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain pictures: a class a colour, two of it; `warm` is an attribute too."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    with (folder / "colours.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "label", "split", "colour", "warm"])
        for colour, value in COLOURS.items():
            for number in range(2):
                pixels = np.clip(np.array(value) + rng.integers(-20, 21, (42, 42, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{colour}{number}.png")
                rows.writerow([f"{colour}{number}.png", colour, "train", colour, str(colour == "red")])
    return folder / "colours.csv"


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    checkpoint(folder)
    return folder


def train(table: Path, output: Path, *settings: str) -> int:
    changes = [argument for setting in (*FEW, *settings) for argument in ("--set", setting)]
    arguments = ["--data", str(table), "--attributes", "colour,warm", "--output", str(output)]
    return main(["supervisor", "train", *arguments, *changes])


def check_tower(supervisor: supervisors.Supervisor, folder: Path) -> torch.Tensor:
    """It is the checkpoint's to the last bit; returns tokens of two pictures."""
    tower = supervisor.build_tower()
    assert isinstance(tower, ExternalTower) and (tower.image_size, tower.tokens_per_image) == (42, 9)
    model = checkpoint(folder / "again")
    for name, value in tower.visual.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    with torch.no_grad():
        return tower(pictures(2, 42))


def check_replay(supervisor: supervisors.Supervisor, x_2ND: torch.Tensor, answer: torch.Tensor) -> None:
    """Its log-probabilities are those of one whole forward of the language model over the embedded prompt and
    answer, and so is the gradient at the tokens."""
    found = []
    for shared_prefix in (True, False):
        x_a_PND, x_b_PND = (x_ND[None].clone().requires_grad_(True) for x_ND in x_2ND)
        logp_T = replay(
            supervisor, x_a_PND, x_b_PND, answer[None, None], torch.ones(1, 1, len(answer)).bool(),
            style="attributes", layer=None, temperature=None, shared_prefix=shared_prefix,
        ).logp_PGT[0, 0]  # fmt: skip
        found.append((logp_T, *torch.autograd.grad(logp_T.sum(), [x_a_PND, x_b_PND])))
    x_a_PND, x_b_PND = (x_ND[None].clone().requires_grad_(True) for x_ND in x_2ND)
    prompt_1LH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, "attributes")
    words_1TH = supervisor.language_model.get_input_embeddings()(answer[None])
    output = supervisor.language_model(inputs_embeds=torch.cat([prompt_1LH, words_1TH], dim=1))
    logits_TV = output.logits[0, prompt_1LH.shape[1] - 1 : -1]
    logp_T = logits_TV.log_softmax(-1)[range(len(answer)), answer]
    expected = (logp_T, *torch.autograd.grad(logp_T.sum(), [x_a_PND, x_b_PND]))
    for ours in found:
        for mine, theirs in zip(ours, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_pocket_language_model_learns_on_the_tokens_of_a_checkpoint(
    table: Path, dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("width=32", "layers=2", "heads=2", "hidden=32")
    assert train(table, tmp_path / "made", f"tower={dino}", *small) == 0
    assert f"supervisor   {tmp_path / 'made'}" in capsys.readouterr().out
    supervisor = supervisors.load(tmp_path / "made")
    assert isinstance(supervisor, Pocket) and supervisor.tokens_per_image == 9
    x_2ND = check_tower(supervisor, tmp_path)
    same = supervisor.scheme.answer(*[{"colour": "red", "warm": "True"}] * 2, True)
    check_replay(supervisor, x_2ND, torch.tensor([supervisor.token_id(token) for token in same]))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_tower_of_timm_teaches_as_well(
    frozen: bool, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga_ray.train.alignment.answers.most_tokens", lambda supervisor, style: 6)
    model = tiny_timm.checkpoint(tmp_path / "dinov3", "vit_small_patch16_dinov3")
    settings = ["width=32", "layers=2", "heads=2", "hidden=32"]
    if frozen:
        language_model(tmp_path / "phi")
        settings = [f"language_model={tmp_path / 'phi'}"]
    output = tmp_path / "made"
    assert train(table, output, f"tower={tmp_path / 'dinov3'}", "image_size=48", *settings) == 0
    supervisor = supervisors.load(output)
    tower = supervisor.build_tower()
    assert isinstance(tower, TimmTower) and (tower.image_size, tower.tokens_per_image) == (48, 9)
    for name, value in tower.visual.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    with torch.no_grad():
        x_2ND = tower(pictures(2, 48))
    check_replay(supervisor, x_2ND, torch.arange(20, 26))


def test_a_frozen_language_model_gets_a_projector_and_nothing_else_changes(
    table: Path, dino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # random weights write no JSON and seldom end, so the first words of an answer are enough to score
    monkeypatch.setattr("saga_ray.train.alignment.answers.most_tokens", lambda supervisor, style: 6)
    writer = language_model(tmp_path / "phi")
    output = tmp_path / "made" / "dino-phi"
    assert train(table, output, f"tower={dino}", f"language_model={tmp_path / 'phi'}") == 0
    supervisor = supervisors.load(output)
    assert isinstance(supervisor, Llava) and supervisor.name == "dino-phi"
    for name, value in writer.state_dict().items():
        assert torch.equal(supervisor.language_model.state_dict()[name], value.float()), name
    x_2ND = check_tower(supervisor, tmp_path)
    words = supervisor.words
    assert (words.verdict_key, words.attributes) == ("same_class", ("colour", "warm"))
    described = json.loads((output / "supervisor.json").read_text())
    assert set(described["scores"]) == {"learned"} and described["training"]["pictures"] == 8
    card = (output / "README.md").read_text()
    assert "`phi`" in card and "Tower and language model frozen" in card and "colour (4)" in card
    answer = supervisor.tokenizer('{"item_1": {"colour"', add_special_tokens=False)["input_ids"]
    check_replay(supervisor, x_2ND, torch.tensor(answer))
    assert [path.name for path in output.parent.iterdir()] == ["dino-phi"]


@pytest.fixture
def both(dino: Path, table: Path, tmp_path: Path) -> Llava:
    """A tower and a language model with a new projector that trains."""
    from saga_ray.prompts import vocabulary
    from saga_ray.train.alignment.fresh import fresh_projector, tower_of

    language_model(tmp_path / "phi")
    settings = AlignmentSettings(tower=str(dino), language_model=str(tmp_path / "phi"))
    words = vocabulary.plain("colours", ["colour"])
    return fresh_projector(tmp_path / "made", "made", words, tower_of(settings), settings)


def test_its_loss_is_the_weighted_cross_entropy_of_the_true_answers(both: Llava) -> None:
    key = WrittenKey(both, {"colour": ["red", "red", "blue"]})
    pairs = Pairs(np.array([0, 0]), np.array([1, 2]), np.array([True, False]))
    tokens_PT, mask_PT = key.answers(pairs, "attributes")
    texts = [
        json.loads(both.decode(row[keep].tolist())) for row, keep in zip(tokens_PT, mask_PT, strict=True)
    ]
    assert [list(text) for text in texts] == [
        ["item_1", "item_2", "differences", "confidence", "reasoning", "same_class"]
    ] * 2
    assert [text["same_class"] for text in texts] == ["yes", "no"]
    assert [text["item_2"] for text in texts] == [{"colour": "red"}, {"colour": "blue"}]
    assert [text["differences"] for text in texts] == ["none", "colour"]

    x_a_PND, x_b_PND = torch.randn(2, 2, 9, 32, generator=torch.Generator().manual_seed(0))
    settings = AlignmentSettings(verdict_weight=2.0)
    objective = written_objective(both, key, settings)
    purity_P = torch.tensor([1.0, 0.75])
    loss = objective(pairs, x_a_PND, x_b_PND, "attributes", purity_P, False, torch.Generator())
    total = weights = 0.0
    yes, no = both.verdict_token_ids
    with torch.no_grad():
        prompt_PLH = both.prompt_embeddings(x_a_PND, x_b_PND, "attributes")
        for row in range(2):
            answer = tokens_PT[row][mask_PT[row]]
            embedded = torch.cat([prompt_PLH[row], both.answer_embeddings(answer)])[None]
            logits_TV = both.language_model(inputs_embeds=embedded).logits[0, prompt_PLH.shape[1] - 1 : -1]
            logp_TV = logits_TV.log_softmax(-1)
            at = int(both.verdict_positions(answer[None], torch.ones(1, len(answer)).bool()))
            for place, token in enumerate(answer.tolist()):
                wanted = float(purity_P[row]) if place == at else 1.0
                other = float(logp_TV[place, yes if token == no else no]) if place == at else 0.0
                weight = 2.0 if place == at else 1.0
                total -= weight * (wanted * float(logp_TV[place, token]) + (1 - wanted) * other)
                weights += weight
    assert float(loss.detach()) == pytest.approx(total / weights, rel=1e-4)
    loss.backward()
    trained = {name for name, each in both.named_parameters() if each.grad is not None and each.grad.any()}
    assert trained == {name for name, _ in both.named_parameters() if name.startswith("projector.")}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["tower={empty}"], "holds no supervisor (supervisor.json), no tower (tower.json) and no checkpoint"),
        (["tower={empty}/dinov2"], "dinov2 holds no supervisor (supervisor.json), no tower"),
        (["tower={dino}", "image_size=40"], "image_size=40, but a token of external covers 14 x 14 pixels"),
        (["image_size=224"], "tower=furniture-pocket reads pictures of one size: leave image_size out"),
        (["tower={dino}", "language_model={dino}"], "There is no tokenizer in"),
        (["language_model=somewhere", "width=64"], "width is a pocket language model's"),
        (["tower={timm}"], "timm and torchvision, which cannot be imported"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence_and_leaves_nothing(
    settings: list[str],
    said: str,
    table: Path,
    dino: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # wherever it runs, timm cannot be imported
    folders = {name: tmp_path / name for name in ("empty", "timm")}
    for folder in folders.values():
        folder.mkdir()
    (folders["timm"] / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    filled = [setting.format(dino=dino, **folders) for setting in settings]
    assert train(table, tmp_path / "made", *filled) == 2
    assert said in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == set(folders)
