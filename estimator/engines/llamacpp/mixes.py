"""A table of mixes for a card: size, what it needs, whether it fits, the longest context, the speed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from estimator.engines.llamacpp.backend import host_of, place_of
from estimator.engines.llamacpp.cards import card_names
from estimator.engines.llamacpp.fits import MOST, fits_of, longest, most_layers, worst
from estimator.engines.llamacpp.load import Load
from estimator.engines.llamacpp.question import MXFP4, Asked, asked, build_of
from estimator.engines.llamacpp.report import SOURCE, inputs, notes_of
from estimator.engines.llamacpp.timing import one_pass
from estimator.engines.llamacpp.weights import COMPARED, of_mix
from estimator.errors import InputError
from estimator.families.common_gguf import two_sided
from estimator.fit import NO
from estimator.formulas.params import total_params
from estimator.presets import find, load_gpu
from estimator.report import Cell, Node, Report, Table
from estimator.trace import value_of
from estimator.units import BITS_PER_BYTE, BYTES, TOKENS

FEW = 8  # rows of the short answer
NOTE = "bits: of the file a weight; layers: as many as fit; longest: context; tokens/s: with half of the context cached"


def compare(q: Any) -> Report:
    """Every mix that people use, largest first; ``best.mix`` is the largest that fits whole."""
    if q.model.header is not None:
        raise InputError("--quantization all compares mixes of a model; a file has the one it has")
    first = asked(q, COMPARED[0])
    rows, hidden, best = [], [], None
    names = [*COMPARED, MXFP4] if any("experts" in w.name for w in first.load.arch.weights()) else [*COMPARED]
    for mix in names:
        weights = of_mix(q.model.architecture, mix, bool(q.imatrix), build_of(q))
        a = replace(first, load=first.load.with_weights(weights), mix=mix)
        row, more, fits = _row(q, a, mix)
        rows.append(row)
        hidden += more
        best = mix if fits and best is None else best
    rows.sort(key=lambda r: -r[1].value)
    columns = (
        "mix",
        "file",
        "bits a weight",
        *(("needs", "fits", "layers", "longest context", "tokens/s") if first.cards else ()),
    )
    c = first.load.context
    table = Table(f"{first.load.name}, {c.asked:,} tokens of {c.k} cache", columns, tuple(rows))
    card = first.cards[0].name if first.cards else ""
    words = ""
    if card:
        words = f"The largest mix that fits {card} whole is {best}." if best else f"No mix fits {card} whole."
    facts = {"best.mix": best} if card else {}
    return Report(
        "memory", f"{first.load.name}: mixes in llama.cpp", inputs(q, first) | {"quantization": "all"}, (table,), facts,
        (*first.said, NOTE, *notes_of(first)), (SOURCE,),
        tuple(q.model.notes), hidden=tuple(hidden), verdict=words,
        brief=(table._replace(rows=_around(table.rows, len(columns) > 3)),),
    )  # fmt: skip


def _around(rows: tuple[Any, ...], card: bool) -> tuple[Any, ...]:
    """Some rows: on a card those around the largest that fits, else the first."""
    first = next((i for i, row in enumerate(rows) if card and row[4] != NO), 0)
    first = max(0, min(first - 2, len(rows) - FEW))
    return rows[first : first + FEW]


def _row(q: Any, a: Asked, mix: str) -> tuple[tuple[Any, ...], list[Node], bool]:
    load = a.load
    total = int(value_of(load.weights.total))
    bits = BITS_PER_BYTE * total / int(value_of(total_params(load.arch)))
    hidden = [Node(f"{mix}.weights_bytes", mix, total, BYTES)]
    fit = worst(fits_of(load, a.cards))
    if fit is None:
        return (mix, Cell(total, BYTES), f"{bits:.2f}"), hidden, False
    fits = fit.answer != NO
    placed = load.with_layers(load.place.layers + 1) if fits else most_layers(load, a.cards, MOST)[0]
    tokens = longest(load, a.cards, MOST)[0] if fits else 0
    speed = _speed(q, placed, mix)
    hidden.append(Node(f"{mix}.need_bytes", mix, fit.need.best, BYTES))
    shown = None if speed is None else f"{speed:.1f}"
    return (
        mix, Cell(total, BYTES), f"{bits:.2f}", Cell(fit.need.best, BYTES), fit.answer, f"{placed.place.offloaded}",
        Cell(tokens, TOKENS) if tokens else None, shown,
    ), hidden, fits  # fmt: skip


def _speed(q: Any, load: Load, mix: str) -> float | None:
    """Tokens a second of one sequence, with as many layers on the devices as fit; None for cards without figures, and
    where no speed is known (an encoder beside the decoder).
    """
    names = [str(n) for n in card_names(q)]
    if two_sided(load.arch) or q.gpu is None or any(find("gpus", n) is None for n in names):
        return None
    places = (host_of(q.host), *(place_of(load_gpu(n)) for n in names))
    return 1 / one_pass(load, places, mix, load.context.sequences, load.context.asked / 2, 1).total
