"""How formulas of caches, decoding, compression, scaling and sharding come about, in steps, for derivations.

Read only where a derivation is asked for. A function here has the parameters of the formula that it is named after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from estimator.trace import value_of
from estimator.working import Form, Item, Step, group, in_bytes, minus, over, plus, power, series, times, working

Steps = Sequence[Step]
PAIR = "multiply-adds of one query and one key, over all layers: a score and a weighted value"


# ------------------------------------------------------------------------------------------------------------- caches


@working
def kv_cache_bytes(L: Any, b: Any, s: Any, h_kv: Any, d_h: Any, d_v: Any, w_kv: Any) -> Steps:
    def held(*names: str, width: Any) -> Item:
        return Item(names, (("", tuple(x for x in (b, s, h_kv, width) if not _one(x))),), L)

    same = value_of(d_h) == value_of(d_v) and getattr(d_h, "expr", d_h) == getattr(d_v, "expr", d_v)
    items = [held("keys", "values", width=d_h)] if same else [
        i for i, w in ((held("keys", width=d_h), d_h), (held("values", width=d_v), d_v)) if value_of(w)
    ]  # fmt: skip
    total = plus(*(i.term for i in items))
    rule = f"a number takes {_bits(w_kv)} bits" if not hasattr(w_kv, "expr") else "bytes a number"
    return [
        Step("numbers kept for each layer: tokens, heads, width of a head", None, tuple(items)),
        Step(rule, in_bytes(L * b * s * h_kv * (d_h + d_v), w_kv, total)),
    ]


def _one(x: Any) -> bool:
    return isinstance(x, int) and x == 1


def _bits(w: Any) -> str:
    return str(value_of(w))


@working
def mla_cache_bytes(L: Any, b: Any, s: Any, r_kv: Any, d_rope: Any, w_kv: Any) -> Steps:
    shape = tuple(x for x in (b, s) if not _one(x))
    items = (Item(("latent",), (("", (*shape, r_kv)),), L), Item(("rotary key",), (("", (*shape, d_rope)),), L))
    total = plus(*(i.term for i in items))
    return [
        Step("numbers kept for each layer and token, whatever the heads", None, items),
        Step(f"a number takes {_bits(w_kv)} bits", in_bytes(L * b * s * (r_kv + d_rope), w_kv, total)),
    ]


@working
def uncached_score_macs(w: Any, m: Any, T: Any) -> Steps:
    n = group(minus(plus(m, "t"), 1))
    return [
        Step(PAIR, w, (), "w", False),
        Step("step t runs over n = m + t - 1 tokens; the mask leaves n (n + 1)/2 pairs",
             times(w, group(series(over(times(n, group(plus(m, "t"))), 2), "t", 1, T)))),
    ]  # fmt: skip


@working
def uncached_weight_macs(P: Any, P_out: Any, m: Any, T: Any) -> Steps:
    head = [times(P_out, T)] if value_of(P_out) else []
    return [
        Step("weights of the layers: a multiply-add each and token", P, (), "P", False),
        Step("step t runs all m + t - 1 tokens again",
             plus(times(P, group(series(group(minus(plus(m, "t"), 1)), "t", 1, T))), *head)),
    ]  # fmt: skip


@working
def cached_score_macs(w: Any, m: Any, T: Any) -> Steps:
    n = group(minus(plus(m, T), 1))
    return [
        Step(PAIR, w, (), "w", False),
        Step("n = m + T - 1 tokens are run once each; the mask leaves n (n + 1)/2 pairs",
             times(w, over(times(n, group(plus(m, T))), 2))),
    ]  # fmt: skip


@working
def cached_weight_macs(P: Any, P_out: Any, m: Any, T: Any) -> Steps:
    head = [times(P_out, T)] if value_of(P_out) else []
    return [
        Step("weights of the layers: a multiply-add each and token", P, (), "P", False),
        Step("m + T - 1 tokens are run once each", plus(times(P, group(minus(plus(m, T), 1))), *head)),
    ]


# ----------------------------------------------------------------------------------------------------------- decoding


@working
def sequence_count(N: Any, T: Any) -> Steps:
    rule = "the first token is given; each of T places then takes one of N words: N N ... N, T times"
    return [Step(rule, power(N, T))]


@working
def beam_scores(T: Any, B: Any, N: Any) -> Steps:
    return [Step("in each of T steps, B sequences are continued by each of N words", times(T, B, N))]


@working
def beam_cells(T: Any, B: Any, N: Any) -> Steps:
    return [Step("B sequences of T tokens, and the scores of one step", plus(times(B, T), times(B, N)))]


def _gained(alpha: Any, gamma: Any) -> Any:
    """Tokens of a pass: 1 + alpha + ... + alpha^gamma."""
    return over(minus(1, power(alpha, plus(gamma, 1))), minus(1, alpha))


@working
def expected_tokens(alpha: Any, gamma: Any) -> Steps:
    return [
        Step("the large model's own token, and draft i with the probability alpha^i that all up to it are accepted",
             series(power(alpha, "i"), "i", 0, gamma)),
        Step("the sum of a geometric series", _gained(alpha, gamma)),
    ]  # fmt: skip


@working
def speculative_speedup(alpha: Any, gamma: Any, c: Any) -> Steps:
    tokens = _gained(alpha, gamma)
    return [
        Step("tokens that one pass of the large model gains", tokens, (), "tokens", False),
        Step("its time: gamma drafts of c each, and the pass itself", plus(times(gamma, c), 1), (), "time", False),
        Step("tokens over time, against one token in one pass", over(tokens, plus(times(gamma, c), 1))),
    ]


@working
def speculative_operations(alpha: Any, gamma: Any, c_ops: Any) -> Steps:
    tokens = _gained(alpha, gamma)
    return [
        Step("operations of a pass, in tokens of the large model: gamma drafts of c, gamma + 1 tokens checked",
             plus(times(gamma, c_ops), gamma, 1), (), "operations", False),
        Step("over the tokens gained", over(group(plus(times(gamma, c_ops), gamma, 1)), group(tokens))),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------------- compression


@working
def conv_macs(c_o: Any, h_o: Any, w_o: Any, k_h: Any, k_w: Any, c_i: Any) -> Steps:
    rule = "numbers of the output, each a dot product over the kernel and the input channels"
    return [Step(rule, times(group(times(c_o, h_o, w_o)), group(times(k_h, k_w, c_i))))]


@working
def channel_pruned_ratio(p: Any) -> Steps:
    return [Step("a share 1 - p of the input channels and of the output channels is left",
                 times(group(minus(1, p)), group(minus(1, p))))]  # fmt: skip


@working
def quantisation_levels(n: Any) -> Steps:
    return [Step("each of n bits is 0 or 1: 2 2 ... 2, n times", power(2, n))]


@working
def linear_scale(r_max: Any, r_min: Any, q_max: Any, q_min: Any) -> Steps:
    return [
        Step("r = S (q - Z) at the upper end", times("S", group(minus(q_max, "Z"))), (), "r_max", False),
        Step("and at the lower end", times("S", group(minus(q_min, "Z"))), (), "r_min", False),
        Step("one less the other, solved for S", over(minus(r_max, r_min), minus(q_max, q_min))),
    ]


@working
def linear_zero(r_min: Any, q_min: Any, S: Any) -> Steps:
    return [
        Step("r = S (q - Z) at the lower end", times("S", group(minus(q_min, "Z"))), (), "r_min", False),
        Step("solved for Z", minus(q_min, over(r_min, group(S)))),
    ]


@working
def block_bits(n: Any, m: Any, w_s: Any, w_z: Any) -> Steps:
    return [Step("a code, and its part of the block's scale and zero point", plus(n, over(plus(w_s, w_z), m)))]


# -------------------------------------------------------------------------------------------------------- scaling laws


def _split(A: Any, B: Any, alpha: Any, beta: Any) -> Any:
    return power(over(times(alpha, A), times(beta, B)), over(1, plus(alpha, beta)))


@working
def optimal_params(C: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Steps:
    G, a = _split(A, B, alpha, beta), over(beta, plus(alpha, beta))
    return [
        Step("from the Lagrangian: how the budget is split", G, (), "G", False),
        Step("and the exponent", a, (), "a", False),
        Step("N_opt = G (C/C0)^a", times(G, power(over(C, C0), a))),
    ]


@working
def optimal_tokens(C: Any, C0: Any, A: Any, B: Any, alpha: Any, beta: Any) -> Steps:
    G, b = _split(A, B, alpha, beta), over(alpha, plus(alpha, beta))
    return [
        Step("from the budget, D = C/(C0 N)", b, (), "b", False),
        Step("D_opt = (C/C0)^b / G", over(power(over(C, C0), b), G)),
    ]


@working
def scaling_g(A: Any, B: Any, alpha: Any, beta: Any) -> Steps:
    return [Step("alpha A / N^alpha = beta B / D^beta with D = C/(C0 N), solved for N", _split(A, B, alpha, beta))]


@working
def scaling_a(alpha: Any, beta: Any) -> Steps:
    return [Step("N^(alpha + beta) grows as C^beta", over(beta, plus(alpha, beta)))]


@working
def scaling_b(alpha: Any, beta: Any) -> Steps:
    return [Step("D^(alpha + beta) grows as C^alpha", over(alpha, plus(alpha, beta)))]


# ------------------------------------------------------------------------------------------------------------ sharding


@working
def replicated_bytes(P: Any, w: Any) -> Steps:
    return [Step(f"every GPU holds all of them, {value_of(w)} bytes each", times(w, P))]


@working
def sharded_bytes(P: Any, N: Any, w: Any) -> Steps:
    whole = value_of(P) % value_of(N) == 0
    share = over(P, N) if whole else Form("ceiling", (over(P, N),))
    return [Step(f"one of N equal shards, {value_of(w)} bytes a number", times(w, share))]
