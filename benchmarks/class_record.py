"""The record of one class for ``record_counts.py``: what is varied, explained, and held to further sizes."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import Any

from class_fit import Built, Counts, Untraceable, by_pattern, explained, rows
from class_walk import (
    CHECKS,
    IDS,
    LAYERS,
    SIZES,
    SKIP,
    Walk,
    attempt,
    is_kinds,
    kinds_of,
    layers_of,
    parts,
    pattern,
    plain,
    remembered,
    sized,
    varied,
)
from remembered import NOTED, Remembered, value_of

WIDE = 16  # a width, at least
# fields without which a class cannot be built, and which every config.json of it has
_INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 2048,
            "indexer_compress_ratio": 4}  # fmt: skip
_ROPE = {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")}
STARTS: dict[str, dict[str, Any]] = {
    "esm": {"vocab_size": 33},
    "autoformer": {"prediction_length": 24},
    "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24},
    "qwen4_exp_text": _INDEXER,
    "qwen4_exp": {f"text_config.{n}": v for n, v in _INDEXER.items()},
    "cohere_compass_text": {"rope_parameters": _ROPE},
    "cohere_compass": {"text_config.rope_parameters": _ROPE},
    "chameleon": {"vocabulary_map": {"<image>": 8711}},
    "emu3": {"vocabulary_map": {"<image>": 1}},
    "hunyuan_vl_text": {"head_dim": 128},
    "hunyuan_vl": {"text_config.head_dim": 128},
    "diffusion_gemma": {"text_config.num_experts": 128, "text_config.top_k_experts": 8,
                        "text_config.moe_intermediate_size": 704},
    "gemma4_assistant": {"text_config.hidden_size_per_layer_input": 0, "text_config.vocab_size_per_layer_input": 0},
    "reformer": {"is_decoder": True},
}
HARMLESS_TEXT = re.compile(
    r"act(ivation)?(_function|_fn|_func)?$|_act$|^dtype$|torch_dtype|_name_or_path|implementation|problem_type|"
    r"^model_type$|transformers_version|_init(_std)?$|tokenizer|pooler_type|loss"
)


def explain(
    walk: Walk, names: list[str], flags: dict[str, Any], same: list[tuple[str, str]]
) -> tuple[list[Any], dict[str, Any]]:
    """[pattern, shape expressions, times expression, role] under these flags, and expressions of derived fields; what
    there is only where two fields are equal, or only where they differ, occurs so."""
    seen = built(walk, names, flags)
    idle = unmoved(walk, names, flags)
    found = rows(seen, idle)
    for a, b in same:
        alike = built(walk, names, flags, (a, b))
        there = {p for x in alike for p in x.tensors}
        ours = {r[0] for r in found}
        for row in found:
            if row[0] not in there:
                row[2] = both(row[2], ("!=", ("f", a), ("f", b)))
        more = [Built({p: t for p, t in x.tensors.items() if p not in ours}, x.noted, x.fields) for x in alike]
        for row in rows(more, idle):
            found.append([row[0], row[1], both(row[2], ("==", ("f", a), ("f", b))), row[3]])
    return found, derived(walk, names, seen[0].fields)


def both(times: Any, when: Any) -> Any:
    return when if times == 1 else ("*", times, when)


def built(walk: Walk, names: list[str], flags: dict[str, Any], alike: tuple[str, str] | None = None) -> list[Built]:
    """The class at several sizes; ``alike``: with two of them equal."""
    seen: list[Built] = []
    why = "it builds at too few sizes"
    for seed in range(40):
        NOTED.clear()
        values = sized(walk, names, seed)
        if alike:
            values[alike[1]] = values[alike[0]]
        try:
            tensors, config = walk.tensors({**remembered(values), **flags})
        except Exception as error:
            why = f"it does not build at other sizes ({type(error).__name__})"
            continue
        seen.append(Built(by_pattern(tensors), {k: set(v) for k, v in NOTED.items()}, plain(config)))
        if len(seen) == SIZES:
            return seen
    raise Untraceable(why)


def first(walk: Walk, names: list[str]) -> dict[str, Any]:
    """The first sizes at which the class builds."""
    key = tuple(names)
    if key not in walk.firsts:
        every = [sized(walk, names, seed) for seed in range(20)]
        walk.firsts[key] = next((values for values in every if attempt(walk, values) is not None), every[0])
    return dict(walk.firsts[key])


def unmoved(walk: Walk, names: list[str], flags: dict[str, Any]) -> set[str]:
    """The fields that change nothing when they alone are another size."""
    values = first(walk, names)
    start = attempt(walk, {**values, **flags})
    out = set()
    for n in names if start else ():
        others = [sized(walk, [*names], seed)[n] for seed in range(1, 4)]
        other = next((x for x in others if x != values[n]), None)
        if other is None:
            continue
        found = attempt(walk, {**values, n: other, **flags})
        if found is not None and found[0] == start[0]:
            out.add(n)
    return out


def alike(walk: Walk, names: list[str], switches: list[str]) -> list[tuple[str, str]]:
    """Pairs of widths that are equal by default, where other tensors are there than when they differ."""
    widths = [n for n in names if isinstance(walk.defaults[n], int) and walk.defaults[n] >= WIDE]
    values = first(walk, names)
    pairs = [
        (a, b) for i, a in enumerate(widths) for b in widths[i + 1 :]
        if walk.defaults[a] == walk.defaults[b] and values[a] != values[b]
    ]  # fmt: skip
    out = []
    for flags in ({}, *({n: not walk.defaults[n]} for n in switches)) if pairs else ():
        start = attempt(walk, {**values, **flags})
        for a, b in pairs if start else ():
            found = None if (a, b) in out else attempt(walk, {**values, b: values[a], **flags})
            if found is not None and kinds_of(found[0]) != kinds_of(start[0]):
                out.append((a, b))
    return out


def derived(walk: Walk, names: list[str], fields: dict[str, Any]) -> dict[str, Any]:
    """What the class computes fields from where a config leaves them out."""
    out = {n: v.e for n, v in fields.items() if isinstance(v, Remembered) and v.e != ("f", n)}
    for name in names:
        values = {n: v for n, v in sized(walk, names, 3).items() if n != name}
        try:
            found = plain(walk._config(remembered(values))).get(name)
        except Exception:
            continue
        if isinstance(found, Remembered) and found.e != ("f", name):
            out[name] = found.e
    return out


def record(model_type: str, config_class: Any, model_classes: list[Any]) -> dict[str, Any]:
    """The record of the first class that can be built; Untraceable where it cannot be told exactly. Where its tensors
    do not follow from its numbers of layers, these stay as the class has them."""
    for model_class in model_classes:
        walk = Walk(config_class, model_class, STARTS.get(model_type))
        try:
            walk.tensors({})
            break
        except Exception:
            if model_class is model_classes[-1]:
                raise
    names = varied(walk)
    while True:
        try:
            return recorded_at(walk, model_type, names)
        except Untraceable as error:
            names = less(walk, names, error)


def less(walk: Walk, names: list[str], error: Untraceable) -> list[str]:
    """Without the field, of layers first, without which the tensors that nothing explains are explained."""
    layers = [n for n in names if LAYERS.search(n.split(".")[-1])]
    for n in (*layers, *(x for x in names if x not in layers)) if error.of else ():
        kept = [x for x in names if x != n and layers_of(x, walk.defaults) != n]
        try:
            seen = built(walk, kept, {})
            explained(error.of, seen, set(), Counts(seen))
        except Untraceable:
            continue
        return kept
    if layers:
        return [n for n in names if n not in layers and layers_of(n, walk.defaults) not in layers]
    raise error


def recorded_at(walk: Walk, model_type: str, names: list[str]) -> dict[str, Any]:
    """The record with these fields free."""
    if not names:
        raise Untraceable("none of its sizes could be changed")
    start = attempt(walk, first(walk, names))
    switches, fixed = [], []
    for name, value in walk.defaults.items():
        if isinstance(value, bool):
            found = attempt(walk, {**first(walk, names), name: not value})
            if found is None:
                fixed.append(name)
            elif start is None or found[0] != start[0]:
                switches.append(name)
    same = alike(walk, names, switches)
    rows, derived = explain(walk, names, {}, same)
    base = {json.dumps(r) for r in rows}
    flags: dict[str, Any] = {}
    for name in switches:
        try:
            other, _ = explain(walk, names, {name: not walk.defaults[name]}, same)
        except Untraceable:
            fixed.append(name)
            continue
        here = {json.dumps(r) for r in other}
        if here != base:
            adds = [r for r in other if json.dumps(r) not in base]
            flags[name] = [adds, [r for r in rows if json.dumps(r) not in here]]
    fixed = kept(walk, names, [*fixed, *constants(walk, names)])
    free = [n for n in names if isinstance(walk.defaults[n], list | tuple)]
    sizes = {n: None if n in walk.start else walk.defaults[n] for n in names if n not in free}
    made = {
        "type": model_type, "class": walk.model_class.__name__, "sizes": sizes,
        "derived": derived, "alias": dict(getattr(walk.config_class, "attribute_map", {}) or {}),
        "flags": {n: {"default": walk.defaults[n], "adds": d[0], "drops": d[1]} for n, d in flags.items()},
        "fixed": {n: walk.defaults[n] for n in fixed}, "tensors": rows, "free": free,
        "lists": {**lists(walk), **{n: list(walk.defaults[n]) for n in free}},
        "kinds": {n: sorted(set(v)) for n, v in lists(walk).items()}, "knows": known_fields(walk),
        "parts": parts(walk._config({})),
    }  # fmt: skip
    try:
        verify(walk, names, made, 2, same)
    except Untraceable:
        if len(made["flags"]) < 2:
            raise
        verify(walk, names, made, 1, same)
        made["alone"] = True  # flags that meddle with each other: one may differ from the default, not two
    return used(made, walk.defaults)


def known_fields(walk: Walk) -> list[str]:
    """Names that the class knows, its parts' included: a field beside them may be an older spelling of something."""
    return sorted({n.split(".")[-1] for n in walk.defaults} | {n.split(".")[0] for n in walk.defaults})


