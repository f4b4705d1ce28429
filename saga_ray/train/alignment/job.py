"""`saga supervisor train`: from a table with attribute columns to a supervisor in a folder, a pocket one or
one with a language model of one's own.

The classes of `parts` (train and extra) are learned from, `validation` chooses among the weights seen
on the way, `test` is looked at once at the end, for the model card. The tower is frozen throughout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models.supervisors.llava import Llava
from saga_ray.models.supervisors.pocket import Pocket
from saga_ray.models.supervisors.pocket import load as load_pocket
from saga_ray.models.towers import Tower
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.vocabulary import Vocabulary
from saga_ray.train.alignment.answers import AnswerKey
from saga_ray.train.alignment.bank import TokenBank, fill_bank, rows_that_fit
from saga_ray.train.alignment.card import model_card
from saga_ray.train.alignment.evaluate import (
    evaluate_supervisor,
    has_pairs,
    part_sampler,
    verdict_accuracy,
)
from saga_ray.train.alignment.fit import Check, Objective, chosen, fit, pocket_objective
from saga_ray.train.alignment.fresh import fresh_pocket, fresh_projector, tower_of
from saga_ray.train.alignment.report import AlignmentReport
from saga_ray.train.alignment.start import start_weights
from saga_ray.train.alignment.written import WrittenKey, written_objective

UNKNOWN_VALUE = "unknown"
"""Stands where a table leaves an attribute empty."""
MAX_VALUES = 500
"""A column with more values than this is free text, not an attribute."""


def train_supervisor(
    table: ImageTable,
    attributes: Sequence[str],
    output: Path,
    settings: AlignmentSettings,
    say: Callable[[str], None] = print,
    command: str = "",
) -> AlignmentReport:
    """Train a supervisor on a table and write it to the new folder `output`.

    Raises:
        UserError: a column is missing, is free text or does not fit the vocabulary; there are too few classes
            or pictures; the tower or the language model cannot be read; or `output` exists.
    """
    started = time.monotonic()
    if output.exists():
        raise UserError(f"The output folder {output} exists; name one that does not.")
    vocabulary = _vocabulary(table, attributes, settings)
    if settings.hard_column is not None and settings.hard_column not in attributes:
        raise UserError(
            f"hard_column={settings.hard_column!r} is not among the attributes ({', '.join(attributes)}); "
            "name one of them"
        )
    learned = _part(table, attributes, *settings.parts)
    if not len(learned):
        raise UserError(f"{table.name} has no pictures in its parts {', '.join(settings.parts)}; set parts")
    validation, test = _part(table, attributes, "validation"), _part(table, attributes, "test")
    both = sorted(set(learned.classes) & {*validation.classes, *test.classes})
    if both:
        raise UserError(
            f"{table.name}: class {both[0]!r} is learned from and also in validation or test; "
            "give every class one split; `saga data check` lists them"
        )
    values = _values(table, learned)
    tower = tower_of(settings).eval()
    torch.manual_seed(settings.seed)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    unfinished = output.with_name(f".{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        supervisor: Pocket | Llava
        if settings.language_model is None:
            supervisor = fresh_pocket(output, vocabulary, values, table, tower, settings)
        else:
            supervisor = fresh_projector(
                unfinished, settings.name or output.name, vocabulary, tower, settings
            )
            tower.to(supervisor.language_model.device)
        say(f"{len(learned)} pictures of {len(learned.classes)} classes; computing their tokens")
        bank = _bank(tower, learned, settings)
        sampler = part_sampler(supervisor, learned, settings.hard_column, np.array(list(bank.place)))
        say(f"{bank.views} views of {len(bank.place)} pictures after {time.monotonic() - started:.0f} s")
        objective: Objective
        if isinstance(supervisor, Pocket):
            start_weights(supervisor, bank.tokens_VSND[0], torch.Generator().manual_seed(settings.seed))
            objective = pocket_objective(supervisor, AnswerKey(supervisor, learned.attributes), settings)
        else:
            objective = written_objective(supervisor, WrittenKey(supervisor, learned.attributes), settings)
        score = _validation_score(supervisor, validation, tower, settings)
        if score is None:
            say(
                "validation verdicts are not measured, and the last weights are kept: pairs need two "
                f"validation classes, one of them with two pictures; here are {len(validation)} pictures of "
                f"{len(validation.classes)} class(es)"
            )
        checks = fit(supervisor, bank, sampler, objective, settings, score, say)
        report = _store(supervisor, unfinished, learned, validation, test, table, checks, tower, settings)
        report = replace(report, folder=output, seconds=time.monotonic() - started)
        card = model_card(report, supervisor, table, settings, command)
        (unfinished / "README.md").write_text(card, "utf-8")
        os.replace(unfinished, output)
        return report
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        torch.set_num_threads(threads)


def _vocabulary(table: ImageTable, attributes: Sequence[str], settings: AlignmentSettings) -> Vocabulary:
    if not attributes:
        raise UserError("A supervisor needs attributes to describe pictures with: name at least one column.")
    if settings.vocabulary is not None:
        return vocabularies.load(settings.vocabulary).restrict(attributes)
    if table.name in vocabularies.names():
        return vocabularies.load(table.name).restrict(attributes)
    return vocabularies.plain(table.name, attributes)


def _part(table: ImageTable, attributes: Sequence[str], *splits: str) -> ImageTable:
    """A part of the table with the named columns alone, their empty values named."""
    for name in attributes:
        if name not in table.attributes:
            close = get_close_matches(name, table.attributes, n=1)
            hint = (
                f"did you mean {close[0]!r}" if close else f"it has {', '.join(table.attributes) or 'none'}"
            )
            raise UserError(f"{table.name} has no attribute column {name!r}; {hint}.")
    part = table.part(*splits)
    columns = {name: [value or UNKNOWN_VALUE for value in part.attributes[name]] for name in attributes}
    return replace(part, attributes=columns)


def _values(table: ImageTable, learned: ImageTable) -> dict[str, tuple[str, ...]]:
    """Each attribute's values among the pictures that are learned from."""
    values = {name: tuple(sorted(set(column))) for name, column in learned.attributes.items()}
    for name, own in values.items():
        if len(own) > MAX_VALUES:
            raise UserError(
                f"The column {name!r} of {table.name} has {len(own)} different values, which is free text "
                f"and no attribute; name a column with at most {MAX_VALUES}."
            )
    return values


def _bank(tower: Tower, learned: ImageTable, settings: AlignmentSettings) -> TokenBank:
    """As many views as fit into the memory that is allowed; fewer pictures of each class where not even one
    view does."""
    picture = tower.tokens_per_image * tower.token_width * 2
    most = int(settings.bank_gib * 2**30) // picture
    rows = rows_that_fit(learned.labels, most, settings.seed)
    views = min(settings.views, most // len(rows) - 1)
    return fill_bank(
        tower, learned, rows, views=max(0, views), crop_scale=settings.crop_scale, seed=settings.seed
    )


def _validation_score(
    supervisor: Pocket | Llava, validation: ImageTable, tower: Tower, settings: AlignmentSettings
) -> Callable[[], float] | None:
    """Mean verdict accuracy on fixed random and hard pairs of the validation classes; None where there are
    no pairs."""
    if not has_pairs(validation):
        return None
    rng = np.random.default_rng([settings.seed, 3])
    sampler = part_sampler(supervisor, validation, settings.hard_column)
    kinds = [sampler.balanced(settings.check_pairs, rng, hard=hard) for hard in (False, True)]
    bank = fill_bank(
        tower, validation, np.concatenate([rows for pairs in kinds for rows in (pairs.a, pairs.b)])
    )

    def score() -> float:
        return float(
            np.mean(
                [
                    verdict_accuracy(
                        supervisor,
                        bank.take(pairs.a),
                        bank.take(pairs.b),
                        torch.from_numpy(pairs.same),
                        "attributes",
                    )
                    for pairs in kinds
                ]
            )
        )

    return score


def _store(
    supervisor: Pocket | Llava,
    folder: Path,
    learned: ImageTable,
    validation: ImageTable,
    test: ImageTable,
    table: ImageTable,
    checks: list[Check],
    tower: Tower,
    settings: AlignmentSettings,
) -> AlignmentReport:
    """Write the weights, read them again as they will be used where they are rounded, and measure those."""
    stored: Pocket | Llava
    if isinstance(supervisor, Pocket):
        supervisor.save(folder, tower)
        stored = load_pocket(folder, "float32")
    else:
        supervisor.save_projector(folder)
        stored = supervisor
    scores = {
        name: evaluate_supervisor(stored, part, settings.seed, pairs=settings.check_pairs)
        if has_pairs(part)
        else None
        for name, part in (("learned", learned), ("validation", validation), ("test", test))
    }
    learned_scores = scores["learned"]
    assert learned_scores is not None
    names = hashlib.sha256("\n".join(sorted(learned.classes)).encode()).hexdigest()
    numbers = {
        "training": {
            "data": table.name,
            "data_hash": table.hash,
            "pictures": len(learned),
            "classes": len(learned.classes),
            "classes_hash": names,
            "settings": settings.model_dump(),
            "checks": [vars(check) for check in checks],
        },
        "scores": {name: score.to_json() for name, score in scores.items() if score is not None},
    }
    supervisor.describe(folder, numbers)
    return AlignmentReport(
        folder=folder,
        pictures=len(learned),
        classes=len(learned.classes),
        classes_hash=names,
        parameters=sum(parameter.numel() for parameter in stored.parameters()),
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        seconds=0.0,
        chosen_step=chosen(checks).step,
        checks=checks,
        learned=learned_scores,
        validation=scores["validation"],
        test=scores["test"],
    )
