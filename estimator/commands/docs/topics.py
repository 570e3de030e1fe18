"""The pages that the program carries: an installed wheel as ``estimator/_docs``, a checkout beside the package."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from estimator.errors import InputError, unknown

# folders in the order in which a bare name is looked for: ``kvcache`` is the command's page, not the homework's
FOLDERS = ("", "guides", "commands", "stacks", "engines", "homework", "homework/fermi")
_HEADING = re.compile(r"^# +(.+)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_NO_PAGES = {"reference", "try", "index"}  # of the site alone


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where the pages are."""
    package = Path(__file__).resolve().parents[2]
    for place in (package / "_docs", package.parent / "docs"):
        if place.is_dir():
            return place
    raise InputError("this installation carries no documentation; install llmcalc again")


@lru_cache(maxsize=1)
def topics() -> dict[str, Path]:
    """Topic -> file, in reading order; a name that an earlier folder has comes with its own: ``homework/kvcache``."""
    found: dict[str, Path] = {}
    for under in FOLDERS:
        for path in sorted((folder() / under).glob("*.md")):
            name = path.parent.name if path.stem == "README" else path.stem
            if not under and name in _NO_PAGES:
                continue
            found[f"{under.split('/')[0]}/{name}" if name in found else name] = path
    return found


def title(path: Path) -> str:
    """The first heading of a page."""
    match = _HEADING.search(path.read_text(encoding="utf-8"))
    return match[1].replace("`", "") if match else path.stem


def page(topic: str) -> str:
    """A page's Markdown; InputError with the nearest topics where there is none."""
    key = topic.strip().lower().removeprefix("docs/").removesuffix(".md")
    found = topics()
    for name in (key, key.replace("_", "-").replace(" ", "-"), key.rpartition("/")[2]):
        if name in found:
            return _COMMENT.sub("", found[name].read_text(encoding="utf-8"))
    raise unknown("topic", topic, found, "List them: llmcalc docs", every=False)
