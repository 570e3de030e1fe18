"""What every PEFT method is built from: its arguments, the tensors it adds, and the adapter that results.

A method is one file with a :class:`Method` named ``METHOD``. Its ``build`` is given a :class:`Build` (the model's
modules, the arguments, the matched targets) and yields :class:`Tensor` s: what it adds, how often, trained or frozen,
saved or not. Everything else (bytes, optimizer states, checkpoints, shares) is a fold over that list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from estimator.errors import InputError, unknown
from estimator.families.base import Architecture
from estimator.peft.mappings import default_targets
from estimator.peft.modules import CONV1D, LINEAR, Module, containers, modules
from estimator.peft.targets import (
    ALL_LINEAR, MAMBA_REFUSED, MAMBA_TYPES, Rule, all_linear, compiled, ends, is_pattern, nothing_matches,
    refuse_containers, refuse_kinds, select, where,
)  # fmt: skip
from estimator.trace import Traced

TRAINED, FROZEN, BUFFER = "trained", "frozen", "buffer"

# fields that several of peft's config classes share; a method lists those its class has
TARGETS = "target_modules modules_to_save"
LAYERS = "layers_to_transform layers_pattern"
COMMON = f"{TARGETS} {LAYERS}"
# fields of PeftConfig itself: none decides a count but task_type
BASE_FIELDS = "task_type peft_type auto_mapping base_model_name_or_path revision inference_mode peft_version runtime_config"


# methods whose config refuses layers_to_transform beside a regular expression or all-linear
STRICT_LAYERS = set("lora dora qlora adalora c3a deft delora fourierft hira hra miss psoft shadow unilora waveft xlora".split())
SHORTENED_FROM = 20  # MIN_TARGET_MODULES_FOR_OPTIMIZATION


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor that an adapter adds (or, in ``Adapter.unfrozen``, one of the model's own that it trains).

    module   the module pattern it belongs to; "" for what the whole adapter shares
    name     its name in the module, as peft calls it
    shape    its shape; times: how many layers hold one
    state    TRAINED (requires_grad), FROZEN (a parameter without) or BUFFER
    saved    whether the checkpoint holds it; elements of what is saved beside it (index pairs) in ``saved_extra``
    """

    module: str
    name: str
    shape: tuple[Any, ...]
    times: Any = 1
    state: str = TRAINED
    saved: bool = True
    saved_extra: Any = 0

    @property
    def elements(self) -> Any:
        """Elements over all layers."""
        return self.times * prod(self.shape, start=1)


@dataclass(frozen=True, slots=True)
class Work:
    """What one adapted matrix costs beside its own product while the adapter is not merged.

    flops     extra FLOPs a token; fixed: extra FLOPs of a forward pass whatever its tokens (DoRA's norm, LoHa's product)
    products  extra matrix products one after the other
    """

    flops: Any = 0
    fixed: Any = 0
    products: int = 0


@dataclass(frozen=True, slots=True)
class Method:
    """A PEFT method.

    name       its name on the command line; title and cite: what people call it and where it is read
    build      Build -> tensors
    args       the arguments that decide counts, with the peft library's defaults
    accepts    further fields of its config class, accepted because they change no count
    rank       the argument that ``--rank`` sets, or "" where the method has no rank
    kinds      the module types it takes
    mapping    its table of default targets; "" where it has none
    merges     whether it can be merged into the weights, so that it costs nothing at inference
    work       (Module, args) -> Work of an unmerged module; None: no extra product
    virtual    True for methods that lengthen the sequence (prompts, prefixes)
    skips      True for a method that passes over targets of other types instead of refusing them
    library    False for a method that the peft library does not have under this name
    """

    name: str
    title: str
    cite: str
    build: Callable[[Build], Iterable[Tensor]]
    args: Mapping[str, Any] = field(default_factory=dict)
    accepts: str = ""
    rank: str = "r"
    kinds: tuple[str, ...] = (LINEAR,)
    mapping: str = ""
    merges: bool = True
    work: Callable[[Module, Args], Work] | None = None
    virtual: bool = False
    skips: bool = False
    library: bool = True

    def known_args(self) -> set[str]:
        return {*self.args, *self.accepts.split(), *BASE_FIELDS.split()}


