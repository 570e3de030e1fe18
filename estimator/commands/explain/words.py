"""Words of papers that name no entry of a registry: what each means, where it is asked for, source."""

from __future__ import annotations

from estimator.records import NamedTuple


class PaperWord(NamedTuple):
    """A word in full, what it means here, its source."""

    title: str
    meaning: str
    source: str


_ZERO = "Rajbhandari et al. 2019, ZeRO, arXiv 1910.02054, section 5"
_PALM = "Chowdhery et al. 2022, PaLM, arXiv 2204.02311, appendix B"

WORDS: dict[str, PaperWord] = {
    "mfu": PaperWord(
        "model FLOPs utilisation",
        "FLOPs that the model itself needs (6 a parameter and token, and attention), over the seconds times the peak "
        "of the cards: recomputed layers do not count. llmcalc train prints it; chinchilla --mfu takes it",
        _PALM,
    ),
    "hfu": PaperWord("hardware FLOPs utilisation", "as mfu, with what is computed twice under checkpointing", _PALM),
    "mha": PaperWord("multi-head attention", "every query head has keys and values of its own: h_kv = h",
                "Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2"),
    "mqa": PaperWord("multi-query attention", "all query heads share one head of keys and values: h_kv = 1",
                "Shazeer 2019, arXiv 1911.02150"),
    "gqa": PaperWord(
        "grouped-query attention",
        "h / h_kv query heads share a head of keys and values: the cache is h_kv / h of multi-head attention's. "
        "Config field num_key_value_heads; llmcalc explain kv_cache_bytes",
        "Ainslie et al. 2023, arXiv 2305.13245",
    ),
    "mla": PaperWord(
        "multi-head latent attention",
        "keys and values are made of one cached latent a token: kv_lora_rank + qk_rope_head_dim numbers a layer; "
        "llmcalc explain mla_cache_bytes",
        "DeepSeek-AI 2024, DeepSeek-V2, arXiv 2405.04434, section 2.1",
    ),
    "moe": PaperWord("mixture of experts",
                     "a router sends each token to k of E MLPs: all lie in memory, k are computed",
                "Shazeer et al. 2017, arXiv 1701.06538"),
    "zero-1": PaperWord("ZeRO, stage 1",
                        "each GPU keeps its share of the optimizer's states: --stage 1 --gpus N", _ZERO),
    "zero-2": PaperWord("ZeRO, stage 2", "stage 1, and of the gradients: --stage 2 --gpus N", _ZERO),
    "zero-3": PaperWord("ZeRO, stage 3",
                        "stage 2, and of the weights, gathered layer by layer: --stage 3 --gpus N", _ZERO),
    "fsdp": PaperWord("fully sharded data parallel",
                      "PyTorch's ZeRO: --stage 3 --gpus N (--stage 2 keeps gathered weights)",
                 "Zhao et al. 2023, arXiv 2304.11277"),
    "ttft": PaperWord("time to the first token", "from a request to its first token: llmcalc infer; plan serve --ttft",
                 "Agrawal et al. 2024, Sarathi-Serve, arXiv 2403.02310, section 2"),
    "itl": PaperWord("inter-token latency", "seconds between tokens (TBT, TPOT): llmcalc infer; plan serve --itl",
                "Agrawal et al. 2024, Sarathi-Serve, arXiv 2403.02310, section 2"),
}  # fmt: skip
SAME = {"zero1": "zero-1", "zero2": "zero-2", "zero3": "zero-3", "tpot": "itl", "tbt": "itl"}
