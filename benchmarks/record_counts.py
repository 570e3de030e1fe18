"""Record the inventories of transformers' classes: every tensor's name and shape as expressions in the config's fields.

    python benchmarks/record_counts.py [MODEL_TYPE ...] [--out presets/counts.json.gz]

A class is built on the meta device from a config whose sizes are ints that remember how they were computed
(:class:`Remembered`). Every result of an operation on them is noted under its value, so a dimension is looked up by its
value; as several expressions may give one value, the class is built at several sizes and only what explains all of them
stays. How often a layer's tensor occurs is fitted in the same way, from the fields that count layers and from lists of
layer kinds. Flags are switched one by one, and two at a time to see that they do not meddle with each other. At last
every expression is held to further sizes; a class that is not reproduced exactly is left out and named.

Needs torch and transformers 5 (the extra ``measure``). Nothing is downloaded; no weight is ever allocated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import signal
import sys
import warnings
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from class_walk import (
    CHECKS,
    IDS,
    LAYERS,
    SIZES,
    SKIP,
    Walk,
    attempt,
    patterns,
    plain,
    remembered,
    sized,
    varied,
    written,
)
from remembered import NOTED, Remembered, size, value_of

from estimator.families import FAMILIES

HARMLESS_TEXT = re.compile(
    r"act(ivation)?(_function|_fn|_func)?$|_act$|^dtype$|torch_dtype|_name_or_path|implementation|problem_type|"
    r"^model_type$|transformers_version|_init(_std)?$|tokenizer|pooler_type|loss"
)


SECONDS = 60  # a class that takes longer is left out


class Untraceable(Exception):
    """Why a class has no record."""


def explain(walk: Walk, names: list[str], flags: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """[(pattern, shape expressions, times expression, role)] under these flags, and expressions of derived fields."""
    seen: list[tuple[dict[str, list[tuple[tuple[int, ...], int, str]]], dict[int, set[Any]], Any]] = []
    for seed in range(40):
        NOTED.clear()
        values = sized(walk, names, seed)
        try:
            tensors, config = walk.tensors({**remembered(values), **flags})
        except Exception as error:
            if seed > 10:
                raise Untraceable(f"does not build at other sizes: {type(error).__name__}: {str(error)[:90]}") from None
            continue
        fields = plain(config)
        noted = {k: set(v) for k, v in NOTED.items()}
        for name, value in fields.items():
            if isinstance(value, list | tuple) and value and all(isinstance(x, str) for x in value):
                for kind, n in Counter(value).items():
                    noted.setdefault(n, set()).add(("count", name, kind))
        seen.append((patterns(tensors), noted, fields))
        if len(seen) == SIZES:
            break
    if len(seen) < SIZES:
        raise Untraceable("builds at too few sizes")
    keys = [list(x[0]) for x in seen]
    if any(k != keys[0] for k in keys):
        raise Untraceable(f"its tensors' names change with its sizes: {sorted(set(keys[0]) ^ set(keys[1]))[:2]}")
    rows = []
    for pattern in keys[0]:
        variants = [x[0][pattern] for x in seen]
        if len({len(v) for v in variants}) > 1:
            raise Untraceable(f"{pattern}: its shapes change with its sizes")
        for j in range(len(variants[0])):
            shapes = [v[j][0] for v in variants]
            if len({len(s) for s in shapes}) > 1:
                raise Untraceable(f"{pattern}: its rank changes with its sizes")
            dims = [best([s[d] for s in shapes], [x[1] for x in seen], pattern) for d in range(len(shapes[0]))]
            times = counted([v[j][1] for v in variants], [x[1] for x in seen], [x[2] for x in seen], pattern)
            rows.append([pattern, dims, times, variants[0][j][2]])
    return rows, derived(walk, names, seen[0][2])


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


def best(values: list[int], noted: list[dict[int, set[Any]]], what: str) -> Any:
    """The shortest expression that gives every value, or the number where it never changes."""
    common = set.intersection(*(n.get(v, set()) for n, v in zip(noted, values, strict=True)))
    if common:
        return min(common, key=lambda e: (size(e), repr(e)))
    if len(set(values)) == 1:
        return values[0]
    raise Untraceable(f"{what}: no expression for {values}")


def counted(values: list[int], noted: list[dict[int, set[Any]]], fields: list[Any], what: str) -> Any:
    """How often a tensor occurs: a number, a field that counts layers, that and a number more or less, or an entry's
    count in a list of layer kinds."""
    constant = len(set(values)) == 1
    layers = [n for n in fields[0] if LAYERS.search(n.split(".")[-1]) and isinstance(fields[0][n], int)]
    for name in layers:
        if all(v == int(f[name]) for v, f in zip(values, fields, strict=True)):
            return ("f", name)
    counts = [{e for e in n.get(v, set()) if e[0] == "count"} for n, v in zip(noted, values, strict=True)]
    common = set.intersection(*counts)
    if common:
        return min(common, key=repr)
    if constant:
        return values[0]
    for name in layers:
        L = [int(f[name]) for f in fields]
        for factor in (1, 2, 3):
            rest = {v - factor * n for v, n in zip(values, L, strict=True)}
            if len(rest) == 1:
                k = rest.pop()
                e: Any = ("f", name) if factor == 1 else ("*", factor, ("f", name))
                return e if k == 0 else ("+", e, k) if k > 0 else ("-", e, -k)
    for a, b in pairwise(layers):
        if all(v == int(f[a]) + int(f[b]) for v, f in zip(values, fields, strict=True)):
            return ("+", ("f", a), ("f", b))
    raise Untraceable(f"{what}: occurs {values} times")


def record(model_type: str, config_class: Any, model_class: Any) -> dict[str, Any]:
    """The record of one class; Untraceable where it cannot be told exactly."""
    walk = Walk(config_class, model_class)
    names = varied(walk)
    if not names:
        raise Untraceable("no field could be given another size")
    rows, derived = explain(walk, names, {})
    base = {json.dumps(r) for r in rows}
    flags: dict[str, Any] = {}
    fixed: list[str] = []
    for name, value in walk.defaults.items():
        if not isinstance(value, bool):
            continue
        if attempt(walk, {**sized(walk, names, 0), name: not value}) is None:
            fixed.append(name)
            continue
        other, _ = explain(walk, names, {name: not value})
        here = {json.dumps(r) for r in other}
        if here != base:
            adds = [r for r in other if json.dumps(r) not in base]
            flags[name] = [adds, [r for r in rows if json.dumps(r) not in here]]
    fixed = kept(walk, names, [*fixed, *constants(walk, names)])
    made = {
        "type": model_type, "class": model_class.__name__, "sizes": {n: walk.defaults[n] for n in names},
        "derived": derived, "alias": dict(getattr(config_class, "attribute_map", {}) or {}),
        "flags": {n: {"default": walk.defaults[n], "adds": d[0], "drops": d[1]} for n, d in flags.items()},
        "fixed": {n: walk.defaults[n] for n in fixed}, "lists": lists(walk), "tensors": rows,
        "kinds": {n: sorted(set(v)) for n, v in lists(walk).items()}, "knows": known_fields(walk),
    }  # fmt: skip
    try:
        verify(walk, names, made, 2)
    except Untraceable:
        if len(made["flags"]) < 2:
            raise
        verify(walk, names, made, 1)
        made["alone"] = True  # flags that meddle with each other: one may differ from the default, not two
    return used(made)


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
    start = attempt(walk, sized(walk, names, 0))
    before = Counter((n, s) for n, s, _ in start[0])
    for name, value in walk.defaults.items():
        leaf = name.split(".")[-1]
        if name in names or leaf in SKIP or IDS.search(leaf) or isinstance(value, (bool, dict)):
            continue
        if isinstance(value, str):
            if not HARMLESS_TEXT.search(leaf):
                out.append(name)
            continue
        if isinstance(value, int | float):
            other = value + 1 if isinstance(value, int) else value * 1.5 + 0.25
            found = attempt(walk, {**sized(walk, names, 0), name: other})
            if found is None or Counter((n, s) for n, s, _ in found[0]) != before:
                out.append(name)
        elif value is not None or leaf not in ("rope_scaling", "rope_parameters"):
            out.append(name)
    return out


def lists(walk: Walk) -> dict[str, Any]:
    """Lists of layer kinds that the class writes for itself, with the number of layers they are for."""
    return {
        n: list(v) for n, v in walk.defaults.items()
        if isinstance(v, list | tuple) and v and all(isinstance(x, str) for x in v)
    }  # fmt: skip


def verify(walk: Walk, names: list[str], made: dict[str, Any], together: int) -> None:
    """Hold the record to further sizes, each with ``together`` flags switched at random."""
    rng, done = random.Random(5), 0
    for seed in range(100, 130):
        values = sized(walk, names, seed)
        switched = rng.sample(sorted(made["flags"]), min(together, len(made["flags"])))
        chosen = {n: not made["flags"][n]["default"] for n in switched}
        found = attempt(walk, {**values, **chosen})
        if found is None:
            continue
        tensors, config = found
        fields = {**walk.defaults, **plain(config)}
        want = Counter((re.sub(r"(?<=\.)\d+(?=\.|$)", "{i}", n), s) for n, s, _ in tensors)
        got: Counter[Any] = Counter()
        for name, dims, times, _ in chosen_rows(made, chosen):
            got[name, tuple(value_of(d, fields) for d in dims)] += value_of(times, fields)
        if +got != want:
            first = sorted(str(k) for k in (got - want) | (want - got))[:2]
            raise Untraceable(f"not reproduced with {chosen or 'the defaults'}: {first}")
        done += 1
        if done == CHECKS + len(made["flags"]):
            return
    if done < CHECKS:
        raise Untraceable("builds at too few sizes to be checked")


def chosen_rows(made: dict[str, Any], chosen: dict[str, Any]) -> list[Any]:
    rows = list(made["tensors"])
    for name in chosen:
        drops = [json.dumps(r) for r in made["flags"][name]["drops"]]
        rows = [r for r in rows if json.dumps(r) not in drops] + made["flags"][name]["adds"]
    return rows


def used(made: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that no expression names."""
    text = json.dumps([made["tensors"], made["flags"], made["derived"]])
    keep = {n for n in [*made["sizes"], *made["lists"]] if json.dumps(n) in text}
    made["sizes"] = {n: v for n, v in made["sizes"].items() if n in keep}
    made["lists"] = {n: v for n, v in made["lists"].items() if n in keep}
    text = json.dumps([made["tensors"], made["flags"]])
    made["derived"] = {n: e for n, e in made["derived"].items() if json.dumps(n) in text}
    made["alias"] = {a: n for a, n in made["alias"].items() if n in keep or n in made["flags"]}
    made["fixed"] = {n: v for n, v in made["fixed"].items() if n not in made["lists"] and n not in made["derived"]}
    return made