def kept(walk: Walk, names: list[str], fixed: list[str]) -> list[str]:
    """Those that the class does not compute from its sizes itself; limits without bounds size nothing."""
    own = [plain(walk._config(sized(walk, names, seed))) for seed in (201, 202)]
    return [
        n for n in fixed if "inf" not in str(walk.defaults[n]) and all(o.get(n) == walk.defaults[n] for o in own)
    ]  # fmt: skip


def constants(walk: Walk, names: list[str]) -> list[str]:
    """Fields that change the inventory, or may, in a way that is not recorded: they must keep the class's value."""
    out = []
    start = attempt(walk, first(walk, names))
    before = Counter((n, s) for n, s, _ in start[0])
    for name, value in walk.defaults.items():
        leaf = name.split(".")[-1]
        if name in names or leaf in SKIP or IDS.search(leaf) or isinstance(value, (bool, dict)):
            continue
        if isinstance(value, str):
            if not HARMLESS_TEXT.search(leaf):
                out.append(name)
            continue
        tried = [attempt(walk, {**first(walk, names), name: other}) for other in others(value)]
        built = [Counter((n, s) for n, s, _ in found[0]) for found in tried if found is not None]
        free = not others(value) and leaf in ("rope_scaling", "rope_parameters")
        if not free and (not built or any(x != before for x in built)):
            out.append(name)
    return out


