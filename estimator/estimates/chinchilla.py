"""Compute-optimal training: parameters, tokens, loss, time and money, from any one of them.

The question is one of a budget of FLOPs, parameters, tokens, USD or GPU-hours (on a GPU at a utilisation), or a
model. Whatever else is given bends the answer: fixed parameters or tokens (over-training), tokens to be served,
unique tokens, the share of parameters that is active.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from estimator.chinchilla import laws, solve
from estimator.chinchilla.laws import Law, Parametric, Power
from estimator.chinchilla.steps import LETTERS
from estimator.errors import InputError
from estimator.formulas import scaling as f
from estimator.report import Cell, Node, Report, Table, Text
from estimator.trace import trace, value_of
from estimator.units import DAYS, GPU_HOURS, NATS, PERCENT, RATIO, USD, parse_size

if TYPE_CHECKING:
    from estimator.schemas import GpuSpec

DEFAULT_LAW = "hoffmann"
DEFAULT_COMPUTE = 576 * 10**21  # Gopher's budget, which Chinchilla was trained with (Hoffmann et al. 2022, section 1)
DEFAULT_MFU = 0.4  # Llama Team 2024, Table 4: 38% to 43% of the bf16 peak on 8,192 to 16,384 H100s
HOURS_PER_DAY = 24
MAX_EPOCHS = 44  # Muennighoff et al. 2023, section 6: losses that rise again, seen from 44 epochs on
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


@dataclass
class Answer:
    """What the parts of a report share: the law, the budget and its optimum, and what was assumed on the way."""

    law: Law
    C: Any
    N: Any
    D: Any
    kind: str
    active: float = 1.0
    machine: Machine | None = None
    trace: Any = None
    assumptions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU, its peak in FLOP/s, a utilisation, USD an hour (or None) and a number of GPUs (or None)."""

    spec: GpuSpec
    peak: Any
    mfu: Any
    price: Any
    gpus: Any


def chinchilla(request: Request | None = None, **options: Any) -> Report:
    """The compute-optimal model of a budget, or the budget of a model; see :class:`Request`.

    Raises InputError for a question that is not one, and for numbers that are out of range.
    """
    request = replace(request or Request(), **options)
    given = [q for q in QUESTIONS if getattr(request, q) is not None]
    if len(given) > 1:
        raise InputError(_two(given))
    law = choose(request)
    try:
        if request.law == ALL:
            return _side_by_side(request, given)
        return _single(request, law, given)
    except (OverflowError, ZeroDivisionError):
        raise InputError(f"the answer of law {law.label} is out of range for these numbers") from None


def _two(given: list[str]) -> str:
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


def _single(request: Request, law: Law, given: list[str]) -> Report:
    answer = _answer(request, law, given)
    law = answer.law
    body: list[Node | Table | Text] = [_optimum(answer), _closed_form(law)]
    facts: dict[str, Any] = {"law": law.id, "coefficients": law.set}
    if law.any_loss is None and law.loss_power is None:
        facts["loss"] = None
    if answer.machine:
        body.append(_cost(answer.C, answer.machine, ""))
    body += [node for node in (_fixed(request, answer), _served(request, answer), _repeated(request, answer)) if node]
    if law.interval95 and law.parametric:
        body.append(_intervals(law))
    if request.law is None and law.id != "own":
        body.append(_others(answer))
    if request.derive and law.parametric:
        from estimator.chinchilla.steps import text

        body.append(text(law, request.symbols))
    assumes = [f"law: {law.name}, coefficients {law.set} ({law.where})"]
    assumes += [f"N counts {law.counts}"] if law.counts else []
    assumes += [law.note] if law.note else []
    title = f"Compute-optimal training, {law.name}, {law.set} coefficients"
    assumptions = (*assumes, *answer.assumptions, *answer.notes)
    return Report("chinchilla", title, answer.inputs, tuple(body), facts, assumptions, (law.cite,), tuple(answer.notes), letters=LETTERS)


