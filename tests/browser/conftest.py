"""A real browser in front of the real site; foreign requests and console errors fail a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from accounts.models import User
from tests.live import Site

# Playwright's synchronous API keeps an event loop in this thread; Django takes that for async code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
AXE = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 390, "height": 844}
Open = Callable[..., Page]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The system's Chromium.

    Not for the whole session: Playwright's event loop runs in this thread as long as it is open,
    and tests elsewhere run loops of their own.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
            # Inside a container the browser's own sandbox has no rights.
            args=["--no-sandbox"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(site: Site, chromium: Browser) -> Iterator[Open]:
    """Opens pages of the site in a context of their own, and checks afterwards what they did."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def _open(path: str, *, user: User | None = None, **options: Any) -> Page:
        context = chromium.new_context(
            base_url=site.url, **{"viewport": WIDE, "locale": "en-US", **options}
        )
        contexts.append(context)
        if user is not None:
            sign_in(context, site.url, user)
        page = context.new_page()
        _watch(page, urlsplit(site.url).netloc, wrong)
        page.goto(path)
        return page

    yield _open
    for context in contexts:
        context.close()
    assert wrong == []


def _watch(page: Page, own: str, wrong: list[str]) -> None:
    def request(url: str) -> None:
        if not url.startswith(("data:", "blob:")) and urlsplit(url).netloc != own:
            wrong.append(f"foreign request: {url}")

    page.on("request", lambda made: request(made.url))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    # A refused run is an answer like any other; the browser logs it as a failed resource.
    page.on(
        "console",
        lambda line: (
            wrong.append(f"console: {line.text}")
            if line.type == "error" and "Failed to load resource" not in line.text
            else None
        ),
    )


def sign_in(context: BrowserContext, url: str, user: User) -> None:
    """Give the browser a session, as if the person had signed in."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    assert session.session_key
    context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": session.session_key, "url": url}]
    )


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return what axe finds wrong: rule and elements."""
    page.evaluate(AXE)
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", TAGS)
    return [
        (item["id"], [str(node["target"]) for node in item["nodes"]])
        for item in found["violations"]
    ]


def overflows(page: Page) -> bool:
    """Whether the page scrolls sideways."""
    return bool(
        page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )
