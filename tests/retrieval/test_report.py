"""The report's page: whole, self-contained, and showing the numbers that it was given."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saga_ray.config.settings import GrpoSettings, ReportSettings
from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.table import ImageTable
from saga_ray.retrieval.protocol import Protocol
from saga_ray.retrieval.report import Omitted, ReportData, ResultTable, build, write_report
from saga_ray.retrieval.report.answers import readable
from saga_ray.retrieval.report.chart import Curve, draw, nice_ticks
from saga_ray.retrieval.report.choose import spread
from saga_ray.retrieval.report.curves import panels, seconds_by_part
from saga_ray.retrieval.report.data import Comparison
from saga_ray.retrieval.report.pictures import colour_of, data_uri, overlay

ANSWER = {
    "item_1": {"colour": "red", "kind": "<chair> & stool"},
    "item_2": {"colour": "blue", "kind": "<chair> & stool"},
    "differences": "colour",
    "same_model": "no",
}


def a_table(classes: int = 3, pictures: int = 3) -> ImageTable:
    """Plain pictures, one colour a class, as PNG bytes."""
    images = []
    for label in range(classes):
        for shade in range(pictures):
            file = io.BytesIO()
            Image.new("RGB", (20, 16), (40 * label, 20 * shade, 200)).save(file, format="PNG")
            images.append(file.getvalue())
    count = classes * pictures
    return ImageTable(
        name="plain",
        images=PictureColumn(pa.array(images, type=pa.large_binary())),
        where=[f"row {row}" for row in range(count)],
        labels=np.repeat(np.arange(classes), pictures),
        classes=[f"class-{label}" for label in range(classes)],
        split=np.array(["test"] * count),
        attributes={},
        skipped=[],
        split_seed=None,
        hash="ab",
    )


def history(steps: int = 40) -> dict[str, list[dict[str, Any]]]:
    def record(step: int, saga: bool) -> dict[str, Any]:
        common = {
            "step": step,
            "rate": 1.0,
            "loss/metric": 1.0 / (step + 1),
            "seconds/encode": 0.25,
            "seconds/step": 0.5,
        }
        if not saga:
            return common
        sample = {
            "row_a": 0,
            "row_b": 4,
            "same": False,
            "answers": [json.dumps(ANSWER), "{ cut"],
            "finish": ["stop", "length"],
            "rewards": [1.0, 0.0],
        }
        return common | {
            "rollout/reward": 0.5,
            "rollout/completions": 128,
            "rollout/unparsable": 32,
            "sample": sample,
        }

    return {
        "metric": [record(step, False) for step in range(steps)],
        "saga": [record(step, True) for step in range(steps)],
    }


def a_report(**changes: Any) -> ReportData:
    table = a_table()
    records = history()
    baseline = np.array([[1, 3], [0, 2], [3, 1], [0, 4], [3, 5], [3, 4], [7, 8], [6, 8], [6, 7]])
    challenger = np.array([[1, 2], [0, 2], [0, 1], [4, 5], [0, 3], [3, 4], [7, 8], [6, 8], [6, 7]])
    whole = ReportData(
        title="a <run>",
        note="Plain colours, not photographs.",
        facts=[("Data", "plain")],
        versions={"torch": "2.13.0"},
        table=ResultTable(
            ["R@1", "gain"], [("metric", ["87.6", ""]), ("saga", ["87.9", "-0.3"])], ["Read so."]
        ),
        rollout_table=ResultTable(["steps"], [("saga", ["1,234"])], ["Engine: vllm 0.32.0."]),
        history=records,
        comparison=build.compare(
            table, Protocol.of(None, 9), {"metric": baseline, "saga": challenger}, ReportSettings()
        ),
        attention=build.attended(table, [0, 5], {"saga": np.full((2, 4), 0.25, dtype=np.float32)}),
        rollouts=build.rollouts(table, records, ReportSettings(rollouts=2), GrpoSettings(), "same_model"),
        settings={"train.steps": "40", "seed": "1"},
        defaults={"train.steps": "100", "seed": "1"},
    )
    return dataclasses.replace(whole, **changes)


def page(data: ReportData, folder: Path) -> str:
    return write_report(folder, data, verdict_key="same_model").read_text(encoding="utf-8")


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open, or left open."""

    ALONE = frozenset({"meta", "img", "br", "hr", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser


OMITTED = {
    name: Omitted(f"because of {name}")
    for name in ("rollout_table", "history", "comparison", "attention", "rollouts")
}


@pytest.mark.parametrize("changes", [{}, OMITTED], ids=["whole", "bare"])
def test_page_is_balanced_and_asks_the_network_for_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    html = page(a_report(**changes), tmp_path)
    elements = parsed(html)
    assert "http:" not in html and "https:" not in html and "//" not in re.sub(r"base64,[^\"]*", "", html)
    tags = {tag for tag, _ in elements.seen}
    assert not tags & {"script", "link", "iframe", "object", "embed"}
    for tag, attributes in elements.seen:
        for name in ("src", "href", "data", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/", "#")), (tag, name, address)
    assert "url(" not in html and "@import" not in html


def test_page_holds_the_result_s_cells_and_sentences(tmp_path: Path) -> None:
    html = page(a_report(), tmp_path)
    for text in ("87.6", "87.9", "−0.3", "1,234", "Read so.", "Engine: vllm 0.32.0.", "Plain colours"):
        assert text in html
    assert "a &lt;run&gt;" in html and "<run>" not in html
    assert '<td class="best">87.9</td>' in html


def test_links_within_the_page_lead_somewhere(tmp_path: Path) -> None:
    elements = parsed(page(a_report(), tmp_path)).seen
    places = {attributes.get("id") for _, attributes in elements}
    links = [str(attributes["href"]) for tag, attributes in elements if tag == "a"]
    assert links and {link.removeprefix("#") for link in links} <= places


def test_left_out_sections_say_why(tmp_path: Path) -> None:
    html = page(a_report(**OMITTED), tmp_path)
    for name in ("history", "comparison", "attention", "rollouts"):
        assert f"Left out: because of {name}." in html


def test_answers_are_shown_as_text_never_as_markup(tmp_path: Path) -> None:
    html = page(a_report(), tmp_path)
    assert "&lt;chair&gt; &amp; stool" in html and "<chair>" not in html
    assert "{ cut" in html and "cut off" in html
    assert "advantage +1.00" in html and "advantage −1.00" in html


def test_changed_settings_stand_apart(tmp_path: Path) -> None:
    html = page(a_report(), tmp_path)
    changed = html.split("Changed for this run:")[1].split("</table>")[0]
    assert "train.steps" in changed and "100" in changed and "seed" not in changed


def test_a_second_report_replaces_the_first_and_leaves_nothing_beside(tmp_path: Path) -> None:
    page(a_report(), tmp_path)
    assert "second" in page(a_report(title="second"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


# Queries -------------------------------------------------------------------------------------------------


def test_won_and_lost_queries_are_those_right_under_one_arm_alone() -> None:
    comparison = a_report().comparison
    assert isinstance(comparison, Comparison)
    assert (comparison.won_of_all, comparison.lost_of_all, comparison.queries) == (2, 1, 9)
    won, lost = comparison.won, comparison.lost
    assert [query.label for query in won] == ["class-0", "class-1"]
    assert [query.label for query in lost] == ["class-1"]
    for query in won:
        assert query.challenger[0].right and not query.baseline[0].right
    for query in lost:
        assert query.baseline[0].right and not query.challenger[0].right


def test_queries_of_a_gallery_are_shown_with_its_pictures() -> None:
    roles = ["query", "gallery", "gallery"] * 3
    wrong, right = np.array([[4, 1], [7, 4], [8, 1]]), np.array([[2, 4], [1, 4], [8, 1]])
    comparison = build.compare(
        a_table(), Protocol.of(roles, 9), {"metric": wrong, "saga": right}, ReportSettings()
    )
    assert isinstance(comparison, Comparison)
    assert (comparison.won_of_all, comparison.lost_of_all, comparison.queries) == (1, 0, 3)
    won = comparison.won[0]
    assert won.label == "class-0"
    assert [(each.label, each.right) for each in won.challenger] == [("class-0", True), ("class-1", False)]
    assert [each.label for each in won.baseline] == ["class-1", "class-0"]


def test_a_run_without_the_baseline_says_so() -> None:
    nearest = {"saga": np.zeros((9, 2), dtype=np.int64)}
    comparison = build.compare(a_table(), Protocol.of(None, 9), nearest, ReportSettings())
    assert comparison == Omitted("it compares the arms metric and saga; this run had no arm metric")


@given(st.lists(st.integers(), unique=True), st.integers(1, 12))
def test_spread_keeps_order_and_reaches_both_ends(items: list[int], count: int) -> None:
    chosen = spread(items, count)
    assert len(chosen) == min(count, len(items))
    assert chosen == [item for item in items if item in set(chosen)]
    if items and count > 1:
        assert (chosen[0], chosen[-1]) == (items[0], items[-1])


# Rollouts ------------------------------------------------------------------------------------------------


def test_rollouts_are_spread_over_the_training() -> None:
    shown = build.rollouts(a_table(), history(40), ReportSettings(rollouts=3), GrpoSettings(), "same_model")
    assert not isinstance(shown, Omitted)
    assert [rollout.step for rollout in shown] == [0, 20, 39]
    assert {rollout.arm for rollout in shown} == {"saga"}
    first, second = shown[0].answers
    assert (first.verdict, first.reward, first.truncated) == (False, 1.0, False)
    assert (second.verdict, second.reward, second.truncated) == (None, 0.0, True)
    assert first.advantage == pytest.approx(1.0, abs=1e-3) == -second.advantage


def test_a_run_without_rollouts_says_so() -> None:
    shown = build.rollouts(
        a_table(), {"metric": history()["metric"]}, ReportSettings(), GrpoSettings(), "same_model"
    )
    assert isinstance(shown, Omitted)


def test_an_answer_is_taken_apart() -> None:
    answer = readable(json.dumps(ANSWER | {"confidence": ["high", "sure"]}), "same_model")
    assert answer.verdict is False and answer.raw is None
    assert [(a.name, a.first, a.second, a.differs) for a in answer.attributes] == [
        ("colour", "red", "blue", True),
        ("kind", "<chair> & stool", "<chair> & stool", False),
    ]
    assert answer.remarks == [("differences", "colour"), ("confidence", "high, sure")]


@given(st.text(max_size=60))
def test_any_text_can_be_shown(text: str) -> None:
    answer = readable(text, "same")
    assert (
        answer.raw is not None or answer.attributes or answer.remarks or answer.verdict in (True, False, None)
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=12,
    )
)
def test_any_json_object_can_be_shown(value: Any) -> None:
    answer = readable(json.dumps({"item_1": value, "same": "yes"}), "same")
    assert answer.verdict is True


# Curves --------------------------------------------------------------------------------------------------


def test_panels_show_what_was_logged_and_nothing_else() -> None:
    drawn = {panel.title: panel for panel in panels(history())}
    assert set(drawn) == {"Metric loss", "Reward", "Lost answers", "Learning rate"}
    assert "arm-metric" in drawn["Metric loss"].svg and "arm-saga" in drawn["Metric loss"].svg
    assert "arm-metric" not in drawn["Reward"].svg


def test_lost_answers_are_shares_of_the_completions() -> None:
    svg = next(panel.svg for panel in panels(history()) if panel.title == "Lost answers")
    ticks = re.findall(r'class="tick"[^>]*text-anchor="end">([^<]*)<', svg)
    assert ticks[0] == "0" and float(ticks[-1]) == 0.3, "32 of 128 completions is a quarter"


def test_seconds_by_part_are_means_and_name_the_rest() -> None:
    spent = seconds_by_part({"metric": history(4)["metric"]})
    assert [(s.arm, s.step, s.parts) for s in spent] == [("metric", 0.5, [("encode", 0.25), ("other", 0.25)])]


def test_a_chart_stays_within_its_frame_whatever_the_numbers() -> None:
    for values in ([0.0] * 3, [1.0], [1e-9, 2e-9], [-5.0, 1e6, 3.0], list(np.sin(np.arange(1000.0)))):
        svg = draw("t", [Curve("saga", "", False, list(range(len(values))), values)])
        for points in re.findall(r'points="([^"]*)"', svg):
            for point in points.split():
                x, y = (float(number) for number in point.split(","))
                assert 0 <= x <= 360 and 0 <= y <= 190


def test_a_chart_s_height_tells_its_value() -> None:
    svg = draw("t", [Curve("saga", "", False, [0, 1, 2], [0.0, 0.5, 1.0])], between=(0, 1))
    _, low, middle, high = [float(y) for y in ("0", *re.findall(r'cy="([\d.]+)"', svg))]
    assert low > middle > high
    assert middle == pytest.approx((low + high) / 2, abs=0.1)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_enclose_the_numbers_and_are_few(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + step * 1e-6 and ticks[-1] >= low + span - step * 1e-6


# Pictures ------------------------------------------------------------------------------------------------


def test_a_picture_is_inside_the_page_as_jpeg() -> None:
    picture = np.zeros((400, 300, 3), dtype=np.uint8)
    picture[..., 0] = 250
    encoded = data_uri(picture).removeprefix("data:image/jpeg;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert image.size == (120, 160), "large pictures are shown smaller"
    red, green, _ = np.asarray(image).reshape(-1, 3).mean(axis=0)
    assert red > 240 and green < 12


def test_attention_brightens_the_patch_that_it_looks_at() -> None:
    picture = np.full((40, 40, 3), 128, dtype=np.uint8)
    beta_N = np.array([0.0, 0.0, 0.0, 1.0])
    brightness = overlay(picture, beta_N, most=4.0).mean(axis=2)
    quarters = [brightness[y : y + 20, x : x + 20].mean() for y in (0, 20) for x in (0, 20)]
    assert int(np.argmax(quarters)) == 3 and int(np.argmin(quarters)) == 0


def test_uniform_attention_is_one_colour() -> None:
    shown = overlay(np.full((32, 32, 3), 90, dtype=np.uint8), np.full(16, 1 / 16), most=2.0)
    assert (shown == shown[0, 0]).all()


def test_stronger_attention_is_never_darker() -> None:
    brightness = colour_of(np.linspace(0, 1, 50, dtype=np.float32)).mean(axis=1)
    assert (np.diff(brightness) > 0).all()