def traced_law(law: Law) -> Law:
    """The law with its coefficients as traced numbers, for a derivation."""

    def t(name: str, value: Any) -> Any:
        return trace(name, value, name=name, integer=False)

    p = law.parametric
    parametric = Parametric(E=t("L0", p.E), A=t("A", p.A), B=t("B", p.B), alpha=t("alpha", p.alpha), beta=t("beta", p.beta)) if p else None

    def power(law: Power | None, k: str, x: str, u: str) -> Power | None:
        return law and Power(t(k, law.coefficient), t(x, law.exponent), t(u, law.unit) if law.unit != 1 else 1)

    return replace(
        law, C0=t("C0", law.C0), parametric=parametric, params=power(law.params, "k_N", "a", "u"),
        tokens=power(law.tokens, "k_D", "b", "u"), loss_power=power(law.loss_power, "k_L", "l", "u_L"),
    )  # fmt: skip


def _answer(request: Request, law: Law, given: list[str]) -> Answer:
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
    answer = Answer(law, 0, 0, 0, question, active, machine, t, assumptions, [], inputs)
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
    inputs |= {k: getattr(request, k) for k in ("gpu", "train_params", "train_tokens", "inference_tokens", "unique_tokens") if getattr(request, k) is not None}
    if not all(0 < float(value_of(v)) < math.inf for v in (answer.C, answer.N, answer.D)):
        raise OverflowError
    return answer


def _given_params(request: Request, answer: Answer) -> Any:
    """The parameters that count: the active ones of --params or of --model."""
    if request.model is None:
        total = size(request.params, "--params")
        return total * answer.active if answer.active < 1 else total
    from estimator.models import load_model

    model = load_model(request.model)
    if model.kind == "symbolic":
        raise InputError("--model symbolic has no number of parameters; the laws in letters: --derive")
    total, active = count(model.architecture)
    answer.inputs["model"] = model.name
    if request.active_fraction is not None:
        raise InputError(f"--active-fraction: {model.name} has its own, {active / total:.3g}; leave it out")
    answer.active = active / total
    answer.assumptions.append(f"{model.name}: {total:,} parameters, {active:,} active a token")
    return active


def count(arch: Any) -> tuple[int, int]:
    """Total and active parameters: of E routed experts, k work for a token (embeddings and head count)."""
    from estimator.families.base import MoE
    from estimator.inventory import EXPERT, total

    idle = 0
    for layer in arch.layers:
        if isinstance(layer.mlp, MoE):
            held = total(layer.weights(), EXPERT)
            idle += held * (layer.mlp.num - layer.mlp.per_token) // layer.mlp.num
    everything = total(arch.weights())
    return everything, everything - idle


def _machine(request: Request, assumptions: list[str], t: Any) -> Machine:
    """The GPU of --gpu, with its peak, utilisation and price."""
    from estimator.presets import load_gpu

    spec = load_gpu(str(request.gpu))
    peak = spec.peak_flops(request.dtype)
    if peak is None:
        raise InputError(f"--gpu {spec.id}: no dense {request.dtype} peak is known; choose another --dtype")
    mfu = DEFAULT_MFU if request.mfu is None else fraction(request.mfu, "--mfu")
    if request.mfu is None:
        assumptions.append(f"--mfu not given: {DEFAULT_MFU:.0%} of the dense {request.dtype} peak (Llama Team 2024, Table 4: 38% to 43%)")
    gpus = None if request.gpus is None else int(size(request.gpus, "--gpus"))
    return Machine(spec, t("F", peak), t("mfu", mfu), _price(request, spec, assumptions, t), gpus and t("n", gpus))


def _price(request: Request, spec: GpuSpec, assumptions: list[str], t: Any) -> Any:
    if request.price is not None:
        return t("p", amount(request.price, "--price"))
    listed = [p for p in spec.prices if p.verified] or list(spec.prices)
    if not listed:
        return None
    usd = [p.usd_per_hour for p in listed]
    dates = sorted(p.date for p in listed)
    span = dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}"
    assumptions.append(f"--price not given: the median of {len(usd)} list prices of {spec.name}, {min(usd):.2f} to {max(usd):.2f} USD an hour, {span}")
    return t("p", median(usd))


def _bought(request: Request, machine: Machine | None, inputs: dict[str, Any], t: Any) -> Any:
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


def _node(key: str, label: str, value: Any, formula: Any, note: str = "") -> Node:
    return Node(key, label, value, formula.unit, note=note, formula=formula)


