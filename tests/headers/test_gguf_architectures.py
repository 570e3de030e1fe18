"""The keys of each GGUF architecture give the architecture that its class's config gives."""

from __future__ import annotations

import contextlib
import json
from math import prod

import pytest

from estimator import api
from estimator.config import Config
from estimator.errors import LlmcalcError
from estimator.families import build
from estimator.headers import FileTensor, Header
from estimator.headers.gguf_architectures import READERS
from estimator.headers.gguf_config import to_config
from estimator.headers.gguf_newer import NEWER
from tests.headers.make import gguf as write

HEADS = {"embedding_length": 64, "block_count": 4, "attention.head_count": 4, "context_length": 512}
GQA = HEADS | {"attention.head_count_kv": 2, "feed_forward_length": 96}
CONFIG = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 100}
WIDE = CONFIG | {"num_key_value_heads": 2, "intermediate_size": 96}
EXPERTS = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 24}
MLA = {"attention.kv_lora_rank": 16, "attention.q_lora_rank": 24, "rope.dimension_count": 8,
       "attention.key_length_mla": 24, "attention.value_length_mla": 16, "attention.head_count_kv": 1,
       "attention.key_length": 24, "leading_dense_block_count": 1, "expert_shared_count": 2}  # fmt: skip
RWKV = {"embedding_length": 64, "block_count": 4, "feed_forward_length": 96, "wkv.head_size": 16}
RANKS = {"attention.decay_lora_rank": 8, "attention.iclr_lora_rank": 12, "attention.value_residual_mix_lora_rank": 4}

