"""The letters that derivations print, in display order, and the fields they stand for.

The only bridge between Hugging Face's words (``hidden_size``), paper letters (``d``) and LaTeX. The position in
``SYMBOLS`` is the order in which factors of a product are printed: layers first, then batch, tokens, widths.
"""

from __future__ import annotations

from estimator.records import NamedTuple


class Symbol(NamedTuple):
    """A letter: ``name`` is its ASCII spelling, ``field`` the config field or option it stands for."""

    name: str
    latex: str
    field: str
    meaning: str


SYMBOLS: tuple[Symbol, ...] = (
    Symbol("L", "L", "num_hidden_layers", "layers"),
    Symbol("L_enc", "L_{enc}", "encoder_layers", "encoder layers"),
    Symbol("L_dec", "L_{dec}", "decoder_layers", "decoder layers"),
    Symbol("L_moe", "L_{moe}", "moe_layers", "layers with experts"),
    Symbol("L_dense", "L_{dense}", "dense_layers", "layers without experts"),
    Symbol("L_full", "L_{full}", "full_attention_layers", "layers with full attention"),
    Symbol("L_win", "L_{win}", "sliding_attention_layers", "layers with sliding-window attention"),
    Symbol("L_ssm", "L_{ssm}", "state_space_layers", "state-space layers"),
    Symbol("L_full_moe", "L_{full,moe}", "full_attention_moe_layers", "layers with full attention and experts"),
    Symbol(
        "L_full_dense",
        "L_{full,dense}",
        "full_attention_dense_layers",
        "layers with full attention and a dense MLP",
    ),
    Symbol("L_win_moe", "L_{win,moe}", "sliding_attention_moe_layers", "layers with a window and experts"),
    Symbol(
        "L_win_dense",
        "L_{win,dense}",
        "sliding_attention_dense_layers",
        "layers with a window and a dense MLP",
    ),
    Symbol("L_ssm_moe", "L_{ssm,moe}", "state_space_moe_layers", "state-space layers with experts"),
    Symbol("L_ssm_dense", "L_{ssm,dense}", "state_space_dense_layers", "state-space layers with a dense MLP"),
    Symbol("L_top", "L_{top}", "trainable_layers", "trained layers, from the top"),
    Symbol("b", "b", "batch_size", "sequences a GPU and step"),
    Symbol("s", "s", "seq_len", "tokens a sequence"),
    Symbol("s_enc", "s_{enc}", "encoder_len", "encoder tokens a sequence"),
    Symbol("s_kv", "s_{kv}", "context", "tokens in the cache"),
    Symbol("s_new", "s_{new}", "new_tokens", "generated tokens a sequence"),
    Symbol("E", "E", "num_experts", "routed experts a layer"),
    Symbol("k", "k", "num_experts_per_tok", "routed experts a token"),
    Symbol("E_sh", "E_{sh}", "n_shared_experts", "shared experts a layer"),
    Symbol("h", "h", "num_attention_heads", "attention heads"),
    Symbol("h_kv", "h_{kv}", "num_key_value_heads", "key and value heads"),
    Symbol("d_h", "d_h", "head_dim", "width of a head"),
    Symbol("d_nope", "d_{nope}", "qk_nope_head_dim", "width of a head's part without rotary embedding (MLA)"),
    Symbol("d_rope", "d_{rope}", "qk_rope_head_dim", "width of a head's rotary part (MLA)"),
    Symbol("d_v", "d_v", "v_head_dim", "width of a value head (MLA)"),
    Symbol("r_q", "r_q", "q_lora_rank", "rank of the compressed queries (MLA)"),
    Symbol("r_kv", "r_{kv}", "kv_lora_rank", "rank of the compressed keys and values (MLA)"),
    Symbol("d", "d", "hidden_size", "model width"),
    Symbol("d_emb", "d_{emb}", "embedding_size", "width of the embeddings"),
    Symbol("d_ff", "d_{ff}", "intermediate_size", "width of the MLP"),
    Symbol("d_moe", "d_{moe}", "moe_intermediate_size", "width of an expert"),
    Symbol("d_sh", "d_{sh}", "shared_expert_intermediate_size", "width of the shared expert"),
    Symbol("d_in", "d_{in}", "ssm_intermediate_size", "inner width of a state-space layer"),
    Symbol("d_state", "d_{state}", "state_size", "state size of a state-space layer"),
    Symbol("V", "V", "vocab_size", "vocabulary"),
    Symbol("P_pos", "P_{pos}", "max_position_embeddings", "learned positions"),
    Symbol("W", "W", "sliding_window", "tokens in the attention window"),
    Symbol("r", "r", "rank", "rank of the adapter"),
    Symbol("p", "p", "num_virtual_tokens", "virtual tokens"),
    Symbol("P", "P", "params", "parameters"),
    Symbol("N", "N", "gpus", "data-parallel GPUs"),
    Symbol("p_tp", "p_{tp}", "tensor_parallel", "tensor-parallel degree"),
    Symbol("p_pp", "p_{pp}", "pipeline_parallel", "pipeline-parallel degree"),
    Symbol("p_ep", "p_{ep}", "expert_parallel", "expert-parallel degree"),
    Symbol("p_cp", "p_{cp}", "context_parallel", "context-parallel degree"),
    Symbol("t_pre", "t_{pre}", "prefill_seconds", "seconds of the prefill"),
    Symbol("t_dec", "t_{dec}", "decode_step_seconds", "seconds of a decode step"),
)
BY_FIELD = {s.field: s for s in SYMBOLS}
BY_NAME = {s.name: s for s in SYMBOLS}
RANK = {s.name: i for i, s in enumerate(SYMBOLS)}