def _optimum(answer: Answer) -> Node:
    law, C, N, D = answer.law, answer.C, answer.N, answer.D
    exact = law.parametric is not None
    rows = [
        Node("C", "Training compute", C, f.COMPUTE, formula=f.budget_flops),
        Node("N_opt", "Optimal parameters", N, f.PARAMETERS, formula=f.optimal_params if exact else None, note="active" if answer.active < 1 else ""),
        Node("D_opt", "Optimal tokens", D, f.TOKENS, formula=f.optimal_tokens if exact else None),
        Node("tokens_per_param", "Tokens a parameter", f.token_ratio(N, D), RATIO),
    ]
    if answer.active < 1:
        rows.append(Node("total_params", "Total parameters", value_of(N) / answer.active, f.PARAMETERS, note=f"{answer.active:.3g} of them active"))
    loss = law.loss_power.at(C) if law.loss_power else law.loss(N, D)
    if loss is not None:
        borrowed = "" if law.parametric or law.loss_power else f"by L(N, D) of {law.borrowed_from}"
        rows.append(Node("loss", "Loss", loss, NATS, formula=None if law.loss_power else f.parametric_loss, note=borrowed))
        if borrowed:
            answer.assumptions.append(f"{law.id} gives no loss: the loss is L(N, D) of {law.borrowed_from}, printed coefficients")
    return Node.group("Compute-optimal", rows)


def _closed_form(law: Law) -> Node:
    """The frontier's constants: G, a, b of a parametric law, or the fitted powers."""
    p = law.parametric
    if p:
        rows = [
            _node("G", "G", f.scaling_g(*p.shape), f.scaling_g),
            _node("a", "a, exponent of N_opt", f.scaling_a(p.alpha, p.beta), f.scaling_a),
            _node("b", "b, exponent of D_opt", f.scaling_b(p.alpha, p.beta), f.scaling_b),
            Node("L_opt.K", "K of L_opt = E + K C**x", f.frontier_amplitude(law.C0, *p.shape), RATIO, formula=f.frontier_amplitude),
            _node("L_opt.exponent", "x of L_opt", f.frontier_exponent(p.alpha, p.beta), f.frontier_exponent),
        ]
        return Node.group("Frontier N_opt = G (C/C0)**a", rows)
    rows = []
    for letter, word, power in (("N", "a", law.params), ("D", "b", law.tokens)):
        if power:
            unit = f" per {float(value_of(power.unit)):.4g} FLOPs" if power.unit != 1 else ""
            rows += [
                Node(f"{letter}_opt.coefficient", f"Coefficient of {letter}_opt{unit}", power.coefficient, RATIO),
                Node(word, f"{word}, exponent of {letter}_opt", power.exponent, f.EXPONENT),
            ]
    return Node.group("Frontier, a power of C", rows, note="" if law.params and law.tokens else "and C = 6 N D")


def _cost(C: Any, machine: Machine, prefix: str) -> Node:
    hours = f.budget_gpu_hours(C, machine.peak, machine.mfu)
    rows = [_node(f"{prefix}gpu_hours", "GPU-hours", hours, f.budget_gpu_hours)]
    if machine.price is not None:
        rows.append(Node(f"{prefix}usd", "Price", f.gpu_hours_usd(hours, machine.price), USD, note=f"{float(value_of(machine.price)):.2f} USD a GPU-hour"))
    if machine.gpus is not None:
        rows.append(Node(f"{prefix}days", f"Time on {int(value_of(machine.gpus)):,} GPUs", hours / machine.gpus / HOURS_PER_DAY, DAYS))
    return Node.group(f"On {machine.spec.name} at {float(value_of(machine.mfu)):.0%} of {float(value_of(machine.peak)) / 1e12:g} TFLOP/s", rows)


