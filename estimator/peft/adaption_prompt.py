"""LLaMA-Adapter: virtual tokens in the attention of the last layers, each with a trained gate.

Sources: Zhang et al. 2023, arXiv 2303.16199; peft 0.21.2, tuners/adaption_prompt/layer.py and config.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from estimator.errors import InputError
from estimator.peft.base import BASE, Build, Method, PeftTensor
from estimator.peft.mappings import ADAPTION_PROMPT
from estimator.peft.modules import containers
from estimator.stack import algebra, ops
from estimator.stack.around import AdaptedAttention
from estimator.stack.attention import bmm, rotate
from estimator.stack.tape import F32, Tensor
from estimator.trace import value_of

DEFAULT_LENGTH = 10  # Zhang et al. 2023, section 4.1


def build(b: Build) -> Iterator[PeftTensor]:
    """adapter_len x d and one gate in each of the last adapter_layers layers."""
    a = b.args
    own = "layers.{i}" if b.arch.textbook else ADAPTION_PROMPT.get(b.arch.model_type)
    if own is None:
        known = "llama, mistral and gpt2"
        raise InputError(
            f"--method adaption_prompt: the peft library has it for {known} only, not {b.arch.model_type!r}"
        )
    names = b.asked()[0]
    name = names[0] if names else own
    holders = [m for m in [*b.known, *containers(b.known)] if m.name == name or m.name.endswith("." + name)]
    count = sum(m.times for m in holders)
    if not holders:
        raise InputError(f"--targets {name}: no such module in {b.model}; the library's own is {own}")
    if count == b.arch.num_layers:
        count = b.arch.num_layers  # keep its letter
    length = a.count("adapter_len") if a.has("adapter_len") else DEFAULT_LENGTH
    if not a.has("adapter_len"):
        b.notes.append(f"adapter_len is not given: {DEFAULT_LENGTH} assumed, as in the paper")
    layers = a.count("adapter_layers") if a.has("adapter_layers") else count
    if not a.has("adapter_layers"):
        b.notes.append("adapter_layers is not given: all layers assumed")
    if layers > count:
        raise a.bad("adapter_layers", f"must be at most the {int(value_of(count))} layers of {b.model}")
    b.virtual_tokens = 0
    where = holders[0].name
    last = None if layers == count else tuple(range(int(value_of(count - layers)), int(value_of(count))))
    yield PeftTensor(where, "adaption_prompt", (1, length, b.arch.hidden), layers, format=BASE, layers=last)
    yield PeftTensor(where, "adaption_gate", (1,), layers, format=BASE, layers=last)


def around(s: AdaptedAttention) -> Tensor:
    """AdaptedAttention.forward, AdaptedAttentionGPT.forward: beside what the attention gives, the queries, made again,
    attend to the prompt through the attention's own matrices, and a gate weighs their shares."""
    m, t, a = s.m, s.t, s.a
    output = s.inner()
    prompt, length = s.p("adaption_prompt"), s.shape("adaption_prompt")[1]
    wide = m.b * length * a.heads * a.head_dim
    k, v = (s.linear(prompt, x, length) for x in a.projections[1:]) if len(a.projections) == 3 else _pieces(s, prompt)
    k, v = (algebra.repeated(t, x, m.b) for x in (k, v))
    if a.position == "rope":  # GPT-2's has neither groups nor a rotation
        k, v = (algebra.op(t, "repeated heads", wide, x.w, (x,)) for x in (k, v))
    q = queries(s)
    w, n = q.w, m.rows * a.heads * length
    k = ops.to(t, k, w)
    scores = ops.scale(t, bmm(t, q, k, n, a.head_dim, (m.b > 1, False), "prompt scores", True), "scaled scores")
    scores = ops.mul(t, s.p("adaption_gate"), ops.to(t, ops.softmax(t, scores, F32), w), "gated scores")
    found = bmm(t, scores, v, m.rows * a.heads * a.head_dim, length, (False, False), "found in the prompt")
    found = ops.copy(t, found, "found in the prompt, transposed")
    if a.position == "rope":
        found = s.linear(found, a.out)
    output = ops.add(t, output, found, "output with prompt")
    return ops.to(t, output, w)


def queries(s: AdaptedAttention) -> Tensor:
    """llama_compute_query_states and gpt2_compute_query_states: Llama's makes the values too and drops them."""
    t, a = s.t, s.a
    if len(a.projections) != 3:
        return ops.split(t, s.linear(s.x, a.projections[0]), (s.m.rows * a.heads * a.head_dim,) * 3)[0]
    q, unused = s.linear(s.x, a.projections[0]), s.linear(s.x, a.projections[2])
    q = rotate(t, q, *s.at["rope"](s.m, a))
    del unused
    return q


def _pieces(s: AdaptedAttention, prompt: Tensor) -> list[Tensor]:
    """Keys and values of the prompt, out of one matrix."""
    whole = s.linear(prompt, s.a.projections[0], s.shape("adaption_prompt")[1])
    return ops.split(s.t, whole, (whole.n // 3,) * 3)[1:]


METHOD = Method(
    name="adaption_prompt",
    title="LLaMA-Adapter",
    cite="Zhang et al. 2023, arXiv 2303.16199; peft 0.21.2, tuners/adaption_prompt/layer.py",
    build=build,
    args={"adapter_len": None, "adapter_layers": None},
    accepts="target_modules",
    rank="",
    merges=False,
    around=around,
    simulated=True,
)
