"""Schemes: what a library does to a model's weights, and which of them it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from estimator.config import MAX_LAYERS
from estimator.dtypes import FORMATS, Format
from estimator.families.base import Architecture, Attention
from estimator.inventory import CONV1D, EMBEDDING, EXPERT, HEAD, LINEAR, OTHER, POSITION, ROUTER, TOKEN_TYPE, Weight
from estimator.records import dataclass
from estimator.storage import layouts as lay
from estimator.storage.base import Matrices, Storage, Stored, layers_of, matrices, moe_of, plain
from estimator.storage.layouts import Layout
from estimator.storage.matching import Match, expert_names, spellings, transformers_match

LINEARS = frozenset((LINEAR, CONV1D))
LINEAR_ONLY = frozenset((LINEAR,))
MLX_TOUCHES = frozenset((LINEAR, CONV1D, HEAD, EMBEDDING, POSITION, TOKEN_TYPE, ROUTER))
# mlx-vlm 0.7.10 convert.py, utils.py skip_multimodal_module: what it leaves as it is; it calls ``visual`` vision_tower
MLX_LEAVES = (
    "vision", "visual.", "aligner", "vl_connector", "sam_model", "audio_model", "audio_tower", "code_predictor",
    "img_projector", "multi_modal_projector", "patch_merge_mlp",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a library does to a model's weights.

    layout     how a matrix lies, where no rule below says otherwise
    experts    "kept" (stacked experts stay), "each" (every expert is quantised), "only" (nothing else is, if any)
    touches    roles of the weights that are quantised, beside experts
    skip       True for the name of a module that stays as it is
    rules      (match, layout or None) tried in order before ``skip`` and ``layout``: None leaves it alone
    only       where set, nothing but what it matches is quantised
    subclasses whether matrices of a subclass of torch.nn.Linear are quantised too
    divides    inputs must be a multiple of this, else the matrix stays
    bias       format of the biases of quantised modules where it is not the base's
    attention  bytes that an attention layer needs beside (scales of a quantised cache)
    """

    name: str
    layout: Layout
    experts: str
    note: str
    touches: frozenset[str] = LINEARS
    skip: Match | None = None
    rules: tuple[tuple[Match, Layout | None], ...] = ()
    only: Match | None = None
    subclasses: bool = True
    divides: int = 1
    bias: str = ""
    attention: int = 0
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def nothing(cls, note: str, attention: int = 0) -> Scheme:
        """No weight is quantised: a cache alone is, or the weights are unpacked when they are loaded."""
        return cls("none", lay.eetq(), "kept", note, frozenset(), attention=attention)

    @property
    def by_name(self) -> bool:
        """Whether what happens to a weight depends on its module's name."""
        return self.skip is not None or bool(self.rules) or self.only is not None

    def of(self, names: Sequence[str]) -> Layout | None:
        """The layout of a module with these names, None where it stays as it is."""
        for match, layout in self.rules:
            if any(match(n) for n in names):
                return layout
        if self.only is not None and not any(self.only(n) for n in names):
            return None
        if self.skip is not None and any(self.skip(n) for n in names):
            return None
        return self.layout


def skips(names: Sequence[str] | None, linears: frozenset[str] = LINEARS) -> dict[str, Any]:
    """transformers' rule, as fields of a Scheme: without a list the output layer stays; a list says all that stays."""
    if names is None:
        return {"touches": linears}
    head = any("lm_head".endswith(n) or n in ("lm_head", "head", "output") for n in names)
    return {"skip": transformers_match(names), "touches": linears if head else linears | {HEAD}}


def sees_or_hears(name: str) -> bool:
    """Whether mlx-vlm leaves a module alone: of a tower, or of what joins it to the text."""
    return any(word in name for word in MLX_LEAVES)


_BNB = "output layer, embeddings, norms, biases and routers stay in the base type"


def _named(name: str, layout: Layout, experts: str, note: str, **more: Any) -> Scheme:
    return Scheme(name, layout, experts, f"{note}; {_BNB}", **more)


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        _named("nf4", lay.nf4(), "kept", "nf4 as bitsandbytes stores it: blocks of 64", subclasses=False),
        _named(
            "nf4-dq", lay.nf4(True), "kept", "nf4 with double quantisation as bitsandbytes stores it",
            subclasses=False,
        ),
        _named("fp4", lay.nf4(name="fp4"), "kept", "fp4 as bitsandbytes stores it: blocks of 64", subclasses=False),
        _named("fp4-dq", lay.nf4(True, "fp4"), "kept", "fp4 with double quantisation as bitsandbytes stores it",
               subclasses=False),
        _named("int8", lay.llm_int8(), "kept", "LLM.int8() of bitsandbytes: a scale a row", subclasses=False),
        _named("int4", lay.packed_int(4, 128), "each", "int4 in groups of 128 inputs, symmetric"),
        _named("gptq", lay.gptq(), "each", "GPTQ, 4 bits in groups of 128 inputs"),
        _named("awq", lay.awq(), "each", "AWQ, 4 bits in groups of 128 inputs"),
        _named("fp8", lay.tiled(), "each", "fp8 with one scale a matrix"),
        _named("fp8-block", lay.tiled(128, 128, name="fp8-block"), "each", "fp8 with a scale for each 128 x 128 tile"),
        _named(
            "mxfp4", lay.mxfp4(), "only", "mxfp4 on the routed experts, or on all linear layers where there are none"
        ),
        _named("nvfp4", lay.nvfp4(), "each", "nvfp4: blocks of 16 and one scale a matrix"),
    )
}  # fmt: skip


