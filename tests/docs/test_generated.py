"""The generated pages are what docs/build.py would write now; no page is left out of the index."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


@pytest.mark.parametrize("name", [*build.PAGES, *build.PARTS])
def test_page_is_fresh(name, update_golden):
    made = build.page(name)
    if update_golden:
        (ROOT / "docs" / name).write_text(made)
    assert (ROOT / "docs" / name).read_text() == made


def test_every_page_is_in_the_index_and_in_the_site():
    index = (ROOT / "docs" / "index.md").read_text()
    site = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2].split()
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert not {p for p in pages - {"index.md"} if f"({p})" not in index}
    assert not pages - set(site)
