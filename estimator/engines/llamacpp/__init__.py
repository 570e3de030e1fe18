"""llama.cpp: GGUF models on the host and on devices. What it allocates is laid out as it lays it out.

The way of a number: options -> :mod:`question` -> :mod:`context` (sizes), :mod:`weights` (bytes by layer) and
:mod:`placement` (what lies where; :mod:`schedule` cuts the graph there) -> :mod:`load`: :mod:`caches` for what is
kept, :mod:`model` for the graph of one micro-batch (:mod:`attention` and its :mod:`scores`, :mod:`feedforward`,
:mod:`recurrent` emit ggml's operations into :mod:`graph`), and :mod:`allocate` for the bytes that the graph needs ->
:mod:`report`, :mod:`speed`.
"""

from __future__ import annotations

from typing import Any

from estimator.fit import YES, Fit
from estimator.report import Report


def memory(q: Any) -> Report:
    """What llama.cpp allocates for a :class:`~estimator.commands.memory.question.Memory` question."""
    if q.quantization == "all":
        from estimator.engines.llamacpp.mixes import compare

        return compare(q)
    from estimator.engines.llamacpp.report import memory as answer

    return answer(q)


def kvcache(q: Any) -> Report:
    """The caches of a :class:`~estimator.commands.kvcache.question.KVCache` question."""
    from estimator.engines.llamacpp.report import kvcache as answer

    return answer(q)


def infer(q: Any) -> Report:
    """Latency and throughput of an :class:`~estimator.commands.infer.question.Infer` question."""
    from estimator.engines.llamacpp.speed import infer as answer

    return answer(q)


def fit(q: Any) -> Fit | None:
    """The fit of the device with the least left over; None without a card."""
    from estimator.engines.llamacpp.fits import fits_of, worst
    from estimator.engines.llamacpp.question import asked

    a = asked(q)
    return worst(fits_of(a.load, a.cards))


def placed(q: Any) -> tuple[int | None, Fit | None]:
    """The largest ``--gpu-layers`` that surely fits, and its fit; None and the fit as asked where that or none does."""
    from estimator.engines.llamacpp.fits import SURE, fits_of, most_layers, worst
    from estimator.engines.llamacpp.question import asked

    a = asked(q)
    found = worst(fits_of(a.load, a.cards))
    if found is None or found.answer == YES:
        return None, found
    (most,) = most_layers(a.load, a.cards, SURE)
    layers = most.place.offloaded
    return (layers, worst(fits_of(most, a.cards))) if layers else (None, found)
