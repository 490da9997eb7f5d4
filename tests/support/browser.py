"""A browser on the server's page, and everything that a page must not do, written down while it does it."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Playwright's own, or the system's, or NIMBED_BROWSER's; skips where there is none."""
    pytest.importorskip("playwright", reason="no Playwright here: make test-browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        own = Path(driver.chromium.executable_path)
        found = os.environ.get("NIMBED_BROWSER") or (str(own) if own.exists() else None)
        if (found := found or next(filter(None, map(shutil.which, _NAMES)), None)) is None:
            pytest.skip(f"no browser here: playwright install chromium, or one of {', '.join(_NAMES)}")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page of a server, in a browser context of its own.

    Attributes:
        page: Playwright's.
        errors: of the console, or thrown.
        requested: addresses, of all that it asked for.
        expected: parts of the errors that a test provokes.
    """

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url, self.errors, self.requested, self.expected = url, [], [], []
        self.context = browser.new_context(**context)
        self.context.add_init_script(_VIOLATIONS)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def open(self, path: str = "/ui") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def close(self) -> None:
        """Nothing that a page must not do was done."""
        violations = self.page.evaluate("window.violations")
        origin = self.page.evaluate("location.origin")
        kept = self.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        self.context.close()
        assert violations == []
        assert kept == [0, 0, ""]
        assert {"{0.scheme}://{0.netloc}".format(urlsplit(one)) for one in self.requested} == {origin}
        assert [one for one in self.errors if not any(part in one for part in self.expected)] == []


def run(page: Page, name: str = "similarity") -> str:
    """Ask for what the playground's form says, and what was said of it."""
    page.locator("#tab-playground").click()
    page.locator(f"input[value={name}]").check(force=True)
    page.locator("#run").click()
    page.locator(".heat, .ranks" if name == "similarity" else ".ranks").first.wait_for()
    page.locator("#run:enabled").wait_for()
    return page.locator("#said").inner_text()
