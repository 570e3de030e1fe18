"""Names of modules as quantisers match them: each library has its own rule for its list of what stays as it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

Match = Callable[[str], bool]
_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"
MAX_PATTERN = 300  # characters; the patterns of published checkpoints have under 100
# a repeated group that repeats inside: such patterns take time exponential in the name
_NESTED = re.compile(r"\([^()]*[+*}][^()]*\)[+*{]")
# spellings of the same module: multimodal wrappers of transformers 5, older ones, and the checkpoints'
_RENAMED = (
    ("model.language_model.", ("model.", "language_model.model.", "language_model.")),
    ("model.visual.", ("visual.",)),
    ("model.vision_tower.", ("vision_tower.",)),
    ("model.multi_modal_projector.", ("multi_modal_projector.",)),
    ("model.", ("language_model.model.", "model.language_model.")),
)
_EXPERT_NAMES = ("gate_proj", "up_proj", "down_proj")
_MIXTRAL_NAMES = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


def spellings(name: str) -> list[str]:
    """``name`` and the other names that checkpoints give the same module."""
    out = [name]
    for start, others in _RENAMED:
        if name.startswith(start):
            out += [other + name.removeprefix(start) for other in others]
            break
    return out


def expert_names(name: str, down: bool) -> list[str]:
    """Names that checkpoints with a module an expert give a stack: the stack, and its first expert's matrices."""
    stack = name.rpartition(".")[0] if not name.endswith(".experts") else name
    kinds = _EXPERT_NAMES[2:] if down else _EXPERT_NAMES[:2]
    each = [f"{stack}.0.{kind}" for kind in kinds]
    mixtral = stack.replace(".mlp.experts", ".block_sparse_moe.experts")
    return [stack, *each, *(f"{mixtral}.0.{_MIXTRAL_NAMES[kind]}" for kind in kinds)]


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A stranger's pattern, None where it is none, is too long or could take for ever."""
    if len(pattern) > MAX_PATTERN or _NESTED.search(pattern):
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None


def _regex(pattern: str, name: str) -> bool:
    compiled = _compiled(pattern)
    return compiled is not None and compiled.match(name) is not None


def transformers_match(patterns: Iterable[str]) -> Match:
    """transformers 5.24 should_convert_module: a prefix up to a dot, a regular expression, or a suffix."""
    known = tuple(patterns)
    plain = tuple(p for p in known if re.fullmatch(r"[\w.-]*", p))
    others = tuple(p for p in known if p not in plain)
    prefixes = {p for p in plain if p}

    def match(name: str) -> bool:
        if plain and (name.endswith(tuple(p for p in plain if p)) or any(s in prefixes for s in _starts(name))):
            return True
        return any(_regex(f"(?:{p}){_BOUNDARY}", name) or name.endswith(p) for p in others)

    return match


def _starts(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def exact_or_regex(patterns: Iterable[str]) -> Match:
    """compressed-tensors match_name: the whole name, or ``re:`` and a pattern from its start."""
    known = set(patterns)
    regexes = [p.removeprefix("re:") for p in known if p.startswith("re:")]

    def match(name: str) -> bool:
        return name in known or any(_regex(p, name) for p in regexes)

    return match


def wildcards(patterns: Iterable[str]) -> Match:
    """ModelOpt and Quark: shell wildcards over the whole name, a name, or the start of one up to a dot."""
    known = tuple(p for p in patterns if len(p) <= MAX_PATTERN)
    named = {p.rstrip(".") for p in known}
    stars = tuple(p for p in known if any(c in p for c in "*?[") and not p.startswith("re:"))
    regexes = tuple(p.removeprefix("re:") for p in known if p.startswith("re:"))

    def match(name: str) -> bool:
        if any(s in named for s in _starts(name)) or any(_regex(p, name) for p in regexes):
            return True
        return any(fnmatchcase(name, p) for p in stars)

    return match
