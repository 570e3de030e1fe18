"""Families that only remote code has: what their modeling files build, what their checkpoints hold, and what others
count in a forward pass.

Elements: of Baichuan's README (total parameters); of the indices and headers of the published files, less ChatGLM's
32 rotary frequencies (InternLM2-7B 15,475,417,088 bytes, Qwen-7B 15,442,649,088, ChatGLM2-6B 12,487,168,064). GMACs of
one pass of 128 tokens: the table of calflops 0.3 (chatglm2-6b, baichuan-7B, Qwen-7B), to two decimals.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import InputError
from estimator.families import build
from estimator.models import Model

BASE = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "intermediate_size": 11008}
GLM = {
    "model_type": "chatglm", "architectures": ["ChatGLMModel"], "add_qkv_bias": True, "add_bias_linear": False,
    "ffn_hidden_size": 13696, "hidden_size": 4096, "kv_channels": 128, "multi_query_attention": True,
    "multi_query_group_num": 2, "num_attention_heads": 32, "num_layers": 28, "padded_vocab_size": 65024,
    "post_layer_norm": True, "rmsnorm": True, "seq_length": 8192,
}  # fmt: skip
MINI = {"hidden_size": 2304, "intermediate_size": 5760, "num_attention_heads": 36, "num_key_value_heads": 36,
        "num_hidden_layers": 40, "vocab_size": 122753, "scale_emb": 12, "scale_depth": 1.4}  # fmt: skip
# config -> elements, bytes that a token keeps in bf16, GMACs
CASES = {
    "internlm2-7b": ({**BASE, "model_type": "internlm2", "bias": False, "intermediate_size": 14336,
                      "num_key_value_heads": 8, "vocab_size": 92544}, 7_737_708_544, 2 * 32 * 8 * 128 * 2, None),
    "baichuan-7b": ({**BASE, "model_type": "baichuan", "vocab_size": 64000},
                    7_000_559_616, 2 * 32 * 4096 * 2, 866.78),
    "baichuan-13b": ({"model_type": "baichuan", "hidden_size": 5120, "intermediate_size": 13696,
                      "num_attention_heads": 40, "num_hidden_layers": 40, "vocab_size": 64000},
                     13_264_901_120, 2 * 40 * 5120 * 2, None),
    "chatglm2-6b": (GLM, 6_243_584_000, 2 * 28 * 2 * 128 * 2, 768.8),
    "glm-4-9b": ({**GLM, "num_layers": 40, "padded_vocab_size": 151552}, 9_399_951_360, 2 * 40 * 2 * 128 * 2, None),
    "minicpm-2b": ({**MINI, "model_type": "minicpm"}, 2_724_880_896, 2 * 40 * 2304 * 2, None),
    "chatglm-6b": ({"model_type": "chatglm", "inner_hidden_size": 16384, "position_encoding_2d": True,
                    "hidden_size": 4096, "num_attention_heads": 32, "num_layers": 28, "vocab_size": 150528},
                   6_871_769_088, 2 * 28 * 4096 * 2, None),
    "qwen-7b": ({**BASE, "model_type": "qwen", "intermediate_size": 22016, "vocab_size": 151936},
                7_721_324_544, 2 * 32 * 4096 * 2, 912.88),
}  # fmt: skip


def model(name):
    return Model(name, "file", Config(CASES[name][0]))


@pytest.mark.parametrize("name", CASES)
def test_what_published_files_hold(name):
    _, elements, token, gmacs = CASES[name]
    made = model(name)
    assert sum(w.total for w in made.architecture.weights()) == elements
    assert api.kvcache(made, batch_size=1, seq_len=100, kv_dtype="bf16").results()["kv_cache_bytes"] == 100 * token
    if gmacs is not None:
        options = {"batch_size": 1, "seq_len": 128, "mode": "forward", "attention": "eager"}
        assert round(api.flops(made, **options).results()["total_flops"] / 2e9, 2) == gmacs


@pytest.mark.parametrize("name", CASES)
def test_every_command_takes_them(name):
    made = model(name)
    step = api.memory(made, mode="training", recipe="torch-bf16", seq_len=256).results()
    weights = 2 * CASES[name][1]
    assert step["peak.allocated_bytes"] > 4 * weights  # weights, gradients, two moments
    assert api.infer(made, gpu="h100-sxm", dtype="bf16").results()["decode_step_seconds"] > 0
    assert api.peft(made, method="lora", targets="all-linear").results()["trainable_params"] > 0


@pytest.mark.parametrize(("change", "elements"), [
    ({"vocab_size": 30528, "type_vocab_size": 0}, 136_776_192),
    ({"vocab_size": 250048, "type_vocab_size": 1}, 305_368_320),
    ({"vocab_size": 250048, "type_vocab_size": 1, "architectures": ["NewForSequenceClassification"], "num_labels": 1},
     305_368_320 + 768 * 769 + 769),
    ({"vocab_size": 30528, "type_vocab_size": 2, "hidden_size": 1024, "num_hidden_layers": 24,
      "num_attention_heads": 16, "intermediate_size": 4096}, 434_139_136),
])  # fmt: skip
def test_gte(change, elements):
    """GTE's sizes, by its modeling file: base, multilingual with its reranker, large. The second is that of
    Snowflake/snowflake-arctic-embed-m-v2.0 too, whose file holds as many."""
    made = Model("gte", "file", Config({"model_type": "new", "architectures": ["NewModel"], **change}))
    assert sum(w.total for w in made.architecture.weights()) == elements
    assert api.flops(made, batch_size=1, seq_len=128).results()["total_flops"] > 0
    assert api.memory(made, mode="inference").results()["peak.allocated_bytes"] > 2 * elements


def test_the_first_internlm():
    """internlm/internlm-7b, by its modeling file: a Llama with biases in its attention."""
    d, ff, V, L = 4096, 11008, 103168, 32
    made = build(Config({**BASE, "model_type": "internlm", "bias": True, "vocab_size": V}))
    assert sum(w.total for w in made.weights()) == 2 * V * d + L * (4 * d * d + 4 * d + 3 * d * ff + 2 * d) + d


def test_others_are_refused():
    with pytest.raises(InputError, match="RMSNorm"):
        build(Config({**GLM, "rmsnorm": False}))


def test_minicpm_s_experts():
    """openbmb/MiniCPM-MoE-8x2B: 13.6 billion parameters without the embeddings, 4 billion of them for a token."""
    d, ff, L, V = 2304, 5760, 40, 122753
    moe = {**MINI, "model_type": "minicpm", "num_experts": 8, "num_experts_per_tok": 2}
    made = build(Config(moe))
    layer = 4 * d * d + 8 * d + 2 * d
    assert sum(w.total for w in made.weights()) == V * d + L * (layer + 8 * 3 * d * ff) + d
    answer = api.memory(Model("moe", "file", Config(moe)), mode="training").results()
    assert answer["params.active"] == V * d + L * (layer + 2 * 3 * d * ff) + d


RECORDED = json.loads(gzip.decompress((Path(__file__).parents[1] / "data" / "remote_code.json.gz").read_bytes()))


@pytest.mark.parametrize("row", RECORDED, ids=lambda r: f"{r['source'].split('/')[2].split(',')[0]}-{len(str(r))}")
def test_tensors_are_the_modeling_file_s(row):
    """Every tensor's name, shape and count, with the published config and two others; every name in the index."""
    made = list(build(Config(row["config"])).weights())
    names: Counter[str] = Counter()
    for w in made:
        names[w.name] += w.times
    if "tensors" in row:
        ours: Counter[tuple[str, tuple[int, ...]]] = Counter()
        for w in made:
            ours[w.name, w.shape] += w.times
        assert ours == Counter({(name, tuple(shape)): n for name, shape, n in row["tensors"]})
    if "names" in row:
        buffers = {n for n in row["names"] if n.endswith("inv_freq")}
        assert names == Counter({n: k for n, k in row["names"].items() if n not in buffers})
        wide = sum(w.total for w in made if "layernorm" in w.name)  # ChatGLM-6B's norms are stored in fp32
        rest = row["bytes"] - 2 * sum(w.total for w in made)
        frequencies = sum(row["names"][n] for n in buffers) * 32 * 2
        assert rest in (frequencies, frequencies + 2 * wide)


