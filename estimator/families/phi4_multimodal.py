"""Phi-4 multimodal: a Phi-3 text model with a SigLIP tower and an audio conformer inside its embeddings.

Source: transformers 5, models/phi4_multimodal/modeling_phi4_multimodal.py and configuration_phi4_multimodal.py.
"""

from __future__ import annotations

from typing import Any

from estimator.config import Config
from estimator.families.base import Architecture, Extra, Linear, Lookup
from estimator.families.common_tower import layer_norm, part, text_model, tower_of, width_of
from estimator.families.towers import Conv, Repeated, Tower
from estimator.inventory import POSITION

TEXT = {"vocab_size": 200064, "num_key_value_heads": 8, "max_position_embeddings": 131072}
AT = "model.embed_tokens_extend"


def audio_tower(c: Config, prefix: str, d_text: Any) -> Tower:
    """The conformer and both of its projections, for speech alone and beside images."""
    at, enc = f"{prefix}.encoder", f"{prefix}.encoder.encoders.{{i}}"
    d, d_ff = c.plain("hidden_size", 1024, least=1), c.plain("intermediate_size", 1536, least=1)
    h, wide = c.plain("num_attention_heads", 16, least=1), c.plain("nemo_conv_channels", 1024, least=1)
    halvings = c.plain("time_reduction", 8, least=2).bit_length() - 1
    mels = c.plain("input_size", 80, least=1)
    stem: list[Any] = [Conv(f"{at}.embed.conv.0", 1, wide, (3, 3))]
    for i in range(halvings):
        mels = (mels - 1) // 2 + 1
        if i:  # a depthwise convolution, then one of a single pixel; an activation stands between the pairs
            stem += [
                Conv(f"{at}.embed.conv.{3 * i - 1}", wide, wide, (3, 3), groups=wide),
                Conv(f"{at}.embed.conv.{3 * i}", wide, wide, (1, 1)),
            ]
    buckets = c.plain("bias_max_distance", 1000, least=1) * (1 if c.flag("bias_symmetric", False) else 2)
    stem += [
        Linear(f"{at}.embed.out", wide * c.plain("nemo_final_size", mels, least=1), d, True),
        Lookup(f"{at}.relative_attention_bias_layer.bias_values", buckets, h, POSITION),
    ]
    parts: list[Any] = []
    for name in ("feed_forward_in", "feed_forward_out"):
        parts += [
            layer_norm(f"{enc}.{name}.layer_norm", d), Linear(f"{enc}.{name}.gate_up_proj", d, 2 * d_ff, True),
            Linear(f"{enc}.{name}.down_proj", d_ff, d, True),
        ]  # fmt: skip
    parts += [Linear(f"{enc}.self_attn.{n}_proj", d, d, True) for n in "qkvo"]
    conv, out = f"{enc}.conv", c.plain("ext_pw_out_channel", 1024, least=1)
    times, kernel = c.plain("depthwise_multiplier", 1, least=1), c.plain("kernel_size", 3, least=1)
    parts += [
        layer_norm(f"{conv}.layer_norm", d), Extra(f"{conv}.glu.b1", (1, out, 1)), Extra(f"{conv}.glu.b2", (1, out, 1)),
        Conv(f"{conv}.glu.ext_pw_conv_1d", d, 2 * out, (1,)),
        Conv(f"{conv}.dw_sep_conv_1d.dw_conv", d, d * times, (kernel,), groups=d),
        Conv(
            f"{conv}.dw_sep_conv_1d.pw_conv", d * times, c.plain("depthwise_separable_out_channel", 1024, least=1), (1,)
        ),
        Conv(f"{conv}.ext_pw_conv_1d", d, out, (1,)),
        layer_norm(f"{enc}.layer_norm_att", d), layer_norm(f"{enc}.layer_norm", d),
    ]  # fmt: skip
    read = d * c.plain("downsample_rate", 1, least=1)
    bridge: list[Any] = []
    for what in ("speech", "vision_speech"):
        bridge += [
            Linear(f"{prefix}.up_proj_for_{what}", read, d_text, True),
            Linear(f"{prefix}.down_proj_for_{what}", d_text, d_text, True),
        ]
    return Tower("audio", tuple(stem), (Repeated(c.plain("num_blocks", 24, least=1), tuple(parts)),), (), tuple(bridge))


def build(c: Config) -> Architecture:
    """The whole model; the text's fields stand at the top level."""
    fields = {k: v for k, v in c.raw.items() if k not in ("vision_config", "audio_config", "architectures")}
    made = text_model(c, Config({**TEXT, **fields, "model_type": "phi3"}, c.traced, c.where))
    vision, audio = part(c, "vision_config", "phi4_multimodal_vision"), part(c, "audio_config", "phi4_multimodal_audio")
    seen = tower_of(vision, f"{AT}.image_embed.img_processor", merge=2)
    d, d_text = width_of(seen), made.hidden
    bridge = (
        Extra(f"{AT}.image_embed.global_img_feature_extensor", (1, 1, d)),
        Extra(f"{AT}.image_embed.sub_img_feature_extensor", (1, 1, 1, d)),
        Linear(f"{AT}.image_embed.img_projection_up", d, d_text, True),
        Linear(f"{AT}.image_embed.img_projection_down", d_text, d_text, True),
    )
    heard = audio_tower(audio, f"{AT}.audio_embed", d_text)
    return made._replace(model_type="phi4_multimodal", towers=(seen._replace(bridge=bridge), heard))
