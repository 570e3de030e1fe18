"""The 53 quantities that the course documents ask for: value, unit, and working whose every step equals the next."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import sympy

HOMEWORK = json.loads((Path(__file__).resolve().parents[1] / "data" / "homework.json").read_text())["homework"]
ASKED = [(q["id"], a) for q in HOMEWORK for a in q["answers"]]
POINT = (101, 211, 307, 401, 503, 601, 701, 809, 907, 1009, 1103, 1201, 1301, 1409, 1511, 1601)


def read(text: str) -> Any:
    """An expression as it is printed; every letter a positive whole number."""
    names = {n: sympy.Symbol(n, positive=True, integer=True) for n in _letters(text)}
    return sympy.parse_expr(text, local_dict=names)


def _letters(text: str) -> set[str]:
    import re

    return set(re.findall(r"[A-Za-z]\w*", text)) - {"ceiling", "floor", "Sum"}


PRINTED = 11  # digits of a number that is no whole one and was printed with 12, after a few operations


def same(one: Any, other: Any, digits: int = 18) -> bool:
    """Equal at a point of unrelated primes, exactly where both are rational there, else to so many digits."""
    letters = sorted(one.free_symbols | other.free_symbols, key=str)
    point = dict(zip(letters, POINT, strict=False))
    a, b = one.subs(point).doit(), other.subs(point).doit()
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    return bool(abs(sympy.N(a - b, 30)) <= sympy.Float(10) ** -digits * max(1, abs(sympy.N(a, 30))))


def test_there_are_53():
    assert len(HOMEWORK) == len({q["id"] for q in HOMEWORK}) == 53


@pytest.mark.parametrize(("name", "asked"), ASKED, ids=[f"{name}-{a['key']}" for name, a in ASKED])
def test_value_unit_and_working(llmcalc, name, asked):
    ran = llmcalc(f"{asked['command']} --derive --format json")
    assert ran.code == 0, ran.err
    made, key = ran.json, asked["key"]
    derived = {d["key"]: d for d in made["derivations"]}
    if asked.get("fact"):  # a word: O(...), or which is to be preferred
        assert made["results"][key] == asked["expression"]
        return
    value = made["results"][key]
    if "expression" in asked:
        assert same(read(derived[key]["expression"]), read(asked["expression"]))
    elif "rel" in asked:
        assert value == pytest.approx(asked["value"], rel=asked["rel"])
    else:
        assert value == asked["value"]
    assert _unit(made["tree"], key) == asked["unit"]
    if key in derived:
        assert derived[key]["unit"] == asked["unit"]
        _each_step_equals_the_next(derived, derived[key], made)
    else:  # counted on a drawing, rounded, or a statement: said in words
        note = _node(made["tree"], key).get("note")
        assert note or any("counted" in t["title"] for t in made["tables"])


def _each_step_equals_the_next(derived: dict[str, Any], found: dict[str, Any], made: Any, digits: int = 18) -> None:
    if "same_as" in found:  # the working stands at the number that it equals
        twin = [d for d in derived.values() if d["expression"] == found["expression"] and "same_as" not in d]
        found = twin[0]
    steps = found["steps"]
    assert all(s["rule"] for s in steps if s.get("counted") or s.get("left"))
    chained = [s for s in steps if s["equals"] and s["rule"] != "numbers put in"]
    assert chained
    for before, after in zip(chained, [*chained[1:], found], strict=True):
        assert same(read(before["expression"]), read(after["expression"]), digits), (before, after)
    for step in steps:
        total = sum((read(c["expression"]) for c in step.get("counted", ())), start=sympy.Integer(0))
        if step.get("counted") and step["equals"]:
            assert same(total, read(step["expression"]), digits)
    if found["substituted"]:
        numbers = {s["name"]: s["value"] for s in made["symbols"]}
        number = sympy.parse_expr(found["substituted"], local_dict={})
        assert not number.free_symbols, numbers
        assert float(number) == pytest.approx(float(Fraction(str(made["results"][found["key"]]))), rel=1e-9)


def _unit(tree: dict[str, Any], key: str) -> str:
    return _node(tree, key)["unit"]


def _node(tree: dict[str, Any], key: str) -> dict[str, Any]:
    stack = [tree]
    while stack:
        node = stack.pop()
        if node.get("key") == key:
            return node
        stack += node.get("children", [])
    raise AssertionError(f"no {key}")


@pytest.mark.thorough
def test_a_homework_question_takes_a_page(llmcalc):
    """Asked for by its keys: the working of one question on one page of 60 lines."""
    for question in HOMEWORK:
        by_command: dict[str, list[str]] = {}
        for a in question["answers"]:
            if not a.get("fact") and "tree" not in a["command"]:
                by_command.setdefault(a["command"], []).append(a["key"])
        for command, keys in by_command.items():
            ran = llmcalc(f"{command} --derive --format json")
            known = {d["key"] for d in ran.json["derivations"]}
            wanted = [k for k in keys if k in known]
            if wanted:
                page = llmcalc(f"{command} --derive={','.join(wanted)}").out
                assert page.count("\n") <= 60, (command, page)