class Args:
    """A method's arguments: what the user gave over the library's defaults, read with a check each.

    ``given`` are the user's; a value may be traced (``--rank R``).
    """

    def __init__(self, method: Method, given: Mapping[str, Any]) -> None:
        self.method, self.given = method, dict(given)
        known = method.known_args()
        for name in self.given:
            if name not in known:
                raise unknown(f"--arg of {method.name}", name, known, f"--method {method.name} takes them as the peft library does")

    def __getitem__(self, name: str) -> Any:
        value = self.given.get(name)
        return self.method.args.get(name) if value is None else value

    def has(self, name: str) -> bool:
        return self.given.get(name) is not None

    def count(self, name: str, least: int = 1) -> Any:
        """A whole number >= ``least``, traced or not."""
        value = self[name]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, Traced):
            if value < least:
                raise self.bad(name, f"must be >= {least}")
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(name, "must be a whole number" if value is not None else "must be given")
        if value < least or value > 10**12:
            raise self.bad(name, f"must be >= {least}" if value < least else "is out of range")
        return value

    def flag(self, name: str) -> bool:
        value = self[name]
        if not isinstance(value, bool):
            raise self.bad(name, "must be true or false")
        return value

    def number(self, name: str, low: float, high: float) -> float:
        value = self[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.bad(name, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def choice(self, name: str, *options: str) -> str:
        value = self[name]
        if not isinstance(value, str) or value not in options:
            raise self.bad(name, f"must be one of {', '.join(options)}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list of names; a single name counts as a list of one."""
        value = self[name]
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self.bad(name, "must be a list of names")
        return tuple(value)

    def patterns(self, name: str) -> dict[str, Any]:
        """A mapping from patterns to whole numbers (``rank_pattern``)."""
        value = self[name] or {}
        if not isinstance(value, dict):
            raise self.bad(name, 'must be an object, like {"q_proj": 16}')
        for key, number in value.items():
            compiled(key, f"--arg {name}")
            if isinstance(number, bool) or not isinstance(number, int | float) or number <= 0:
                raise self.bad(name, "must map names to numbers > 0")
        return value

    def bad(self, name: str, why: str) -> InputError:
        """An InputError about one argument."""
        got = self[name]
        shown = int(got) if isinstance(got, Traced) else got
        option = "--rank" if name == self.method.rank else f"--arg {name}"
        return InputError(f"{option} {why}" + ("" if got is None else f", got {str(shown)[:40]!r}"))


@dataclass
class Build:
    """What a method's ``build`` works on.

    arch, model      the architecture and the model's name
    known            its modules
    targets          the modules that the adapter goes into, each narrowed to its layers; set by :meth:`match`
    unfrozen         the model's own weights that are trained
    notes            what was assumed or adjusted
    """

    method: Method
    args: Args
    arch: Architecture
    model: str
    config: Mapping[str, Any]
    targets_option: str | Sequence[str] | None
    known: list[Module] = field(default_factory=list)
    targets: list[Module] = field(default_factory=list)
    unfrozen: list[Tensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rank: Any = None
    virtual_tokens: Any = 0

    def __post_init__(self) -> None:
        self.known = modules(self.arch)

    # ------------------------------------------------------------------------------------------------ targets

    def asked(self) -> tuple[list[str] | None, str | None, bool]:
        """(names, regular expression, all-linear) as asked; (None, None, False): the method's default."""
        given: Any = self.targets_option
        if given in (None, "default"):
            given = self.args["target_modules"]
        if given is None or given == "default":
            return None, None, False
        if isinstance(given, str):
            if given.strip().lower() == ALL_LINEAR:
                return None, None, True
            if is_pattern(given):
                return None, compiled(given, "--targets"), False
            given = given.split(",")
        if not isinstance(given, list | tuple) or not all(isinstance(n, str) for n in given):
            raise InputError("--targets must be names separated by commas, all-linear, default or one regular expression")
        names = [n.strip() for n in given if n.strip()]
        if not names and not self.args.names("target_parameters"):
            raise InputError("--targets: no name given")
        return names, None, False

    def default(self, table: str | None = None) -> tuple[list[str], str | None]:
        """The library's own targets for the model type; InputError where it has none."""
        found = default_targets(table or self.method.mapping or self.method.name, self.arch.model_type)
        if found is None and self.arch.model_type == "symbolic":
            found = "q_proj v_proj"
        if found is None:
            raise InputError(
                f"--method {self.method.name}: the peft library has no default targets for model type "
                f"{self.arch.model_type!r}; name them: --targets {self.suggested()}"
            )
        return ([], compiled(found, "--targets")) if is_pattern(found) else (found.split(), None)

    def suggested(self) -> str:
        """Names of the model's own matrices, for an error message."""
        leaves = list(dict.fromkeys(m.leaf for m in all_linear(self.known)))
        return ",".join(leaves[:4]) + " (or all-linear)"

    def rule(self, names: Sequence[str] = (), pattern: str | None = None, exact: bool = False) -> Rule:
        """The matching rule of the arguments for these targets."""
        a = self.args
        exclude: Any = a["exclude_modules"] or ()
        exclude_pattern = None
        if isinstance(exclude, str):
            exclude, exclude_pattern = (), compiled(exclude, "--arg exclude_modules")
        save = a.names("modules_to_save")
        for name in save:
            compiled(name, "--arg modules_to_save")
        return Rule(
            tuple(names), pattern, tuple(exclude), exclude_pattern, save, self._layers(pattern is not None),
            a.names("layers_pattern"), exact,
        )  # fmt: skip

    def _layers(self, by_pattern: bool) -> tuple[int, ...] | None:
        value = self.args["layers_to_transform"]
        if value is None or value == []:
            if self.args["layers_pattern"]:
                raise InputError("--arg layers_pattern needs layers_to_transform too")
            return None
        if by_pattern or self.asked()[2]:
            if self.method.name in STRICT_LAYERS:
                raise InputError("--arg layers_to_transform cannot be used with a regular expression or all-linear: name the modules")
            if by_pattern:
                self.notes.append("layers_to_transform has no effect beside a regular expression")
        value = [value] if isinstance(value, int) else value
        if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            raise InputError("--arg layers_to_transform must be a number or a list of numbers")
        return tuple(value)

    def match(self, kinds: Sequence[str] | None = None) -> list[Module]:
        """Resolve the targets, check their types, and keep them in :attr:`targets`."""
        names, pattern, everything = self.asked()
        if everything:
            rule = self.rule(names=[m.name for m in all_linear(self.known)], exact=True)
            found = select(all_linear(self.known), _only_drops(rule))
            if rule.layers is not None:
                found = self._filtered(found, rule)
        else:
            if names is None and pattern is None:
                names, pattern = self.default()
            rule = self.rule(names or (), pattern)
            if not self.method.skips:
                refuse_containers(rule, self.known, self.method.name)
            found = select([*self.known, *containers(self.known)] if self.method.skips else self.known, rule)
        self.check(found, names or ([pattern] if pattern else [ALL_LINEAR]), rule, kinds)
        self.targets = found
        return found

    def _filtered(self, found: list[Module], rule: Rule) -> list[Module]:
        """``layers_to_transform`` beside all-linear: peft heeds it only where it has shortened a long list of names."""
        if self.long_list(all_linear(self.known)):
            return where(found, lambda key: rule.layer(key) in (rule.layers or ()))
        self.notes.append("layers_to_transform has no effect beside all-linear in a model with fewer than 20 matrices")
        return found

    def long_list(self, found: Sequence[Module]) -> bool:
        """Whether peft shortens the names of all linear modules to common endings (from 20 names on)."""
        return bool(sum(m.times for m in found) >= SHORTENED_FROM)

    def check(self, found: list[Module], asked: Sequence[str], rule: Rule, kinds: Sequence[str] | None = None) -> None:
        """InputError where nothing matched or a type does not fit."""
        if not found:
            also = ""
            if rule.exclude or rule.exclude_pattern or rule.save:
                also = " (after exclude_modules and modules_to_save)"
            if rule.layers is not None:
                also += f" in layers {list(rule.layers)}"
            raise nothing_matches(asked, self.known, self.model, also)
        refuse_kinds(found, kinds or self.method.kinds, self.method.name)
        refuse = self.method.name in {"lora", "dora", "qlora", "adalora", "randlora"} and self.arch.model_type in MAMBA_TYPES
        bad = next((m.leaf for m in found if refuse and m.leaf in MAMBA_REFUSED), None)
        if bad:
            raise InputError(
                f"--method {self.method.name}: {bad!r} cannot be adapted in a Mamba model "
                f"(its fused kernel reads the weight directly); leave it out of --targets"
            )

    # ---------------------------------------------------------------------------------------- the model's own weights

    def unfreeze_biases(self, only_targets: bool) -> None:
        """``bias="all"`` or ``"..._only"``: train the model's own biases."""
        saved = self.args.names("modules_to_save")
        pool = self.targets if only_targets else self.known
        for m in pool:
            if any(m.example.endswith(s) for s in saved):  # frozen in favour of its copy, yet in the checkpoint, twice
                twice = sum((2 * m.times * prod(shape) for short, shape in m.weights if short == "bias"), start=0)
                self.unfrozen.append(Tensor(m.name, "bias", (0,), 0, saved_extra=0 if only_targets else twice))
                continue
            for short, shape in m.weights:
                if short == "bias" and (only_targets or short not in m.tied):
                    self.unfrozen.append(Tensor(m.name, "bias", shape, m.times))
                elif short == "bias" and not only_targets:  # counted with its owner; the checkpoint shows it twice
                    self.unfrozen.append(Tensor(m.name, "bias", shape, 0, saved_extra=prod(shape)))

    def saved_modules(self) -> Iterator[Tensor]:
        """``modules_to_save``: trained copies of whole modules."""
        from estimator.peft.extras import saved_modules

        yield from saved_modules(self)

    def hidden(self) -> Any:
        return self.arch.hidden


def _only_drops(rule: Rule) -> Rule:
    """``rule`` with its names replaced by everything, so that only exclusions decide."""
    from dataclasses import replace

    return replace(rule, pattern=r"(?s).*", names=(), layers=None) if rule.exclude or rule.exclude_pattern or rule.save else _EVERY


class _Everything(Rule):
    """A rule that takes every module."""

    @property
    def by_layer(self) -> bool:
        return False

    def takes(self, key: str) -> bool:
        return True


_EVERY = _Everything()


@dataclass(frozen=True)
class Adapter:
    """A method on a model: the tensors it adds, the weights it unfreezes, and what it costs.

    tensors    what it adds; unfrozen: the model's own weights that it trains
    targets    the modules it goes into
    rank       its rank, or None
    """

    method: Method
    tensors: tuple[Tensor, ...]
    unfrozen: tuple[Tensor, ...]
    targets: tuple[Module, ...]
    rank: Any
    args: Args
    notes: tuple[str, ...] = ()
    virtual_tokens: Any = 0

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
    def saved(self) -> Any:
        """Elements in the checkpoint that the library writes."""
        held = sum((t.elements for t in self.tensors if t.saved), start=0)
        beside = sum((t.saved_extra for t in (*self.tensors, *self.unfrozen) if t.saved), start=0)
        return held + beside + sum((t.elements for t in self.unfrozen if t.saved), start=0)

    def work(self) -> tuple[Any, Any, Any]:
        """(extra FLOPs a token, extra FLOPs a forward pass, extra matrix products) while it is not merged."""
        if self.method.work is None:
            return 0, 0, 0
        rows = [(m, self.method.work(m, self.args)) for m in self.targets]
        total = [sum((m.times * getattr(w, f) for m, w in rows), start=0) for f in ("flops", "fixed", "products")]
        return total[0], total[1], total[2]


def run(
    method: Method, arch: Architecture, model: str, config: Mapping[str, Any],
    targets: str | Sequence[str] | None = None, given: Mapping[str, Any] | None = None,
) -> Adapter:  # fmt: skip
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
    if args.names("modules_to_save"):
        tensors += build.saved_modules()
    rank = build.rank if build.rank is not None else args[method.rank] if method.rank else None
    return Adapter(
        method, tuple(tensors), tuple(build.unfrozen), tuple(build.targets), rank, args, tuple(build.notes), build.virtual_tokens
    )


def per_target(build: Build, one: Callable[[Module], Iterable[Tensor]], kinds: Sequence[str] | None = None) -> list[Tensor]:
    """The tensors of a method that treats each target by itself."""
    return [t for m in build.match(kinds) for t in one(m)]


def low_rank_work(m: Module, r: Any) -> Work:
    """Two thin products, x A and (x A) B: 2*r*(d_in + d_out) FLOPs a token."""
    return Work(flops=2 * r * (m.d_in + m.d_out), products=2)


__all__ = [
    "BUFFER", "COMMON", "CONV1D", "FROZEN", "LAYERS", "LINEAR", "TARGETS", "TRAINED",
    "Adapter", "Args", "Build", "Method", "Module", "Tensor", "Work", "ends", "low_rank_work", "per_target", "run",
]  # fmt: skip
