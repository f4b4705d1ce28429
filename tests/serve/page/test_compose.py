"""Instructions on the page: written beside a picture or alone, searched with, left and found again."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from saga_ray.serve.backend import KINDS
from tests.serve.page.browser import Tab
from tests.serve.page.stub import COLOURS, VIEWS, Stub, picture


@pytest.fixture
def field(tab: Tab, stub: Stub) -> Locator:
    """The instruction's field on the opened page of a model that composes and does not say where it looks."""
    stub.accepts, stub.attention = KINDS, False
    tab.open()
    return tab.page.get_by_label("Instruction")


def heading(tab: Tab, text: str) -> None:
    expect(tab.page.locator("#found-title")).to_have_text(text)


def test_an_instruction_is_asked_for_only_where_the_model_composes(tab: Tab, stub: Stub) -> None:
    for accepts, index in ((("image",), True), (("image", "text"), True), (KINDS, False)):
        stub.accepts, stub.index = accepts, index
        tab.open()
        expect(tab.page.get_by_label("Instruction")).to_be_hidden()


def test_what_an_instruction_makes_of_a_picture_is_found(tab: Tab, stub: Stub, field: Locator) -> None:
    sent = picture(COLOURS["red"])
    tab.drop(sent)
    tab.found("red")
    heading(tab, "Nearest neighbours")
    field.fill("the same in blue")
    tab.page.get_by_role("button", name="Search with it").click()
    tab.found("blue")
    heading(tab, "Composed with “the same in blue”")
    assert stub.asked_for("/compose") == [{"file": sent, "instruction": "the same in blue", "k": "10"}]
    expect(tab.page.locator("#status")).to_have_text(re.compile(r"^10 pictures of 24 · \d+ ms$"))
    tab.page.select_option("#count", "20")
    tab.found("blue", 20)
    tab.page.get_by_role("button", name="Without it").click()
    tab.found("red", 20)
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    expect(tab.page.get_by_role("button", name="Without it")).to_be_hidden()


def test_a_row_of_the_index_may_be_the_reference(tab: Tab, stub: Stub, field: Locator) -> None:
    tab.open("/#id=violet%2Fbild%202%20%C3%BC")
    tab.found("violet")
    field.fill("in green")
    field.press("Enter")
    tab.found("green")
    assert stub.asked_for("/compose") == [{"id": "violet/bild 2 ü", "instruction": "in green", "k": 10}]


def test_a_neighbour_that_is_chosen_starts_without_the_instruction(
    tab: Tab, stub: Stub, field: Locator
) -> None:
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    field.fill("in green")
    field.press("Enter")
    tab.found("green")
    tab.page.locator("#hits .hit").nth(VIEWS).click()
    heading(tab, "Nearest neighbours")
    expect(field).to_have_value("")
    assert len(stub.asked_for("/compose")) == 1


def test_words_that_were_not_searched_with_stay_when_a_picture_comes(tab: Tab, field: Locator) -> None:
    field.fill("in green")
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    expect(field).to_have_value("in green")
    field.press("Enter")
    tab.found("green")


def test_back_forward_and_a_reload_keep_the_instruction(tab: Tab, stub: Stub, field: Locator) -> None:
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    tab.page.locator("#hits .hit").nth(0).click()
    heading(tab, "Nearest neighbours")
    field.fill("in green & tall?")
    field.press("Enter")
    tab.found("green")
    tab.page.reload()
    tab.found("green")
    heading(tab, "Composed with “in green & tall?”")
    expect(field).to_have_value("in green & tall?")
    tab.page.go_back()
    tab.found("red")
    heading(tab, "Nearest neighbours")
    expect(field).to_have_value("")
    tab.page.go_forward()
    tab.found("green")
    expect(field).to_have_value("in green & tall?")
    # An address alone says as much.
    address = tab.page.url.removeprefix(stub.address)
    tab.page.goto("about:blank")
    tab.open(address)
    heading(tab, "Composed with “in green & tall?”")
    tab.found("green")


def test_words_alone_find_pictures(tab: Tab, stub: Stub, field: Locator) -> None:
    field.fill("something yellow")
    field.press("Enter")
    tab.found("yellow")
    heading(tab, "Found for “something yellow”")
    assert stub.asked_for("/search") == [{"text": "something yellow", "k": 10}]
    expect(tab.page.get_by_text("Drop a picture here")).to_be_visible()
    tab.page.reload()
    tab.found("yellow")
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    expect(field).to_have_value("")
    tab.page.go_back()
    tab.found("yellow")
    expect(tab.page.locator("#shown")).to_be_hidden()
    expect(field).to_have_value("something yellow")


def test_the_keyboard_is_enough_to_compose(tab: Tab, field: Locator) -> None:
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    keys = tab.page.keyboard
    tab.page.locator("#count").focus()
    keys.press("Tab")
    expect(field).to_be_focused()
    keys.type("in")
    keys.press("Shift+Enter")
    keys.type("blue")
    expect(field).to_have_value("in\nblue")
    keys.press("Enter")
    tab.found("blue")
    expect(field).to_be_focused()
    for name in ("Search with it", "Without it"):
        keys.press("Tab")
        expect(tab.page.get_by_role("button", name=name)).to_be_focused()
    keys.press("Enter")
    tab.found("red")


def test_an_instruction_that_is_refused_is_said(tab: Tab, stub: Stub, field: Locator) -> None:
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    stub.refusals["/compose"] = (400, "the instruction has 612 tokens", {})
    field.fill("in blue")
    field.press("Enter")
    alert = tab.page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text("The instruction was refused")
    expect(alert).to_contain_text("The instruction has 612 tokens.")
    stub.refusals.clear()
    field.fill("in green")
    field.press("Enter")
    tab.found("green")
    expect(alert).to_be_hidden()


def test_where_it_looked_is_not_offered_where_the_model_does_not_say(
    tab: Tab, stub: Stub, field: Locator
) -> None:
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    expect(tab.page.locator("#look")).to_be_hidden()
    assert stub.asked_for("/attention") == []


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_a_long_instruction_is_not_wider_than_the_window(
    tab: Tab, stub: Stub, field: Locator, width: int
) -> None:
    tab.page.set_viewport_size({"width": width, "height": 844})
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    field.fill("green" + "very" * 200)
    field.press("Enter")
    tab.found("green")
    assert not tab.too_wide()
    box = tab.page.locator("#found-title").bounding_box()
    assert box is not None and box["height"] < 100
    assert tab.smallest_target() >= (36 if width <= 640 else 24)