def scheme_storage(arch: Architecture, scheme: Scheme, base: Format) -> Storage:
    """The weights of ``arch`` in ``scheme``; what it leaves alone in ``base``."""
    moe = moe_of(arch)
    only = scheme.experts == "only" and bool(moe)
    touched = frozenset() if only else scheme.touches
    kept = transformers_match(arch.kept if EMBEDDING not in touched else ())
    wide = FORMATS["fp32"] if base.name == "fp16" else base  # transformers: _keep_in_fp32_modules, where it loads fp16
    parts: list[Stored] = []
    quantised: dict[str, set[int | None]] = {}
    for w in arch.weights():
        m = None if w.is_bias else _matrices(w, scheme, touched, arch, moe)
        if m is None:
            parts.append(_bias(w, scheme, base, quantised) if w.is_bias else plain(w, base))
            continue
        if kept(w.module.replace("{i}", "0")):
            parts.append(plain(w, wide))
            continue
        for layout, layers in _layouts(w, scheme).items():
            if layout is None:
                parts.append(plain(_at(w, layers), base))
                continue
            quantised.setdefault(w.module, set()).update([None] if layers is None else layers)
            times = w.times if layers is None else len(layers)
            parts.append(
                Stored(_at(w, layers), layout.name, times * m.count * layout.size(m.n_in, m.n_out),
                       layout.formula, layout)
            )  # fmt: skip
    parts += _attention(arch, scheme)
    notes = (f"{scheme.note} ({base.name})", *_said(arch, scheme, moe, base, quantised))
    return Storage(tuple(parts), notes, scheme.name)


def _attention(arch: Architecture, scheme: Scheme) -> list[Stored]:
    """The scales of a quantised cache, which lie beside the weights of every attention."""
    layers = sum(int(x.times) for x in arch.layers if isinstance(x.mixer, Attention))
    if not scheme.attention or not layers:
        return []
    each = Weight("model.layers.{i}.self_attn.kv_scales", (2,), layers, OTHER)
    return [Stored(each, "scales", layers * scheme.attention)]


def _matrices(w: Weight, scheme: Scheme, touched: frozenset[str], arch: Architecture, moe: Any) -> Matrices | None:
    """The matrices of a weight that the scheme looks at, None for one that it never touches."""
    linear = w.role in touched and len(w.shape) == 2
    if linear and arch.linear_class != "Linear" and w.role == LINEAR and not scheme.subclasses:
        return None
    expert = w.role == EXPERT and len(w.shape) == 3 and scheme.experts != "kept"
    if not (linear or expert):
        return None
    m = matrices(w, moe)
    return m if scheme.divides == 1 or int(m.n_in) % scheme.divides == 0 else None


def _layouts(w: Weight, scheme: Scheme) -> dict[Layout | None, tuple[int, ...] | None]:
    """Layout -> the layers of this weight that lie in it (None: all). A module that stays has the layout None."""
    if not scheme.by_name:
        return {scheme.layout: None}
    layers = list(layers_of(w)) if "{i}" in w.name and int(w.times) <= MAX_LAYERS else [0]
    out: dict[Layout | None, list[int]] = {}
    for i in layers:
        module = (w.name if w.role == EXPERT else w.module).replace("{i}", str(i))
        names = expert_names(module, "down" in w.name or ".w2" in w.name) if w.role == EXPERT else [module]
        out.setdefault(scheme.of([s for n in names for s in spellings(n)]), []).append(i)
    if len(out) == 1:
        return {next(iter(out)): None}
    return {layout: tuple(found) for layout, found in out.items()}


def _at(w: Weight, layers: tuple[int, ...] | None) -> Weight:
    return w if layers is None else w._replace(times=len(layers), layers=layers)


def _bias(w: Weight, scheme: Scheme, base: Format, quantised: dict[str, set[int | None]]) -> Stored:
    """A bias: in the base's format, or in the scheme's own where its matrix is quantised."""
    layers = quantised.get(w.module)
    if not scheme.bias or not layers:
        return plain(w, base)
    own = w.times if None in layers else len(layers)
    fmt = FORMATS[scheme.bias]
    return Stored(w, fmt.name, own * fmt.bytes(w.elements) + (w.times - own) * base.bytes(w.elements))


def _said(
    arch: Architecture, scheme: Scheme, moe: Any, base: Format, quantised: dict[str, set[int | None]]
) -> list[str]:
    said: list[str] = []
    if moe and scheme.experts == "kept":
        said.append(
            f"WARNING: stacked experts are no torch.nn.Linear, so transformers 5 leaves them in {base.name}"
        )
    if arch.linear_class != "Linear" and not scheme.subclasses:
        said.append(
            f"the matrices are of class {arch.linear_class}, which transformers 5.24 does not convert: "
            f"they stay in {base.name}"
        )
    elif not quantised and scheme.touches:
        said.append(f"WARNING: {scheme.name} quantises no matrix of this model: all weights in {base.name}")
    if arch.kept and quantised:
        said.append(f"transformers leaves {', '.join(arch.kept)} in {base.name} when it quantises")
    return said
