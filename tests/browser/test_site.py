"""Every page of the built site: nothing is asked of anybody else, formulas are set, links lead somewhere."""

from __future__ import annotations

from urllib.parse import unquote, urldefrag, urljoin

import pytest

from tests.browser.conftest import SITE

PAGES = sorted(p.parent.relative_to(SITE).as_posix() for p in SITE.rglob("index.html"))
LINKS = "Array.from(document.querySelectorAll('a[href]'), a => a.href)"
UNSET = "document.querySelectorAll('.arithmatex:not(:has(.katex))').length"
IDS = "Array.from(document.querySelectorAll('[id], a[name]'), e => e.id || e.name)"


def test_every_page(watched, served):
    """Requests, the console, formulas that are not set, links and anchors that lead nowhere, overflow at 400 pixels."""
    page, links, ids, wide, unset = watched.page, {}, {}, [], []
    for name in PAGES:
        address = served if name == "." else f"{served}{name}/"
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(address, wait_until="load")
        page.wait_for_function("!document.querySelector('.arithmatex') || document.querySelector('.katex')")
        unset += [name] * page.evaluate(UNSET)
        ids[address] = set(page.evaluate(IDS))
        links[address] = page.evaluate(LINKS)
        page.set_viewport_size({"width": 400, "height": 800})
        if page.evaluate("document.scrollingElement.scrollWidth") > 400:
            wide.append(name)
    assert len(PAGES) > 60
    assert not watched.outside(served)
    assert not watched.errors
    assert not unset
    assert not wide
    lost = []
    for address, found in links.items():
        for link in found:
            target, anchor = urldefrag(urljoin(address, link))
            if target.startswith(served) and target not in ids:
                lost += [] if (SITE / unquote(target.removeprefix(served))).is_file() else [(address, link)]
            elif anchor and target in ids and unquote(anchor) not in ids[target]:
                lost.append((address, link))
    assert not lost


def test_search_finds_a_page(watched, served):
    page = watched.page
    page.goto(served)
    page.locator("input[data-md-component='search-query']").fill("nkvo")
    page.wait_for_selector(".md-search-result__item a")
    found = page.eval_on_selector_all(".md-search-result__item a", "links => links.map(a => a.href)")
    assert any("help" in link or "llamacpp" in link for link in found)
    assert not watched.outside(served)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_follows_the_system(chromium, served, scheme):
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(served)
    found = page.locator("body").get_attribute("data-md-color-scheme")
    assert found == {"light": "default", "dark": "slate"}[scheme]
    context.close()