def others(value: Any) -> list[Any]:
    """Values to try in place of one that is no size."""
    if value is None:
        return [2, 64]
    if isinstance(value, int | float):
        return [value + 1, 2 * value] if isinstance(value, int) else [value * 1.5 + 0.25]
    numbers = isinstance(value, list | tuple) and value and all(isinstance(x, int | float) for x in value)
    return [[2 * x for x in value]] if numbers else []


def lists(walk: Walk) -> dict[str, Any]:
    """Lists of layer kinds that the class writes for itself, with the number of layers they are for."""
    return {n: list(v) for n, v in walk.defaults.items() if is_kinds(v)}


def verify(walk: Walk, names: list[str], made: dict[str, Any], together: int, same: list[tuple[str, str]]) -> None:
    """Hold the record to the class's own sizes and to further ones, these with ``together`` flags switched at random; a
    pair of widths is equal in every second.
    """
    rng, done = random.Random(5), 0
    for seed in (0, *range(100, 130)):  # at first as the class has them
        values = sized(walk, names, seed) if seed else {}
        if same and seed % 2:
            a, b = rng.choice(same)
            values[b] = values[a]
        switched = rng.sample(sorted(made["flags"]), min(together if seed else 0, len(made["flags"])))
        chosen = {n: not made["flags"][n]["default"] for n in switched}
        found = attempt(walk, {**values, **chosen})
        if found is None:
            continue
        tensors, config = found
        fields = {**walk.defaults, **plain(config)}
        want = Counter((pattern(n), s) for n, s, _ in tensors)
        got: Counter[Any] = Counter()
        for name, dims, times, _ in chosen_rows(made, chosen):
            got[name, tuple(value_of(d, fields) for d in dims)] += value_of(times, fields)
        if +got != want:
            first = min(name for name, _ in (got - want) | (want - got))
            switched = f"with {' and '.join(chosen)} switched" if chosen else "at other sizes" if seed else "by itself"
            raise Untraceable(f"{first} is not what its expressions give {switched}")
        done += 1
        if done == CHECKS + len(made["flags"]):
            return
    if done < CHECKS:
        raise Untraceable("it builds at too few sizes to be checked")


def chosen_rows(made: dict[str, Any], chosen: dict[str, Any]) -> list[Any]:
    rows = list(made["tensors"])
    for name in chosen:
        drops = [json.dumps(r) for r in made["flags"][name]["drops"]]
        rows = [r for r in rows if json.dumps(r) not in drops] + made["flags"][name]["adds"]
    return rows


def used(made: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that no expression names, and with the class's value of those that must keep it."""
    text = json.dumps([made["tensors"], made["flags"], made["derived"]])
    made["sizes"] |= {n: defaults[n] for n in made["fixed"] if type(defaults[n]) is int and json.dumps(n) in text}
    keep = {n for n in [*made["sizes"], *made["lists"]] if json.dumps(n) in text}
    made["sizes"] = {n: v for n, v in made["sizes"].items() if n in keep}
    made["lists"] = {n: v for n, v in made["lists"].items() if n in keep}
    text = json.dumps([made["tensors"], made["flags"]])
    made["stages"] = [n for n in made["free"] if f'["at", {json.dumps(n)}' in text]
    made["derived"] = {n: e for n, e in made["derived"].items() if json.dumps(n) in text}
    made["alias"] = {a: n for a, n in made["alias"].items() if n in keep or n in made["flags"]}
    made["fixed"] = {n: v for n, v in made["fixed"].items() if n not in made["lists"] and n not in made["derived"]}
    return made