def _fixed(request: Request, answer: Answer) -> Node | None:
    """Over- or under-training: fixed parameters or tokens against the optimum of the same compute."""
    if request.train_params is None and request.train_tokens is None:
        return None
    if request.train_params is not None and request.train_tokens is not None:
        raise InputError("--train-params and --train-tokens leave nothing to solve; give --params with --train-tokens")
    law, C, N, D = answer.law, answer.C, answer.N, answer.D
    if request.train_params is not None:
        if answer.kind in ("params", "model"):
            raise InputError(f"--train-params with --{answer.kind}: the parameters are fixed twice; fix the tokens, --train-tokens")
        N = answer.trace("N_tr", size(request.train_params, "--train-params") * answer.active)
        D = C / (law.C0 * N)
    else:
        D = answer.trace("D_tr", size(request.train_tokens, "--train-tokens"))
        if answer.kind == "tokens":
            raise InputError("--train-tokens with --tokens: the tokens are fixed twice; fix the parameters, --train-params")
        if answer.kind in ("params", "model"):
            C = f.budget_flops(law.C0, N, D)
        else:
            N = C / (law.C0 * D)
    if answer.kind == "tokens":
        D, C = answer.D, f.budget_flops(law.C0, N, answer.D)
    rows = [
        _node("trained.C", "Training compute", C, f.budget_flops),
        Node("trained.N", "Parameters", N, f.PARAMETERS),
        Node("trained.D", "Tokens", D, f.TOKENS),
        Node("trained.tokens_per_param", "Tokens a parameter", f.token_ratio(N, D), RATIO),
    ]
    loss = law.loss(N, D)
    if loss is not None:
        best = law.loss(law.n_opt(C), law.d_opt(C))
        rows += [
            _node("trained.loss", "Loss", loss, f.parametric_loss),
            Node("trained.loss_penalty", "Above the optimum of the same compute", loss - best, NATS),
        ]
        if law.parametric:
            plain = _plain(law)
            rows.append(Node("trained.compute_excess", "Compute above the optimum of the same loss", 100 * (value_of(C) / solve.compute_for_loss(plain, value_of(loss)) - 1), PERCENT))
    if answer.machine:
        rows += _cost(C, answer.machine, "trained.").children
    return Node.group("As trained", rows)


def _plain(law: Law) -> Law:
    """The law in plain numbers: what is solved numerically has no expression."""
    p = law.parametric
    bare = Parametric(*(float(value_of(v)) for v in (p.E, p.A, p.B, p.alpha, p.beta))) if p else None
    return replace(law, C0=value_of(law.C0), parametric=bare)


def _needs_loss(law: Law, flag: str) -> Law:
    if law.parametric is None:
        raise InputError(f"{flag} needs a law with a loss of N and D: hoffmann, epoch, muennighoff or --coefficients; {law.id} is a frontier only")
    return _plain(law)


def _served(request: Request, answer: Answer) -> Node | None:
    """The model of the same loss with the least compute over its life."""
    if request.inference_tokens is None:
        return None
    served = size(request.inference_tokens, "--inference-tokens")
    law = _needs_loss(answer.law, "--inference-tokens")
    N, D = float(value_of(answer.N)), float(value_of(answer.D))
    point = solve.serve(law, law.loss(N, D), served)
    before = f.lifetime_flops(law.C0, N, D, served)
    after = f.lifetime_flops(law.C0, point.N, point.D, served)
    rows = [
        Node("inference.N", "Parameters", point.N, f.PARAMETERS),
        Node("inference.D", "Tokens", point.D, f.TOKENS),
        Node("inference.tokens_per_param", "Tokens a parameter", f.token_ratio(point.N, point.D), RATIO),
        Node("inference.loss", "Loss", point.loss, NATS, note="the same"),
        _node("inference.train_flops", "Training compute", f.budget_flops(law.C0, point.N, point.D), f.budget_flops),
        _node("inference.total_flops", "Training and inference", after, f.lifetime_flops),
        Node("inference.saved", "Saved against the compute-optimal model", 100 * (1 - after / before), PERCENT),
    ]
    answer.assumptions.append(f"inference: {served:.4g} tokens read or written in all, 2 FLOPs a parameter and token, at the utilisation of training")
    return Node.group("Inference-aware optimum", rows)


