"""Looks the names of :mod:`estimator.foreign` up in the programs' own files: ``python -m tests.core.make_foreign``.

Takes PROGRAM=GLOB pairs (name and version, whole path of files where its options are declared; several pairs of one
program add up) and writes which of the names each declares to tests/core/foreign_names.json. A name counts where it
stands in quotes after dashes, or as the name of a class's field or of a function's argument.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from estimator import foreign

RECORD = Path(__file__).with_name("foreign_names.json")
DECLARED = re.compile(
    r"""["']--?([a-zA-Z][\w-]*)["']|^ {4}(\w+)\s*:|^ {8}(\w+)=.*,$|json:"(\w+)|OLLAMA_(\w+)|^\| (\w+) """, re.M
)


def listed() -> Iterator[str]:
    """Every name of another program that is understood."""
    for words in foreign.SAME.values():
        yield from words.split()
    yield from (*foreign.ALONE, *foreign.ARGUMENTS, *foreign.VALUED.split(), *foreign.FLAGS.split())
    yield from foreign.OTHERWISE


def declared(paths: Iterable[Path]) -> set[str]:
    """The names that files declare, spelt as on a command line."""
    texts = (p.read_text(errors="replace") for p in paths)
    return {n.replace("_", "-").lower() for t in texts for m in DECLARED.finditer(t) for n in m.groups() if n}


def main() -> None:
    files: dict[str, list[Path]] = defaultdict(list)
    for pair in sys.argv[1:]:
        program, _, pattern = pair.partition("=")
        files[program] += Path("/").glob(pattern.lstrip("/"))
    names = set(listed())
    found = {program: sorted(names & declared(paths)) for program, paths in sorted(files.items())}
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
