"""The page in a real browser: pictures come in, neighbours come out, by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.serve.page.browser import Tab
from tests.serve.page.stub import COLOURS, VIEWS, Stub, picture


def test_a_dropped_picture_finds_its_neighbours(tab: Tab, stub: Stub) -> None:
    tab.open()
    sent = picture(COLOURS["green"])
    tab.drop(sent, "leaf.jpg")
    tab.found("green")
    assert stub.asked_for("/search") == [{"file": sent, "k": "10"}]
    assert tab.labels()[:VIEWS] == ["green"] * VIEWS
    scores = [float(text.replace("−", "-")) for text in tab.page.locator("#hits .score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(1, abs=0.01)
    assert tab.page.locator("#hits .rank").all_inner_texts() == [str(rank) for rank in range(1, 11)]
    expect(tab.page.locator("#status")).to_have_text(re.compile(r"^10 pictures of 24 · \d+ ms$"))
    expect(tab.page.locator("#name")).to_have_text("leaf.jpg")
    expect(tab.page.locator("#shown")).to_have_js_property("naturalWidth", 96)
    for thumbnail in tab.page.locator("#hits img").all():
        expect(thumbnail).to_have_js_property("naturalWidth", 96)


def test_the_server_is_described(tab: Tab, stub: Stub) -> None:
    tab.open()
    expect(tab.page.locator("#model")).to_have_text("colours")
    facts = tab.page.locator("#facts dd").all_inner_texts()
    assert facts == ["24 (flat)", "3 numbers", "96 × 96 pixels", "0123456789ab"]
    assert tab.page.title() == "colours · SAGA search"


def test_a_picture_may_be_chosen_or_pasted(tab: Tab, stub: Stub) -> None:
    tab.open()
    file = {"name": "sky.jpg", "mimeType": "image/jpeg", "buffer": picture(COLOURS["blue"])}
    tab.page.set_input_files("#file", [file])
    tab.found("blue")
    tab.paste(picture(COLOURS["red"]))
    tab.found("red")
    tab.page.set_input_files("#file", [file])
    tab.found("blue")


def test_a_click_on_a_neighbour_searches_with_it(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    other = tab.labels().index("orange")
    tab.page.locator("#hits .hit").nth(other).click()
    tab.found("orange")
    asked = stub.asked_for("/search")[1]
    assert asked["id"].startswith("orange/bild ") and asked["k"] == 10
    assert tab.labels()[: VIEWS - 1] == ["orange"] * (VIEWS - 1)
    assert tab.page.locator("#metadata dt").all_inner_texts() == ["id", "view"]
    assert tab.page.locator("#metadata dd").first.inner_text() == asked["id"]


def test_back_forward_and_an_address_lead_to_a_query(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.drop(picture(COLOURS["red"]), "rose.jpg")
    tab.found("red")
    tab.page.locator("#hits .hit").nth(VIEWS).click()
    tab.found("orange")
    searches = len(stub.asked_for("/search"))
    tab.page.go_back()
    tab.found("red")
    expect(tab.page.locator("#name")).to_have_text("rose.jpg")
    tab.page.go_forward()
    tab.found("orange")
    assert len(stub.asked_for("/search")) == searches
    # A reload keeps what is known of the picture; the file of the query before it is gone.
    tab.page.reload()
    tab.found("orange")
    expect(tab.page.locator("#name")).to_have_text("orange")
    label = tab.labels()[VIEWS]
    tab.page.locator("#hits .hit").nth(VIEWS).click()
    tab.found(label)
    tab.page.go_back()
    tab.found("orange")
    tab.page.go_back()
    expect(tab.page.get_by_text("Drop a picture here")).to_be_visible()


def test_an_address_leads_to_a_row_of_the_index(tab: Tab, stub: Stub) -> None:
    tab.open("/#id=violet%2Fbild%202%20%C3%BC")
    tab.found("violet")
    expect(tab.page.locator("#name")).to_have_text("violet/bild 2 ü")
    expect(tab.page.locator("#shown")).to_have_js_property("naturalWidth", 96)


def test_the_number_of_neighbours_can_be_chosen(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.drop(picture(COLOURS["red"]))
    tab.found("red", 10)
    tab.page.select_option("#count", "20")
    tab.found("red", 20)


def test_the_keyboard_is_enough(tab: Tab, stub: Stub) -> None:
    page, keys = tab.page, tab.page.keyboard
    file = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": picture(COLOURS["yellow"])}
    # Listened for long before the key is pressed: Playwright does not wait until the browser lets it.
    page.on("filechooser", lambda chooser: chooser.set_files([file]))
    tab.open()
    keys.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    keys.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    keys.press("Enter")
    tab.found("yellow")
    for place in ("#count", "#look"):
        keys.press("Tab")
        expect(page.locator(place)).to_be_focused()
    keys.press("Space")
    expect(page.locator("#heat")).to_be_visible()
    keys.press("Tab")
    hits = page.locator("#hits .hit")
    expect(hits.nth(0)).to_be_focused()
    for key, place in [("ArrowRight", 1), ("ArrowDown", 6), ("ArrowLeft", 5), ("ArrowUp", 0), ("End", 9)]:
        keys.press(key)
        expect(hits.nth(place)).to_be_focused()
    label = tab.labels()[9]
    keys.press("Enter")
    tab.found(label)
    # The focus stays among the neighbours, so that one can go on.
    expect(hits.nth(0)).to_be_focused()


def test_the_newest_of_two_searches_is_shown(tab: Tab, stub: Stub) -> None:
    tab.open()
    stub.slow["/search"] = 2.0
    tab.drop(picture(COLOURS["red"]))
    expect(tab.page.locator("#status")).to_have_text("Searching…")
    tab.drop(picture(COLOURS["green"]))
    tab.found("green")
    tab.page.wait_for_timeout(2500)
    tab.found("green")


def test_pictures_to_start_from_are_offered(tab: Tab, stub: Stub) -> None:
    stub.examples = True
    tab.open()
    expect(tab.page.locator("#hits .hit")).to_have_count(len(COLOURS))
    tab.page.locator("#hits .hit").nth(2).click()
    tab.found("yellow")