def classes(only: list[str]) -> list[tuple[str, Any, Any]]:
    """(model_type, config class, model class): causal classes first, then masked, sequence to sequence, bare."""
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    out, seen = [], set()
    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        for model_type, name in mapping.items():
            if (only and model_type not in only) or (not only and model_type in FAMILIES):
                continue
            name = name if isinstance(name, str) else name[0]
            if model_type in seen:
                continue
            import transformers

            try:
                found = getattr(transformers, name)
                out.append((model_type, CONFIG_MAPPING[model_type], found))
                seen.add(model_type)
            except Exception as error:
                print(f"{model_type}: {name}: {type(error).__name__}: {str(error)[:80]}", file=sys.stderr)
    return out


class Late(BaseException):
    """A class took too long: no ``except Exception`` on the way may keep it."""


def late(*_: Any) -> None:
    raise Late(f"took more than {SECONDS} s")


def held(path: Path) -> int:
    """Drop the records whose inventory, read from a config.json, is not the class's at further sizes."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from estimator.config import Config
    from estimator.families import recorded

    data = json.loads(gzip.decompress(path.read_bytes()))
    for kind, record in list(data["records"].items()):
        walk = Walk(CONFIG_MAPPING[kind], getattr(transformers, record["class"]))
        try:
            for raw, shapes in written(walk, record):
                got: Counter[tuple[int, ...]] = Counter()
                for w in recorded.build(Config(raw)).weights():
                    got[w.shape] += w.times
                if got != shapes:
                    raise Untraceable("its config.json does not tell its inventory")
        except Exception as error:
            data["left_out"][kind] = str(error).splitlines()[0][:120]
            del data["records"][kind]
            print(f"{kind}: left out: {data['left_out'][kind]}", flush=True)
    print(f"{len(data['records'])} held")
    write(path, data)
    return 0


def write(path: Path, data: dict[str, Any]) -> None:
    """The same bytes for the same records."""
    text = json.dumps(data, separators=(",", ":"), default=jsonable)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def jsonable(value: Any) -> Any:
    """What JSON has no word for: sets, and the library's own objects."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hold", type=Path, help="hold the records of this file to further sizes instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    if args.hold:
        return held(args.hold)
    records, refused = {}, {}
    signal.signal(signal.SIGALRM, late)
    for model_type, config_class, model_class in classes(args.types):
        signal.alarm(SECONDS)
        try:
            records[model_type] = record(model_type, config_class, model_class)
            print(f"{model_type}: {len(records[model_type]['tensors'])} tensors", flush=True)
        except (Exception, Late) as error:
            why = str(error) if isinstance(error, Untraceable) else f"{type(error).__name__}: {error}"
            refused[model_type] = why[:120]
            print(f"{model_type}: left out: {refused[model_type]}", flush=True)
        finally:
            signal.alarm(0)
    print(f"{len(records)} recorded, {len(refused)} left out")
    if args.out:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        write(args.out, {"versions": versions, "records": records, "left_out": refused})
    return 0


if __name__ == "__main__":
    sys.exit(main())
