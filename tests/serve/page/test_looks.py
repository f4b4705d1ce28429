"""What the page draws: attention over the picture, a layout for every width, text that stands out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from saga_ray.serve.backend import KINDS
from tests.serve.page.browser import Tab
from tests.serve.page.stub import COLOURS, VIEWS, Stub, picture


def test_attention_is_drawn_over_the_picture(tab: Tab, stub: Stub) -> None:
    tab.open()
    sent = picture(COLOURS["blue"])
    tab.drop(sent)
    tab.found("blue")
    assert stub.asked_for("/attention") == []
    tab.page.check("#look")
    heat = tab.page.locator("#heat")
    expect(heat).to_be_visible()
    assert stub.asked_for("/attention") == [{"file": sent}]
    expect(heat).to_have_attribute(
        "aria-label", re.compile(r"most at row 2, column 3 of 4 × 4.* 11\.2 times")
    )
    # The middle of row 2, column 3 has the brightest colour, a corner far off the darkest.
    assert tab.heat(160, 96) == pytest.approx([252, 240, 150], abs=8)
    assert tab.heat(250, 250) == pytest.approx([13, 8, 60], abs=20)
    box, over = tab.page.locator("#shown").bounding_box(), heat.bounding_box()
    assert box == over
    tab.page.uncheck("#look")
    expect(heat).to_be_hidden()
    tab.page.check("#look")
    expect(heat).to_be_visible()
    assert len(stub.asked_for("/attention")) == 1


def test_attention_follows_to_the_next_query(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.drop(picture(COLOURS["blue"]))
    tab.page.check("#look")
    tab.found("blue")
    expect(tab.page.locator("#heat")).to_be_visible()
    stub.weights = [1 / 16] * 16
    tab.page.locator("#hits .hit").nth(VIEWS).click()
    expect(tab.page.locator("#look-status")).to_have_text(re.compile("every part of the picture alike"))
    expect(tab.page.locator("#heat")).to_be_hidden()
    thumbnail = stub.pictures[stub.asked_for("/search")[-1]["id"]]
    assert stub.asked_for("/attention")[-1] == {"file": thumbnail}
    # Nearly even is near the middle of the scale, which ends at twice the mean, not at its bright end.
    stub.weights = [1.1 / 16] * 8 + [0.9 / 16] * 8
    tab.page.locator("#hits .hit").nth(0).click()
    expect(tab.page.locator("#heat")).to_be_visible()
    assert tab.heat(0, 0) == pytest.approx([214, 78, 64], abs=6)
    expect(tab.page.locator("#scale")).to_have_text(re.compile(r"2\.0 × the mean"))


def test_without_an_index_attention_is_still_shown(tab: Tab, stub: Stub) -> None:
    stub.index = False
    tab.open()
    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("No index to search")
    expect(alert).to_contain_text("saga index build")
    tab.drop(picture(COLOURS["red"]))
    tab.page.check("#look")
    expect(tab.page.locator("#heat")).to_be_visible()
    expect(alert).to_be_visible()
    assert stub.asked_for("/search") == []


def test_attention_of_a_query_that_was_left_is_not_drawn(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.drop(picture(COLOURS["blue"]))
    tab.found("blue")
    stub.slow["/attention"] = 2.0
    with tab.page.expect_event("requestfailed") as given_up:
        tab.page.check("#look")
        expect(tab.page.locator("#look-status")).to_have_text("Looking…")
        while not stub.asked_for("/attention"):
            tab.page.wait_for_timeout(50)
        tab.page.wait_for_timeout(200)  # the answer is made by now and held back
        stub.weights = [1 / 16] * 16
        tab.drop(picture(COLOURS["red"]))
    assert given_up.value.url.endswith("/attention")
    expect(tab.page.locator("#look-status")).to_have_text(re.compile("alike"))
    tab.page.wait_for_timeout(2500)
    expect(tab.page.locator("#heat")).to_be_hidden()


@pytest.mark.parametrize("width", [390, 320, 700, 1200])
def test_nothing_is_wider_than_the_window(tab: Tab, stub: Stub, width: int) -> None:
    tab.page.set_viewport_size({"width": width, "height": 844})
    stub.accepts = KINDS
    tab.open()
    tab.drop(picture(COLOURS["red"], size=(400, 200)), "a-" + "very-" * 30 + "long-name.jpg")
    tab.page.check("#look")
    tab.found("red")
    expect(tab.page.locator("#heat")).to_be_visible()
    assert not tab.too_wide()
    assert tab.smallest_target() >= (36 if width <= 640 else 24)
    stub.refusals["/search"] = (400, "x" * 300, {})
    tab.drop(picture(COLOURS["red"]))
    expect(tab.page.get_by_role("alert")).to_be_visible()
    assert not tab.too_wide()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(tab: Tab, stub: Stub, scheme: str) -> None:
    tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    stub.accepts = KINDS
    tab.open()
    contrasts = tab.contrasts()
    tab.drop(picture(COLOURS["red"]))
    tab.page.check("#look")
    tab.found("red")
    contrasts |= tab.contrasts()
    stub.refusals["/search"] = (429, "", {})
    tab.drop(picture(COLOURS["blue"]))
    expect(tab.page.get_by_role("alert")).to_be_visible()
    contrasts |= tab.contrasts()
    assert len(contrasts) > 20
    # WCAG AA for text of this size.
    assert {text: ratio for text, ratio in contrasts.items() if ratio < 4.5} == {}


def test_only_what_the_page_needs_may_be_loaded(tab: Tab, stub: Stub) -> None:
    tab.open()
    policy = tab.page.locator('meta[http-equiv="Content-Security-Policy"]').get_attribute("content")
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'self';")
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    paths = {urlsplit(url).path.split("/")[1] for url in tab.asked if not url.startswith("blob:")}
    assert paths == {"", "page", "models", "search", "thumbnails"}
