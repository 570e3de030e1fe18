"""Decoding: beam and greedy search, speculative decoding, tree attention."""

from __future__ import annotations

import math
from typing import Any

from estimator.errors import InputError
from estimator.formula import Citation
from estimator.formulas import decode as f
from estimator.models import Model
from estimator.report import Cell, Node, Report, Table, Text
from estimator.sizes import as_number, letter_or_size
from estimator.trace import trace, value_of
from estimator.tree import Tree, from_heads, from_sequences, parse_lists
from estimator.units import BYTES, COUNT, FLOPS, RATIO, TOKENS

MAX_DIGITS = 4000  # an exact N**T with more digits is printed as a power
MAX_GAMMA = 1000
SHOWN_NODES = 64  # a mask wider than this is left to JSON and CSV


def beam(
    width: str = "4", vocab: str = "50257", length: str = "20", model: Model | None = None, traced: bool = False
) -> Report:
    """Sequences, time and space of beam search of ``width`` over ``vocab`` words and ``length`` steps.

    Each may be a letter. With a model: the cache that the beams hold and the products of a step.
    """
    B = letter_or_size(width, "--width", "B", traced)
    N = letter_or_size(model.architecture.vocab if model and vocab == "model" else vocab, "--vocab", "N", traced)
    T = letter_or_size(length, "--length", "T", traced)
    symbolic = any(isinstance(t, str) and t.strip().isidentifier() for t in (width, vocab, length))
    if not symbolic and _fewer(value_of(N), value_of(T), value_of(B)):
        raise InputError(f"--width {value_of(B)}: there are only {value_of(N)}**{value_of(T)} sequences")
    rows = [Node.of("sequences", "Sequences in all, N^T", f.sequence_count, N, T)] if _countable(N, T) else []
    rows += [
        Node.of("time", "Scores computed, O(T B N)", f.beam_scores, T, B, N),
        Node.of("space", "Numbers kept, O(B T + B N)", f.beam_cells, T, B, N),
        Node.of("greedy.time", "Greedy search: scores, O(T N)", f.beam_scores, T, 1, N),
        Node.of("greedy.space", "Greedy search: numbers kept", f.beam_cells, T, 1, N),
    ]
    assumptions = ["only the search is counted: scoring a token is the model's own forward pass"]
    facts: dict[str, Any] = {} if _countable(N, T) else {"sequences": f"{value_of(N)}**{value_of(T)}"}
    if model is not None and not symbolic:
        rows += _beam_model(model, B, T)
    names = {"B": "beam width", "N": "words of the vocabulary", "T": "generated tokens"}
    title = f"Beam search of width {width} over {vocab} words and {length} steps"
    asked = {"width": width, "vocab": vocab, "length": length}
    inputs = {k: as_number(k, v) for k, v in asked.items()} | {"model": model.name if model else None}
    body = (Node.group("", rows),)
    return Report("decode beam", title, inputs, body, facts, tuple(assumptions), symbolic=symbolic, letters=names)


def _fewer(words: int, steps: int, width: int) -> bool:
    """Whether words**steps < width, without computing the power where it is surely larger."""
    return words == 1 < width or (words > 1 and steps < width.bit_length() and words**steps < width)


def _countable(N: Any, T: Any) -> bool:
    return bool(value_of(T) * math.log10(value_of(N) + 1) < MAX_DIGITS)


def _beam_model(model: Model, B: Any, T: Any) -> list[Node]:
    from estimator.kv.layers import cache_bytes

    return [
        Node(
            "kv_cache_bytes", f"KV cache of the beams, {model.name}, bf16", cache_bytes(model.architecture, B, T), BYTES
        ),
    ]


