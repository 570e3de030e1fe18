"""What a method's ``build`` works on: the model's modules, the arguments, and the targets they match."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from math import prod
from typing import Any

from estimator.errors import InputError
from estimator.families.base import Architecture
from estimator.peft.arguments import Args, Method, PeftTensor
from estimator.peft.mappings import MAMBA_REFUSED, MAMBA_TYPES, default_targets
from estimator.peft.modules import Module, containers, modules
from estimator.peft.targets import (
    ALL_LINEAR,
    Rule,
    all_linear,
    compiled,
    is_pattern,
    nothing_matches,
    pattern_value,
    refuse_containers,
    refuse_kinds,
    select,
    split_by,
    where,
)
from estimator.records import dataclass

# methods whose config refuses layers_to_transform beside a regular expression or all-linear
STRICT_LAYERS = {
    "lora", "dora", "qlora", "adalora", "c3a", "deft", "delora", "fourierft", "hira", "hra",
    "miss", "psoft", "shadow", "unilora", "waveft", "xlora",
}  # fmt: skip
SHORTENED_FROM = 20  # MIN_TARGET_MODULES_FOR_OPTIMIZATION


@dataclass
class Build:
    """What a method's ``build`` works on.

    arch, model      the architecture and the model's name
    known            its modules
    targets          the modules that the adapter goes into, each narrowed to its layers; set by :meth:`match`
    unfrozen         the model's own weights that are trained
    notes            what was assumed or adjusted
    beside           a model of the adapter's own
    fixed_work       extra FLOPs a forward pass that belong to no target (bare parameters)
    """

    method: Method
    args: Args
    arch: Architecture
    model: str
    config: Mapping[str, Any]
    targets_option: str | Sequence[str] | None
    known: list[Module] = field(default_factory=list)
    targets: list[Module] = field(default_factory=list)
    unfrozen: list[PeftTensor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rank: Any = None
    virtual_tokens: Any = 0
    fixed_work: Any = 0
    beside: Architecture | None = None

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
            raise InputError(
                "--targets must be names separated by commas, all-linear, default or one regular expression"
            )
        names = [n.strip() for n in given if n.strip()]
        if not names and not self.args.names("target_parameters"):
            raise InputError("--targets: no name given")
        return names, None, False

    def default(self, table: str | None = None) -> tuple[list[str], str | None]:
        """The library's own targets for the model type; InputError where it has none."""
        found = default_targets(table or self.method.mapping or self.method.name, self.arch.model_type)
        if found is None and self.arch.textbook:
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
        return ",".join(leaves[:4]) + " (or all-linear)" if leaves else "its modules (it has no linear layers)"

    def rule(self, names: Sequence[str] = (), pattern: str | None = None, exact: bool = False) -> Rule:
        """The matching rule of the arguments for these targets."""
        a = self.args
        by_pattern = isinstance(a["exclude_modules"], str) and a["exclude_modules"]
        exclude_pattern = compiled(a["exclude_modules"], "--arg exclude_modules") if by_pattern else None
        exclude = () if by_pattern else a.names("exclude_modules")
        save = a.names("modules_to_save")
        for name in save:
            compiled(name, "--arg modules_to_save")
        return Rule(
            tuple(names),
            pattern,
            tuple(exclude),
            exclude_pattern,
            save,
            self._layers(pattern is not None),
            a.names("layers_pattern"),
            exact,
        )

    def _layers(self, by_pattern: bool) -> tuple[int, ...] | None:
        value = self.args["layers_to_transform"]
        if value is None or value == []:
            if self.args["layers_pattern"]:
                raise InputError("--arg layers_pattern needs layers_to_transform too")
            return None
        if by_pattern or self.asked()[2]:
            if self.method.name in STRICT_LAYERS:
                raise InputError(
                    "--arg layers_to_transform cannot be used with a regular expression or all-linear: name the modules"
                )
            if by_pattern:
                self.notes.append("layers_to_transform has no effect beside a regular expression")
        value = [value] if isinstance(value, int) else value
        if not isinstance(value, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
            raise InputError("--arg layers_to_transform must be a number or a list of numbers")
        return tuple(value)

    def ranked(self) -> Iterator[tuple[Module, Any]]:
        """Every target with its rank: ``r``, or what ``rank_pattern`` says of its layers."""
        self.rank, patterns = self.args.count("r"), self.args.patterns("rank_pattern")
        for m in self.match():
            yield from split_by(m, lambda key: pattern_value(patterns, key, self.rank))

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
        refuse = (
            self.method.name in {"lora", "dora", "qlora", "adalora", "randlora"} and self.arch.model_type in MAMBA_TYPES
        )
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
                self.unfrozen.append(PeftTensor(m.name, "bias", (0,), 0, saved_extra=0 if only_targets else twice))
                continue
            for short, shape in m.weights:
                if short == "bias" and (only_targets or short not in m.tied):
                    self.unfrozen.append(PeftTensor(m.name, "bias", shape, m.times))
                elif short == "bias" and not only_targets:  # counted with its owner; the checkpoint shows it twice
                    self.unfrozen.append(PeftTensor(m.name, "bias", shape, 0, saved_extra=prod(shape)))


def _only_drops(rule: Rule) -> Rule:
    """``rule`` with its names replaced by everything, so that only exclusions decide."""
    return (
        rule._replace(pattern=r"(?s).*", names=(), layers=None)
        if rule.exclude or rule.exclude_pattern or rule.save
        else _EVERY
    )


_EVERY = Rule(everything=True)
