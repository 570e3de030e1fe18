"""LoRA adapters beside a model in llama.cpp: what their files hold, and which products they add to.

Each pair lies where the matrix lies that it adapts, in a buffer of its own; each adapted product is followed by two
more, a scale and a sum. Source: src/llama-adapter.cpp, src/llama-graph.cpp (build_lora_mm, build_lora_mm_id), build
11434; convert_lora_to_gguf.py, which writes fp32 unless asked otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from estimator.engines.llamacpp.passes import Lora, Pair, Spot, bare_modules
from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.families.common_gguf import Gguf
from estimator.headers import FileTensor, Header, gguf
from estimator.inventory import CONV1D
from estimator.peft.asked import prepare
from estimator.peft.files import from_adapter
from estimator.peft.lora_variants import VARIANTS
from estimator.peft.targets import pattern_value, split_by
from estimator.storage.base import layers_of
from estimator.storage.gguf_tensors import stems
from estimator.trace import value_of

WIDE = 4  # bytes of a number as the converter writes it
SUFFIXES = (".lora_a", ".lora_b")
PARTS = {"ffn_gate_exps": "gate", "ffn_up_exps": "up", "ffn_gate_up_exps": "gate_up", "ffn_down_exps": "down"}


def adapters_of(model: Any, known: Gguf, given: Any, said: list[str]) -> tuple[Lora, ...]:
    """The adapters of ``--lora FILE,FOLDER``: GGUF files, or folders that peft saved. InputError where one is none."""
    if given is None:
        return ()
    if known.split or known.packed:
        raise InputError(
            f"--lora {given}: {known.name}'s file holds matrices otherwise than the checkpoint, whose adapters are not "
            "laid out. Merge the adapter into the model"
        )
    out = []
    for place in str(given).split(","):
        try:
            path = Path(place.strip()).expanduser()
            there = path.exists()
        except (OSError, ValueError, RuntimeError):  # too long, a null in it, no such user
            there = False
        if not there:
            raise InputError(f"--lora {place.strip()[:80]}: no such file")
        if path.is_dir() or path.suffix == ".json":
            out.append(_saved(model, str(path)))
            said.append(f"--lora {path.name}: fp32, as the converter writes it unless asked otherwise (--outtype)")
        else:
            out.append(read(model.architecture, known, gguf.read_file(path)))
    idle = {m for lora in out for m, _, _ in lora.pairs} & bare_modules(model.architecture, known)
    if idle:
        said.append(f"--lora: llama.cpp keeps the pair of {sorted(idle)[0]}, and does not multiply by it")
    return tuple(out)


def _saved(model: Any, place: str) -> Lora:
    """An adapter as peft saved it, as the converter would write it."""
    options, _, _ = from_adapter(place, {}, "--lora")
    if options["method"] != "lora":
        raise InputError(f"--lora {place}: is {options['method']}; llama.cpp takes LoRA alone")
    made = prepare(model, "lora", None, options.get("targets"), options["args"], None)
    odd = next((v for v in (*VARIANTS, "lora_bias", "layer_replication") if made.args[v]), "")
    if odd or made.unfrozen or any(not t.name.startswith(("lora_A.w", "lora_B.w")) for t in made.tensors):
        what = odd or next(iter(t.module for t in made.unfrozen), "") or "tables or parameters"
        raise InputError(f"--lora {place}: llama.cpp's converter takes pairs of matrices alone, and this has {what}")
    patterns = made.args.patterns("rank_pattern")
    pairs: dict[Spot, Pair] = {}
    for m in made.targets:
        for part, rank in split_by(m, lambda key: pattern_value(patterns, key, made.rank)):
            r, sides = int(value_of(rank)), tuple(int(value_of(n)) for n in (m.d_in, m.d_out))
            pair = Pair(r, WIDE * r * sides[0], WIDE * r * sides[1], r * sum(sides))
            pairs |= {(m.name, i, ""): pair for i in (part.indices if m.layered else (-1,))}
    return Lora(place, pairs)


def read(arch: Architecture, known: Gguf, header: Header) -> Lora:
    """The adapter that a GGUF's header lists. InputError where it is none of this model's."""
    path = header.path
    kind, of = (str(header.metadata.get(f"general.{key}", "")) for key in ("type", "architecture"))
    if kind != "adapter" or header.metadata.get("adapter.type") != "lora":
        raise InputError(f"--lora {path}: is no LoRA adapter (general.type {kind[:20]!r})")
    if of != known.name:
        raise InputError(f"--lora {path}: is an adapter of {of[:30]!r}, and the model is {known.name!r}")
    found = {t.name: t for t in header.tensors if not t.name.endswith("_norm.weight")}  # which llama.cpp skips
    known_places = places(arch)
    pairs: dict[Spot, Pair] = {}
    for name in found:
        stem = name.removesuffix(SUFFIXES[0])
        if not name.endswith(SUFFIXES) or f"{name[:-1]}{'b' if name[-1] == 'a' else 'a'}" not in found:
            raise InputError(f"--lora {path}: {name[:60]} is no half of a pair")
        if stem != name:
            place = known_places.get(stem.removesuffix(".weight"))
            a, b = found[name], found[stem + SUFFIXES[1]]
            if place is None:
                raise InputError(f"--lora {path}: {stem[:60]} has no product that adapters are laid out for")
            spot, sides = place
            if len(a.shape) < 2 or len(b.shape) < 2 or (a.shape[-1], b.shape[-2], b.shape[-1]) != (*sides, a.shape[-2]):
                size = f"{sides[0]} by {sides[1]}"
                raise InputError(f"--lora {path}: {stem[:60]} is of another size than the model's, {size}")
            pairs[spot] = _pair(a, b)
    return Lora(path, pairs)


def _pair(a: FileTensor, b: FileTensor) -> Pair:
    return Pair(a.shape[-2], a.bytes, b.bytes, a.elements + b.elements)


def places(arch: Architecture) -> dict[str, tuple[Spot, tuple[int, int]]]:
    """The file's name of a matrix, without ``.weight`` -> where it is multiplied, and its sides in and out."""
    return dict(_places(arch))


def _places(arch: Architecture) -> Iterator[tuple[str, tuple[Spot, tuple[int, int]]]]:
    named = stems(arch)
    for w in (x for x in arch.weights() if len(x.shape) > 1 and not x.is_bias):
        stacked = len(w.shape) == 3
        for stem in named.get(w.name if stacked else w.module, ()):
            n_out, n_in = (int(value_of(n)) for n in w.shape[-2:])
            if w.role == CONV1D:
                n_in, n_out = n_out, n_in
            part = PARTS.get(stem, "") if stacked else ""
            sides = (n_in, n_out // 2 if part in ("gate", "up") else n_out)
            if "{i}" not in w.name:
                yield stem, ((w.module, -1, ""), sides)
                continue
            for i in layers_of(w):
                yield f"blk.{i}.{stem}", ((w.name if stacked else w.module, i, part), sides)
