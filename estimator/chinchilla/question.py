"""The question that ``llmcalc chinchilla`` is asked, and the budget and optimum it leads to."""

from __future__ import annotations

import math
from dataclasses import field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from estimator.chinchilla import laws
from estimator.chinchilla.laws import Law, Parametric, Power
from estimator.errors import InputError
from estimator.formulas import scaling as f
from estimator.records import dataclass
from estimator.trace import trace, value_of
from estimator.units import parse_size

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

DEFAULT_LAW = "hoffmann"
DEFAULT_COMPUTE = 576 * 10**21  # Gopher's budget, which Chinchilla was trained with (Hoffmann et al. 2022, section 1)
DEFAULT_MFU = 0.4  # Llama Team 2024, Table 4: 38% to 43% of the bf16 peak on 8,192 to 16,384 H100s
QUESTIONS = ("compute", "params", "tokens", "usd", "gpu_hours", "model")
ALL = "all"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. Exactly one of QUESTIONS at most; numbers, or texts as on the command line (``7B``, ``5.76e23``).

    train_params, train_tokens  what is trained instead of the optimum (over- or under-training)
    inference_tokens            tokens that the model will serve in its life
    unique_tokens               tokens that exist; more are repeated
    active_fraction             active over total parameters of a mixture of experts, in (0, 1]
    law, coefficients           a law's name or ``all``; a set's name, E=..,A=.. or a file
    """

    compute: Any = None
    params: Any = None
    tokens: Any = None
    usd: Any = None
    gpu_hours: Any = None
    model: str | None = None
    law: str | None = None
    coefficients: str | None = None
    train_params: Any = None
    train_tokens: Any = None
    inference_tokens: Any = None
    unique_tokens: Any = None
    active_fraction: Any = None
    gpu: str | None = None
    gpus: Any = None
    mfu: Any = None
    price: Any = None
    dtype: str = "bf16"
    derive: bool = False
    symbols: str | None = None
    plot: str | None = None


@dataclass
class Answer:
    """What the parts of a report share: the law, the budget and its optimum, and what was assumed on the way."""

    law: Law
    C: Any
    N: Any
    D: Any
    kind: str
    active: float = 1.0
    machine: RentedGpu | None = None
    trace: Any = None
    trained: tuple[float, float] | None = None
    assumptions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RentedGpu:
    """A GPU, its peak in FLOP/s, a utilisation, USD an hour (or None) and a number of GPUs (or None)."""

    spec: GpuSpec
    peak: Any
    mfu: Any
    price: Any
    gpus: Any


def two(given: list[str]) -> str:
    flags = " and ".join("--" + g.replace("_", "-") for g in given)
    text = f"{flags} are two questions at once; give one"
    if "tokens" in given and len(given) == 2:
        other = next(g for g in given if g != "tokens")
        text += f". To train on a fixed number of tokens: --{other.replace('_', '-')} with --train-tokens"
    elif "params" in given and len(given) == 2:
        other = next(g for g in given if g != "params")
        text += f". To train a fixed number of parameters: --{other.replace('_', '-')} with --train-params"
    return text


def choose(request: Request) -> Law:
    """The law that is asked for; the default where none is."""
    text = request.coefficients
    named = None if request.law in (None, ALL) else request.law
    if text is not None and ("=" in text or "." in text or "/" in text):
        if request.law is not None:
            raise InputError(f"--coefficients {text[:40]} is a law of its own: leave out --law {request.law}")
        return laws.own(text)
    return laws.load(named or DEFAULT_LAW, text)


def size(value: Any, flag: str) -> int | float:
    """A positive finite number from an option; InputError naming ``flag`` otherwise."""
    if isinstance(value, str):
        text = value.strip().lstrip("$")
        if text.lower() in ("nan", "inf", "infinity", "-inf"):
            raise InputError(f"{flag} must be a finite number > 0, got {value}")
        return parse_size(text, flag)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise InputError(f"{flag} must be a finite number > 0, got {value!r}")
    return value


def fraction(value: Any, flag: str) -> float:
    """A number in (0, 1]; ``40%`` is 0.4."""
    try:
        text = str(value).strip()
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise InputError(f"{flag} must be in (0, 1], or a percentage, got {str(value)[:40]}")
    return number


def amount(value: Any, flag: str) -> float:
    """A positive finite number that need not be whole: ``2.40``, ``$1500``, ``10M``."""
    text = str(value).strip().lstrip("$")
    try:
        number = float(text)
    except ValueError:
        number = float(parse_size(text, flag))
    if not 0 < number < math.inf:
        raise InputError(f"{flag} must be a finite number > 0, got {text[:40]}")
    return number


def traced_law(law: Law) -> Law:
    """The law with its coefficients as traced numbers, for a derivation."""

    def t(name: str, value: Any) -> Any:
        return trace(name, value, name=name, integer=False)

    p = law.parametric
    parametric = (
        Parametric(E=t("L0", p.E), A=t("A", p.A), B=t("B", p.B), alpha=t("alpha", p.alpha), beta=t("beta", p.beta))
        if p
        else None
    )

    def power(law: Power | None, k: str, x: str, u: str) -> Power | None:
        return law and Power(t(k, law.coefficient), t(x, law.exponent), t(u, law.unit) if law.unit != 1 else 1)

    return replace(
        law, C0=t("C0", law.C0), parametric=parametric, params=power(law.params, "k_N", "a", "u"),
        tokens=power(law.tokens, "k_D", "b", "u"), loss_power=power(law.loss_power, "k_L", "l", "u_L"),
    )  # fmt: skip


def plain_law(law: Law) -> Law:
    """The law in plain numbers: what is solved numerically has no expression."""
    p = law.parametric
    bare = Parametric(*(float(value_of(v)) for v in (p.E, p.A, p.B, p.alpha, p.beta))) if p else None

    def strip(power: Power | None) -> Power | None:
        return power and Power(value_of(power.coefficient), value_of(power.exponent), value_of(power.unit))

    return replace(
        law, C0=value_of(law.C0), parametric=bare, params=strip(law.params), tokens=strip(law.tokens),
        loss_power=strip(law.loss_power),
    )  # fmt: skip


def answer_of(request: Request, law: Law, given: list[str]) -> Answer:
    """The optimum that the question leads to."""
    question = given[0] if given else "compute"
    assumptions = [] if given else [f"no question given: {DEFAULT_COMPUTE:.3g} FLOPs, Chinchilla's own budget"]
    inputs: dict[str, Any] = {"law": law.id, "coefficients": law.set}
    if request.derive:
        law = traced_law(law)
    active = fraction(request.active_fraction, "--active-fraction") if request.active_fraction is not None else 1.0

    def t(letter: str, value: Any) -> Any:
        return trace(letter, value, name=letter, integer=False) if request.derive else value

    alone = next((k for k in ("gpus", "mfu", "price") if getattr(request, k) is not None and request.gpu is None), None)
    if alone:
        raise InputError(f"--{alone} needs --gpu")
    machine = _machine(request, assumptions, t) if request.gpu is not None else None
    answer = Answer(law, 0, 0, 0, question, active, machine, t, None, assumptions, [], inputs)
    if question in ("params", "model"):
        n = _given_params(request, answer)
        inputs["params"] = value_of(n)
        answer.N = t("N", n)
        answer.C = law.c_of_params(answer.N)
    elif question == "tokens":
        inputs["tokens"] = size(request.tokens, "--tokens")
        answer.D = t("D", inputs["tokens"])
        answer.C = law.c_of_tokens(answer.D)
    elif question == "compute":
        inputs["compute"] = size(request.compute, "--compute") if given else DEFAULT_COMPUTE
        answer.C = t("C", inputs["compute"])
    else:
        answer.C = _bought(request, machine, inputs, t)
    answer.N = answer.N or law.n_opt(answer.C)
    answer.D = answer.D or law.d_opt(answer.C)
    if request.active_fraction is not None or answer.active < 1:
        answer.assumptions.append("mixture of experts: the law is applied to the active parameters, as their FLOPs are")
    inputs |= {
        k: getattr(request, k)
        for k in ("gpu", "train_params", "train_tokens", "inference_tokens", "unique_tokens")
        if getattr(request, k) is not None
    }
    if not all(0 < float(value_of(v)) < math.inf for v in (answer.C, answer.N, answer.D)):
        raise OverflowError
    return answer


def _given_params(request: Request, answer: Answer) -> Any:
    """The parameters that count: the active ones of --params or of --model."""
    if request.model is None:
        total = size(request.params, "--params")
        return total * answer.active if answer.active < 1 else total
    from estimator.formulas.params import active_params, total_params
    from estimator.models import load_model

    model = load_model(request.model)
    if model.kind == "symbolic":
        raise InputError("--model symbolic has no number of parameters; the laws in letters: --derive")
    total, active = total_params(model.architecture), active_params(model.architecture)
    answer.inputs["model"] = model.name
    if request.active_fraction is not None:
        raise InputError(f"--active-fraction: {model.name} has its own, {active / total:.3g}; leave it out")
    answer.active = active / total
    answer.assumptions.append(f"{model.name}: {total:,} parameters, {active:,} active a token")
    return active


def _machine(request: Request, assumptions: list[str], t: Any) -> RentedGpu:
    """The GPU of --gpu, with its peak, utilisation and price."""
    from estimator.presets import load_gpu

    spec = load_gpu(str(request.gpu))
    peak = spec.peak_flops(request.dtype)
    if peak is None:
        raise InputError(f"--gpu {spec.id}: no dense {request.dtype} peak is known; choose another --dtype")
    mfu = DEFAULT_MFU if request.mfu is None else fraction(request.mfu, "--mfu")
    if request.mfu is None:
        assumptions.append(
            f"--mfu not given: {DEFAULT_MFU:.0%} of the dense {request.dtype} peak "
            "(Llama Team 2024, Table 4: 38% to 43%)"
        )
    gpus = None if request.gpus is None else int(size(request.gpus, "--gpus"))
    return RentedGpu(spec, t("F", peak), t("mfu", mfu), _price(request, spec, assumptions, t), gpus and t("n", gpus))


def _price(request: Request, spec: GpuSpec, assumptions: list[str], t: Any) -> Any:
    if request.price is not None:
        return t("p", amount(request.price, "--price"))
    listed = [p for p in spec.prices if p.verified] or list(spec.prices)
    if not listed:
        return None
    usd = [p.usd_per_hour for p in listed]
    dates = sorted(p.date for p in listed)
    span = dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}"
    assumptions.append(
        f"--price not given: the median of {len(usd)} list prices of {spec.name}, "
        f"{min(usd):.2f} to {max(usd):.2f} USD an hour, {span}"
    )
    return t("p", median(usd))


def _bought(request: Request, machine: RentedGpu | None, inputs: dict[str, Any], t: Any) -> Any:
    """The FLOPs that USD or GPU-hours buy."""
    flag = "--usd" if request.usd is not None else "--gpu-hours"
    if machine is None:
        raise InputError(f"{flag} needs --gpu: what a GPU does for the money (and --mfu, else {DEFAULT_MFU:.0%})")
    if request.gpu_hours is not None:
        inputs["gpu_hours"] = amount(request.gpu_hours, "--gpu-hours")
        hours = t("H", inputs["gpu_hours"])
    else:
        inputs["usd"] = amount(request.usd, "--usd")
        if machine.price is None:
            raise InputError(f"--usd: no price of {machine.spec.name} is known; give --price USD an hour")
        hours = t("U", inputs["usd"]) / machine.price
    return f.flops_of_gpu_hours(hours, machine.peak, machine.mfu)
