"""The parts of the report: optimum, frontier, cost, over-training, inference, repeated data, law against law."""

from __future__ import annotations

from typing import Any

from estimator.chinchilla import laws, solve
from estimator.chinchilla.laws import Law
from estimator.chinchilla.question import Answer, RentedGpu, Request, plain_law, size
from estimator.errors import InputError
from estimator.formulas import scaling as f
from estimator.report import Cell, Node, Table
from estimator.trace import value_of
from estimator.units import DAYS, FLOP_RATE, NATS, PERCENT, RATIO, USD, human

HOURS_PER_DAY = 24
MAX_EPOCHS = 44  # Muennighoff et al. 2023, section 6: losses that rise again, seen from 44 epochs on
COLUMNS = ("law", "set", "FLOPs", "parameters", "tokens", "D/N", "loss")
LOSSES = "losses, in nats a token, of laws that have one; different laws, different data"


def _node(key: str, label: str, value: Any, formula: Any, note: str = "") -> Node:
    return Node(key, label, value, formula.unit, note=note, formula=formula)


def optimum(answer: Answer) -> Node:
    law, C, N, D = answer.law, answer.C, answer.N, answer.D
    exact = law.parametric is not None
    rows = [
        Node("C", "Training compute", C, f.COMPUTE, formula=f.budget_flops),
        Node(
            "N_opt",
            "Optimal parameters",
            N,
            f.PARAMETERS,
            formula=f.optimal_params if exact else None,
            note="active" if answer.active < 1 else "",
        ),
        Node("D_opt", "Optimal tokens", D, f.TOKENS, formula=f.optimal_tokens if exact else None),
        Node("tokens_per_param", "Tokens a parameter", f.token_ratio(N, D), RATIO),
    ]
    if answer.active < 1:
        rows.append(
            Node(
                "total_params",
                "Total parameters",
                value_of(N) / answer.active,
                f.PARAMETERS,
                note=f"{answer.active:.3g} of them active",
            )
        )
    loss = law.loss_power.at(C) if law.loss_power else law.loss(N, D)
    if loss is not None:
        borrowed = "" if law.parametric or law.loss_power else f"by L(N, D) of {law.borrowed_from}"
        rows.append(
            Node("loss", "Loss", loss, NATS, formula=None if law.loss_power else f.parametric_loss, note=borrowed)
        )
        if borrowed:
            answer.assumptions.append(
                f"{law.id} gives no loss: the loss is L(N, D) of {law.borrowed_from}, printed coefficients"
            )
    return Node.group("Compute-optimal", rows)


