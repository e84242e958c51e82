"""Pages opened from disk in a browser, with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route


def open_from_disk(
    browser: Browser, file: Path, may_ask_for: Callable[[str], bool], **context: Any
) -> tuple[Page, list[str]]:
    """Open a page; whatever else it asks for is blocked and listed, and so is every complaint."""
    page = browser.new_context(accept_downloads=True, **context).new_page()
    wrong: list[str] = []

    def watch(route: Route) -> None:
        if may_ask_for(route.request.url):
            route.continue_()
        else:
            wrong.append(route.request.url)
            route.abort()

    page.route("**/*", watch)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    return page, wrong
