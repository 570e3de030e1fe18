"""What MkDocs does beside turning Markdown into pages: links, other people's files, the lists of the live page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import fetch  # MkDocs lets a hook import its neighbours

ROLE = re.compile(r":(?:class|func|mod|meth):<code>~?[\w.]*?(\w+)</code>")
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:estimator|presets|tests|benchmarks)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository, which are no pages of the site, become their names."""
    return OUTSIDE.sub(r"`\1`", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Names that docstrings mark for Sphinx become plain code."""
    return ROLE.sub(r"<code>\1</code>", html)


def on_post_build(config: Any, **_: Any) -> None:
    """Put KaTeX, Pyodide, the wheels and the lists of presets beside the pages."""
    site = Path(config["site_dir"])
    for name in fetch.NPM:
        for inside, file in fetch.npm(name).items():
            target = site / "assets" / name / inside.removeprefix("dist/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    served = site / "assets" / "wheels"
    served.mkdir(parents=True, exist_ok=True)
    names = []
    for wheel in fetch.wheels():
        shutil.copyfile(wheel, served / wheel.name)
        names.append(wheel.name)
    (site / "assets" / "lists.json").write_text(json.dumps({"wheels": names, **lists()}))


def lists() -> dict[str, Any]:
    """The names that the live page offers before Python has loaded."""
    from estimator.peft import METHODS
    from estimator.presets import ids

    return {"models": ids("models"), "gpus": ids("gpus"), "methods": list(METHODS)}
