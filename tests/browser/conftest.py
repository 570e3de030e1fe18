"""A headless Chromium for the tests of what a browser shows: Debian's, driven by playwright (extra ``browser``).

Everything in this folder is marked ``browser``, which ``make test`` leaves out and ``make browser`` runs: a machine
that has only Python and make has no Chromium.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
SITE = HERE.parents[1] / "site"
# none of the browser's own errands: what a test sees on the network is the page's
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running headless Chromium: a playwright ``Browser``."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "the browser tests need Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield browser
        browser.close()


class Watched:
    """A page with what it asked for and what it complained of.

    page      playwright's ``Page``
    requests  every address asked for; errors: the console's errors and uncaught exceptions
    """

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.context.on("request", lambda r: self.requests.append(r.url))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))

    def outside(self, *own: str) -> list[str]:
        """The addresses asked for that begin with none of ``own``."""
        return [url for url in self.requests if not url.startswith((*own, "data:", "blob:", "about:"))]


@pytest.fixture
def watched(chromium: Any) -> Iterator[Watched]:
    """A new page of 1280 by 900 pixels, watched: ``watched.page.goto(path.as_uri())``, ``watched.outside("file:")``."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield Watched(context.new_page())
    context.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The address of the site, ending in /."""
    assert (SITE / "index.html").is_file(), "the site is not built: make site"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
