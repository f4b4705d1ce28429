"""``result.json`` of a training: the embedder after each stage, beside what one modality alone finds.

Every measure is a fraction in [0, 1].
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from rich import box
from rich.table import Table

from saga_ray.composed.query_embeddings import COMPOSED, WAYS
from saga_ray.composed.result import RESULT, CirResult, heading, headline
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.record import Number, Record

SHOWN = {"align": "after stage 1", "instruct": "after stage 2"}


class TrainedOn(Record):
    """The source's part to train on."""

    source: str
    note: str = Field(description="what a reader must know of the data")
    hash: str
    pictures: Number
    captions: Number
    triplets: Number


class StageRecord(Record):
    """How a stage went."""

    steps: Number
    seconds: float = Field(ge=0, description="wall-clock seconds of its steps")
    first_loss: float = Field(description="mean over the first tenth of its steps")
    last_loss: float = Field(description="mean over the last tenth")


class CirTrainingResult(Record):
    """A whole run."""

    name: str
    seed: int
    stages: dict[str, StageRecord]
    scored: dict[str, CirResult] = Field(
        description="stage -> the embedder that it left, on the source's own queries; empty: it has none, or "
        "the run was a trial of a sweep"
    )
    data: TrainedOn
    seconds: float = Field(ge=0, description="wall-clock seconds of the run, of all its sessions")
    versions: dict[str, str]

    def write(self, folder: Path) -> Path:
        """Write ``folder/result.json``, whole or not at all; returns its path."""
        write_text(folder / RESULT, self.model_dump_json(indent=2) + "\n")
        return folder / RESULT


def read(folder: Path) -> CirTrainingResult:
    """The result in a run's folder. UserError where none is readable."""
    file = folder / RESULT
    if not file.is_file():
        raise UserError(f"there is no {RESULT} at {folder}: name the folder of a finished `saga cir train`")
    try:
        return CirTrainingResult.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file} is not the result of `saga cir train`: {where}: {first['msg']}") from error


def gain(result: CirTrainingResult, measure: str = "recall@1") -> float | None:
    """How much more the last stage's composed queries find than the best baseline of any stage; none where
    nothing was scored."""
    if not result.scored:
        return None
    last = list(result.scored.values())[-1].measures[COMPOSED][measure]
    return last - max(
        scored.measures[way][measure] for scored in result.scored.values() for way in WAYS if way != COMPOSED
    )


def render_table(result: CirTrainingResult) -> Table:
    """The console's table: every way of asking, with the embedder after each stage."""
    last = list(result.scored.values())[-1]
    title = f"{last.benchmark.name}, {last.benchmark.split}: {last.benchmark.queries:,} queries"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("embedder", no_wrap=True)
    table.add_column("query", no_wrap=True)
    names = headline(last.measures[COMPOSED])
    for name in names:
        table.add_column(heading(name), justify="right")
    for stage, scored in result.scored.items():
        for way in WAYS:
            cells = [f"{100 * scored.measures[way][name]:.1f}" for name in names]
            style = "bold" if way == COMPOSED and scored is last else None
            table.add_row(SHOWN[stage], WAYS[way], *cells, style=style)
    more = gain(result)
    table.caption = (
        f"Per cent. Composed queries after the last stage find {100 * (more or 0.0):+.1f} points of R@1 more "
        f"than the best of the others; the text's share in image and text was chosen on validation queries. "
        f"{result.data.note}"
    )
    table.caption_justify = "left"
    return table
