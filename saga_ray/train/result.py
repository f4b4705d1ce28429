"""``result.json``: what a run measured, as typed models, and the table that shows these very numbers.

The file's shape::

    {"name": "demo", "seed": 1,
     "test": {"start": {"recall@1": 0.78, "recall@2": ..., "recall@4": ..., "recall@8": ...,
                        "map@r": ..., "r_precision": ..., "nmi": ...,
                        "queries": 3960, "queries_left_out": 0, "seconds": 0.0},
              "metric": {the same keys},
              "saga": {the same keys, "engine": {"name": "vllm", "version": "0.32.0"}, "steps": 250,
                       "requests": ..., "groups": ..., "informative_share": ..., "pairs_replayed": ...,
                       "tokens": ..., "truncated_share": ..., "unparsable_share": ...,
                       "grad_ratio_grpo_metric": ...}},
     "data": {"source": "furniture", "note": ..., "hash": ..., "train_images": ..., "train_classes": ...,
              "test_images": ..., "test_classes": ..., "skipped": 0},
     "seconds": 702.4,
     "versions": {"python": "3.11.2", "torch": "2.13.0", ...}}

Every measure and share is a fraction in [0, 1]; per cent is made where a table is drawn, nowhere else. Where
queries search a gallery of their own (In-Shop) recall is @1, @10, @20, @30, @40, @50, and `data` has
`gallery_images`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from rich import box
from rich.table import Table

from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.measures import LEAVE_ONE_OUT_RECALL, QUERY_GALLERY_RECALL, headings
from saga_ray.retrieval.record import DataRecord, Number, Record
from saga_ray.retrieval.report.data import Omitted, ResultTable

FILE_NAME = "result.json"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class EngineRecord(Record):
    """What generated the completions."""

    name: str
    version: str


def _recall(k: int) -> Any:
    """A recall that one of the two protocols alone has; left out by the other."""
    return Field(None, alias=f"recall@{k}", exclude_if=lambda value: value is None)


class ArmResult(Record):
    """Retrieval of one arm's encoder over the test classes: each picture queries all the others, or queries
    search a gallery (`saga_ray.retrieval.protocol`)."""

    recall_at_1: Fraction = Field(alias="recall@1")
    recall_at_2: Fraction | None = _recall(2)
    recall_at_4: Fraction | None = _recall(4)
    recall_at_8: Fraction | None = _recall(8)
    recall_at_10: Fraction | None = _recall(10)
    recall_at_20: Fraction | None = _recall(20)
    recall_at_30: Fraction | None = _recall(30)
    recall_at_40: Fraction | None = _recall(40)
    recall_at_50: Fraction | None = _recall(50)
    map_at_r: Fraction = Field(alias="map@r")
    r_precision: Fraction
    nmi: Fraction
    queries: Number
    queries_left_out: Number = Field(
        description="queries whose class has no other picture to search: nothing could be found"
    )
    seconds: Seconds = Field(0.0, description="wall-clock seconds of training this arm")

    @model_validator(mode="after")
    def _of_one_protocol(self) -> Self:
        given = {name for name in self.model_dump(by_alias=True) if name.startswith("recall@")}
        protocols = [{f"recall@{k}" for k in ks} for ks in (LEAVE_ONE_OUT_RECALL, QUERY_GALLERY_RECALL)]
        if given not in protocols:
            raise ValueError(f"{', '.join(sorted(given))} are the recalls of no protocol")
        return self


class RolloutArmResult(ArmResult):
    """The same of an arm that had rollouts, with what they cost and how they went."""

    engine: EngineRecord
    steps: Number
    requests: Number = Field(description="pairs sent to the engine, those too that were cancelled")
    groups: Number = Field(
        description="groups that the plan needed, up to the last one accepted; the counts below are of these"
    )
    informative_share: Fraction = Field(description="share of these groups with reward variance")
    pairs_replayed: Number
    tokens: Number = Field(description="tokens of these groups' completions")
    truncated_share: Fraction = Field(description="share of completions cut at the token limit")
    unparsable_share: Fraction = Field(description="share of completions without a readable verdict")
    grad_ratio_grpo_metric: Annotated[float, Field(ge=0.0)] | None = Field(
        description="median over steps of |GRPO gradient| / |metric gradient| at X; null where undefined"
    )


class Result(Record):
    """A whole run: ``test`` holds one entry an arm, in the order of the setting `arms`."""

    name: str
    seed: int
    test: dict[str, RolloutArmResult | ArmResult]
    data: DataRecord
    seconds: Seconds = Field(description="wall-clock seconds of the whole run, of all its sessions")
    versions: dict[str, str]

    def write(self, folder: Path) -> Path:
        """Write ``folder/result.json``, whole or not at all; returns its path."""
        path = folder / FILE_NAME
        write_text(path, self.to_json() + "\n")
        return path

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, indent=2)


def read(path: Path) -> Result:
    """Read a ``result.json``, or the one in a run's folder. UserError where none is readable."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"there is no {FILE_NAME} at {path}: name a finished run's folder")
    try:
        return Result.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file} is not a run's result: {where}: {first['msg']}") from error