# architecture -> (metadata, tensors beside the token table, config of the same model)
CASES = {
    "llama": (GQA, {}, WIDE | {"model_type": "llama", "tie_word_embeddings": True}),
    "llama moe": (GQA | EXPERTS, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 24}),
    "qwen3moe": (GQA | EXPERTS | {"attention.key_length": 16}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "head_dim": 16}),
    "deepseek2": (HEADS | EXPERTS | MLA | {"feed_forward_length": 96, "expert_gating_func": 2}, {
        "output.weight": (100, 64), "blk.1.exp_probs_b.bias": (8,)}, CONFIG | {
        "model_type": "deepseek_v3", "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "intermediate_size": 96, "kv_lora_rank": 16, "q_lora_rank": 24,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "first_k_dense_replace": 1,
        "n_shared_experts": 2, "tie_word_embeddings": False}),
    "glm4moe": (GQA | EXPERTS | {"block_count": 5, "nextn_predict_layers": 1, "leading_dense_block_count": 1,
                                 "expert_shared_count": 1}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "glm4_moe", "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "first_k_dense_replace": 1, "n_shared_experts": 1}),
    "qwen3next": (GQA | EXPERTS | {
        "ssm.conv_kernel": 4, "ssm.state_size": 8, "ssm.group_count": 2, "ssm.time_step_rank": 4, "ssm.inner_size": 64,
        "expert_shared_feed_forward_length": 24, "attention.key_length": 32}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "qwen3_next", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 16, "head_dim": 32}),
    "qwen35": (GQA | {
        "ssm.conv_kernel": 4, "ssm.state_size": 8, "ssm.group_count": 2, "ssm.time_step_rank": 4, "ssm.inner_size": 64,
        "attention.key_length": 32}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "qwen3_5_text", "linear_conv_kernel_dim": 4, "linear_key_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 16, "head_dim": 32}),
    "nemotron_h": (HEADS | {
        "attention.head_count_kv": [0, 0, 2, 0], "feed_forward_length": [0, 96, 0, 0], "attention.key_length": 16,
        "ssm.conv_kernel": 4, "ssm.state_size": 8, "ssm.group_count": 2, "ssm.time_step_rank": 4,
        "ssm.inner_size": 64}, {"output.weight": (100, 64)}, CONFIG | {
        "model_type": "nemotron_h", "num_key_value_heads": 2, "intermediate_size": 96, "head_dim": 16,
        "hybrid_override_pattern": "M-*M", "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2,
        "ssm_state_size": 8, "conv_kernel": 4}),
    "qwen3vl": (GQA | {"attention.key_length": 16}, {}, WIDE | {
        "model_type": "qwen3_vl_text", "head_dim": 16, "tie_word_embeddings": True}),
    "falcon": (HEADS | {"attention.head_count_kv": 1, "feed_forward_length": 256}, {}, CONFIG | {
        "model_type": "falcon", "multi_query": True, "new_decoder_architecture": False}),
    "falcon 40b": (HEADS | {"attention.head_count_kv": 2, "feed_forward_length": 256}, {
        "blk.0.attn_norm_2.weight": (64,)}, CONFIG | {
        "model_type": "falcon", "num_kv_heads": 2, "new_decoder_architecture": True}),
    "internlm2": (GQA, {"output.weight": (100, 64)}, WIDE | {"model_type": "llama"}),
    "minicpm": (GQA, {}, WIDE | {"model_type": "granite", "tie_word_embeddings": True}),
    "baichuan": (GQA | {"embedding_length": 4096, "attention.head_count": 32}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32}),
    "chatglm": (GQA | {"rope.dimension_count": 8}, {"output.weight": (100, 64), "blk.0.attn_qkv.bias": (128,)}, WIDE | {
        "model_type": "glm", "attention_bias": True, "head_dim": 16, "tie_word_embeddings": False}),
    "bloom": (HEADS | {"feed_forward_length": 256}, {"output.weight": (100, 64)}, CONFIG | {
        "model_type": "bloom", "tie_word_embeddings": False}),
    "mpt": (HEADS | {"feed_forward_length": 256}, {}, {
        "model_type": "mpt", "d_model": 64, "n_heads": 4, "n_layers": 4, "vocab_size": 100}),
    "gptj": (HEADS | {"feed_forward_length": 256, "rope.dimension_count": 8}, {"output.weight": (100, 64)}, {
        "model_type": "gptj", "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 100, "rotary_dim": 8,
        "tie_word_embeddings": False}),
    "starcoder": (HEADS | {"attention.head_count_kv": 1, "feed_forward_length": 256}, {
        "position_embd.weight": (512, 64)}, {"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 4, "n_head": 4,
                                             "vocab_size": 100, "n_positions": 512}),
    "glm4": (GQA | {"rope.dimension_count": 8, "attention.key_length": 16}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "glm4", "head_dim": 16, "tie_word_embeddings": False}),
    "exaone4": (GQA, {}, WIDE | {"model_type": "exaone4", "tie_word_embeddings": True,
                                        "sliding_window": None}),
    "seed_oss": (GQA | {"attention.key_length": 16}, {"blk.0.attn_q.bias": (64,), "output.weight": (100, 64)}, WIDE | {
        "model_type": "seed_oss", "head_dim": 16, "attention_bias": True, "tie_word_embeddings": False}),
    "apertus": (GQA, {"output.weight": (100, 64)}, WIDE | {"model_type": "apertus", "tie_word_embeddings": False}),
    "arcee": (GQA, {}, WIDE | {"model_type": "arcee", "tie_word_embeddings": True}),
    "ernie4_5": (GQA, {}, WIDE | {"model_type": "ernie4_5", "tie_word_embeddings": True}),
    "hunyuan-dense": (GQA | {"attention.key_length": 16}, {}, WIDE | {
        "model_type": "hunyuan_v1_dense", "head_dim": 16, "tie_word_embeddings": True}),
    "nemotron": (GQA | {"rope.dimension_count": 8}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "nemotron", "tie_word_embeddings": False}),
    "jamba": (GQA | {"attention.head_count_kv": [0, 0, 2, 0], "ssm.conv_kernel": 4, "ssm.state_size": 8,
                     "ssm.time_step_rank": 4, "ssm.inner_size": 128, "expert_count": 4, "expert_used_count": 2}, {
        "blk.2.attn_q.weight": (64, 64), "blk.1.ffn_gate_inp.weight": (4, 64), "blk.3.ffn_gate_inp.weight": (4, 64),
        "output.weight": (100, 64)}, WIDE | {
        "model_type": "jamba", "attn_layer_offset": 2, "attn_layer_period": 4, "expert_layer_offset": 1,
        "expert_layer_period": 2, "num_experts": 4, "num_experts_per_tok": 2, "mamba_d_conv": 4, "mamba_d_state": 8,
        "mamba_dt_rank": 4, "mamba_expand": 2, "tie_word_embeddings": False}),
    "mamba": ({"embedding_length": 64, "block_count": 4, "ssm.inner_size": 128, "ssm.state_size": 8,
               "ssm.conv_kernel": 4, "ssm.time_step_rank": 4}, {}, {
        "model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100, "state_size": 8,
        "intermediate_size": 128, "time_step_rank": 4, "expand": 2}),
    "mamba2": ({"embedding_length": 64, "block_count": 4, "ssm.inner_size": 128, "ssm.state_size": 16,
                "ssm.conv_kernel": 4, "ssm.time_step_rank": 8, "ssm.group_count": 1}, {}, {
        "model_type": "mamba2", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100, "state_size": 16,
        "n_groups": 1, "num_heads": 8, "head_dim": 16, "expand": 2, "tie_word_embeddings": True}),
    "phi2": (HEADS | {"feed_forward_length": 256, "rope.dimension_count": 8}, {"output.weight": (100, 64)}, CONFIG | {
        "model_type": "phi", "intermediate_size": 256, "partial_rotary_factor": 0.5}),
    "phimoe": (GQA | EXPERTS | {"feed_forward_length": 24}, {"output.weight": (100, 64)}, WIDE | {
        "model_type": "phimoe", "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 24}),
    "bert": (HEADS | {"feed_forward_length": 256}, {
        "position_embd.weight": (512, 64), "token_types.weight": (2, 64)}, CONFIG | {
        "model_type": "bert", "architectures": ["BertModel"], "intermediate_size": 256}),
    "glm-dsa": (HEADS | EXPERTS | MLA | {
        "feed_forward_length": 96, "block_count": 5, "nextn_predict_layers": 1, "attention.indexer.head_count": 2,
        "attention.indexer.key_length": 64, "attention.indexer.top_k": 32}, {
        "output.weight": (100, 64), "blk.0.indexer.attn_k.weight": (64, 64), "blk.2.indexer.attn_k.weight": (64, 64)},
        CONFIG | {
        "model_type": "glm_moe_dsa", "num_key_value_heads": 4, "n_routed_experts": 8, "num_experts_per_tok": 2,
        "moe_intermediate_size": 24, "intermediate_size": 96, "kv_lora_rank": 16, "q_lora_rank": 24,
        "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "first_k_dense_replace": 1,
        "n_shared_experts": 2, "tie_word_embeddings": False, "index_n_heads": 2, "index_head_dim": 64,
        "indexer_types": ["full", "shared", "full", "shared"]}),
    "kimi-linear": (HEADS | EXPERTS | MLA | {
        "feed_forward_length": 96, "attention.head_count_kv": [0, 1, 0, 1], "ssm.conv_kernel": 4, "kda.head_dim": 8,
        "expert_shared_count": 1}, {"output.weight": (100, 64)}, CONFIG | {
        "model_type": "kimi_linear", "num_experts": 8, "num_experts_per_token": 2, "moe_intermediate_size": 24,
        "intermediate_size": 96, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
        "first_k_dense_replace": 1, "linear_attn_config": {
            "full_attn_layers": [2, 4], "kda_layers": [1, 3], "num_heads": 4, "head_dim": 8}}),
    "step35": (GQA | EXPERTS | {
        "block_count": 5, "nextn_predict_layers": 1, "attention.head_count": [4, 6, 6, 4, 6],
        "attention.key_length": 16, "attention.head_count_kv": [2] * 5,
        "attention.sliding_window_pattern": [False, True, True, False, True],
        "attention.sliding_window": 32, "expert_shared_feed_forward_length": 16}, {
        "output.weight": (100, 64), "blk.2.ffn_gate_inp.weight": (8, 64), "blk.3.ffn_gate_inp.weight": (8, 64)},
        WIDE | {
        "model_type": "step3p5", "head_dim": 16, "num_sliding_attention_heads": 6, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "moe_intermediate_size": 24, "share_expert_dim": 16, "sliding_window": 32,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "mlp_layer_types": ["dense", "dense", "sparse", "sparse"]}),
    "t5": (HEADS | {"feed_forward_length": 96, "attention.key_length": 16, "attention.relative_buckets_count": 32}, {
        "enc.blk.0.ffn_gate.weight": (96, 64), "dec.blk.0.attn_q.weight": (64, 64), "output.weight": (100, 64)}, {
        "model_type": "t5", "d_model": 64, "num_layers": 4, "num_heads": 4, "d_kv": 16, "d_ff": 96, "vocab_size": 100,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "t5encoder": (HEADS | {"feed_forward_length": 96, "attention.key_length": 16}, {
        "enc.blk.1.attn_rel_b.weight": (32, 4)}, {
        "model_type": "umt5", "d_model": 64, "num_layers": 4, "num_heads": 4, "d_kv": 16, "d_ff": 96, "vocab_size": 100,
        "feed_forward_proj": "relu", "architectures": ["UMT5EncoderModel"]}),
    "rwkv7": (RWKV | RANKS | {"attention.gate_lora_rank": 24}, {"output.weight": (100, 64)}, {
        "model_type": "rwkv7", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100, "head_dim": 16,
        "intermediate_size": 96, "decay_low_rank_dim": 8, "a_low_rank_dim": 12, "v_low_rank_dim": 4,
        "gate_low_rank_dim": 24}),
    "arwkv7": (RWKV | RANKS, {"output.weight": (100, 64), "blk.0.time_mix_ln.weight": (64,)}, {
        "model_type": "rwkv_hybrid", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100, "head_size": 16,
        "intermediate_size": 96, "wkv_has_gate": False, "decay_low_rank_dim": 8, "a_low_rank_dim": 12,
        "v_low_rank_dim": 4}),
    "rwkv6": (RWKV | {"time_mix_extra_dim": 8, "time_decay_extra_dim": 12}, {"output.weight": (100, 64)}, {
        "model_type": "rwkv6", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100, "head_size": 16,
        "intermediate_size": 96, "time_mix_extra_dim": 8, "time_decay_extra_dim": 12}),
    "rwkv6qwen2": (RWKV | {"time_mix_extra_dim": 8, "time_decay_extra_dim": 12, "attention.head_count_kv": 2}, {
        "output.weight": (100, 64), "blk.0.time_mix_key.bias": (32,)}, {
        "model_type": "rwkv6qwen2", "hidden_size": 64, "num_hidden_layers": 4, "vocab_size": 100,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96, "lora_rank_tokenshift": 8,
        "lora_rank_decay": 12}),
}  # fmt: skip


EMPTY = ("token_embd.weight", "position_embd.weight", "blk..attn_q.weight")  # tensors without dimensions


def header(arch, meta, tensors):
    found = {"token_embd.weight": (100, 64), **tensors}
    keys = {"general.architecture": arch} | {f"{arch}.{k}": v for k, v in meta.items()}
    return Header("m.gguf", "gguf", tuple(FileTensor(n, "fp32", s, 1, 4) for n, s in found.items()), keys)


@pytest.mark.parametrize("name", CASES)
def test_the_config_of_a_header(name):
    meta, tensors, expected = CASES[name]
    raw, notes = to_config(header(name.split()[0], meta, tensors))
    assert raw is not None, notes
    got, want = build(Config(raw)), build(Config(expected))
    assert [(w.name, w.shape, w.times) for w in got.weights()] == [(w.name, w.shape, w.times) for w in want.weights()]


@pytest.mark.parametrize("name", ["gptj", "bert", "t5", "llama"])
def test_every_file_of_a_known_architecture_has_an_answer(tmp_path, name):
    """Also where llama.cpp's graph of it is not known: transformers' is taken, without asking for a flag."""
    meta, tensors, _ = CASES[name]
    found = {"token_embd.weight": (100, 64), **tensors}
    pairs = {"general.architecture": name} | {f"{name}.{k}": v for k, v in meta.items()}
    write(tmp_path / "m.gguf", pairs, {k: (0, shape, 4 * prod(shape)) for k, shape in found.items()})
    report = api.memory(str(tmp_path / "m.gguf"), mode="inference", seq_len=16)
    assert report.results()["weights_bytes"] > 0


@pytest.mark.parametrize("arch", [*READERS, *NEWER, "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"])
@pytest.mark.parametrize(
    "meta",
    [{}, HEADS, GQA | EXPERTS | MLA, dict.fromkeys(GQA, "x"), dict.fromkeys(GQA, 0), {k: [[1], [2]] for k in GQA},
     {k: [1, 2] for k in GQA}, dict.fromkeys(GQA, -1), dict.fromkeys(GQA, 2 ** 63), dict.fromkeys(GQA, True)],
)  # fmt: skip
@pytest.mark.parametrize("tensors", [{}, dict.fromkeys(EMPTY, ())])
def test_any_metadata_is_an_answer_or_one_line(arch, meta, tensors):
    raw, notes = to_config(header(arch, meta, tensors))
    assert raw is not None or "only its tensors are counted" in notes[0]
    if raw is not None:
        with contextlib.suppress(LlmcalcError):
            build(Config(raw)).weights()


def test_a_name_without_a_reader_is_said(tmp_path, llmcalc):
    """The message's two ways out are followed."""
    path = tmp_path / "m.gguf"
    pairs = {"general.architecture": "plamo2"} | {f"plamo2.{k}": v for k, v in GQA.items()}
    write(path, pairs, {"token_embd.weight": (0, (100, 64), 4 * 100 * 64)})
    ran = llmcalc(f"peft --method full --model {path}")
    assert ran.code == 2
    assert "put the model's config.json beside it (llmcalc models FILE counts the tensors)" in ran.err
    assert "6,400" in llmcalc(f"models {path}").out
    (tmp_path / "config.json").write_text(json.dumps(WIDE | {"model_type": "llama"}))
    assert llmcalc(f"peft --method full --model {tmp_path}").code == 0
