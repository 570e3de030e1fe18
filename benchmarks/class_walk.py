"""One class of transformers on the meta device, for ``record_counts.py``: its fields, sizes and tensors."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from remembered import Real, Remembered, remember_in

from estimator.library import listed

HELD = (201, 202)  # seeds of sizes that records are held to once they are made
SIZES = 8  # sizes at which a class is built to find its expressions


LAYERS_LEAST = 8  # layers to build with, at least: more than the first dense ones and a pattern's period


CHECKS = 3  # further sizes that the expressions must reproduce


NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|(?<=\.expert_)\d+(?=\.)|(?<=_l)\d+$")  # in a tensor's name
STAGES = 12  # entries of a list of sizes, at most


RATIO = re.compile(r"ratio$|_factor$|multiplier$|^expand")
STAGED = re.compile(r"depths|hidden_sizes|embed_dims?$|dims$|channels|num_blocks|_layers$|heads")
INDEXED = re.compile(r"ind(ex|ic)es$|cross_attention_layers$|layer_ids$")  # lists of layers by their number


LAYERS = re.compile(
    r"(^|_)(num_(hidden_)?layers|n_layers?|depth|num_(encoder|decoder)_layers|num_blocks|(encoder|decoder)_layers)$"
)


IDS = re.compile(r"(_ids?|_index|_idx|_token|seed)$|^(bos|eos|pad|sep|cls|unk|mask)_|^id2label$|^label2id$")


SKIP = {"architectures", "return_dict", "output_hidden_states", "output_attentions", "use_cache", "is_encoder_decoder",
        "torchscript", "use_bfloat16", "chunk_size_feed_forward", "model_type", "transformers_version", "id2label",
        "label2id", "problem_type", "dtype", "_name_or_path", "tokenizer_class", "prefix",
        "task_specific_params"}  # fmt: skip


class Walk:
    """One class: builds it with chosen fields, and lists its tensors."""

    def __init__(self, config_class: Any, model_class: Any, start: dict[str, Any] | None = None) -> None:
        self.config_class, self.model_class, self.start = config_class, model_class, start or {}
        self.firsts: dict[tuple[str, ...], dict[str, Any]] = {}  # of these fields the first sizes at which it builds
        self.other: dict[str, int] = {}  # a second value of sizes that otherwise keep the class's own
        remember_in(config_class, model_class)
        self.defaults = plain(self._config({}))
        self.types = {
            name.split(".")[0]: vars(self._config({})).get(name.split(".")[0]) for name in self.defaults if "." in name
        }  # fmt: skip

    def _config(self, fields: dict[str, Any]) -> Any:
        kwargs = nested({**self.start, **fields})
        for part, made in getattr(self, "types", {}).items():
            if part in kwargs:
                kwargs[part].setdefault("model_type", made.model_type)
        return self.config_class(**kwargs)

    def tensors(self, fields: dict[str, Any]) -> tuple[list[tuple[str, tuple[int, ...], str]], Any]:
        """(name, shape, role) of every parameter once, and the config as the class completed it."""
        import torch

        config = self._config(fields)
        with torch.device("meta"):
            model = self.model_class(config)
        model.tie_weights()
        return list(listed(model)), config


def plain(config: Any) -> dict[str, Any]:
    """The fields of a config by dotted name, parts included."""
    out: dict[str, Any] = {}
    for name, value in vars(config).items():
        if name in SKIP or name.startswith("_") or name.endswith("_internal"):
            continue
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            out |= {f"{name}.{k}": v for k, v in plain(value).items()}
        else:
            out[name] = value
    return out


def parts(config: Any, prefix: str = "") -> dict[str, str]:
    """The model_type of every part of a config that may be of several classes, by dotted name."""
    out: dict[str, str] = {}
    any_of = {n for n, c in (getattr(config, "sub_configs", None) or {}).items() if c.__name__ == "AutoConfig"}
    for name, value in vars(config).items():
        if hasattr(value, "to_dict") and hasattr(value, "model_type") and not name.startswith("_"):
            out |= {f"{prefix}{name}": str(value.model_type)} if name in any_of else {}
            out |= parts(value, f"{prefix}{name}.")
    return out


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a config class from dotted names."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        *parents, leaf = name.split(".")
        at = out
        for p in parents:
            at = at.setdefault(p, {})
        at[leaf] = value
    return out


def pattern(name: str) -> str:
    """The name with its numbers replaced."""
    return NUMBER.sub("{i}", name)


def kinds_of(tensors: list[tuple[str, tuple[int, ...], str]]) -> set[tuple[str, int]]:
    """The patterns of names, with how many sides each has."""
    return {(pattern(name), len(shape)) for name, shape, _ in tensors}


def is_size(name: str, value: Any) -> bool:
    leaf = name.split(".")[-1]
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    return whole and not IDS.search(leaf) and leaf not in SKIP


def is_ratio(name: str, value: Any) -> bool:
    """A width over another."""
    return isinstance(value, float) and value > 0 and bool(RATIO.search(name.split(".")[-1]))


def is_list(name: str, value: Any) -> bool:
    """A list of sizes, one a stage, or of layers by their number."""
    leaf = name.split(".")[-1]
    if not isinstance(value, list | tuple) or not 1 < len(value) <= STAGES:
        return False
    return bool(STAGED.search(leaf) or INDEXED.search(leaf)) and all(type(x) is int for x in value)


def is_kinds(value: Any) -> bool:
    """A list of words, one for each layer."""
    return isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(x, str) for x in value)


def layers_of(name: str, defaults: dict[str, Any]) -> str | None:
    """The field that counts the layers a list is for: of the same part, and as many."""
    if not is_kinds(defaults[name]):
        return None
    part = name.rpartition(".")[0]
    fields = (n for n in defaults if n.rpartition(".")[0] == part and LAYERS.search(n.rpartition(".")[2]))
    return next((n for n in fields if defaults[n] == len(defaults[name])), None)


def choose(name: str, default: int, rng: random.Random, heads: int) -> int:
    """A size to build with: small, and a multiple of what such fields are divided by."""
    leaf = name.split(".")[-1]
    if LAYERS.search(leaf):
        return LAYERS_LEAST + rng.randrange(6)
    if re.search(r"(kv|key_value|group).*head|head.*kv|num_kv|n_kv", leaf):
        return heads // 2
    if re.search(r"heads?$", leaf):
        return heads * rng.choice([1, 2, 4])  # no two fields alike: one would stand for the other
    if "head_dim" in leaf or "head_size" in leaf or leaf in ("d_kv",):
        return 8 * rng.choice([3, 5, 7, 9])
    if re.search(r"per_tok|top_?k|topk", leaf):
        return min(default, 2)
    if "expert" in leaf and "size" not in leaf and "dim" not in leaf:
        return 8 * rng.randrange(1, 9)
    if re.search(r"image_size|crop_size", leaf):
        return 224
    if "patch" in leaf or "stride" in leaf or "merge" in leaf or "kernel" in leaf or "conv" in leaf:
        return default
    if "dense" in leaf and default < LAYERS_LEAST:
        return rng.choice([1, 2, 3])
    if "vocab" in leaf:
        return default + rng.randrange(1, 900)  # no less: token numbers are held to it
    if re.search(r"position|seq|length|window", leaf):
        return rng.randrange(300, 700)
    if default >= 64:
        return heads * 8 * rng.randrange(5, 90)
    return default


def attempt(walk: Walk, fields: dict[str, Any]) -> Any:
    """What the class builds, or None where it refuses."""
    try:
        return walk.tensors(fields)
    except Exception:
        return None


def sized(walk: Walk, names: list[str], seed: int) -> dict[str, Any]:
    rng = random.Random(seed)
    heads = rng.choice([4, 8, 12])
    out: dict[str, Any] = {}
    for n in names:
        value = walk.defaults[n]
        if isinstance(value, int):
            out[n] = choose(n, value, rng, heads)
            if out[n] == value and n in walk.other:
                out[n] = rng.choice([value, walk.other[n]])
    for n in names:
        value = walk.defaults[n]
        if isinstance(value, float):
            out[n] = rng.choice([value, 2 * value, 3 * value])
        elif is_kinds(value):
            out[n] = [rng.choice(sorted(set(value))) for _ in range(out[str(layers_of(n, walk.defaults))])]
        elif isinstance(value, list | tuple) and INDEXED.search(n):
            out[n] = sorted(rng.sample(range(LAYERS_LEAST), rng.randrange(1, min(len(value), LAYERS_LEAST))))
        elif isinstance(value, list | tuple):
            factor = rng.choice([1, 2, 3])  # stages keep their proportions, which a class may count on
            out[n] = [x * factor if x >= 16 else x if "head" in n else rng.randrange(1, 6) for x in value]
    return out


def varied(walk: Walk) -> list[str]:
    """The fields that can be given other sizes, the largest set that builds, by trial."""
    every = [n for n in walk.defaults if walk.defaults[n] != walk.start.get(n)]
    chosen = sizes(walk, [n for n in every if is_size(n, walk.defaults[n])])
    for n in every:
        value = walk.defaults[n]
        kinds = is_kinds(value) and len(set(value)) > 1 and layers_of(n, walk.defaults) in chosen
        if kinds or is_ratio(n, value) or is_list(n, value):
            more = [*chosen, n]
            if all(attempt(walk, sized(walk, more, s)) is not None for s in (0, 1, 2)):
                chosen = more
    start = attempt(walk, sized(walk, chosen, 0))
    for n in list(chosen):
        value = walk.defaults[n]
        if isinstance(value, int) and all(sized(walk, [n], s)[n] == value for s in range(4)):
            for other in (value + 1, value * 2):
                found = attempt(walk, {**sized(walk, chosen, 0), n: other})
                if found is not None and kinds_of(found[0]) != kinds_of(start[0]):
                    chosen.remove(n)  # a switch rather than a size
                elif found is not None:
                    walk.other[n] = other
                if found is not None:
                    break
    if sum(attempt(walk, sized(walk, chosen, s)) is not None for s in range(6)) < 4:
        walk.other.clear()
    return chosen


def sizes(walk: Walk, names: list[str]) -> list[str]:
    """Of single numbers, those that can differ together."""
    if attempt(walk, sized(walk, names, 0)) is not None and attempt(walk, sized(walk, names, 1)) is not None:
        return names
    core = re.compile(r"hidden_size$|d_model|n_embd|intermediate_size|ffn|d_ff|n_inner|head|layer|vocab|position")
    chosen = [n for n in names if core.search(n)]
    while chosen and attempt(walk, sized(walk, chosen, 0)) is None:
        for drop in reversed(chosen):
            rest = [n for n in chosen if n != drop]
            if attempt(walk, sized(walk, rest, 0)) is not None:
                chosen = rest
                break
        else:
            chosen = chosen[:-1]
    for name in names:
        if name not in chosen:
            more = [*chosen, name]
            if all(attempt(walk, sized(walk, more, s)) is not None for s in (0, 1)):
                chosen = more
    return chosen


def remembered(values: dict[str, Any]) -> dict[str, Any]:
    return {n: recalled(n, v) for n, v in values.items()}


def recalled(name: str, value: Any) -> Any:
    """A size, or a list's sizes, that remember where they stood."""
    if isinstance(value, list):
        return [Remembered(x, ("at", name, i)) if isinstance(x, int) else x for i, x in enumerate(value)]
    return (Real if isinstance(value, float) else Remembered)(value, ("f", name))


def written(walk: Walk, record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Counter[tuple[int, ...]]]]:
    """(the config as ``save_pretrained`` writes it, how often each shape occurs) of a recorded class at two sizes that
    its record was not made from, and with each of its flags. Sizes at which the class does not build are left out."""
    named = {*record["sizes"], *record["free"]}
    heads = {n for n, v in walk.defaults.items() if is_size(n, v) and "head" in n}  # what widths are multiples of
    names = [n for n in walk.defaults if n in named | heads and n not in record["fixed"] and n not in walk.start]
    if attempt(walk, sized(walk, names, HELD[0])) is None:
        names = [n for n in names if n in named]
    cases = [sized(walk, names, seed) for seed in HELD]
    cases += [{**cases[0], name: not flag["default"]} for name, flag in record["flags"].items()]
    for fields in cases:
        try:
            tensors, config = walk.tensors(fields)
        except Exception as error:
            print(f"{record['type']}: {type(error).__name__}: {str(error)[:80]}")
            continue
        raw = {**json.loads(config.to_json_string(use_diff=True)), "architectures": [record["class"]]}
        yield raw, Counter(shape for _, shape, _ in tensors)
