"""Solving for the rank: the largest one that keeps within a reduction, a budget of bytes or a share of the model."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from estimator.errors import InputError
from estimator.formulas.params import total_params
from estimator.formulas.peft import lora_params, matrix_params, rank_for
from estimator.models import Model
from estimator.peft.base import FROZEN, Adapter
from estimator.trace import Traced, value_of
from estimator.units import BITS_PER_BYTE, parse_size

MAX_RANK = 2**20  # above every width of every model
PERCENT = 100
MOST = 10**18  # above every count of parameters


def number(text: Any, flag: str, low: Fraction = Fraction(0)) -> Fraction:
    """A finite number above ``low`` from a text such as ``15`` or ``2.5``."""
    try:
        if len(str(text)) > 40:
            raise ValueError
        value = Fraction(str(text).strip())
    except (ValueError, ZeroDivisionError):
        raise InputError(f"{flag}: {str(text)[:40]!r} is not a number") from None
    if value <= low:
        raise InputError(f"{flag} must be above {float(low):g}, got {str(text)[:40]}")
    if value > MOST:
        raise InputError(f"{flag} must be at most {float(MOST):g}, got {str(text)[:40]}")
    return value


def solve_rank(
    make: Callable[[int], Adapter], model: Model, reduction: Any, budget: Any, trainable: Any, dtype: str | None
) -> tuple[Any, tuple[str, ...]]:
    """(the rank, what was found). The rank is a closed form where trained parameters grow linearly with it."""
    if model.kind == "symbolic":
        raise InputError("--reduction, --budget and --trainable need numbers: give a model, or --matrix 120x120")
    first = make(1)
    limit, goal = _limit(first, total_params(model.architecture), reduction, budget, trainable, dtype)
    fits = _fits(limit)
    if not fits(first):
        raise InputError(
            f"{goal}: no rank reaches it; rank 1 already trains {int(value_of(first.trained)):,} parameters"
        )
    best = _search(make, fits)
    adapter = make(best)
    trained = int(value_of(adapter.trained))
    closed = _closed_form(make, limit, best)
    notes = [f"{goal}: rank {best} is the largest that reaches it, with {trained:,} trained parameters"]
    widest = min((min(value_of(m.d_in), value_of(m.d_out)) for m in adapter.targets), default=0)
    if widest and best > widest:
        notes.append(f"rank {best} is above the smaller side of a target ({widest})")
    return closed if closed is not None else best, tuple(notes)


Limit = Callable[[Adapter], tuple[Any, Any]]


def _limit(
    first: Adapter, base: Any, reduction: Any, budget: Any, trainable: Any, dtype: str | None
) -> tuple[Limit, str]:
    """(adapter -> (what it uses, what it may use), the goal in words)."""
    if reduction is not None:
        times = number(reduction, "--reduction")
        return (lambda a: (a.trained * times.numerator, base * times.denominator)), f"--reduction {reduction}"
    if budget is not None:
        from estimator.commands.peft.plan import trained_format

        allowed = parse_size(str(budget), "--budget", "bytes")
        bits = trained_format(first, dtype)[0].block_bits
        return (lambda a: (a.trained * bits, allowed * BITS_PER_BYTE)), f"--budget {budget}"
    share = number(str(trainable).strip().removesuffix("%"), "--trainable")
    if share >= PERCENT:
        raise InputError(f"--trainable must be below 100%, got {trainable}")

    def used(a: Adapter) -> tuple[Any, Any]:
        held = sum((t.elements for t in a.tensors if t.state == FROZEN), start=0)
        return a.trained * PERCENT * share.denominator, (base + a.added_trained + held) * share.numerator

    return used, f"--trainable {str(trainable).strip().removesuffix('%')}%"


def _fits(limit: Limit) -> Callable[[Adapter], bool]:
    def fits(a: Adapter) -> bool:
        used, allowed = limit(a)
        return bool(value_of(used) <= value_of(allowed))

    return fits


def _search(make: Callable[[int], Adapter], fits: Callable[[Adapter], bool]) -> int:
    """The largest rank that fits, by doubling and halving; a rank that the method refuses does not fit."""

    def good(r: int) -> bool:
        try:
            return fits(make(r))
        except InputError:
            return False

    low, high = 1, 2
    while high <= MAX_RANK and good(high):
        low, high = high, 2 * high
    if high > MAX_RANK:
        raise InputError(f"every rank up to {MAX_RANK:,} reaches it: the goal does not bound the rank")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    return low


def _closed_form(make: Callable[[int], Adapter], limit: Limit, best: int) -> Traced | None:
    """The rank as an expression of the model's sizes, in a run that derives; None where it is not linear in
    the rank."""
    (u1, a1), (u2, a2), (u3, a3) = (limit(make(r)) for r in (1, 2, 3))
    # used(r) <= allowed(r) with both linear: offset + step*r <= budget
    step, second = (u2 - a2) - (u1 - a1), (u3 - a3) - (u2 - a2)
    if not isinstance(step, Traced) or value_of(step) != value_of(second) or value_of(step) <= 0:
        return None
    made = rank_for(a1 - u1, -step, step)
    return made if isinstance(made, Traced) and value_of(made) == best else None


def solve_matrix(d_in: Any, d_out: Any, reduction: Any) -> Any:
    """The largest rank at which LoRA on a d_in x d_out matrix trains ``reduction`` times fewer parameters."""
    times = number(reduction, "--reduction")
    full, one = matrix_params(d_in, d_out), lora_params(d_in, d_out, 1)
    r = full * times.denominator // (one * times.numerator)
    if value_of(r) < 1:
        most = value_of(full) / value_of(one)
        raise InputError(
            f"--reduction {reduction}: no rank reaches it; rank 1 trains {most:g} times fewer than the whole matrix"
        )
    return r
