"""Losses of a causal language model: on whole logits, in chunks, or fused with the output matrix; divided heads."""

from __future__ import annotations

from typing import Any

from estimator.families.base import POSITION, TOKEN_TYPE, Architecture, Lookup
from estimator.ops import maximum, minimum
from estimator.stack import across, gradients, moves, ops
from estimator.stack.machine import Machine
from estimator.stack.nn import product
from estimator.stack.products import HEAD, log
from estimator.stack.tape import F32, HALF, I64, RESULT, GradFn, Tape, Tensor

Grads = tuple[Tensor | None, ...]
CHUNKS = 8  # torchtune's CEWithChunkedOutputLoss
TILE_ROWS, TILE_COLUMNS = 4096, 32_768  # trl/kernels/chunked_logprob.py: TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE
# unsloth_zoo/fused_losses/fused_linear.py: _MIN_LOGITS, _CHUNK_GB, _BWD_TILE_BYTES, _SPLIT_COLS, _MAX_ROWS
LEAST_LOGITS, BLOCK, TILE, COLUMNS, MOST_ROWS = 512 * 151_936, 2 * 1024**3, 256 * 1024**2, 16_384, 4096
STATISTICS = 7  # vectors of one fp32 number a scored token that its forward pass keeps


def cross_entropy(t: Tape, logits: Tensor, rows: Any) -> Tensor:
    """log_softmax in the logits' width and nll_loss, which autocast runs in fp32: the log-softmax is saved."""
    logp = t.emit("log-softmax", logits.n, logits.w, (logits,), _log_softmax_bwd, RESULT, logits.w)
    if t.amp:
        logp = ops.to(t, logp, F32)
    labels = t.alloc(rows, I64, "shifted labels")
    return t.emit("loss", 1, logp.w, (logp,), _nll_bwd, (logp.st, labels.st), (logp.n, logp.w))


@moves.moving(backward=gradients.through_plain)
def _log_softmax_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(g.n, node.extra, "gradient of the softmax"),)


@moves.moving(moves.picked, gradients.zeroed)
def _nll_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    n, w = node.extra
    return (t.alloc(n, w, "gradient of the log-softmax"),)


def head_weight(m: Machine, arch: Architecture) -> Tensor:
    """The token table, where the output matrix is tied to it; not where an adapter trains a copy of one of both."""
    table = next(p for p in arch.embeddings if isinstance(p, Lookup) and p.role not in (POSITION, TOKEN_TYPE))
    name = f"{arch.head_name}.weight"
    if name in m.copied or f"{table.name}.weight" in m.copied:
        return m.param(name, table.rows * table.width)
    return m.table(table)


def output_weight(m: Machine, arch: Architecture) -> Tensor:
    return head_weight(m, arch) if arch.head is None else m.as_trained(m.weight(arch.head)[0], arch.head.name)


