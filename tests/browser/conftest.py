"""Pages in a real headless Chromium: Debian's ``chromium`` driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Opener:
    """Opens a page from disk and keeps what its console said."""

    browser: Browser
    folder: Path

    def __call__(self, html: str, **options: Any) -> Page:
        """The page, loaded; a test that ends with something on ``page.said`` has not looked at it."""
        address = self.write(html)
        page = self.browser.new_page(**{"viewport": {"width": 1180, "height": 900}, **options})
        self.said: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self._note_request(request.url))
        page.goto(address)
        return page

    def write(self, html: str) -> str:
        """The address of a file with this text."""
        path = self.folder / "latest.html"
        path.write_text(html, "utf-8")
        return path.as_uri()

    def _note_request(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.said.append(f"request to {url}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all pages; skipped where there is none, unless ``ENGRAM_BROWSER_REQUIRED`` is set."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        message = "needs playwright and a chromium: make test-browser"
        if os.environ.get("ENGRAM_BROWSER_REQUIRED"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, tmp_path: Path) -> Opener:
    """Opens the text of a page."""
    return Opener(chromium, tmp_path)
