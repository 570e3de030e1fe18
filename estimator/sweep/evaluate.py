"""A record evaluated with numpy for many rows at once, in exact integers.

Before anything is computed the bounds of every step are: where one would leave 64 bits, the same arrays hold Python's
ints instead, which have no end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from estimator.sweep.number import AT_MOST, BELOW, Key, Number, key_of
from estimator.sweep.real import Real
from estimator.sweep.record import Atom, Record

ALONE = 2**17  # multiplications of a product of matrices that BLAS starts no threads for
WIDE = 4  # so many sums are sooner multiplied as a matrix
EXACT = 2**53  # below it every int is a float
LIMIT = 2**62  # of every sum of absolute terms; the allocator's rounding adds less than the rest


class Evaluator:
    """Guards and outputs of one record as functions of columns of sizes.

    outputs: key -> a number of the record, or what is the same in every row for which the record holds
    """

    def __init__(self, record: Record, outputs: Mapping[str, Any]) -> None:
        self.atoms, self.reals, self.outputs = record.atoms, record.reals, dict(outputs)
        self.guards = [(how, key, answer) for (how, key), answer in record.guards.items()]
        self.met = [(*what, answer) for what, answer in record.reals_met.items()]
        floats = self._floats([x for _, a, b, _ in self.met for x in (a, b)])
        self.needed = self._needed([*(key for _, key, _ in self.guards), *floats])
        wanted = [key_of(x.terms) for x in self.outputs.values() if isinstance(x, Number)]
        wanted += self._floats([("real", x.index) for x in self.outputs.values() if isinstance(x, Real)])
        wanted += floats
        first = set(self.needed)
        self.later = [i for i in self._needed(wanted) if i not in first]
        self.narrow = all(self._fits(key, LIMIT) for key in self._sums(wanted))
        self.matrices = {
            i: matrix(self.atoms[i].args)
            for i in (*self.needed, *self.later)
            if self.narrow and self.atoms[i].op in ("max", "min") and len(self.atoms[i].args) >= WIDE
            and all(self._fits(key, EXACT) for key in self.atoms[i].args)
        }  # fmt: skip

    def _floats(self, operands: list[Any]) -> list[Key]:
        """The sums of ints that these operands of floats are made of."""
        found: list[Key] = []
        seen: set[int] = set()
        while operands:
            x = operands.pop()
            if isinstance(x, frozenset):
                found.append(x)
            elif isinstance(x, tuple) and x[1] not in seen:
                seen.add(x[1])
                operands += self.reals[x[1]][1:]
        return found

    def _sums(self, wanted: list[Key]) -> Iterable[Key]:
        yield from wanted
        yield from (key for _, key, _ in self.guards)
        for i in (*self.needed, *self.later):
            yield from (x for x in self.atoms[i].args if isinstance(x, frozenset))

    def _fits(self, key: Key, limit: int) -> bool:
        """Whether every partial sum of these terms stays below ``limit``."""
        total = 0
        for product, factor in key:
            size = abs(factor)
            for i in product:
                size *= max(abs(self.atoms[i].low), abs(self.atoms[i].high), 1)
            total += size
        return total < limit

    def _needed(self, keys: Iterable[Key]) -> list[int]:
        """The atoms of these terms and what they are made of, in the order in which they were made."""
        left = [i for key in keys for product, _ in key for i in product]
        found: set[int] = set()
        while left:
            i = left.pop()
            if i not in found:
                found.add(i)
                left += [j for key in self.atoms[i].args if isinstance(key, frozenset) for p, _ in key for j in p]
        return sorted(found)

    def rows(self, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        """(mask of the rows for which the record holds, a function of another mask to their outputs)."""
        import numpy as np

        with np.errstate(all="ignore"):  # rows for which the record does not hold divide by nothing
            return self._rows(columns)

    def _rows(self, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        import numpy as np

        sizes = columns if self.narrow else {k: v.astype(object) for k, v in columns.items()}
        run = _Run(self.atoms, self.reals, sizes, self.matrices)
        for i in self.needed:
            run.make(i)
        n = len(next(iter(columns.values())))
        good = np.ones(n, dtype=bool)
        for how, key, answer in self.guards:
            x = run.total(key)
            met = x < 0 if how == BELOW else x <= 0 if how == AT_MOST else x == 0
            good &= met if answer else ~np.asarray(met, dtype=bool)
        for how, a, b, answer in self.met:
            p, q = run.operand(a), run.operand(b)
            met = p < q if how == "<" else p <= q if how == "<=" else p == q
            good &= np.asarray(met, dtype=bool) == answer

        def outputs() -> dict[str, Any]:
            for i in self.later:
                run.make(i)
            return {
                k: run.total(key_of(v.terms)) if isinstance(v, Number)
                else run.real(v.index) if isinstance(v, Real) else v
                for k, v in self.outputs.items()
            }  # fmt: skip

        return good, outputs


def matrix(keys: tuple[Key, ...]) -> tuple[list[tuple[int, ...]], Any]:
    """(the products of these sums, their factors: a row a sum)."""
    import numpy as np

    products = sorted({p for key in keys for p, _ in key})
    return products, np.array([[float(dict(key).get(p, 0)) for p in products] for key in keys])


class _Run:
    """The arrays of one chunk: of every atom that was made, and of products of several."""

    def __init__(self, atoms: list[Atom], reals: list[tuple[str, Any, Any]], columns: Mapping[str, Any],
                 matrices: Mapping[int, tuple[list[tuple[int, ...]], Any]]) -> None:  # fmt: skip
        self.atoms, self.reals, self.columns, self.matrices = atoms, reals, columns, matrices
        self.made: dict[Any, Any] = {}

    def product(self, product: tuple[int, ...]) -> Any:
        """The array of a product of atoms."""
        if len(product) == 1:
            return self.made[product[0]]
        if product not in self.made:
            self.made[product] = self.product(product[:-1]) * self.made[product[-1]]
        return self.made[product]

    def total(self, key: Key) -> Any:
        """The array of a sum of terms; an int where it has no atom."""
        total: Any = None
        constant = 0
        for product, factor in key:
            if not product:
                constant = factor
                continue
            x = self.product(product)
            if factor == -1 and total is not None:
                total -= x
                continue
            x = x if factor == 1 else x * factor
            if total is None:
                total = x.copy() if factor == 1 else x
            else:
                total += x
        if total is None:
            return constant
        if constant:
            total += constant
        return total

    def operand(self, x: Any) -> Any:
        """The array of an operand of floats, or a constant."""
        return self.total(x) if isinstance(x, frozenset) else self.real(x[1]) if isinstance(x, tuple) else x

    def real(self, i: int) -> Any:
        """The array of the ``i``-th operation on floats."""
        if ("real", i) not in self.made:
            op, *operands = self.reals[i]
            a, b = (self.operand(x) for x in operands)
            if op == "ratio":
                found = _ratio(a, b)
            else:
                a, b = (_floats(x) for x in (a, b))
                found = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
            self.made["real", i] = found
        return self.made["real", i]

    def make(self, i: int) -> None:
        """The array of an atom whose operands are made."""
        import numpy as np

        op, args = self.atoms[i].op, self.atoms[i].args
        if op == "size":
            self.made[i] = self.columns[args[0]]
        elif op == "block":
            self.made[i] = blocks(self.total(args[0]))
        elif op == "digits":
            self.made[i] = _digits(self.total(args[0]))
        elif op == "mod":
            self.made[i] = _rest(self.total(args[0]), args[1])
        elif op == "floor":
            self.made[i] = _floor(self.total(args[0]), self.total(args[1]))
        elif i in self.matrices:
            self.made[i] = self._of_many(*self.matrices[i], op)
        else:
            self.made[i] = self._extreme(args, np.maximum if op == "max" else np.minimum)

    def _of_many(self, products: list[tuple[int, ...]], factors: Any, op: str) -> Any:
        """The largest (smallest) of many sums as one product of matrices, in floats that hold them exactly."""
        import numpy as np

        made = [self.product(p) if p else 1 for p in products]
        count = next(len(x) for x in made if hasattr(x, "__len__"))
        width = max(32, ALONE // factors.size)
        blocks = -(-count // width)
        values = np.zeros((blocks, len(made), width))
        for i, x in enumerate(made):
            whole = np.broadcast_to(x, count)
            values[:-1, i] = whole[: (blocks - 1) * width].reshape(blocks - 1, width)
            values[-1, i, : count - (blocks - 1) * width] = whole[(blocks - 1) * width :]
        sums = factors @ values
        best = sums.max(axis=1) if op == "max" else sums.min(axis=1)
        return best.reshape(-1)[:count].astype(np.int64)

    def _extreme(self, keys: tuple[Key, ...], pick: Any) -> Any:
        """The largest of sums: what all of them share is added once."""
        shared = dict(keys[0])
        for key in keys[1:]:
            terms = dict(key)
            shared = {p: f for p, f in shared.items() if terms.get(p) == f}
        best: Any = None
        for key in keys:
            x = self.total(frozenset((p, f) for p, f in key if p not in shared))
            best = x if best is None else pick(best, x)
        return best + self.total(frozenset(shared.items()))


def _floats(x: Any) -> Any:
    return x.astype(float) if hasattr(x, "astype") else float(x)


def _ratio(a: Any, b: Any) -> Any:
    """a / b, rounded once as Python does; where both are exact as floats, numpy does too."""
    import numpy as np

    if all(np.max(np.abs(x)) < EXACT for x in (a, b)):
        return _floats(a) / _floats(b)
    pairs = zip(*(np.broadcast_arrays(np.asarray(a, dtype=object), np.asarray(b, dtype=object))), strict=True)
    return np.array([x / y for x, y in pairs])


def _power(n: Any) -> int | None:
    """The exponent where ``n`` is an int and a power of two."""
    return n.bit_length() - 1 if type(n) is int and n > 0 and n & (n - 1) == 0 else None


def _floor(x: Any, n: Any) -> Any:
    power = _power(n)
    return x // n if power is None else x >> power


def _digits(x: Any) -> Any:
    """The decimal digits of whole numbers >= 0."""
    import numpy as np

    if x.dtype.kind == "O":
        return np.array([len(str(n)) for n in x], dtype=object)
    powers = np.array([10**k for k in range(1, 19)], dtype=np.int64)
    return np.searchsorted(powers, x, side="right").astype(np.int64) + 1


def _rest(x: Any, n: int) -> Any:
    return x % n if _power(n) is None else x & (n - 1)


def blocks(nbytes: Any) -> Any:
    """:func:`estimator.stack.tape.block_bytes` of an array of requests, all more than 0."""
    import numpy as np

    from estimator.stack.blocks import BLOCK, MIN_LARGE, ROUND_LARGE, SPLIT_REST

    size = (nbytes + (BLOCK - 1)) & -BLOCK
    rest = -size & (ROUND_LARGE - 1)
    rest[(rest > SPLIT_REST) | (size < MIN_LARGE)] = 0
    return np.add(size, rest, out=size) if size.dtype != object else size + rest
