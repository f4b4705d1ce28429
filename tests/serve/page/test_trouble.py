"""What the page says when something is missing, refused or slow."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.serve.page.browser import Tab
from tests.serve.page.stub import COLOURS, Stub, picture


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


@pytest.mark.parametrize(
    ("status", "message", "sent", "title", "text", "again"),
    [
        (429, "it is full", {"Retry-After": "2"}, "The server is busy", "Try again in 2 seconds.", True),
        (429, "it is full", {"Retry-After": "1"}, "The server is busy", "Try again in 1 second.", True),
        (400, "the file is no picture", {}, "The picture was refused", "The file is no picture.", False),
        (422, "it is cut off.", {}, "The picture was refused", "It is cut off.", False),
        (400, "at most 5 are given", {}, "The request was refused", "At most 5 are given.", False),
        (413, "it has 400 megapixels", {}, "The picture is too large", "It has 400 megapixels.", False),
        (503, "the model is loading", {}, "The server is not ready", "The model is loading.", True),
        (504, "no answer in 10 seconds", {}, "It took too long", "No answer in 10 seconds.", True),
        (500, "", {}, "The server failed", "It answered 500.", True),
    ],
)
def test_a_refusal_is_told_in_words(
    tab: Tab,
    stub: Stub,
    status: int,
    message: str,
    sent: dict[str, str],
    title: str,
    text: str,
    again: bool,
) -> None:
    tab.open()
    stub.refusals["/search"] = (status, message, sent)
    tab.drop(picture(COLOURS["red"]))
    alert = tab.page.get_by_role("alert")
    expect(alert.get_by_role("heading")).to_have_text(title)
    expect(alert).to_contain_text(text)
    expect(tab.page.locator("#hits .hit")).to_have_count(0)
    retry = alert.get_by_role("button", name="Try again")
    expect(retry).to_be_visible(visible=again)
    stub.refusals.clear()
    if again:
        retry.click()
    else:
        tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    expect(alert).to_be_hidden()


def test_an_unknown_id_and_a_silent_server_are_told(tab: Tab, stub: Stub) -> None:
    tab.open("/#id=nothing")
    alert = tab.page.get_by_role("alert")
    expect(alert).to_contain_text("There is no picture 'nothing' in the index")
    tab.page.context.set_offline(True)
    tab.drop(picture(COLOURS["red"]))
    expect(alert).to_contain_text("No answer from the server")
    tab.page.context.set_offline(False)
    alert.get_by_role("button", name="Try again").click()
    tab.found("red")


def test_what_is_dropped_and_no_file_is_told(tab: Tab, stub: Stub) -> None:
    tab.open()
    tab.page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          transfer.setData('text/uri-list', 'https://example.org/chair.jpg');
          document.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
        }"""
    )
    expect(tab.page.get_by_role("alert")).to_contain_text("That is no picture file")
    assert stub.asked_for("/search") == []


def test_a_file_that_the_browser_cannot_show_is_still_sent(tab: Tab, stub: Stub) -> None:
    tab.open()
    stub.refusals["/search"] = (400, "the file is no picture", {})
    tab.drop(b"no picture", "notes.heic", "image/heic")
    expect(tab.page.get_by_text("This browser cannot show the picture")).to_be_visible()
    expect(tab.page.get_by_role("alert")).to_contain_text("The file is no picture.")


def test_a_token_is_asked_for_and_kept_for_the_tab(tab: Tab, stub: Stub) -> None:
    stub.token = "secret"
    tab.page.goto(stub.address)
    field = tab.page.get_by_label("Access token")
    expect(field).to_be_focused()
    field.fill("wrong")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("This one is not right.")
    field.fill("secret")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("#model")).to_have_text("colours")
    tab.drop(picture(COLOURS["red"]))
    tab.found("red")
    # A thumbnail needs the token as well, which <img> alone would not send.
    expect(tab.page.locator("#hits img").first).to_have_js_property("naturalWidth", 96)
    tab.open()
    assert "secret" not in "".join(tab.asked)
