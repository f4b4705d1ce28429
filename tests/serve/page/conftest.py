"""A browser, the stub server, and a tab of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.serve.page.browser import Tab, browser_at, chromium, tab_of
from tests.serve.page.stub import Stub, application, served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with browser_at(path) as browser:
        yield browser


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    with served(application(stub)) as stub.address:
        yield stub


@pytest.fixture
def tab(browser: Browser, stub: Stub) -> Iterator[Tab]:
    """A tab at the stub's address, not yet opened."""
    with tab_of(browser, stub.address) as tab:
        yield tab
