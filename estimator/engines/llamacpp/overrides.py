"""``--override-tensor PATTERN=CPU``: which layers' experts a pattern keeps on the host.

A pattern is matched against the names of a layer's tensors, as llama.cpp does (std::regex_search over the name); whole
stacks of experts can move, nothing else. Patterns are short and have few repeats, so that none takes long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from estimator.errors import InputError

STACKS = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
OTHERS = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",
          "ffn_gate_inp", "ffn_up_shexp", "ffn_down_shexp")  # fmt: skip
LONGEST, REPEATS = 300, 3
HOST = ("cpu", "cpu_mapped")
_NESTED = re.compile(r"\)[*+{?]")
_REPEAT = re.compile(r"(?<!\\)[*+{]")


def layers_on_host(given: str, layers: int) -> frozenset[int]:
    """The layers whose experts ``--override-tensor`` keeps on the host. InputError for all else that it can say."""
    out: set[int] = set()
    for pattern in _patterns(given):
        for i in range(layers):
            found = [bool(pattern.search(f"blk.{i}.{name}.weight")) for name in STACKS]
            other = next((n for n in OTHERS if pattern.search(f"blk.{i}.{n}.weight")), None)
            if other or (any(found) and not all(found)):
                what = other or next(n for n, x in zip(STACKS, found, strict=True) if x)
                raise InputError(
                    f"--override-tensor {given[:60]}: it moves {what} of layer {i}; only whole experts are laid out: "
                    "'exps=CPU'"
                )
            out |= {i} if all(found) else set()
    if not out:
        raise InputError(f"--override-tensor {given[:60]}: no experts have such a name, as in blk.0.{STACKS[0]}.weight")
    return frozenset(out)


def _patterns(given: str) -> Iterator[re.Pattern[str]]:
    for part in given.split(","):
        text, equals, buffer = part.strip().rpartition("=")
        if not equals or not text:
            raise InputError(f"--override-tensor {given[:60]}: PATTERN=CPU, as in 'exps=CPU'")
        if buffer.strip().lower() not in HOST:
            raise InputError(
                f"--override-tensor {given[:60]}: to CPU alone, got {buffer[:20]!r}. Several GPUs: --tensor-split"
            )
        if len(text) > LONGEST or _NESTED.search(text) or len(_REPEAT.findall(text)) > REPEATS:
            raise InputError(
                f"--override-tensor {given[:60]}: at most {REPEATS} repeats in a pattern, none of a group. "
                "Layers as numbers: blk.(1|2|3).ffn_.*_exps"
            )
        try:
            yield re.compile(text)
        except (re.error, OverflowError, RecursionError):
            raise InputError(f"--override-tensor {given[:60]}: no regular expression") from None