def _repeated(request: Request, answer: Answer) -> Node | None:
    """The optimum where only some tokens exist and the rest are repeats."""
    if request.unique_tokens is None:
        return None
    unique = size(request.unique_tokens, "--unique-tokens")
    law = _needs_loss(answer.law, "--unique-tokens")
    C, best = float(value_of(answer.C)), float(value_of(answer.law.loss(answer.N, answer.D)))
    point = solve.repeat(law, C, unique)
    _, worth = solve.effective(law, point.N, point.D, unique)
    rows = [
        Node("repeated.N", "Parameters", point.N, f.PARAMETERS),
        Node("repeated.D", "Tokens processed", point.D, f.TOKENS),
        Node("repeated.epochs", "Epochs", point.D / min(unique, point.D), RATIO),
        Node("repeated.effective_tokens", "Worth in fresh tokens", worth, f.TOKENS),
        Node("repeated.loss", "Loss", point.loss, NATS),
        Node("repeated.loss_penalty", "Above unlimited fresh data", point.loss - best, NATS),
    ]
    answer.assumptions.append(
        f"repeated data: {f.MUENNIGHOFF}; R*_D = {solve.REPEAT_HALF_LIFE_TOKENS}, R*_N = {solve.REPEAT_HALF_LIFE_PARAMS}, fitted on C4 up to 9B parameters; used with the coefficients of {law.label}"
    )
    epochs = point.D / unique
    if epochs > MAX_EPOCHS:
        answer.notes.append(f"{epochs:.0f} epochs: beyond about {MAX_EPOCHS} the law of repeated data underestimates the loss (Muennighoff et al. 2023, section 6)")
    return Node.group(f"With {unique:.4g} unique tokens", rows)


def _intervals(law: Law) -> Table:
    assert law.interval95 is not None
    p = law.parametric
    rows = tuple((k, Cell(value_of(getattr(p, k)), RATIO), Cell(lo, RATIO), Cell(hi, RATIO)) for k, (lo, hi) in law.interval95.items())
    return Table("Coefficients and their 95% intervals", ("", "value", "low", "high"), rows)


_LOSSES = "losses, in nats a token, of laws that have one; different laws, different data"
_COLUMNS = ("law", "set", "FLOPs", "parameters", "tokens", "D/N", "loss")


def _row(law: Law, C: float) -> tuple[str | Cell | None, ...]:
    N, D = law.n_opt(C), law.d_opt(C)
    loss = law.frontier_loss(C) if law.parametric or law.loss_power else None
    return (law.id, law.set, Cell(C, RATIO), Cell(N, f.PARAMETERS), Cell(D, f.TOKENS), Cell(D / N, RATIO), None if loss is None else Cell(loss, RATIO))


def _others(answer: Answer) -> Table:
    """Every law at the same compute."""
    C = float(value_of(answer.C))
    rows = tuple(_row(law, C) for law in laws.every_set())
    return Table(f"What each law says at {C:.4g} FLOPs", _COLUMNS, rows, f"choose with --law and --coefficients; {_LOSSES}")


def _side_by_side(request: Request, given: list[str]) -> Report:
    """Every law, with every set of coefficients, on the same question."""
    bent = [k for k in ("train_params", "train_tokens", "inference_tokens", "unique_tokens", "coefficients", "derive") if getattr(request, k)]
    if bent:
        raise InputError(f"--law all compares the optima only: leave out --{bent[0].replace('_', '-')} or name one law")
    rows, facts, answer = [], {}, None
    for law in laws.every_set():
        answer = _answer(replace(request, derive=False), law, given)
        C = float(value_of(answer.C))
        rows.append(_row(law, C))
        name = f"{law.id}.{law.set}"
        loss = law.frontier_loss(C) if law.parametric or law.loss_power else None
        facts |= {f"{name}.N_opt": answer.N, f"{name}.D_opt": answer.D, f"{name}.C": answer.C, f"{name}.tokens_per_param": answer.D / answer.N, f"{name}.loss": loss}
    assert answer is not None
    inputs: Mapping[str, Any] = {**answer.inputs, "law": ALL, "coefficients": None}
    table = Table("", _COLUMNS, tuple(rows), _LOSSES)
    cites = tuple(dict.fromkeys(law.cite for law in laws.every_set()))
    notes = tuple(answer.notes)
    return Report("chinchilla", "Compute-optimal training, every law", inputs, (table,), facts, (*answer.assumptions, *notes), cites, notes)


__all__ = ["DAYS", "GPU_HOURS", "USD", "Request", "chinchilla"]
