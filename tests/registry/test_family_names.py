"""What a family does differently is a field of its blocks: no other folder knows a family by its name.

Tables of other projects may: the peft library's exceptions by model type, GGUF's architectures, Ollama's library.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from estimator.families import FAMILIES
from estimator.families.base import Attention, Layer, MoE, Norm, StateSpace
from estimator.kv.layers import STATES
from estimator.models import load_model
from estimator.presets import names
from estimator.stack.layers import FORMS, WIRING
from estimator.stack.moe import ROUTES
from estimator.stack.norms import NORMS
from estimator.stack.rotation import WIDE
from estimator.stack.routers import ROUTERS
from tests.registry.trees import ROOT, trees

OTHER_PROJECTS = {
    "peft/mappings.py", "headers/gguf_architectures.py", "headers/gguf_newer.py",
    "sources/native_mappings.py", "sources/ollama_mappings.py", "stack/liger_mappings.py",
    "storage/method_mappings.py",
}  # fmt: skip
TEXTBOOK = "symbolic"  # the transformer in letters, which is also a kind of input
HOMONYMS = {("commands/fermi/cli.py", "new")}

# every value that a field of a block may have
KNOWN = {
    (Norm, "kind"): {*NORMS, "rms_gated"},
    (Attention, "form"): {"interface", *FORMS},
    (Attention, "softmax"): {"fp32", "scores"},
    (Attention, "rotary"): {"whole", "joined", *WIDE},
    (Attention, "normed"): {"viewed", "transposed", "rotated"},
    (Attention, "query_scale"): {"", "parts", "projected", "rotated"},
    (Attention, "taken"): {"columns", "slices", "heads"},
    (Attention, "rope_style"): {"half", "interleaved", "complex", "none"},
    (Attention, "position"): {"rope", "learned", "alibi", "relative", "none"},
    (Attention, "mask"): {"needed", "always", "boolean"},
    (StateSpace, "kind"): {*STATES},
    (MoE, "routing"): {*ROUTES, *ROUTERS},
    (Layer, "wiring"): set(WIRING),
    (Layer, "side"): {"encoder", "decoder"},
}
KEEPS = {"branch", "input", "probs"}


def files() -> Iterator[tuple[str, ast.AST]]:
    for name, tree in trees().items():
        if not name.startswith("families/") and name not in OTHER_PROJECTS:
            yield name, tree


@pytest.mark.thorough
def test_no_family_is_named_outside_families():
    known = set(FAMILIES) - {TEXTBOOK}
    found = {
        (name, node.lineno, word)
        for name, tree in files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200
        for word in known & set(node.value.split())
        if not _prose(node.value) and (name, word) not in HOMONYMS
    }
    assert not found


def _prose(text: str) -> bool:
    """A sentence or a help text, which may name what it likes; a list of names is no prose."""
    return not set(text.split()) <= set(FAMILIES) and len(text.split()) > 1


def test_nobody_compares_a_model_type():
    found = {
        (name, node.lineno)
        for name, tree in files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        if isinstance(side, ast.Attribute) and side.attr in ("model_type", "family")
    }
    peft = {(name, line) for name, line in found if name.startswith("peft/")}  # beside a table of peft/mappings.py
    assert not found - peft
    for name, line in peft:
        assert any(table in source(name, line) for table in ("_TYPES", "NO_GROUPS", "types.split()"))


def source(name: str, line: int) -> str:
    return (ROOT / name).read_text().splitlines()[line - 1]


@pytest.fixture(scope="module")
def blocks() -> list[object]:
    """Every block of every preset."""
    out: list[object] = []

    def add(part: object) -> None:
        if isinstance(part, tuple):
            if hasattr(part, "_fields"):
                out.append(part)
            for inner in part:
                add(inner)

    for name in names("models"):
        arch = load_model(name).architecture
        add((arch.layers, arch.embeddings, arch.final))
    return out


@pytest.mark.parametrize("kind", sorted(KNOWN, key=str), ids=lambda k: f"{k[0].__name__}.{k[1]}")
def test_fields_have_a_known_meaning(kind, blocks):
    block, field = kind
    assert {getattr(b, field) for b in blocks if isinstance(b, block)} <= KNOWN[kind]


def test_layers_keep_what_is_known(blocks):
    assert {kept for b in blocks if isinstance(b, Layer) for kept in b.keeps} <= KEEPS