def test_names_are_the_files_own():
    names = {w.name for w in model("internlm2-7b").architecture.weights()}
    assert names >= {"model.tok_embeddings.weight", "output.weight", "model.layers.{i}.attention.wqkv.weight"}
    names = {w.name for w in model("chatglm2-6b").architecture.weights()}
    assert names >= {"transformer.output_layer.weight", "transformer.encoder.layers.{i}.mlp.dense_h_to_4h.weight"}
    names = {w.name for w in model("qwen-7b").architecture.weights()}
    assert names >= {"transformer.wte.weight", "transformer.h.{i}.attn.c_attn.bias", "transformer.h.{i}.mlp.w1.weight"}


ELM = {"model_type": "openelm", "architectures": ["OpenELMForCausalLM"], "activation_fn_name": "swish", "head_dim": 64,
       "ffn_dim_divisor": 256, "ffn_with_glu": True, "max_context_length": 2048, "vocab_size": 32000}  # fmt: skip
# as the published config.json lists them -> elements in the headers of the files, and heads of keys in all layers
ELMS = {
    "270M": ({**ELM, "model_dim": 1280, "num_transformer_layers": 16, "num_query_heads": [12] * 5 + [16] * 7 + [20] * 4,
              "num_kv_heads": [3] * 5 + [4] * 7 + [5] * 4, "ffn_multipliers": [
                  0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0]},
             271_527_168),
    "1.1B": ({**ELM, "model_dim": 2048, "num_transformer_layers": 28,
              "num_query_heads": [16] * 3 + [20] * 7 + [24] * 8 + [28] * 6 + [32] * 4,
              "num_kv_heads": [4] * 3 + [5] * 7 + [6] * 8 + [7] * 6 + [8] * 4, "ffn_multipliers": [
                  0.5, 0.63, 0.76, 0.89, 1.02, 1.15, 1.28, 1.41, 1.54, 1.67, 1.8, 1.93, 2.06, 2.19, 2.31, 2.44, 2.57,
                  2.7, 2.83, 2.96, 3.09, 3.22, 3.35, 3.48, 3.61, 3.74, 3.87, 4.0]}, 1_079_891_456),
}  # fmt: skip


