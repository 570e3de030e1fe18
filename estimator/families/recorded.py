"""Classes of transformers that no family describes: their weights from recorded inventories.

``benchmarks/record_counts.py`` builds each class on the meta device at several sizes and records every tensor's name
and shape as expressions in the config's fields. Parameters, bytes, adapters and sharded states are exact from them;
what the class computes, and so its caches, activations and times, is not known.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from estimator.config import MAX_SIZE, Config
from estimator.errors import InputError
from estimator.families.base import EXPERT, Architecture, Weight

SHOWN = 6  # names in a note
# what any config.json may hold
COMMON = (
    "architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "id2label",
    "is_encoder_decoder", "label2id", "model_type", "output_attentions", "output_hidden_states", "pad_token_id",
    "problem_type", "quantization_config", "return_dict", "torch_dtype", "transformers_version", "use_cache",
    "rope_scaling", "rope_theta", "tokenizer_class",
)
# fields that say how many experts a token uses
PER_TOKEN = (
    "num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts",
    "num_selected_experts", "top_k",
)  # fmt: skip
FILE = "counts.jsonl.gz"
WAY_OUT = "--with-transformers counts it where transformers is installed"
_ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "/": lambda a, b: a / b, "**": lambda a, b: a**b,
    "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b),
}  # fmt: skip
_WHOLE: Mapping[str, Callable[[Any], int]] = {"int": int, "ceil": lambda x: -int(-x // 1), "round": round}


@lru_cache(maxsize=1)
def _file() -> tuple[dict[str, Any], str]:
    """(the first line: versions, what is known, what is left out and why; a line a record, not parsed)."""
    from estimator.presets import folder

    path = folder() / FILE
    if not path.is_file():
        return {"versions": {}, "known": [], "left_out": {}}, ""
    first, _, rest = gzip.decompress(path.read_bytes()).decode().partition("\n")
    return json.loads(first), rest


def record_of(model_type: str) -> dict[str, Any]:
    """One class's record."""
    start = json.dumps({"type": model_type}, separators=(",", ":"))[:-1] + ","
    found: dict[str, Any] = json.loads(next(line for line in _file()[1].splitlines() if line.startswith(start)))
    return found


def known() -> tuple[str, ...]:
    """Every model_type with a record, sorted."""
    return tuple(_file()[0]["known"])


def left_out(model_type: str) -> str:
    """Why a class of transformers has no record, or ""."""
    why: str = _file()[0]["left_out"].get(model_type, "")
    return why


def versions() -> str:
    """What the inventories were recorded with."""
    return f"transformers {_file()[0]['versions'].get('transformers', '')}"