# The table: drawn by the console and by the report from the numbers above, and from nothing else.

REFERENCES = ("start", "metric")  # the arms that gains are counted from


def table_columns(result: Result) -> list[str]:
    """Headings of the table's number columns: the measures, then the gains over each reference arm."""
    gains = [f"MAP@R - {reference}" for reference in REFERENCES if reference in result.test]
    return [*_measures(result).values(), *gains]


def table_rows(result: Result) -> list[tuple[str, list[str]]]:
    """(arm, cells) in the run's order: measures in per cent, gains in points of MAP@R."""
    rows = []
    for arm, measured in result.test.items():
        values = measured.model_dump(by_alias=True)
        cells = [percent(values[name]) for name in _measures(result)]
        for reference in REFERENCES:
            if reference in result.test:
                gain = measured.map_at_r - result.test[reference].map_at_r
                cells.append("" if arm in ("start", reference) else points(gain))
        rows.append((arm, cells))
    return rows


def _measures(result: Result) -> dict[str, str]:
    """Name and heading of the columns; all arms have the same."""
    return headings(next(iter(result.test.values())).model_dump(by_alias=True))


def percent(fraction: float) -> str:
    """A fraction as per cent with one decimal, without the sign."""
    return f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A difference of fractions in points, with its sign; what rounds to nothing has none."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def reading(result: Result) -> list[str]:
    """The sentences that say how to read the table, made from the run's own numbers; then the data's note."""
    first = next(iter(result.test.values()))
    gallery = result.data.gallery_images
    candidates = (
        "the query itself is not among its candidates"
        if gallery is None
        else f"candidates are the gallery's {gallery:,} pictures alone"
    )
    sentences = [
        f"Per cent over {first.queries:,} queries of {result.data.test_classes:,} classes that no arm was "
        f"trained on; {candidates}."
    ]
    saga, metric = result.test.get("saga"), result.test.get("metric")
    if saga is not None and metric is not None:
        gain = saga.map_at_r - metric.map_at_r
        sentences.append(
            "What SAGA adds to the metric loss is row saga less row metric (same pooler, batches and steps): "
            f"{points(gain)} points of MAP@R in this run. One run with one seed cannot tell a difference of "
            "less than about one point from chance: repeat it with other seeds before believing it."
        )
    if result.data.note:
        sentences.append(result.data.note)
    return sentences


def render_table(result: Result) -> Table:
    """The console's table of a run, with how to read it below."""
    table = Table(title="Unseen classes", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.caption, table.caption_justify = " ".join(reading(result)), "left"
    table.add_column("arm", style="bold", no_wrap=True)
    for heading in table_columns(result):
        table.add_column(heading, justify="right")
    for arm, cells in table_rows(result):
        table.add_row(arm, *cells)
    return table


# What the report shows of it.

ROLLOUT_MEASURES = (
    ("steps", "steps"),
    ("requests", "requests"),
    ("groups", "groups"),
    ("informative_share", "informative"),
    ("pairs_replayed", "pairs replayed"),
    ("tokens", "tokens"),
    ("truncated_share", "truncated"),
    ("unparsable_share", "unparsable"),
    ("grad_ratio_grpo_metric", "|GRPO| / |metric|"),
)


def report_table(result: Result) -> ResultTable:
    """The table of the console, for the report's page."""
    # the page's head has the note
    sentences = [sentence for sentence in reading(result) if sentence != result.data.note]
    return ResultTable(table_columns(result), table_rows(result), sentences)


def rollout_table(result: Result) -> ResultTable | Omitted:
    """How the rollouts of the arms went, for the report's page."""
    arms = {arm: found for arm, found in result.test.items() if isinstance(found, RolloutArmResult)}
    if not arms:
        return Omitted("no arm of this run had rollouts")
    rows = [
        (arm, [_cell(field, getattr(found, field)) for field, _ in ROLLOUT_MEASURES])
        for arm, found in arms.items()
    ]
    engines = sorted({f"{found.engine.name} {found.engine.version}" for found in arms.values()})
    sentence = (
        f"Engine: {', '.join(engines)}. Informative is per cent of the groups, truncated and unparsable of "
        "the completions; the last column is the median over the steps of the ratio of both losses' gradient "
        "norms at the tokens."
    )
    return ResultTable([heading for _, heading in ROLLOUT_MEASURES], rows, [sentence])


def facts(result: Result) -> list[tuple[str, str]]:
    """Name and value of what the report's head says about the run."""
    data = result.data
    minutes, seconds = divmod(round(result.seconds), 60)
    return [
        ("Data", data.source),
        ("Trained on", f"{data.train_images:,} pictures of {data.train_classes:,} classes"),
        ("Tested on", f"{data.searched} of {data.test_classes:,} other classes"),
        ("Unreadable pictures left out", f"{data.skipped:,}"),
        ("Data set hash", data.hash[:16]),
        ("Seed", str(result.seed)),
        ("Time of the run", f"{minutes:,} min {seconds:02} s"),
    ]


def _cell(field: str, value: float | None) -> str:
    """A count as it is, a share as per cent, a ratio with two decimals."""
    if value is None:
        return ""
    if field.endswith("_share"):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
