"""Alignment: the targets and pairs are what they should be, and the job makes a working supervisor from any
table."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.config.settings import DataSettings
from saga_ray.data.rows import Rows
from saga_ray.data.table import ImageTable, build
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.train.alignment import evaluate_supervisor, train_supervisor, verdict_accuracy
from saga_ray.train.alignment.answers import AnswerKey, free_answers, own_context
from saga_ray.train.alignment.bank import TokenBank, fill_bank, rows_that_fit
from saga_ray.train.alignment.fit import alignment_loss
from saga_ray.train.alignment.pairs import Pairs, PairSampler

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (220, 200, 40)}
FORMS = ("round", "square", "pointed")
SIZES = {"small": 20, "large": 44}
ATTRIBUTES = ("colour", "form", "size")


def draw(colour: str, form: str, size: str, rng: np.random.Generator) -> bytes:
    image = Image.new("RGB", (112, 112), (235, 235, 235))
    pen, radius = ImageDraw.Draw(image), SIZES[size]
    x, y = (int(56 + shift) for shift in rng.integers(-8, 9, 2))
    box = (x - radius, y - radius, x + radius, y + radius)
    if form == "round":
        pen.ellipse(box, fill=COLOURS[colour])
    elif form == "square":
        pen.rectangle(box, fill=COLOURS[colour])
    else:
        pen.polygon([(box[0], box[3]), (box[2], box[3]), (x, box[1])], fill=COLOURS[colour])
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return stored.getvalue()


@pytest.fixture(scope="module")
def shapes() -> ImageTable:
    """Pictures of coloured shapes: one class for each colour, form and size, cut into parts by class."""
    rng = np.random.default_rng(0)
    kinds = [(colour, form, size) for colour in COLOURS for form in FORMS for size in SIZES]
    rows = [(kind, ("train", "extra", "train", "test", "validation")[k % 5]) for k, kind in enumerate(kinds)]
    rows = [row for row in rows for _ in range(4)]
    return build(
        Rows(
            name="shapes",
            images=[draw(*kind, rng) for kind, _ in rows],
            where=[str(row) for row in range(len(rows))],
            labels=["-".join(kind) for kind, _ in rows],
            splits=[split for _, split in rows],
            attributes={name: [kind[i] for kind, _ in rows] for i, name in enumerate(ATTRIBUTES)},
        ),
        DataSettings(),
        seed=1,
    )


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    loaded = supervisors.load("furniture-pocket")
    assert isinstance(loaded, Pocket)
    return loaded


def test_targets_are_the_schemes_answers(pocket: Pocket) -> None:
    rng = np.random.default_rng(3)
    columns = {
        name: [values[i] for i in rng.integers(0, len(values), 12)]
        for name, values in pocket.scheme.attributes.items()
    }
    columns = {
        name: [*column, *column] for name, column in columns.items()
    }  # rows 12 apart agree on everything
    key = AnswerKey(pocket, columns)
    pairs = Pairs(np.arange(12), np.array([*range(12, 18), *range(6)]), np.arange(12) < 6)
    for style, answer in (("attributes", pocket.scheme.answer), ("generic", pocket.scheme.generic_answer)):
        tokens = key.answers(pairs, style)
        for p in range(12):
            a, b = (
                {name: column[row] for name, column in columns.items()} for row in (pairs.a[p], pairs.b[p])
            )
            expected = [pocket.token_id(token) for token in answer(a, b, bool(pairs.same[p]))]
            assert tokens[p].tolist() == [*expected, pocket.eos_token_id]
        assert all(
            int(token) in slot for row in tokens for token, slot in zip(row, key.slots(style), strict=True)
        )


def test_a_sampled_context_fits_its_slots_and_follows_the_model(pocket: Pocket) -> None:
    """The slot-wise sampler with its cache gives each token the probability that one plain forward pass
    gives."""
    key = AnswerKey(pocket, {name: list(values[:1]) for name, values in pocket.scheme.attributes.items()})
    x_a, x_b = torch.rand(2, 40, 16, 1280, generator=torch.Generator().manual_seed(0)).unbind(0)
    prompt = pocket.prompt_embeddings(x_a[:1], x_b[:1], "attributes").expand(400, -1, -1)
    slots = key.slots("attributes")
    sampled = own_context(pocket, prompt, slots, torch.Generator().manual_seed(1))
    assert all(int(t) in slot for row in sampled for t, slot in zip(row, slots, strict=False))
    assert sampled.shape[1] == len(slots) - 2
    words = pocket.language_model.get_input_embeddings()
    with torch.no_grad():
        inputs = torch.cat([prompt, words(sampled)], dim=1)
        logits = pocket.language_model(inputs_embeds=inputs).logits[:, prompt.shape[1] - 1 :]
    last = slots[8]  # the first image's last attribute, given what was sampled before it
    probability = logits[:, 8, last.start : last.stop].softmax(-1)
    found = torch.nn.functional.one_hot(sampled[:, 8] - last.start, len(last)).float()
    # 400 samples: the frequencies lie within 4 standard errors of the mean probabilities.
    spread = (probability * (1 - probability)).mean(0).div(400).sqrt()
    assert ((found.mean(0) - probability.mean(0)).abs() <= 4 * spread + 2 / 400).all()


def test_greedy_answers_are_those_of_plain_generation(pocket: Pocket) -> None:
    x_a, x_b = torch.rand(2, 3, 16, 1280, generator=torch.Generator().manual_seed(0)).unbind(0)
    tokens, mask = free_answers(pocket, x_a, x_b, "attributes")
    prompt = pocket.prompt_embeddings(x_a, x_b, "attributes")
    plain = pocket.language_model.generate(
        inputs_embeds=prompt, do_sample=False, max_new_tokens=tokens.shape[1]
    )
    for row in range(3):
        length = int(mask[row].sum())
        assert tokens[row, :length].tolist() == plain[row, :length].tolist()
        assert tokens[row, length - 1] == pocket.eos_token_id


def test_the_nucleus_leaves_unlikely_tokens_out(pocket: Pocket) -> None:
    x_a, x_b = (x.expand(64, -1, -1) for x in torch.rand(2, 1, 16, 1280).unbind(0))
    draw_with = torch.Generator().manual_seed(0)
    narrow, mask = free_answers(pocket, x_a, x_b, "generic", temperature=1.0, top_p=1e-6, generator=draw_with)
    greedy, _ = free_answers(pocket, x_a, x_b, "generic")
    assert torch.equal(narrow[mask], greedy[mask])


@pytest.mark.parametrize("purity", [(1.0, 1.0), (0.75, 0.5)])
def test_the_loss_is_the_weighted_cross_entropy_of_the_true_answer(
    pocket: Pocket, purity: tuple[float, float]
) -> None:
    key = AnswerKey(pocket, {name: list(values[:2]) for name, values in pocket.scheme.attributes.items()})
    pairs = Pairs(np.array([0, 1]), np.array([1, 1]), np.array([False, True]))
    x_a, x_b = torch.rand(2, 2, 16, 1280, generator=torch.Generator().manual_seed(0)).unbind(0)
    settings = AlignmentSettings(verdict_weight=2.0)
    draw_with = torch.Generator().manual_seed(0)
    loss = alignment_loss(
        pocket, key, pairs, x_a, x_b, "attributes", torch.tensor(purity),
        own=False, settings=settings, generator=draw_with,
    )  # fmt: skip
    turned = dict(zip(pocket.verdict_token_ids, reversed(pocket.verdict_token_ids), strict=True))
    target = key.answers(pairs, "attributes")
    total, weights = 0.0, 0.0
    words = pocket.language_model.get_input_embeddings()
    with torch.no_grad():
        prompt = pocket.prompt_embeddings(x_a, x_b, "attributes")
        for p in range(2):
            for t in range(target.shape[1]):
                inputs = torch.cat([prompt[p : p + 1], words(target[p : p + 1, :t])], dim=1)
                logp = pocket.language_model(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)
                word = int(target[p, t])
                weight, wanted = (2.0, purity[p]) if t == target.shape[1] - 2 else (1.0, 1.0)
                other = float(logp[turned[word]]) if wanted < 1 else 0.0
                total -= weight * (wanted * float(logp[word]) + (1 - wanted) * other)
                weights += weight
    assert float(loss) == pytest.approx(total / weights, rel=1e-4)


def test_pairs_are_what_they_are_called() -> None:
    labels = np.repeat(np.arange(8), 3)
    values = [("wood", "metal", "wood", "glass")[label % 4] for label in labels]
    sampler = PairSampler(np.arange(24), labels, values, "here")
    rng = np.random.default_rng(0)
    same, different, hard = sampler.same(200, rng), sampler.different(200, rng), sampler.hard(200, rng)
    assert (labels[same.a] == labels[same.b]).all() and (same.a != same.b).all() and same.same.all()
    for pairs in (different, hard):
        assert (labels[pairs.a] != labels[pairs.b]).all() and not pairs.same.any()
    assert all(values[a] == values[b] for a, b in zip(hard.a, hard.b, strict=True))
    assert any(values[a] != values[b] for a, b in zip(different.a, different.b, strict=True))
    balanced = sampler.balanced(11, rng, hard=True)
    assert len(balanced) == 11 and balanced.same.sum() == 6


@given(seed=st.integers(0, 2**32 - 1))
def test_an_opposite_would_turn_the_verdict_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(5), 3))
    sampler = PairSampler(np.arange(15), labels, ["x"] * 15, "here")
    pairs = sampler.balanced(20, rng, hard=False)
    opposites = sampler.opposites(pairs, rng)
    assert ((labels[opposites] == labels[pairs.a]) != pairs.same).all()


def test_a_table_without_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="two classes at least"):
        PairSampler(np.arange(3), np.zeros(3, dtype=np.int64), ["x"] * 3, "here")
    with pytest.raises(UserError, match="one with two pictures"):
        PairSampler(np.arange(3), np.arange(3), ["x"] * 3, "here")


def test_what_does_not_fit_into_memory_is_left_out_evenly() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2] * 10)
    kept = rows_that_fit(labels, 12, seed=0)
    assert np.bincount(labels[kept]).tolist() == [4, 3, 4]
    assert rows_that_fit(labels, 100, seed=0).tolist() == list(range(23))


def test_the_bank_holds_the_towers_tokens_and_repeats_its_views(shapes: ImageTable, pocket: Pocket) -> None:
    tower = pocket.build_tower().eval()
    rows = np.array([5, 2, 40])
    banks = [fill_bank(tower, shapes, rows, views=1, crop_scale=0.5, seed=4) for _ in range(2)]
    assert torch.equal(banks[0].tokens_VSND, banks[1].tokens_VSND) and banks[0].views == 2
    with torch.no_grad():
        expected = tower(torch.from_numpy(shapes.read_image(40, tower.image_size).copy())[None])
    assert torch.allclose(banks[0].take(np.array([40])), expected, atol=5e-3)
    assert not torch.allclose(banks[0].take(np.array([40]), 1), expected, atol=5e-3)


def test_verdict_accuracy_counts_right_verdicts(pocket: Pocket) -> None:
    x_a, x_b = torch.rand(2, 6, 16, 1280, generator=torch.Generator().manual_seed(0)).unbind(0)
    tokens, _ = free_answers(pocket, x_a, x_b, "attributes")
    says_yes = (tokens == pocket.verdict_token_ids[0]).any(-1)
    assert verdict_accuracy(pocket, x_a, x_b, says_yes, "attributes") == 1.0
    assert verdict_accuracy(pocket, x_a, x_b, ~says_yes, "attributes") == 0.0


def test_the_job_makes_a_supervisor_from_any_table(shapes: ImageTable, tmp_path: Path) -> None:
    output = tmp_path / "shapes-pocket"
    settings = AlignmentSettings(
        width=64, layers=2, heads=2, hidden=128, steps=160, views=1, rate=3e-3, check_every=80,
        check_pairs=40, channel_drop=0.0, channel_noise=0.0, token_noise=0.0,
    )  # fmt: skip
    said: list[str] = []
    report = train_supervisor(
        shapes, ATTRIBUTES, output, settings, say=said.append, command="saga supervisor train …"
    )
    assert (report.classes, report.pictures) == (15, 60)
    assert [check.step for check in report.checks] == [80, 160]
    assert report.checks[1].loss < report.checks[0].loss and len(said) >= 3
    assert report.learned.attributes_mean > report.learned.commonest_mean + 0.15
    assert report.learned.valid > 0.9
    supervisor = supervisors.load(output)
    assert isinstance(supervisor, Pocket) and supervisor.name == "shapes-pocket"
    assert supervisor.verdict_key == "same_class" and list(supervisor.scheme.attributes) == list(ATTRIBUTES)
    again = evaluate_supervisor(supervisor, shapes.part("test"), settings.seed, pairs=40)
    assert report.test is not None and again == report.test
    stored = json.loads((output / "supervisor.json").read_text())
    assert (
        stored["scores"]["test"] == report.test.to_json() and stored["training"]["data_hash"] == shapes.hash
    )
    card = (output / "README.md").read_text()
    assert report.classes_hash in card and "saga supervisor train …" in card
    assert [path.name for path in tmp_path.iterdir()] == ["shapes-pocket"]


@pytest.mark.parametrize(
    ("attributes", "changes", "said"),
    [
        ((), {}, "at least one column"),
        (("color",), {}, "no attribute column 'color'; did you mean 'colour'"),
        (("colour", "colour"), {}, "stands in it twice"),
        (("colour",), {"vocabulary": "birds"}, "has no attribute 'colour'"),
        (("colour",), {"tower": "nowhere"}, "no supervisor 'nowhere'"),
        (("colour",), {"hard_column": "shape"}, "hard_column='shape' is not among the attributes"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    shapes: ImageTable, tmp_path: Path, attributes: tuple[str, ...], changes: dict[str, str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        train_supervisor(shapes, attributes, tmp_path / "out", AlignmentSettings(**changes))
    assert not list(tmp_path.iterdir())


def test_with_little_memory_it_learns_from_fewer_pictures(shapes: ImageTable, tmp_path: Path) -> None:
    settings = AlignmentSettings(
        width=64, layers=1, heads=2, hidden=64, steps=2, check_pairs=8, bank_gib=40 * 16 * 1280 * 2 / 2**30
    )
    said: list[str] = []
    train_supervisor(shapes, ATTRIBUTES, tmp_path / "out", settings, say=said.append)
    assert said[1].startswith("1 views of 30 pictures")  # of 60: room for 40, equally many of each class


def test_that_verdicts_are_not_measured_is_said_with_the_reason(shapes: ImageTable, tmp_path: Path) -> None:
    split = shapes.split.copy()
    first = shapes.labels == shapes.labels[split == "validation"][0]
    split[(split == "validation") & ~first] = "extra"
    settings = AlignmentSettings(width=64, layers=1, heads=2, hidden=64, steps=2, check_pairs=8, views=1)
    said: list[str] = []
    one_class = replace(shapes, split=split)
    report = train_supervisor(one_class, ATTRIBUTES, tmp_path / "out", settings, say=said.append)
    [why] = [line for line in said if "not measured" in line]
    assert why.endswith("here are 4 pictures of 1 class(es)")
    assert report.validation is None and not [line for line in said if "nan" in line]


def test_a_part_without_pictures_is_refused(shapes: ImageTable, tmp_path: Path) -> None:
    without = shapes.part("train", "validation", "test")
    with pytest.raises(UserError, match="no pictures in its parts extra"):
        train_supervisor(without, ATTRIBUTES, tmp_path / "out", AlignmentSettings(parts=["extra"]))
    assert not list(tmp_path.iterdir())


def test_a_class_that_is_learned_from_and_tested_is_refused(shapes: ImageTable, tmp_path: Path) -> None:
    split = shapes.split.copy()
    first = np.flatnonzero(shapes.labels == shapes.labels[split == "train"][0])
    split[first[0]] = "test"
    with pytest.raises(UserError, match="is learned from and also in validation or test"):
        train_supervisor(replace(shapes, split=split), ATTRIBUTES, tmp_path / "out", AlignmentSettings())
    assert not list(tmp_path.iterdir())


def test_free_text_and_existing_folders_are_refused(shapes: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists; name one"):
        train_supervisor(shapes, ATTRIBUTES, tmp_path, AlignmentSettings())
    columns = {"colour": [str(row) for row in range(len(shapes))]}
    many = replace(shapes, attributes=columns)
    import saga_ray.train.alignment.job as job

    limit, job.MAX_VALUES = job.MAX_VALUES, 10
    try:
        with pytest.raises(UserError, match="free text and no attribute"):
            train_supervisor(many, ["colour"], tmp_path / "out", AlignmentSettings())
    finally:
        job.MAX_VALUES = limit


def test_the_bank_gives_each_row_its_own_view() -> None:
    tokens = torch.arange(2 * 3).reshape(2, 3, 1, 1).half()
    bank = TokenBank(tokens, {10: 0, 20: 1, 30: 2})
    assert bank.take(np.array([30, 10]), np.array([1, 0])).flatten().tolist() == [5.0, 0.0]


@pytest.mark.slow
def test_the_shipped_supervisor_is_as_good_as_required_on_unseen_classes(pocket: Pocket) -> None:
    from saga_ray.data import sources

    table = sources.load(DataSettings(source="furniture"), seed=1)
    scores = evaluate_supervisor(pocket, table.part("test"), seed=7, pairs=800, groups=40)
    assert scores.verdict_random >= 0.82 and scores.verdict_hard >= 0.70
    assert scores.attributes_mean >= scores.commonest_mean + 0.15
    assert scores.valid >= 0.98
    assert abs(scores.verdict_exchanged - 0.5) < 0.08 and abs(scores.verdict_zeroed - 0.5) < 0.08
