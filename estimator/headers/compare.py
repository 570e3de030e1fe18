"""A weights file against the config beside it: where they differ, the file is right, and it is said loudly."""

from __future__ import annotations

import re

from estimator.config import Config
from estimator.errors import LlmcalcError
from estimator.headers import Header
from estimator.inventory import EXPERT, Weight

# codes packed several to an element: the header's elements are then not parameters
_PACKED = {"U8", "I8", "U32", "I32", "F4"}
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def compare(config: Config, header: Header) -> list[str]:
    """Notes on how the header's tensors differ from the inventory that the config gives; empty where they agree."""
    from estimator.families import build
    from estimator.storage.gguf_tensors import in_file

    if header.missing:
        found = len({t.name for t in header.tensors})
        gone = f"{len(header.missing)} of its shards {'is' if len(header.missing) == 1 else 'are'} not here"
        return [f"{header.path}: {gone}; {found} tensors were read and not compared with the config"]
    if header.kind == "gguf":
        packed = False
    else:
        packed = any(t.dtype in _PACKED for t in header.tensors)
    if packed or "quantization_config" in config.raw:
        size = f"quantised weights, {header.bytes:,} bytes"
        return [f"{header.path}: {size}; packed codes are not compared with the config's count"]
    try:
        arch = build(config)
        weights = (in_file(arch) if header.kind == "gguf" else arch).weights()
    except LlmcalcError:
        return []  # the family's own error is raised where the architecture is used
    counted = sum(int(w.total) for w in weights)
    if counted == header.elements:
        return []
    more = header.elements - counted
    text = (
        f"WARNING: {header.path} holds {header.elements:,} elements, the config gives {counted:,} parameters "
        f"({more:+,}); the file is what is stored"
    )
    return [text + _because(weights, header, more)]


def _because(weights: list[Weight], header: Header, more: int) -> str:
    """What explains the difference, where names tell."""
    if header.kind == "gguf":
        extra = sum(t.elements for t in header.tensors if t.name.startswith("rope_"))
        return f": {extra:,} are rotary tables" if extra == more else ""
    known = {w.name.rpartition("{i}.")[2] for w in weights if w.role != EXPERT}
    heads = [t for t in header.tensors if t.name in ("lm_head.weight", "embed_out.weight")]
    if heads and heads[0].elements == more:
        return f": the tied {heads[0].name} is stored a second time"
    odd = [t for t in header.tensors if ".experts." not in t.name and not any(t.name.endswith(k) for k in known)]
    if odd and sum(t.elements for t in odd) == more:
        patterns = sorted({_LAYER.sub("{i}", t.name) for t in odd})
        return f": {', '.join(patterns[:3])}{' ...' if len(patterns) > 3 else ''} are not parameters of the class"
    return ""
