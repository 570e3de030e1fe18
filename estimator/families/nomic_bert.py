"""NomicBERT and GTE (new): BERT with rotary positions and a gated MLP; NomicBERT without biases.

Source: transformers 5, models/nomic_bert and gte, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import HEAD, TOKEN_TYPE, Architecture, Extra, Layer, Linear, Lookup
from estimator.families.common import gated_mlp, gqa
from estimator.families.common_encoder import built_class, encoder, labels, norm, prediction_head
from estimator.families.common_gguf import Gguf
from estimator.records import NamedTuple

GGUF = {"nomic_bert": Gguf("nomic-bert", packed=True)}


class NomicKind(NamedTuple):
    """One model_type: its class's stem and module, its defaults, and where it has biases."""

    stem: str
    module: str
    V: int
    types: int
    positions: int
    act: str
    bias: bool


KINDS = {
    "nomic_bert": NomicKind("NomicBert", "nomic_bert", 30528, 2, 2048, "silu", False),
    "gte": NomicKind("Gte", "gte", 250048, 1, 8192, "gelu", True),
}


def build(c: Config) -> Architecture:
    """The encoder from its config; ``architectures`` tells which head it has, and whether a pooler."""
    kind = KINDS[c.text("model_type", "")]
    suffix = built_class(
        c, kind.stem, "ForMaskedLM", ("Model", "ForSequenceClassification", "ForTokenClassification")
    )  # fmt: skip
    top = "" if suffix == "Model" else f"{kind.module}."
    d, L, V = c.size("hidden_size", 768), c.size("num_hidden_layers", 12), c.size("vocab_size", kind.V)
    h = c.size("num_attention_heads", 12)
    if kind.bias or c.raw.get("head_dim") is None:
        c.divides(h, d, "num_attention_heads", "hidden_size")
    d_h = d // h if kind.bias else c.size("head_dim", d // h)
    types, at = c.size("type_vocab_size", kind.types, least=0), f"{top}layers.{{i}}"
    typed = (Lookup(f"{top}embeddings.token_type_embeddings", types, d, TOKEN_TYPE),) if types else ()
    tables = (Lookup(f"{top}embeddings.word_embeddings", V, d), *typed, norm(f"{top}embeddings.LayerNorm", d))
    attention = gqa(f"{at}.self_attn", d, h, h, d_h, bias=kind.bias, causal=False)
    mlp = gated_mlp(f"{at}.mlp", d, c.size("intermediate_size", 3072), c.text("hidden_act", kind.act))
    *first, down = mlp.linears
    mlp = mlp._replace(linears=(*first, down._replace(bias=kind.bias)))
    norms = (norm(f"{at}.post_attention_layernorm", d), norm(f"{at}.post_mlp_layernorm", d))
    layer = Layer(L, attention, mlp, norms, ("post_mixer", "post_mlp"), wiring="post", side="encoder")
    fields: dict[str, Any] = {"final": ()}
    pooler: tuple[Any, ...] = ()
    if suffix == "ForMaskedLM":
        fields = _head(c, kind, d, V)
    elif suffix == "ForSequenceClassification":
        pooler = (Linear(f"{top}pooler.dense", d, d, True), Linear("classifier", d, labels(c), True))
    elif suffix == "ForTokenClassification":
        fields["final"] = (Linear("classifier", d, labels(c), True),)
    return encoder(
        c, suffix, tables, (layer,), V, d, L, pooler,
        max_positions=c.plain("max_position_embeddings", kind.positions), **fields,
    )  # fmt: skip


def _head(c: Config, kind: NomicKind, d: Any, V: Any) -> dict[str, Any]:
    """NomicBERT's head is BERT's, GTE's RoBERTa's; both have a bias."""
    tied = c.flag("tie_word_embeddings", True)
    if not kind.bias:
        at = "cls.predictions"
        fields = prediction_head(
            f"{at}.transform.dense", f"{at}.transform.layer_norm", f"{at}.decoder", d, d, V, tied
        )  # fmt: skip
    else:
        at = "lm_head"
        fields = prediction_head(f"{at}.dense", f"{at}.layer_norm", f"{at}.decoder", d, d, V, tied)
        dense, out, _ = fields["head_extras"]
        bias = (Extra(f"{at}.decoder.bias", (V,), HEAD),) if tied else ()
        fields["head_extras"], fields["head_bias_tied"] = (dense, out, *bias), False
    fields["facts"] = {"head_act": c.text("hidden_act", kind.act) if not kind.bias else "gelu"}
    return fields