class _Fields:
    """A config's fields by dotted name, with the class's defaults and what it derives."""

    def __init__(self, c: Config, record: Mapping[str, Any]) -> None:
        self.c, self.record = c, record
        self.spellings: dict[str, list[str]] = {}
        for alias, name in record["alias"].items():
            self.spellings.setdefault(name, []).append(alias)

    def raw(self, name: str) -> Any:
        """The field as the config spells it, or None where it is absent or null."""
        *parents, leaf = name.split(".")
        at: Any = self.c.raw
        for part in parents:
            at = at.get(part) if isinstance(at, Mapping) else None
        if not isinstance(at, Mapping):
            return None
        found = (at.get(x) for x in (leaf, *self.spellings.get(name, ())))
        return next((x for x in found if x is not None), None)

    def __getitem__(self, name: str) -> Any:
        value = self.raw(name)
        if name in self.record["lists"]:
            return self._list(name, value)
        if value is not None:
            if isinstance(self.record["sizes"].get(name), float):
                return self._ratio(name, value)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
                raise InputError(f"{self.c.where}: {name} must be a whole number, got {str(value)[:40]!r}")
            return value
        if name in self.record["derived"]:
            return evaluate(self.record["derived"][name], self)
        if self.record["sizes"].get(name) is None:
            raise InputError(f"{self.c.where}: {name} is missing")
        return self.record["sizes"][name]

    def _ratio(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SIZE:
            raise InputError(f"{self.c.where}: {name} must be a number, got {str(value)[:40]!r}")
        return float(value)

    def _list(self, name: str, value: Any) -> list[Any]:
        default: list[Any] = self.record["lists"][name]
        if name not in self.record["kinds"]:
            return self._numbers(name, default if value is None else value, default)
        if value is None:
            layers = [n for n in self.record["sizes"] if n.endswith(("num_hidden_layers", "n_layer", "num_layers"))]
            if any(self[n] != self.record["sizes"][n] for n in layers):
                raise InputError(f"{self.c.where}: {name} is missing: the kind of each layer is needed to count them")
            return default
        if not isinstance(value, list):
            raise InputError(f"{self.c.where}: {name} must be a list, got {str(value)[:40]!r}")
        return value

    def _numbers(self, name: str, value: Any, default: list[int]) -> list[int]:
        """A list of sizes, one a stage and as many as in the record; or of layers by their number."""
        whole = isinstance(value, list) and all(type(x) is int and 0 <= x <= MAX_SIZE for x in value)
        if not whole:
            raise InputError(f"{self.c.where}: {name} must be a list of whole numbers, got {str(value)[:40]!r}")
        if name in self.record["stages"] and len(value) != len(default):
            inventory = f"the recorded inventory of {self.record['class']}"
            raise InputError(f"{self.c.where}: {name} has {len(value)} entries, {inventory} {len(default)}; {WAY_OUT}")
        return list(value)


def evaluate(expression: Any, fields: Any) -> Any:
    """The value of a prefix expression over fields: ``["*", 2, ["f", "hidden_size"]]``."""
    if not isinstance(expression, list):
        return expression
    op, *rest = expression
    if op == "f":
        return fields[rest[0]]
    if op == "at":
        return fields[rest[0]][rest[1]]
    if op == "below":
        return len({x for x in fields[rest[0]] if x < evaluate(rest[1], fields)})
    if op == "count":
        return sum(1 for x in fields[rest[0]] if x == rest[1])
    values = [evaluate(x, fields) for x in rest]
    try:
        return _WHOLE[op](values[0]) if op in _WHOLE else _ARITHMETIC[op](*values)
    except (ZeroDivisionError, OverflowError):
        raise InputError("the config's sizes do not go together: a division by zero in the class's own rules") from None


def build(c: Config) -> Architecture:
    """The weights of the class that the config's model_type stands for.

    InputError where a field differs from the class's default that the record does not cover.
    """
    return of_record(c, record_of(c.text("model_type", "")))


def of_record(c: Config, record: Mapping[str, Any]) -> Architecture:
    """The weights of a recorded class."""
    kind, fields = record["type"], _Fields(c, record)
    for name, default in record["fixed"].items():
        value = fields.raw(name)
        if value is not None and value != default and not _same(value, default):
            raise InputError(
                f"{c.where}: {name}={str(value)[:40]} is not in the recorded inventory of {record['class']} "
                f"({name}={str(default)[:40]}); {WAY_OUT}"
            )
    for name, part in record["parts"].items():
        value = fields.raw(f"{name}.model_type")
        if value is not None and value != part:
            raise InputError(
                f"{c.where}: {name} is a {str(value)[:40]}, in the recorded inventory of {record['class']} a {part}; "
                f"{WAY_OUT}"
            )
    for name, kinds in record["kinds"].items():
        given = fields.raw(name)
        strange = next((x for x in given if x not in kinds), None) if isinstance(given, list) else None
        if strange is not None:
            raise InputError(
                f"{c.where}: {name} holds {str(strange)[:40]!r}, the recorded inventory of {record['class']} only "
                f"{', '.join(kinds)}; {WAY_OUT}"
            )
    _strangers(c, record)
    rows = _rows(c, record, fields)
    weights = []
    for name, dims, times, role in rows:
        n = evaluate(times, fields)
        if n < 0 or n > MAX_SIZE:
            raise InputError(f"{c.where}: the config's sizes leave {n} layers")
        if n:
            weights.append(Weight(name, tuple(_dim(evaluate(d, fields), name, c) for d in dims), n, role))
    named = c.items("architectures")
    if named and str(named[0]) != record["class"]:
        c.notes.append(f"architectures names {str(named[0])[:60]}: counted as {record['class']}")
    c.notes.append(f"{kind}: weights alone are known, as {versions()} builds {record['class']}")
    routed = _routed(c, weights)
    layers = next((fields[n] for n in record["sizes"] if n.endswith(("num_hidden_layers", "n_layer"))), 1)
    return Architecture(
        model_type=kind, embeddings=(), layers=(), final=(), head=None, tied=False, vocab=0, hidden=0,
        num_layers=layers, has_head=False, extra_weights=tuple(weights), counted_only=True, routed=routed,
    )  # fmt: skip


def _strangers(c: Config, record: Mapping[str, Any]) -> None:
    """A note on fields that the class does not know by these names: older files may mean something by them."""
    known = {*record["knows"], *record["alias"], *COMMON}
    parts = [c.raw, *(x for n, x in c.raw.items() if isinstance(x, Mapping) and n in record["knows"])]
    found = sorted({n for x in parts for n in x if n not in known and not n.startswith("_")})
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        c.notes.append(f"fields that {record['class']} does not know were not read: {', '.join(found[:SHOWN])}{more}")


def _routed(c: Config, weights: list[Weight]) -> tuple[int, int] | None:
    """(experts, experts a token) where there are stacked experts; None, and a note, where a token's are not said."""
    stacks = {w.shape[0] for w in weights if w.role == EXPERT and len(w.shape) == 3}
    if not stacks:
        return None
    experts = max(stacks)
    odd = any(w.role != EXPERT and len(w.shape) == 3 and w.shape[0] == experts for w in weights)  # JetMoE's
    parts = [c.raw, *(x for x in c.raw.values() if isinstance(x, Mapping))]
    found = next((x[n] for x in parts for n in PER_TOKEN if isinstance(x.get(n), int)), None)
    if found is None or not 0 < found <= experts or len(stacks) > 1 or odd:  # or experts without weights: LongCat
        c.notes.append("how many experts a token uses is not said in a field that is known")
        return None
    return int(experts), int(found)


def _same(value: Any, default: Any) -> bool:
    return isinstance(value, list | tuple) and isinstance(default, list | tuple) and list(value) == list(default)


def _dim(value: Any, name: str, c: Config) -> int:
    if not 0 <= value <= MAX_SIZE:
        raise InputError(f"{c.where}: the config's sizes give {name} a side of {value}")
    return int(value)


def _rows(c: Config, record: Mapping[str, Any], fields: _Fields) -> list[Any]:
    """The tensors under the config's flags."""
    rows = list(record["tensors"])
    switched = []
    for name, flag in record["flags"].items():
        value = fields.raw(name)
        if value is None or value == flag["default"]:
            continue
        if not isinstance(value, bool):
            raise InputError(f"{c.where}: {name} must be true or false, got {str(value)[:40]!r}")
        switched.append(name)
        rows = [r for r in rows if r not in flag["drops"]] + flag["adds"]
    if record.get("alone") and len(switched) > 1:
        both = " and ".join(switched[:2])
        inventory = f"the recorded inventory of {record['class']}"
        raise InputError(f"{c.where}: {both} together are not in {inventory}; {WAY_OUT}")
    return rows
