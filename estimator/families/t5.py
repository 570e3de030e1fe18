"""T5, mT5 and UMT5: pre-norm encoder and decoder without biases, relative position biases held by each side's first
layer, or by every layer (UMT5).

T5 v1.1 and Flan-T5 have a gated MLP and a head of their own (``tie_word_embeddings`` false). transformers 5 ties every
T5 as it loads it; here the config's word is taken, which is what the published counts are.
Source: transformers 5, models/t5, mt5 and umt5, modeling_*.py and configuration_*.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import HEAD, MLP, OTHER, Architecture, Attention, Layer, Linear, Lookup, Norm, Weight
from estimator.families.common import gated_mlp, gqa, plain_mlp
from estimator.families.common_encoder import built_class
from estimator.families.common_gguf import ENCODER_ROWS, PLAIN_OUT, Gguf

NORM = "rms_t5"
STEMS = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}
# (d, d_ff, heads, layers, vocabulary, feed_forward_proj) that the config class of the type starts from
FIRST = (512, 2048, 8, 6, 32128, "relu")
LATER = (512, 1024, 6, 8, 250112, "gated-gelu")
OLD = "WithLMHeadModel"  # what transformers 2 called ForConditionalGeneration; some published configs still say so


BIASES = ("relative_attention_bias",)
_GGUF = Gguf("t5", quantizer=(PLAIN_OUT,), halves=BIASES, sided=True)
GGUF = dict.fromkeys(STEMS, _GGUF._replace(both_ways=_GGUF._replace(name="t5encoder")))


def _defaults(c: Config) -> tuple[int, int, int, int, int, str]:
    return FIRST if c.text("model_type", "") == "t5" else LATER


def feed_forward(c: Config, at: str, d: Any) -> MLP:
    """``feed_forward_proj``: "relu", or "gated-gelu" (whose activation is gelu_new), "gated-silu" ..."""
    d_ff = c.size("d_ff", _defaults(c)[1], letter="intermediate_size")
    spelled = c.text("feed_forward_proj", _defaults(c)[5])
    first, *rest = spelled.split("-")
    if rest and (first != "gated" or len(rest) > 1):
        raise InputError(f"{c.where}: feed_forward_proj must be ACT or gated-ACT, got {spelled[:40]!r}")
    if not rest:
        return plain_mlp(at, d, d_ff, first, bias=False, names=("wi", "wo"))._replace(cast=True)
    act = "gelu_new" if spelled == "gated-gelu" else rest[0]
    return gated_mlp(at, d, d_ff, act, names=("wi_0", "wi_1", "wo"))._replace(cast=True)


def stack(c: Config, side: str, d: Any, h: Any, L: Any) -> Layer:
    """The layers of one side. The position bias is added to the scores of every self-attention."""
    at, decoder, d_h = f"{side}.block.{{i}}.layer", side == "decoder", c.size("d_kv", 64, letter="head_dim")

    def attention(name: str, **fields: Any) -> Attention:
        return gqa(f"{at}.{name}", d, h, h, d_h, names=("q", "k", "v", "o"), softmax="scores", **fields)

    last = 2 if decoder else 1
    cross = attention("1.EncDecAttention", position="none", causal=False, cross=True) if decoder else None
    return Layer(
        L, attention("0.SelfAttention", position="relative", causal=decoder),
        feed_forward(c, f"{at}.{last}.DenseReluDense", d),
        tuple(Norm(f"{at}.{j}.layer_norm", d, NORM) for j in range(last + 1)),
        ("input", "pre_cross", "pre_mlp") if decoder else ("input", "pre_mlp"),
        cross=cross, side=side,
    )  # fmt: skip


def build(c: Config) -> Architecture:
    """T5 from its config; ``T5EncoderModel`` is the encoder alone."""
    default, kind = "ForConditionalGeneration", c.text("model_type", "")
    width, _, heads, depth, words, _ = _defaults(c)
    suffix = built_class(c, STEMS[kind], default, ("Model", "EncoderModel", OLD))
    suffix = default if suffix == OLD else suffix
    d = c.size("d_model|hidden_size", width, letter="hidden_size")
    h = c.size("num_heads|num_attention_heads", heads, letter="num_attention_heads")
    V = c.size("vocab_size", words)
    L = c.size("num_layers|num_hidden_layers", depth, letter="encoder_layers")
    sides = {"encoder": L}
    if suffix != "EncoderModel":
        sides["decoder"] = c.size("num_decoder_layers", L, letter="decoder_layers")
    buckets = c.size("relative_attention_num_buckets", 32)
    tied, predicts = c.flag("tie_word_embeddings", True), suffix == default
    if kind == "mt5" and not tied:  # its class ties the head whatever the config says; the published counts do not
        c.notes.append("tie_word_embeddings is false: counted with a head of its own, as the file stores it")
    final = {side: (Norm(f"{side}.final_layer_norm", d, NORM),) for side in sides}
    both = "decoder" in sides
    return Architecture(
        model_type=kind,
        embeddings=(Lookup("shared", V, d),),
        layers=tuple(stack(c, side, d, h, n) for side, n in sides.items()),
        encoder_final=final["encoder"] if both else (),
        final=final["decoder" if both else "encoder"],
        head=Linear("lm_head", d, V, role=HEAD) if predicts and not tied else None,
        tied=predicts and tied, has_head=predicts,
        vocab=V, hidden=d, num_layers=sides["decoder" if both else "encoder"],
        kind="encoder-decoder" if both else "encoder", kept=("wo",),
        facts={
            "class": suffix, "drops": {"final": "dropout_rate"}, "scale_decoder_outputs": predicts and tied,
            "bias_each": kind == "umt5",
            ENCODER_ROWS: c.plain("n_positions", 512, least=1),
        },
        always_tied=True, trains_cached=True, residual_dropout=("dropout_rate", 0.1), dropouts=("dropout_rate",),
        extra_weights=tuple(
            Weight(
                f"{side}.block.{{i}}.layer.0.SelfAttention.relative_attention_bias.weight", (buckets, h),
                *((n, OTHER) if kind == "umt5" else (1, OTHER, (0,))),
            )
            for side, n in sides.items()
        ),
    )  # fmt: skip
