"""The page against the service itself, in this process: the stub of the other tests answers as it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.serve.cases import ROWS, app_of, png
from tests.serve.page.browser import Tab, tab_of
from tests.serve.page.stub import served


@pytest.fixture
def address(model: Path, index: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The service over the tiny encoder and its index; a test may ask for other settings."""
    settings: dict[str, Any] = {"index": index, **getattr(request, "param", {})}
    with served(app_of(model, **settings)) as address:
        yield address


@pytest.fixture(scope="module")
def composing_address(composing: Any) -> Iterator[str]:
    """The service over a composed embedder and its index."""
    with served(composing) as address:
        yield address


@pytest.fixture
def composing_tab(browser: Browser, composing_address: str) -> Iterator[Tab]:
    """A tab at it."""
    with tab_of(browser, composing_address) as tab:
        yield tab


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    """A tab at the service."""
    with tab_of(browser, address) as tab:
        yield tab


def test_a_picture_of_the_index_finds_itself_and_leads_on(tab: Tab) -> None:
    tab.open()
    expect(tab.page.locator("#facts dd").first).to_have_text(f"{ROWS} (flat)")
    tab.drop(png(4), "four.png", "image/png")
    tab.found("table")
    first, second = tab.page.locator("#hits .hit").nth(0), tab.page.locator("#hits .hit").nth(1)
    expect(first).to_have_attribute("title", "Search with p/4")
    expect(first.locator(".score")).to_have_text("1.000")
    expect(first.locator("img")).not_to_have_js_property("naturalWidth", 0)
    row = (second.get_attribute("title") or "").removeprefix("Search with ")
    second.click()
    expect(tab.page.locator("#metadata dd")).to_have_text([row, str(10 * int(row.removeprefix("p/")))])
    expect(tab.page.locator("#hits .hit")).to_have_count(10)
    titles = [card.get_attribute("title") for card in tab.page.locator("#hits .hit").all()]
    assert f"Search with {row}" not in titles
    # All of the small index but the picture itself.
    tab.page.select_option("#count", "50")
    expect(tab.page.locator("#hits .hit")).to_have_count(ROWS - 1)


def test_attention_comes_for_a_file_and_for_a_row(tab: Tab) -> None:
    tab.open()
    tab.drop(png(4))
    tab.page.check("#look")
    expect(tab.page.locator("#heat")).to_have_attribute("aria-label", re.compile("^The encoder looked "))
    tab.page.locator("#hits .hit").nth(1).click()
    expect(tab.page.locator("#heat")).to_be_visible()


def test_what_is_no_picture_is_refused_in_words(tab: Tab) -> None:
    tab.open()
    tab.drop(b"no picture", "notes.txt", "text/plain")
    alert = tab.page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text("The picture was refused")
    expect(alert).to_contain_text("it must be JPEG")
    tab.drop(png(3))
    tab.found("chair")


@pytest.mark.parametrize("address", [{"index": None}], indirect=True)
def test_without_an_index_the_page_says_so(tab: Tab) -> None:
    tab.open()
    expect(tab.page.get_by_role("alert")).to_contain_text("No index to search")


@pytest.mark.parametrize("address", [{"token": "secret"}], indirect=True)
def test_the_services_token_lets_in(tab: Tab) -> None:
    tab.page.goto(tab.address)
    tab.page.get_by_label("Access token").fill("secret")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#model")).to_have_text("tiny")
    tab.drop(png(3))
    tab.found("chair")
    expect(tab.page.locator("#hits img").first).not_to_have_js_property("naturalWidth", 0)


def test_pictures_rows_and_words_are_composed_by_the_service(composing_tab: Tab) -> None:
    tab, hits = composing_tab, composing_tab.page.locator("#hits .hit")
    tab.open()
    expect(tab.page.locator("#attention")).to_be_hidden()
    tab.drop(png(4), "four.png", "image/png")
    expect(hits.nth(0)).to_have_attribute("title", "Search with p/4")
    field, title = tab.page.get_by_label("Instruction"), tab.page.locator("#found-title")
    field.fill("in red")
    field.press("Enter")
    expect(title).to_have_text("Composed with “in red”")
    expect(hits).to_have_count(10)
    hits.nth(1).click()
    expect(title).to_have_text("Nearest neighbours")
    row = tab.page.locator("#metadata dd").first.inner_text()
    field.fill("smaller")
    field.press("Enter")
    expect(title).to_have_text("Composed with “smaller”")
    tab.page.select_option("#count", "50")
    expect(hits).to_have_count(ROWS - 1)
    assert f"Search with {row}" not in [each.get_attribute("title") for each in hits.all()]
    field.fill("red " * 245)
    field.press("Enter")
    alert = tab.page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text("The instruction was refused")
    expect(alert).to_contain_text("shorten it")
    tab.page.goto("about:blank")
    tab.open()
    field.fill("a red chair")
    field.press("Enter")
    expect(title).to_have_text("Found for “a red chair”")
    expect(hits).to_have_count(10)
