"""The system's Chromium, driven by Playwright, and a page that notes what it asks for and what goes wrong."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 30_000  # milliseconds: tests share a machine with others
FILL = """([content, name, type]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name, { type }));
  return transfer;
}"""

SAMPLES = """(canvas) => [...canvas.getContext('2d').getImageData(0, 0, 256, 256).data]"""
WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
TARGETS = """[...document.querySelectorAll('button, label.button, select')]
  .filter((each) => each.offsetParent).map((each) => Math.min(each.offsetWidth, each.offsetHeight))"""
CONTRAST = """() => {
  const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (colour) => {
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const [red, green, blue] = [...probe.getImageData(0, 0, 1, 1).data].map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const { backgroundColor } = getComputedStyle(each);
      if (!/, 0\\)$/.test(backgroundColor)) return backgroundColor;
    }
  };
  const shown = [...document.querySelectorAll('body *')].filter((each) => each.offsetParent
    && [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim()));
  return shown.map((each) => {
    const [dark, bright] = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => a - b);
    return [each.textContent.trim().slice(0, 40), (bright + 0.05) / (dark + 0.05)];
  });
}"""


def chromium() -> str | None:
    """The path of the system's browser, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def browser_at(path: str) -> Iterator[Browser]:
    """A headless browser. Playwright's event loop ends with it, so that other tests may run theirs."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            timeout=120_000,
            env={**os.environ, "no_proxy": "127.0.0.1,localhost"},
        )
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page with what it asked for and what its console said of errors."""

    page: Page
    address: str
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str = "/") -> None:
        """Open the page and wait until it knows its server."""
        self.page.goto(self.address + path)
        expect(self.page.locator("#model")).not_to_have_text("…")

    def drop(self, content: bytes, name: str = "chair.jpg", kind: str = "image/jpeg") -> None:
        """Drop a file on the page."""
        file = [base64.b64encode(content).decode(), name, kind]
        transfer = self.page.evaluate_handle(FILL, file)
        self.page.dispatch_event("#picture", "dragover", {"dataTransfer": transfer})
        self.page.dispatch_event("#picture", "drop", {"dataTransfer": transfer})

    def paste(self, content: bytes) -> None:
        """Paste a picture."""
        self.page.evaluate(
            f"(file) => document.dispatchEvent(new ClipboardEvent('paste', "
            f"{{ clipboardData: ({FILL})(file), bubbles: true }}))",
            [base64.b64encode(content).decode(), "", "image/png"],
        )

    def labels(self) -> list[str]:
        """The neighbours' labels, as listed."""
        return self.page.locator("#hits .label").all_inner_texts()

    def found(self, label: str, number: int = 10) -> None:
        """Wait until the neighbours are there, the nearest of this label."""
        expect(self.page.locator("#hits .hit")).to_have_count(number)
        expect(self.page.locator("#hits .label").first).to_have_text(label)

    def heat(self, x: int, y: int) -> list[int]:
        """Red, green and blue of the drawn attention at a pixel of its 256 x 256."""
        pixels: list[int] = self.page.locator("#heat").evaluate(SAMPLES)
        return pixels[4 * (256 * y + x) :][:3]

    def too_wide(self) -> bool:
        """Whether the page scrolls sideways."""
        return bool(self.page.evaluate(WIDER_THAN_THE_WINDOW))

    def smallest_target(self) -> int:
        """The least width or height, in pixels, of what one presses."""
        return int(min(self.page.evaluate(TARGETS)))

    def contrasts(self) -> dict[str, float]:
        """Of each text that is shown: the contrast to its ground, as WCAG 2 defines it."""
        return dict(self.page.evaluate(CONTRAST))


@contextmanager
def tab_of(browser: Browser, address: str) -> Iterator[Tab]:
    """A tab of its own; a script's error or a request to elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    tab = Tab(context.new_page(), address)
    yield tab
    context.close()
    assert tab.errors == []
    assert [url for url in tab.asked if not url.startswith((f"{address}/", f"blob:{address}/"))] == []
