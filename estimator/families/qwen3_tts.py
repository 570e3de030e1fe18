"""Qwen3-TTS: a talker that is a Qwen 3 over words and codes, a smaller one that predicts the other codes of a frame,
and in the base models an ECAPA-TDNN that hears a speaker. Its weights alone are described: a frame runs the second
fifteen times, which no command here says.

Source: QwenLM/Qwen3-TTS, qwen_tts/core/models/{configuration,modeling}_qwen3_tts.py; held to what published files hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from estimator.config import Config
from estimator.errors import InputError
from estimator.families.base import Architecture, Linear, Lookup, Norm
from estimator.families.common import gated_mlp, gqa, read_dims
from estimator.families.common_tower import part
from estimator.families.towers import Conv
from estimator.inventory import OTHER, Weight

WEIGHTS_ALONE = True  # for benchmarks/coverage.py: no family that says what is computed
# Qwen3TTSSpeakerEncoderConfig
FIVE = {"enc_channels": [512, 512, 512, 512, 1536], "enc_kernel_sizes": [5, 3, 3, 3, 1]}


def build(c: Config) -> Architecture:
    """The weights of the whole model, but for the codec, which has a repository of its own."""
    talker = part(c, "talker_config", "qwen3_tts_talker", {})
    predictor = part(talker, "code_predictor_config", "qwen3_tts_talker_code_predictor", {})
    d, own = talker.plain("hidden_size", 1024, least=1), predictor.plain("hidden_size", 1024, least=1)
    words, read = talker.plain("text_vocab_size", 152064, least=1), talker.plain("text_hidden_size", 2048, least=1)
    codes, kinds = talker.plain("vocab_size", 3072, least=1), talker.plain("num_code_groups", 32, least=2) - 1
    each = predictor.plain("vocab_size", 2048, least=1)
    once: list[Any] = [
        Lookup("talker.model.text_embedding", words, read), Lookup("talker.model.codec_embedding", codes, d),
        Linear("talker.text_projection.linear_fc1", read, read, True),
        Linear("talker.text_projection.linear_fc2", read, d, True), Linear("talker.codec_head", d, codes),
    ]  # fmt: skip
    if own != d:
        once.append(Linear("talker.code_predictor.small_to_mtp_projection", d, own, True))
    weights = [w for p in once for w in p.weights(1)]
    weights += Lookup("talker.code_predictor.model.codec_embedding.{i}", each, d).weights(kinds)
    weights += Linear("talker.code_predictor.lm_head.{i}", own, each).weights(kinds)
    weights += _stack(talker, "talker.model", (20, 2048, 2, None))
    weights += _stack(predictor, "talker.code_predictor.model", (5, 3072, 8, 128))
    if c.text("tts_model_type", "base") == "base":
        weights += _speaker(part(c, "speaker_encoder_config", "qwen3_tts_speaker_encoder", {}), "speaker_encoder")
    layers = talker.plain("num_hidden_layers", 20, least=1)
    return Architecture(
        model_type=c.text("model_type", ""), embeddings=(), layers=(), final=(), head=None, tied=False, vocab=0,
        hidden=0, num_layers=layers, has_head=False, extra_weights=tuple(weights), counted_only=True,
    )  # fmt: skip


def _stack(c: Config, at: str, default: tuple[int, int, int, int | None]) -> Iterator[Weight]:
    """Qwen 3's layers and its last norm. default: layers, width of the MLP, heads of keys and their width."""
    L, d_ff, h_kv, d_h = default
    D, layer = read_dims(c, 1024, 16, d_ff, 3072, L, h_kv=h_kv, d_h=d_h), f"{at}.layers.{{i}}"
    attn = f"{layer}.self_attn"
    parts = (
        *gqa(attn, D.d, D.h, D.h_kv, D.d_h, norms=tuple(Norm(f"{attn}.{n}_norm", D.d_h) for n in "qk")).parts(),
        *gated_mlp(f"{layer}.mlp", D.d, D.d_ff).parts(),
        Norm(f"{layer}.input_layernorm", D.d), Norm(f"{layer}.post_attention_layernorm", D.d),
    )  # fmt: skip
    for p in parts:
        yield from p.weights(D.L)
    yield from Norm(f"{at}.norm", D.d).weights(1)


def _speaker(c: Config, at: str) -> Iterator[Weight]:
    """ECAPA-TDNN: convolutions in time, three blocks of eight branches with squeeze and excitation, pooling."""
    first, width, *_, last = _five(c, "enc_channels")
    sizes = _five(c, "enc_kernel_sizes")
    mel, out = c.plain("mel_dim", 128), c.plain("enc_dim", 1024)
    scale, squeezed = c.plain("enc_res2net_scale", 8, least=2), c.plain("enc_se_channels", 128)
    seen = c.plain("enc_attention_channels", 128)
    convs = [Conv(f"{at}.blocks.0.conv", mel, first, (sizes[0],))]
    for i in (1, 2, 3):
        block, part_of = f"{at}.blocks.{i}", width // scale
        convs += [Conv(f"{block}.{n}.conv", width, width, (1,)) for n in ("tdnn1", "tdnn2")]
        convs += [
            Conv(f"{block}.res2net_block.blocks.{j}.conv", part_of, part_of, (sizes[i],)) for j in range(scale - 1)
        ]
        convs += [Conv(f"{block}.se_block.conv1", width, squeezed, (1,)),
                  Conv(f"{block}.se_block.conv2", squeezed, width, (1,))]  # fmt: skip
    convs += [
        Conv(f"{at}.mfa.conv", last, last, (sizes[-1],)), Conv(f"{at}.asp.tdnn.conv", 3 * last, seen, (1,)),
        Conv(f"{at}.asp.conv", seen, last, (1,)), Conv(f"{at}.fc", 2 * last, out, (1,)),
    ]  # fmt: skip
    for conv in convs:
        for w in conv.weights():
            yield w._replace(role=OTHER)


def _five(c: Config, name: str) -> list[int]:
    """A whole number for each of the five blocks."""
    found = c.items(name, 5) or FIVE[name]
    if any(type(x) is not int or not 0 < x < 10**6 for x in found):
        raise InputError(f"{c.where}: {name} must list five whole numbers, got {str(found)[:40]!r}")
    return found
