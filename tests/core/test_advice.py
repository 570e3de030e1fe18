"""Every message that gives advice was followed: what it says to type is typed, and works."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.core.advice import CASES, EXEMPT, files

PACKAGE = Path(__file__).resolve().parents[2] / "estimator"
ERRORS = ("InputError", "unknown", "DoesNotFit")
ADVICE = re.compile(
    r"\b((?<!formulas )use|add|give|try|pip install|again|put|set HF_TOKEN|leave|choose|drop|accept its|write|"
    r"take (wider|another)|did you mean|list them|list the|a template|make one|see:?|in letters:?) |llmcalc \w|"
    r": --[a-z-]+(?! symbolic| \.\* (does|is))",
    re.IGNORECASE,
)
FACTS = re.compile(r"sizes (give|leave) |does not divide|is not a multiple|has no sizes$")  # those words, and no advice


def spoken(node: ast.expr) -> str:
    """The text of an expression as a pattern: what is computed may be anything."""
    if isinstance(node, ast.Constant):
        return re.escape(str(node.value))
    if isinstance(node, ast.JoinedStr):
        return "".join(spoken(v) if isinstance(v, ast.Constant) else ".*" for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return spoken(node.left) + spoken(node.right)
    if isinstance(node, ast.IfExp):
        return f"({spoken(node.body)}|{spoken(node.orelse)})"
    return ".*"


def advice() -> dict[str, str]:
    """Place -> pattern, of every error whose own text says what to do."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
                hints = [*node.args[3:4], *(k.value for k in node.keywords if k.arg == "hint")]
                texts = [spoken(a) for a in (hints if node.func.id == "unknown" else node.args[:1])]
                said = ".*".join(t for t in texts if t != ".*")
                plain = said.replace("\\", "")
                if ADVICE.search(plain) and not FACTS.search(plain):
                    found[f"{path.relative_to(PACKAGE)}:{node.lineno}"] = said
    return found


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict[str, str]:
    """The files that lines name, and a hub that does not answer."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return files(tmp_path)


@pytest.mark.parametrize(("typed", "then"), CASES)
def test_advice_works(llmcalc, names, typed, then):
    ran = llmcalc(typed.format(**names))
    assert ran.code == 2, ran.out[:200]
    followed = llmcalc(then.format(**names))
    assert followed.code == 0, f"{ran.err}{then}: {followed.err}"
    new = [w.partition("=")[0] for w in then.split() if w not in typed.split()]
    assert not any(w.startswith("--") for w in new) or any(w in ran.err for w in new), ran.err


@pytest.mark.thorough
def test_all_advice_is_followed(llmcalc, names):
    """Every message of the program is that of a case, or says why it cannot be."""
    heard = [llmcalc(typed.format(**names)).err.strip() for typed in dict.fromkeys(typed for typed, _ in CASES)]
    left = {
        place: said
        for place, said in advice().items()
        if not any(re.search(said, text) for text in heard) and place.partition(":")[0] not in EXEMPT
    }
    assert left == {}
