"""A real Chromium, offline, and what a page did in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # tests run as root in containers
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
)


@dataclass(kw_only=True)
class Visit:
    """An open page, and everything that it said or asked for."""

    page: Any
    said: list[str] = field(default_factory=list)  # console messages, errors, dialogs
    asked: list[str] = field(default_factory=list)  # requests beside the page itself

    def assert_quiet(self) -> None:
        """No word on the console, no error, no dialog, no request."""
        assert self.said == []
        assert self.asked == []


@contextmanager
def launched() -> Iterator[Any]:
    """A browser. Skips the test if there is none, unless RESURGENCE_GATE_NEEDS_BROWSER=1 says that there must be."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        reason = f"no {' or '.join(NAMES)} on the PATH; on Debian: apt-get install chromium"
        if os.environ.get("RESURGENCE_GATE_NEEDS_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def visited(browser: Any, file: Path, **options: Any) -> Iterator[Visit]:
    """`file`, opened from the disk without a network; `options` are those of Playwright's contexts."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True} | options)
    page = context.new_page()
    visit = Visit(page=page)
    page.on("console", lambda message: visit.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.said.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (visit.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: visit.asked.append(request.url))
    page.goto(file.as_uri())
    visit.asked = [url for url in visit.asked if url != file.as_uri() and not url.startswith("data:")]
    page.on("popup", lambda popup: visit.said.append(f"window: {popup.url}"))
    yield visit
    context.close()
