"""The base of every PEFT method: the adapter that a method makes of a model.

A method is one file with a :class:`Method` named ``METHOD``. Its ``build`` is given a :class:`Build` (the model's
modules, the arguments, the matched targets) and yields :class:`PeftTensor` s: what it adds, how often, trained or
frozen, saved or not. Everything else (bytes, optimizer states, checkpoints, shares) is a fold over that list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from estimator.errors import unknown
from estimator.families.base import Architecture
from estimator.peft.arguments import (
    BASE,
    BUFFER,
    CLASSIFIERS,
    COMMON,
    FROZEN,
    INDEX,
    LAYERS,
    TARGETS,
    TASKS,
    TRAINED,
    TUNER,
    Args,
    Method,
    PeftTensor,
    Work,
)
from estimator.peft.build import Build
from estimator.peft.modules import CONV1D, LINEAR, Module
from estimator.records import dataclass

INDEX_BITS = 64


@dataclass(frozen=True)
class Adapter:
    """A method on a model: the tensors it adds, the weights it unfreezes, and what it costs.

    tensors    what it adds; unfrozen: the model's own weights that it trains
    targets    the modules it goes into
    rank       its rank, or None
    beside     a model of its own that runs beside the one that it goes into
    """

    method: Method
    tensors: tuple[PeftTensor, ...]
    unfrozen: tuple[PeftTensor, ...]
    targets: tuple[Module, ...]
    rank: Any
    args: Args
    notes: tuple[str, ...] = ()
    virtual_tokens: Any = 0
    fixed_work: Any = 0
    beside: Architecture | None = None

    @property
    def added_trained(self) -> Any:
        """Trained elements that it adds."""
        return sum((t.elements for t in self.tensors if t.state == TRAINED), start=0)

    @property
    def trained(self) -> Any:
        """Trained parameters, the model's own included."""
        return self.added_trained + sum((t.elements for t in self.unfrozen), start=0)

    @property
    def frozen(self) -> Any:
        """Elements that it stores and does not train: frozen parameters and buffers."""
        return sum((t.elements for t in self.tensors if t.state != TRAINED), start=0)

    @property
    def away(self) -> frozenset[str]:
        """Modules whose own weights lie on the CPU while it trains."""
        off = self.method.away is not None and self.method.away(self.args)
        return frozenset(m.name for m in self.targets) if off else frozenset()

    @property
    def saved(self) -> Any:
        """Elements in the checkpoint that the library writes."""
        return self.count(lambda t: t.saved)

    def count(self, wanted: Callable[[PeftTensor], bool]) -> Any:
        """Elements in the checkpoint of its ``wanted`` tensors, those of the model's own that it trains included."""
        return sum((t.elements + t.saved_extra for t in (*self.tensors, *self.unfrozen) if wanted(t)), start=0)

    def bits(self, tuner: int, base: int, wanted: Callable[[PeftTensor], bool], saved: bool = False) -> Any:
        """Bits of its ``wanted`` tensors, those of the model's own that it trains included.

        tuner, base: bits of a number that the adapter holds in its own format, in the model's. ``saved``: with what
        the checkpoint holds beside them.
        """
        rows = self.widths(tuner, base)
        return sum(((t.elements + (t.saved_extra if saved else 0)) * w for t, w in rows if wanted(t)), start=0)

    def widths(self, tuner: int, base: int) -> list[tuple[PeftTensor, int]]:
        """Its tensors, and those of the model's own that it trains, with the bits of a number in each."""
        widths = {TUNER: tuner, BASE: base, INDEX: INDEX_BITS}
        own = [(t, widths[t.format]) for t in self.tensors]
        return [*own, *((t, base) for t in self.unfrozen)] if self.tensors else [(t, tuner) for t in self.unfrozen]

    def work(self) -> tuple[Any, Any, Any]:
        """(extra FLOPs a token, extra FLOPs a forward pass, extra matrix products) while it is not merged."""
        if self.method.work is None:
            return 0, 0, 0
        rows = [(m, self.method.work(m, self.args)) for m in self.targets]
        total = [sum((m.times * getattr(w, f) for m, w in rows), start=0) for f in ("flops", "fixed", "products")]
        return total[0], total[1] + self.fixed_work, total[2]


def run(
    method: Method,
    arch: Architecture,
    model: str,
    config: Mapping[str, Any],
    targets: str | Sequence[str] | None = None,
    given: Mapping[str, Any] | None = None,
) -> Adapter:
    """Put ``method`` on a model.

    targets: names (a list, or one text with commas), "all-linear", "default" or a regular expression.
    given: the method's arguments by their names in the peft library. InputError where the library refuses.
    """
    args = Args(method, given or {})
    build = Build(method, args, arch, model, config, targets)
    tensors = [*method.build(build)]
    if args["bias"] not in (None, "none"):
        bias = str(args["bias"])
        if bias != "all" and not bias.endswith("_only"):
            raise args.bad("bias", "must be none, all or " + method.name + "_only")
        build.unfreeze_biases(only_targets=bias != "all")
    task = args["task_type"]
    if task is not None and task not in TASKS:
        raise unknown("--arg task_type", str(task), TASKS)
    if args.names("modules_to_save") or task in CLASSIFIERS:
        from estimator.peft.extras import saved_modules

        tensors += saved_modules(build)
    rank = build.rank if build.rank is not None else args[method.rank] if method.rank else None
    return Adapter(
        method,
        tuple(tensors),
        tuple(build.unfrozen),
        tuple(build.targets),
        rank,
        args,
        tuple(build.notes),
        build.virtual_tokens,
        build.fixed_work,
        build.beside,
    )


def low_rank_work(m: Module, r: Any) -> Work:
    """Two thin products, x A and (x A) B: 2*r*(d_in + d_out) FLOPs a token."""
    return Work(flops=2 * r * (m.d_in + m.d_out), products=2)


__all__ = [
    "BASE", "BUFFER", "COMMON", "CONV1D", "FROZEN", "INDEX", "LAYERS", "LINEAR", "TARGETS", "TRAINED", "TUNER",
    "Adapter", "Args", "Build", "Method", "Module", "PeftTensor", "Work", "low_rank_work", "run",
]  # fmt: skip