def divided_head(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """This GPU's words, or all of them where the loss wants them; a tied table that is not divided gives them all."""
    whole = not m.sequence and arch.head is None
    weight = output_weight(m, arch)
    words = weight.n // arch.hidden
    if m.sequence:
        x = across.gathered(m.t, x, m.tensor, m.b != 1)
    elif not whole:
        x = across.entered(m.t, x)
    made = product(m.t, x, weight, None, m.rows * words, "logits", name="lm_head", rows=m.rows)
    del x
    return made if whole or m.parallel_loss else across.whole(m.t, made, m.tensor, "logits")


def causal_loss(m: Machine, logits: Tensor, arch: Architecture) -> Tensor:
    """logits.float(), shifted labels, cross-entropy; the caller's logits live on."""
    wide = ops.to(m.t, logits, F32)
    if m.parallel_loss:
        return across.cross_entropy(m.t, wide, m.rows)
    if m.release.shifts_logits:
        rows = m.b * (m.s - 1)
        shifted = ops.copy(m.t, ops.piece(m.t, wide, rows * arch.vocab), "shifted logits")
        return cross_entropy(m.t, shifted, rows)
    return cross_entropy(m.t, wide, m.rows)


def shifted_loss(m: Machine, logits: Tensor, arch: Architecture) -> Tensor:
    """An adapter's own loss, on logits in their format less the last token's: of one sequence a view, else a copy."""
    rows = m.b * (m.s - 1)
    shifted = ops.piece(m.t, logits, rows * arch.vocab)
    return cross_entropy(m.t, ops.copy(m.t, shifted, "shifted logits") if m.b != 1 else shifted, rows)


def chunked_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """Head and loss in eight parts of the tokens, each recomputed in the backward pass."""
    t, rows = m.t, m.rows
    total: Tensor | None = None

    def part(h: Tensor) -> Tensor:
        full, m.b = m.b, h.n // arch.hidden // m.s if h.n // arch.hidden >= m.s else m.b
        try:
            weight = output_weight(m, arch)
            n = h.n // arch.hidden * arch.vocab
            logits = product(t, h, weight, None, n, "logits", name="lm_head", rows=h.n // arch.hidden)
            return cross_entropy(t, ops.to(t, logits, F32), h.n // arch.hidden)
        finally:
            m.b = full

    size = -((-rows) // CHUNKS) * arch.hidden
    for h in ops.split(t, x, [size] * CHUNKS):
        loss = t.checkpoint(m.as_now(part), h)
        total = loss if total is None else ops.add(t, total, loss)
    assert total is not None
    return total


def fused_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """Liger's fused linear cross-entropy: logits a block of rows at a time, both gradients made in the forward pass.

    Source: Hsu et al. 2024, arXiv 2410.10989; liger_kernel/ops/fused_linear_cross_entropy.py.
    """
    t, rows = m.t, m.rows
    weight = output_weight(m, arch)
    blocks = -((-arch.vocab) // arch.hidden)
    size = next_power(-((-rows) // blocks))
    if size > rows:
        size = rows
    grads = [t.alloc(i.n, i.w, "gradient made with the loss") for i in (x, weight) if i.node is not None]
    vectors = t.alloc(rows, F32, "losses of the tokens")
    copied = t.alloc(weight.n, HALF, "bf16 copy of a weight") if t.amp and weight.w == F32 else None
    block = t.alloc(size * arch.vocab, HALF if t.amp else x.w, "logits of a block")
    del block, copied
    labels = t.alloc(rows, I64, "shifted labels")
    made = t.emit("loss", 1, F32, (x, weight), _fused_bwd, (grads, labels.st))
    log_head(t, made, rows, arch)
    del vectors
    return made


def rows_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """Unsloth's fused loss: fp32 logits of a block of rows in one buffer, gradients made in the forward pass.

    A frozen output matrix of many words is taken in tiles of columns too, where there are many rows or the card is
    small. Source: unsloth_zoo 2026.10.9, fused_losses/fused_linear.py (_ce_impl, _tiled_forward).
    """
    t, weight = m.t, output_weight(m, arch)
    rows = m.b * (m.s - 1)  # each sequence's last has no label
    grads = [t.alloc(i.n, i.w, "gradient made with the loss") for i in (x, weight) if i.node is not None]
    tiled = weight.node is None and arch.vocab > 2 * COLUMNS and (m.card.small or rows >= MOST_ROWS)
    size = minimum(rows, MOST_ROWS) if tiled else unsloth_rows(rows, arch.hidden, arch.vocab)
    words = COLUMNS if m.card.small else TILE // (F32 * COLUMNS * size) * COLUMNS
    wide = minimum(maximum(words, COLUMNS), arch.vocab) if tiled else arch.vocab
    block = t.alloc(size * wide, F32, "logits of a block")
    taken = t.alloc(size * arch.hidden, x.w, "rows of a block")
    parts = 1 if tiled or size >= rows else 2
    made_here = [t.alloc(size * arch.hidden, F32, "gradient of a block") for _ in range(parts)]
    narrow = t.alloc(size * arch.hidden, x.w, "gradient of a block, converted")
    del block, taken, made_here, narrow
    made = t.emit("loss", 1, F32, (x, weight), _fused_bwd, (grads, None))
    log_head(t, made, rows, arch)
    return made


def unsloth_rows(rows: Any, hidden: Any, vocab: Any) -> Any:
    """Rows of a block: a power of two at or below rows * hidden / vocab, within bounds; logits of 2 GiB at most
    (fused_linear_rows)."""
    least = minimum(maximum(power_below(LEAST_LOGITS, vocab), 512), MOST_ROWS)
    size = minimum(maximum(power_below(rows * hidden, vocab), least), MOST_ROWS)
    return maximum(minimum(size, BLOCK // (F32 * vocab), rows), 1)


def power_below(above: Any, below: Any) -> Any:
    """The largest power of two that is not more than above / below; 1 at least."""
    out = 1
    while 2 * out * below <= above:
        out *= 2
    return out


def log_head(t: Tape, made: Tensor, rows: Any, arch: Architecture) -> None:
    """The product with the output matrix inside a fused loss."""
    log(t, made, "lm_head", HEAD, rows, arch.hidden, arch.vocab, weight=arch.hidden * arch.vocab)


def next_power(n: Any) -> Any:
    """The least power of two that is not less than ``n``."""
    out = 1
    while out < n:
        out *= 2
    return out


def _fused_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    held = list(node.saved[0])
    return tuple(None if p is None else held.pop(0) for p in node.ins)


def tiled_loss(m: Machine, x: Tensor, arch: Architecture) -> Tensor:
    """TRL's fused head: log-probabilities of the scored tokens from tiles of logits that the backward pass recomputes.

    Source: trl 1.16, kernels/chunked_logprob.py (ChunkedLogProbFunction), trainer/utils.py (add_fused_lm_head).
    """
    t, weight = m.t, output_weight(m, arch)
    rows = scored_rows(m)
    shifted = ops.piece(t, x, m.b * (m.s - 1) * arch.hidden)
    places = [t.alloc(rows, I64, "scored positions") for _ in range(2)]
    n = rows * arch.hidden
    hidden = t.emit("scored states", n, x.w, (shifted,), _scatter_bwd, [p.st for p in places], shifted.n)
    del shifted, places
    width = HALF if t.amp else hidden.w
    vectors = [t.alloc(rows, F32, "statistics of the tokens") for _ in range(STATISTICS)]
    tile = t.alloc((rows if rows <= TILE_ROWS else TILE_ROWS) * TILE_COLUMNS, width, "tile of logits")
    chunks = copies(t, rows, TILE_ROWS, arch.hidden, width, "scored states, converted") if x.w != width else []
    columns = minimum(arch.vocab, TILE_COLUMNS)
    part = t.alloc(columns * arch.hidden, width, "slice of the head") if weight.w != width else None
    del tile, chunks, part
    bias = m.weight(arch.head)[1] if arch.head is not None else None
    ins = (hidden, weight) if bias is None else (hidden, weight, bias)
    logz, entropy = t.alloc(rows, F32, "log-sum-exp"), t.alloc(rows, F32, "entropy")
    made = t.emit("log-probabilities", rows, F32, ins, _tiled_bwd, [hidden.st, logz.st, entropy.st],
                  (rows, [(i.n, i.w) for i in ins], width, arch.hidden))  # fmt: skip
    log_head(t, made, rows, arch)
    del vectors, logz, entropy
    spread = ops.unary(t, made, "log-probabilities of all tokens", "none")
    return t.emit("loss", 1, F32, (spread,), _sum_bwd, None, spread.n)


def score_loss(m: Machine, scores: Tensor) -> Tensor:
    """A loss on each sequence's last score, in its own width (modeling_layers.py, GenericForSequenceClassification)."""
    last = m.t.emit("last scores", scores.n // m.s, scores.w, (scores,), _scatter_bwd, None, scores.n)
    return m.t.emit("loss", 1, F32, (last,), _sum_bwd, None, last.n)


def scored_rows(m: Machine) -> Any:
    """Tokens that the loss is taken on: every label but each row's first, or the answers' share."""
    if m.scored == 1:
        return m.b * (m.s - 1)
    return m.b * (m.s * m.scored.numerator // m.scored.denominator)


def _scatter_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """index_backward: zeros of the whole size, into which the gradient is put."""
    return (t.alloc(node.extra, g.w, "gradient of the scored states"),)


def _sum_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    return (t.alloc(node.extra, F32, "gradient of the log-probabilities"),)


def copies(t: Tape, n: Any, most: Any, hidden: Any, w: int, what: str, again: int = 1) -> list[Tensor]:
    """16-bit copies of ``n`` rows, at most ``most`` at a time: the one before is named until the next is made."""
    first = minimum(n, most)
    second = first if again > 1 and n <= most else minimum(n - first, most)
    return [t.alloc(rows * hidden, w, what) for rows in (first, second) if rows != 0]


def _tiled_bwd(t: Tape, node: GradFn, g: Tensor) -> Grads:
    """Gradients accumulate in fp32 and are converted at the end, when all of it is still there."""
    rows, ins, width, hidden = node.extra
    words = ins[1][0] // hidden
    wide = [
        None if p is None else t.alloc(n, F32, "gradient in fp32") for p, (n, _) in zip(node.ins, ins, strict=True)
    ]
    tile = t.alloc((rows if rows <= TILE_ROWS else TILE_ROWS) * TILE_COLUMNS, width, "tile of logits")
    chunks = copies(t, rows, TILE_ROWS, hidden, width, "scored states, converted") if ins[0][1] != width else []
    again = 1 if rows <= TILE_ROWS else 2  # all words, for the next rows too
    parts = copies(t, words, TILE_COLUMNS, hidden, width, "slice of the head", again) if ins[1][1] != width else []
    for held in (chunks, parts):
        del held[1:]
    outs = [
        None if made is None else made if w == F32 else t.alloc(n, w, "gradient, converted")
        for made, (n, w) in zip(wide, ins, strict=True)
    ]
    del tile, chunks, parts, wide
    return tuple(outs)


__all__ = [
    "causal_loss", "chunked_loss", "divided_head", "fused_loss", "head_weight", "output_weight", "rows_loss",
    "score_loss", "tiled_loss",
]  # fmt: skip