def speculative(
    alpha: float = 0.8, gamma: int = 5, cost: float = 0.05, cost_ops: float | None = None, traced: bool = False
) -> Report:
    """Expected tokens a pass and speed-up of speculative decoding.

    alpha: acceptance probability in [0, 1]; gamma: drafted tokens a pass; cost: draft pass over large pass in time.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"--alpha must be a probability between 0 and 1, got {alpha:g}")
    if not 0 <= gamma <= MAX_GAMMA:
        raise InputError(f"--gamma must be between 0 and {MAX_GAMMA}, got {gamma}")
    if not (math.isfinite(cost) and cost >= 0) or not (cost_ops is None or (math.isfinite(cost_ops) and cost_ops >= 0)):
        raise InputError("--cost must be >= 0: a pass of the draft model over a pass of the large one")
    a: Any = trace("alpha", alpha, integer=False) if traced and alpha < 1 else alpha
    g: Any = trace("gamma", gamma) if traced and gamma else gamma
    c: Any = trace("c", cost, integer=False) if traced and cost else cost
    ops = cost if cost_ops is None else cost_ops
    if alpha == 1:  # the limit of the geometric sum
        tokens, speedup, growth = g + 1, (g + 1) / (g * c + 1), (g * ops + g + 1) / (g + 1)
    else:
        tokens, speedup, growth = (
            f.expected_tokens(a, g),
            f.speculative_speedup(a, g, c),
            f.speculative_operations(a, g, ops),
        )
    best = best_gamma(alpha, cost)
    rows = [
        Node("expected_tokens", "Tokens a pass of the large model", tokens, TOKENS, formula=f.expected_tokens),
        Node("speedup", "Expected speed-up", speedup, RATIO, formula=f.speculative_speedup),
        Node("operations", "Growth of the operations", growth, RATIO, formula=f.speculative_operations),
        Node("best_gamma", "Best number of drafts at this alpha and cost", best, COUNT),
    ]
    assumptions = (
        ["--cost-ops not given: the draft's share of operations is its share of time"] if cost_ops is None else []
    )
    if alpha < 1 and value_of(speedup) < 1:
        assumptions.append("speculation slows decoding down here: the draft costs more than it gains")
    names = {
        "alpha": "probability that a draft token is accepted",
        "gamma": "drafted tokens a pass",
        "c": "draft pass over large pass, in time",
    }
    title = f"Speculative decoding: alpha {alpha:g}, {gamma} drafts a pass, draft cost {cost:g}"
    body = (Node.group("", rows), _sweep(alpha, cost, gamma))
    return Report(
        "decode speculative",
        title,
        {"alpha": alpha, "gamma": gamma, "cost": cost},
        body,
        {},
        tuple(assumptions),
        letters=names,
    )


def best_gamma(alpha: float, cost: float) -> int:
    """The number of drafts with the greatest expected speed-up; MAX_GAMMA where more is always better."""
    if alpha == 1:
        return MAX_GAMMA if cost < 1 else 0
    return max(range(MAX_GAMMA + 1), key=lambda g: (f.speculative_speedup(alpha, g, cost), -g))


def _sweep(alpha: float, cost: float, gamma: int) -> Table:
    alphas = sorted({alpha, 0.5, 0.6, 0.7, 0.8, 0.9})
    gammas = sorted({gamma, 1, 2, 3, 5, 8})
    speed = [[f.speculative_speedup(a, g, cost) if a < 1 else (g + 1) / (g * cost + 1) for g in gammas] for a in alphas]
    rows: tuple[tuple[str | Cell | None, ...], ...] = tuple(
        (f"alpha {a:g}", *(Cell(round(v, 3), RATIO) for v in row)) for a, row in zip(alphas, speed, strict=True)
    )
    return Table("Speed-up by acceptance and drafts", ("", *(f"{g} drafts" for g in gammas)), rows)


def tree(
    sequences: str | None = None,
    heads: str | None = None,
    root: str = "1",
    model: Model | None = None,
    context: int = 0,
    derive: bool = False,
) -> Report:
    """The prefix tree, the attention mask and what sharing saves, of candidate sequences or of Medusa heads.

    derive: with the nodes counted, depth by depth, and the rule of the mask.
    """
    if (sequences is None) == (heads is None):
        raise InputError('give either --sequences "1 2 3; 1 2 4" or --heads "2 3; 4 5"')
    made = (
        from_sequences(parse_lists(sequences, "--sequences"))
        if sequences is not None
        else from_heads(parse_lists(heads or "", "--heads"), root)
    )
    nodes = len(made.tokens)
    rows = [
        Node("nodes", "Nodes of the tree: tokens of one pass", nodes, TOKENS),
        Node("tokens_unshared", "Tokens without sharing", made.unshared, TOKENS),
        Node("candidates", "Candidates", made.candidates, COUNT),
        Node("saved_tokens", "Tokens saved", made.unshared - nodes, TOKENS),
    ]
    if model is not None:
        rows += _saved(model, made)
    names = made.names
    parents = {n: None if p is None else names[p] for n, p in zip(names, made.parents, strict=True)}
    body: list[Any] = [Node.group("", rows), Text("Prefix tree", made.draw())]
    if nodes <= SHOWN_NODES:
        body.append(
            Text("Attention mask (row: attended, column: attending)", _matrix(made, names), _latex(made, names))
        )
    if derive:
        body += _counted(made)
    facts = {"parents": parents, "mask": [list(row) for row in made.mask]}
    cites = (
        Citation("SpecInfer, Miao et al. 2023, arXiv 2305.09781"),
        Citation("Medusa, Cai et al. 2024, arXiv 2401.10774"),
    )
    inputs = {"sequences": sequences, "heads": heads, "root": root, "model": model.name if model else None}
    title = f"Tree attention: {made.candidates} candidates, {nodes} nodes"
    return Report("decode tree", title, inputs, tuple(body), facts, (), cites)


def _counted(made: Tree) -> list[Table | Text]:
    """The working: nodes depth by depth, tokens without sharing, and where the mask has its ones."""
    levels = made.levels
    rows = tuple((f"{d}", ", ".join(names), Cell(len(names), COUNT)) for d, names in enumerate(levels, 1))
    total = " + ".join(str(len(names)) for names in levels)
    rule = (
        "Row i, column j of the mask is 1 where token j attends token i: where i is j itself or an ancestor of j. "
        "Parents come before their children, so the mask is upper triangular."
    )
    return [
        Table("The nodes, counted: equal prefixes are one node", ("depth", "nodes", "how many"), rows,
              f"{total} = {len(made.tokens)} nodes; without sharing, every candidate alone: {made.unshared} tokens"),
        Text("The mask", rule),
    ]  # fmt: skip


def _saved(model: Model, made: Tree) -> list[Node]:
    from estimator.inventory import total
    from estimator.kv.layers import cache_bytes

    arch = model.architecture
    saved = made.unshared - len(made.tokens)
    matrices = total(arch.weights()) - total(arch.weights(), "embedding", "position", "token_type")
    return [
        Node(
            "saved_kv_bytes",
            f"KV cache saved, {model.name}, bf16",
            cache_bytes(arch, 1, 2) * saved - cache_bytes(arch, 1, 1) * saved,
            BYTES,
        ),
        Node(
            "saved_flops",
            "Matrix FLOPs saved, 2 a weight and token",
            2 * saved * matrices,
            FLOPS,
            note="without attention scores",
        ),
    ]


def _matrix(made: Tree, names: tuple[str, ...]) -> str:
    width = max(map(len, names))
    head = " " * (width + 1) + " ".join(f"{n:>{width}}" for n in names)
    return "\n".join(
        [
            head,
            *(
                f"{n:>{width}} " + " ".join(f"{v if v else '·':>{width}}" for v in row)
                for n, row in zip(names, made.mask, strict=True)
            ),
        ]
    )


def _latex(made: Tree, names: tuple[str, ...]) -> str:
    from estimator.render.latex_text import escape

    shown = [f"t_{{{n}}}" if n.isascii() and n.isalnum() else f"t_{{\\text{{{escape(n)}}}}}" for n in names]
    head = " & ".join(["", *shown])
    rows = [f"{n} & " + " & ".join(map(str, row)) for n, row in zip(shown, made.mask, strict=True)]
    body = head + " \\\\ \\hline\n" + " \\\\\n".join(rows)
    array = "\\begin{array}{c|" + "c" * len(names) + "}\n" + body + "\n\\end{array}"
    # a mask wider than the line is scaled down to it
    return (
        "\\begin{center}\n\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{$\n"
        + array + "\n$}\n\\end{center}"
    )  # fmt: skip