def closed_form(law: Law) -> Node:
    """The frontier's constants: G, a, b of a parametric law, or the fitted powers."""
    p = law.parametric
    if p:
        rows = [
            _node("G", "G", f.scaling_g(*p.shape), f.scaling_g),
            _node("a", "a, exponent of N_opt", f.scaling_a(p.alpha, p.beta), f.scaling_a),
            _node("b", "b, exponent of D_opt", f.scaling_b(p.alpha, p.beta), f.scaling_b),
            Node(
                "L_opt.K",
                "K of L_opt = E + K C**x",
                f.frontier_amplitude(law.C0, *p.shape),
                RATIO,
                formula=f.frontier_amplitude,
            ),
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


def cost(C: Any, machine: RentedGpu, prefix: str) -> Node:
    hours = f.budget_gpu_hours(C, machine.peak, machine.mfu)
    rows = [_node(f"{prefix}gpu_hours", "GPU-hours", hours, f.budget_gpu_hours)]
    if machine.price is not None:
        rows.append(
            Node(
                f"{prefix}usd",
                "Price",
                f.gpu_hours_usd(hours, machine.price),
                USD,
                note=f"{float(value_of(machine.price)):.2f} USD a GPU-hour",
            )
        )
    if machine.gpus is not None:
        rows.append(
            Node(
                f"{prefix}days",
                f"Time on {int(value_of(machine.gpus)):,} GPUs",
                hours / machine.gpus / HOURS_PER_DAY,
                DAYS,
            )
        )
    share, peak = float(value_of(machine.mfu)), float(value_of(machine.peak))
    return Node.group(f"On {machine.spec.name} at {share:.0%} of {human(peak, FLOP_RATE)}", rows)


def fixed(request: Request, answer: Answer) -> Node | None:
    """Over- or under-training: fixed parameters or tokens against the optimum of the same compute."""
    if request.train_params is None and request.train_tokens is None:
        return None
    if request.train_params is not None and request.train_tokens is not None:
        raise InputError("--train-params and --train-tokens leave nothing to solve; give --params with --train-tokens")
    law, C, N, D = answer.law, answer.C, answer.N, answer.D
    if request.train_params is not None:
        if answer.kind in ("params", "model"):
            raise InputError(
                f"--train-params with --{answer.kind}: the parameters are fixed twice; fix the tokens, --train-tokens"
            )
        N = answer.trace("N_tr", size(request.train_params, "--train-params") * answer.active)
        D = C / (law.C0 * N)
    else:
        D = answer.trace("D_tr", size(request.train_tokens, "--train-tokens"))
        if answer.kind == "tokens":
            raise InputError(
                "--train-tokens with --tokens: the tokens are fixed twice; fix the parameters, --train-params"
            )
        if answer.kind in ("params", "model"):
            C = f.budget_flops(law.C0, N, D)
        else:
            N = C / (law.C0 * D)
    if answer.kind == "tokens":
        D, C = answer.D, f.budget_flops(law.C0, N, answer.D)
    answer.trained = (float(value_of(C)), float(value_of(N)))
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
            plain = plain_law(law)
            rows.append(
                Node(
                    "trained.compute_excess",
                    "Compute above the optimum of the same loss",
                    100 * (value_of(C) / solve.compute_for_loss(plain, value_of(loss)) - 1),
                    PERCENT,
                )
            )
    if answer.machine:
        rows += cost(C, answer.machine, "trained.").children
    return Node.group("As trained", rows)


def _needs_loss(law: Law, flag: str) -> Law:
    if law.parametric is None:
        raise InputError(
            f"{flag} needs a law with a loss of N and D: hoffmann, epoch, muennighoff or --coefficients; "
            f"{law.id} is a frontier only"
        )
    return plain_law(law)


def served_model(request: Request, answer: Answer) -> Node | None:
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
    answer.assumptions.append(f"inference: {served:.4g} tokens read or written in all, 2 FLOPs a parameter and token")
    return Node.group("Inference-aware optimum", rows)


def repeated(request: Request, answer: Answer) -> Node | None:
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
        f"repeated data: {f.MUENNIGHOFF}; R*_D = {solve.REPEAT_HALF_LIFE_TOKENS}, "
        f"R*_N = {solve.REPEAT_HALF_LIFE_PARAMS}, fitted on C4 up to 9B parameters; "
        f"used with the coefficients of {law.label}"
    )
    epochs = point.D / unique
    if epochs > MAX_EPOCHS:
        answer.notes.append(
            f"{epochs:.0f} epochs: beyond about {MAX_EPOCHS} the law of repeated data underestimates the loss "
            "(Muennighoff et al. 2023, section 6)"
        )
    return Node.group(f"With {unique:.4g} unique tokens", rows)


def intervals(law: Law) -> Table:
    assert law.interval95 is not None
    p = law.parametric
    rows = tuple(
        (k, Cell(value_of(getattr(p, k)), RATIO), Cell(lo, RATIO), Cell(hi, RATIO))
        for k, (lo, hi) in law.interval95.items()
    )
    return Table("Coefficients and their 95% intervals", ("", "value", "low", "high"), rows)


def coefficients(law: Law) -> tuple[Node, ...]:
    """E, A, B, alpha, beta of a parametric law, and their intervals where they are known, under their keys."""
    out = []
    for key in ("A", "B", "E", "alpha", "beta") if law.parametric else ():
        unit = NATS if key == "E" else RATIO
        out.append(Node(key, key, value_of(getattr(law.parametric, key)), unit))
        for side, bound in zip(("low", "high"), (law.interval95 or {}).get(key, ()), strict=False):
            out.append(Node(f"{key}.{side}", f"{key}, {side}", bound, unit))
    return tuple(out)


def row(law: Law, C: float) -> tuple[str | Cell | None, ...]:
    N, D = law.n_opt(C), law.d_opt(C)
    loss = law.frontier_loss(C) if law.parametric or law.loss_power else None
    return (
        law.id,
        law.set,
        Cell(C, RATIO),
        Cell(N, f.PARAMETERS),
        Cell(D, f.TOKENS),
        Cell(D / N, RATIO),
        None if loss is None else Cell(loss, RATIO),
    )


def others(answer: Answer) -> Table:
    """Every law at the same compute."""
    C = float(value_of(answer.C))
    rows = tuple(row(law, C) for law in laws.every_set())
    return Table(
        f"What each law says at {C:.4g} FLOPs", COLUMNS, rows, f"choose with --law and --coefficients; {LOSSES}"
    )
