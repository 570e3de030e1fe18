"""The browser that the other tests stand on sees what a page asks for and what it complains of."""

from __future__ import annotations


def test_requests_and_errors_are_seen(watched, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<h1>six</h1><img src='https://example.invalid/x.png'><script>document.title = 1 + 2; missing()</script>"
    )
    watched.page.goto(page.as_uri())
    assert watched.page.title() == "3"
    assert watched.page.locator("h1").inner_text() == "six"
    assert watched.outside("file:") == ["https://example.invalid/x.png"]
    assert any("missing" in e for e in watched.errors)