@pytest.mark.parametrize("name", ELMS)
def test_openelm(name):
    config, elements = ELMS[name]
    made = Model(name, "file", Config(config))
    assert sum(w.total for w in made.architecture.weights()) == elements
    token = 2 * sum(config["num_kv_heads"]) * 64 * 2
    assert api.kvcache(made, batch_size=1, seq_len=100, kv_dtype="bf16").results()["kv_cache_bytes"] == 100 * token
    step = api.memory(made, mode="training", recipe="torch-bf16", seq_len=256).results()
    assert step["peak.allocated_bytes"] > 8 * elements
    assert api.infer(made, gpu="h100-sxm", dtype="bf16").results()["decode_step_seconds"] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [({"num_query_heads": [12] * 15}, "num_query_heads"), ({"num_kv_heads": 3}, "num_kv_heads must be a list"),
     ({"ffn_multipliers": ["x"] * 16}, "ffn_multipliers must list a number for each layer"),
     ({"num_kv_heads": [5] * 16}, "is not a multiple of num_kv_heads=5"), ({"ffn_with_glu": False}, "ffn_with_glu")],
)  # fmt: skip
def test_what_is_no_openelm(change, says):
    with pytest.raises(InputError, match=says):
        build(Config({**ELMS["270M"][0], **change}))


VIT = {"model_type": "intern_vit_6b", "hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24,
       "intermediate_size": 4096, "image_size": 448, "patch_size": 14, "qkv_bias": True, "qk_normalization": False,
       "norm_type": "layer_norm", "hidden_act": "gelu"}  # fmt: skip
VIT_6B = {**VIT, "hidden_size": 3200, "num_attention_heads": 25, "num_hidden_layers": 45, "intermediate_size": 12800,
          "qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm"}  # fmt: skip
QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 896, "intermediate_size": 4864,
        "num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 24}  # fmt: skip
INTERN = {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"], "vocab_size": 92553, "bias": False,
          "num_key_value_heads": 8}  # fmt: skip


def chat(vision, text):
    return {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "vision_config": vision,
            "llm_config": text}  # fmt: skip


