"""Which modules an adapter goes into: the peft library's matching rules on a model's list of modules.

Sources: peft 0.21.2, tuners/tuners_utils.py (check_target_module_exists, _maybe_include_all_linear_layers,
_inject_parameters), utils/other.py (get_pattern_key).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from estimator import patterns as regular
from estimator.errors import InputError
from estimator.patterns import takes
from estimator.peft.modules import CONTAINER, CONV1D, HOLDER, LINEAR, Module, containers
from estimator.records import NamedTuple

ALL_LINEAR = "all-linear"
MAX_PATTERN = 2_000  # characters of a regular expression
_META = set("\\*+?[](){}|^$")


class Rule(NamedTuple):
    """What to adapt: ``names`` or one regular expression in ``pattern``; what to leave out; which layers."""

    names: tuple[str, ...] = ()
    pattern: str | None = None
    exclude: tuple[str, ...] = ()
    exclude_pattern: str | None = None
    save: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    exact: bool = False
    everything: bool = False

    @property
    def by_layer(self) -> bool:
        """True where the layer's number can decide."""
        texts = (*self.names, *self.exclude, *self.save)
        if self.everything:
            return False
        if self.pattern is not None or self.exclude_pattern is not None or self.layers is not None:
            return True
        return not self.exact and any((any(c.isdigit() for c in t) and "." in t) or t.isdigit() for t in texts)

    def takes(self, key: str) -> bool:
        """Whether it adapts the module called ``key`` (a name with the layer's number put in)."""
        return self.everything or (not self.drops(key) and self.names_it(key))

    def drops(self, key: str) -> bool:
        """Whether ``exclude_modules`` or ``modules_to_save`` keeps ``key`` from being adapted."""
        if self.exclude_pattern is not None and takes(self.exclude_pattern, key):
            return True
        if any(ends(key, name) for name in self.exclude):
            return True
        return any(takes(rf"(^|.*\.){m}($|\..*)", key, "match") for m in self.save)

    def names_it(self, key: str) -> bool:
        if self.pattern is not None:
            return takes(self.pattern, key)
        if key in self.names:
            return True
        return any(key.endswith("." + n) for n in self.names) and (
            self.layers is None or self.layer(key) in self.layers
        )

    def layer(self, key: str) -> int | None:
        """The number of the layer in ``key``, as layers_to_transform reads it."""
        patterns = [rf"(?:^|.*?\.){p}\.(\d+)\." for p in self.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
        for pattern in patterns:
            found = regular.compiled(pattern).match(key) if takes(pattern, key, "match") else None
            if found:
                return int(found.group(1))
        return None


def ends(key: str, name: str) -> bool:
    """Whether ``name`` is ``key`` or its last dotted parts."""
    return key == name or key.endswith("." + name)


def compiled(text: str, what: str) -> str:
    """``text`` if it is a regular expression of bearable length; InputError otherwise."""
    if len(text) > MAX_PATTERN:
        raise InputError(f"{what}: a pattern of {len(text)} characters is too long (at most {MAX_PATTERN})")
    try:
        regular.compiled(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{what}: {text[:60]!r} is no regular expression: {error}") from None
    return text


def is_pattern(text: str) -> bool:
    """Whether a text on the command line is a regular expression rather than names."""
    return any(c in _META for c in text)


def select(known: Iterable[Module], rule: Rule) -> list[Module]:
    """The modules that ``rule`` takes, each narrowed to the layers in which it does."""
    return where(known, rule.takes, rule.by_layer)


def where(known: Iterable[Module], test: Callable[[str], Any], by_layer: bool = True) -> list[Module]:
    """The modules whose name passes ``test``; without ``by_layer`` one layer answers for all."""
    out = []
    for m in known:
        if not m.layered or not by_layer:
            if test(m.example):
                out.append(m)
            continue
        part = m.narrowed(i for i in m.indices if test(m.at(i)))
        if part is not None:
            out.append(part)
    return out


def all_linear(known: Iterable[Module]) -> list[Module]:
    """Every Linear and Conv1D but the output head."""
    return [m for m in known if m.kind in (LINEAR, CONV1D) and not m.head]


def pattern_value(patterns: Mapping[str, Any], key: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of ``key`` (``rank_pattern``), or ``default``."""
    for pattern, value in patterns.items():
        if takes(rf"(.*\.)?({pattern})$", key, "match"):
            return value
    return default


def split_by(m: Module, value_of: Callable[[str], Any]) -> list[tuple[Module, Any]]:
    """``m`` split into the groups of layers in which ``value_of`` (name -> value) agrees."""
    if not m.layered:
        return [(m, value_of(m.name))]
    groups: dict[str, tuple[Any, list[int]]] = {}
    keys: dict[int, tuple[Any, str]] = {}  # one object for most layers, which a derivation writes out at length
    for i in m.indices:
        value = value_of(m.at(i))
        if id(value) not in keys:
            keys[id(value)] = value, repr(value)
        groups.setdefault(keys[id(value)][1], (value, []))[1].append(i)
    if len(groups) == 1:
        return [(m, next(iter(groups.values()))[0])]
    return [(m._replace(times=len(at), layers=tuple(at)), value) for value, at in groups.values()]


# ---------------------------------------------------------------------------------- experts that were modules once


class ParameterTarget(NamedTuple):
    """A bare parameter that LoRA adapts (``target_parameters``): its holder, name and shape, and its own rank
    factor."""

    module: Module
    name: str
    shape: tuple[Any, ...]

    def key(self, index: int) -> str:
        return f"{self.module.at(index)}.{self.name}"


def moe_names(rule: Rule | None, everything: bool, known: Sequence[Module], mapping: dict[str, str]) -> list[str]:
    """The leaf names that a regular expression or ``all-linear`` stands for in a model with stacked experts."""
    if everything:
        return sorted({m.leaf for m in all_linear(known)} | set(mapping))
    assert rule is not None
    found: set[str] = set()
    for m in [*known, *containers(known)]:
        for i in m.indices:
            if rule.takes(m.at(i)):
                found.add(m.leaf)
            found |= {w for w, _ in m.weights if rule.takes(f"{m.at(i)}.{w}")}
    for old, new in mapping.items():
        holders = [m for m in known if any(w == new for w, _ in m.weights)]
        if any(rule.takes(f"{m.at(i)}.{old}") for m in holders for i in m.indices):
            found.add(old)
    return sorted(found)


def moe_targets(
    names: Sequence[str], mapping: dict[str, str], fused: dict[str, list[str]]
) -> tuple[list[str], list[str], dict[str, int]]:
    """(modules that stay, parameters that replace the others, rank factor of fused parameters).

    InputError where a half of a fused pair is asked for alone, as peft refuses it.
    """
    stay: list[str] = []
    parameters: list[str] = []
    present: dict[str, set[str]] = {}
    for name in names:
        old = next((o for o in mapping if ends(name, o)), None)
        if old is None:
            stay.append(name)
            continue
        new = mapping[old]
        parameters.append(new)
        if new in fused:
            present.setdefault(new, set()).add(old)
    factors = {}
    for new, needed in fused.items():
        have = present.get(new, set())
        if 0 < len(have) < len(needed):
            missing = ", ".join(sorted(set(needed) - have))
            raise InputError(
                f"--targets: {', '.join(sorted(have))} cannot be adapted without {missing}: they are fused into {new}"
            )
        if have:
            factors[new] = len(needed)
    return stay, sorted(set(parameters)), factors


def parameters(known: Iterable[Module], names: Sequence[str]) -> list[ParameterTarget]:
    """The bare parameters that ``target_parameters`` names (by their last dotted parts)."""
    out = []
    by_layer = any(c.isdigit() for n in names for c in n)
    for m in known:
        for short, shape in m.weights:
            hit = where([m], lambda key, s=short: any(ends(f"{key}.{s}", n) for n in names), by_layer)  # type: ignore[misc]
            out += [ParameterTarget(h, short, shape) for h in hit]
    return out


# ------------------------------------------------------------------------------------------------------------ errors


def nothing_matches(names: Sequence[str], known: Sequence[Module], model: str, also: str = "") -> InputError:
    """The refusal where targets match no module: with the model's own names."""
    leaves = list(dict.fromkeys(m.leaf for m in known if m.kind in (LINEAR, CONV1D) and not m.head))
    asked = ", ".join(names)[:80]
    near = [n for name in names for n in get_close_matches(name, leaves, n=1)]
    hint = f" Did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else ""
    return InputError(
        f"--targets {asked}: no such module in {model}{also}.{hint} Its modules: {', '.join(leaves[:16])}, "
        f"or all-linear"
    )


def refuse_kinds(found: Sequence[Module], kinds: Sequence[str], method: str) -> None:
    """InputError where a matched module is of a type that the method does not take, as peft refuses it."""
    for m in found:
        if m.kind not in kinds:
            what = "a bare parameter" if m.kind == HOLDER else m.kind
            takes = " or ".join(kinds)
            raise InputError(f"--method {method}: cannot adapt {m.example!r} ({what}); it takes {takes}")


def refuse_containers(rule: Rule, known: Sequence[Module], method: str) -> None:
    """InputError where the rule also matches a module that only holds others (``self_attn``), as peft refuses it."""
    names = [n for n in rule.names if not rule.exact]
    if rule.pattern is None and not any(n and not any(ends(m.example, n) for m in known) for n in names):
        return
    hit = select(containers(known), rule)
    if hit:
        raise InputError(
            f"--method {method}: cannot adapt {hit[0].example!r} ({CONTAINER}); name the matrices inside it"
        )