# configs by the repositories' own files -> elements in the headers of the published files, as llmfit 1.1.17 lists them
SEEING = {
    "OpenGVLab/InternVL2-1B": (chat(VIT, {**QWEN, "vocab_size": 151655, "tie_word_embeddings": False}), 938_158_976),
    "OpenGVLab/InternVL3-1B": (chat(VIT, {**QWEN, "vocab_size": 151674, "tie_word_embeddings": False}), 938_193_024),
    "OpenGVLab/InternVL2-2B": (chat(VIT, {**INTERN, "hidden_size": 2048, "intermediate_size": 8192,
                                         "num_attention_heads": 16, "num_hidden_layers": 24}), 2_205_754_368),
    "OpenGVLab/InternVL2-26B": (chat(VIT_6B, {**INTERN, "hidden_size": 6144, "intermediate_size": 16384,
                                             "num_attention_heads": 48, "num_hidden_layers": 48}), 25_514_186_112),
    "rednote-hilab/dots.ocr": ({
        "model_type": "dots_ocr", "architectures": ["DotsOCRForCausalLM"], "hidden_size": 1536,
        "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2, "num_hidden_layers": 28,
        "vocab_size": 151936, "tie_word_embeddings": False, "vision_config": {
            "embed_dim": 1536, "hidden_size": 1536, "intermediate_size": 4224, "num_hidden_layers": 42,
            "num_attention_heads": 12, "post_norm": True, "spatial_merge_size": 2, "use_bias": False}}, 3_039_179_264),
    "deepseek-ai/DeepSeek-OCR": ({
        "model_type": "deepseek_vl_v2", "architectures": ["DeepseekOCRForCausalLM"], "hidden_size": 1280,
        "intermediate_size": 6848, "moe_intermediate_size": 896, "n_routed_experts": 64, "n_shared_experts": 2,
        "num_attention_heads": 10, "num_key_value_heads": 10, "num_experts_per_tok": 6, "num_hidden_layers": 12,
        "first_k_dense_replace": 1, "kv_lora_rank": None, "q_lora_rank": None, "use_mla": False, "vocab_size": 129280,
        "vision_config": {"image_size": 1024, "model_name": "deeplip_b_l", "model_type": "vision"}}, 3_336_106_240),
    "microsoft/Phi-3.5-vision-instruct": ({
        "model_type": "phi3_v", "architectures": ["Phi3VForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192,
        "num_attention_heads": 32, "num_key_value_heads": 32, "num_hidden_layers": 32, "vocab_size": 32064,
        "tie_word_embeddings": False, "img_processor": {
            "image_dim_out": 1024, "model_name": "openai/clip-vit-large-patch14-336", "name": "clip_vision_model",
            "num_img_tokens": 144}}, 4_146_621_440),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEING)
def test_models_that_see(name):
    config, elements = SEEING[name]
    made = Model(name, "file", Config(config))
    assert sum(w.total for w in made.architecture.weights()) == elements
    text = Model(name, "file", Config(config), part="text").architecture
    towers = sum(w.total for t in made.architecture.towers for w in t.weights())
    assert sum(w.total for w in text.weights()) == elements - towers
    adapter = {"method": "lora", "targets": "q_proj,wqkv,qkv_proj"}
    step = api.memory(made, mode="training", recipe="torch-bf16", seq_len=256, **adapter)
    assert step.results()["peak.allocated_bytes"] > 2 * elements
    assert api.infer(made, gpu="h100-sxm", dtype="bf16").results()["decode_step_seconds"] > 0
    assert api.flops(made, mode="forward", seq_len=64).results()["total_flops"] > 0


TTS = {
    "model_type": "qwen3_tts", "architectures": ["Qwen3TTSForConditionalGeneration"], "tts_model_type": "custom_voice",
    "talker_config": {
        "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "num_code_groups": 16, "text_hidden_size": 2048,
        "text_vocab_size": 151936, "vocab_size": 3072, "code_predictor_config": {"num_code_groups": 16},
    },
}  # fmt: skip
SMALL = {**TTS, "talker_config": {**TTS["talker_config"], "hidden_size": 1024, "intermediate_size": 3072}}


OCR = {**SEEING["deepseek-ai/DeepSeek-OCR"][0], "model_type": "unlimited-ocr", "sliding_window_size": 128}


@pytest.mark.parametrize(
    ("config", "elements"),
    [(TTS, 1_916_676_352), (SMALL, 905_788_672), ({**SMALL, "tts_model_type": "base"}, 914_643_008),
     (OCR, 3_336_106_240)],
)  # fmt: skip
def test_weights_alone(config, elements):
    """Qwen3-TTS's 1.7B and 0.6B custom voices, and the 0.6B base, which hears a speaker; baidu/Unlimited-OCR."""
    made = Model("alone", "file", Config(config))
    assert sum(w.total for w in made.architecture.weights()) == elements
    assert api.memory(made, mode="inference").results()["weights_bytes"] == 2 * elements
    assert api.peft(made, method="lora", rank=8, targets="q_proj,v_proj").results()["trainable_params"] > 0
    assert api.zero(made, gpus=4).results()["stage3.memory_bytes"] == 4 * elements
    with pytest.raises(InputError, match="only the weights are known"):
        api.kvcache(made)


def test_deepseek_vl_2_is_no_deepseek_ocr():
    config = {**SEEING["deepseek-ai/DeepSeek-OCR"][0], "vision_config": {"model_name": "siglip_large_patch16_384"}}
    with pytest.raises(InputError, match="vision_config: model_name must be 'deeplip_b_l'"):
        build(Config(config))
