"""Model families: one file each, found by a config's ``model_type``.

``FAMILIES`` maps every known model_type to the module whose ``build(config)`` returns its Architecture. One file may
serve several types whose classes differ only in defaults.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

from estimator.config import Config
from estimator.errors import InputError, unknown
from estimator.families.base import LANGUAGE_MODELS, Architecture
from estimator.families.common import shared_kv_layers

ROPE_TABLES = {"llama3": 1, "longrope": 2, "su": 2}  # rope_type -> tables of factors that come with a model
FAMILIES: dict[str, str] = {
    "symbolic": "symbolic",
    "afmoe": "afmoe",
    "albert": "albert",
    "apertus": "apertus",
    "arcee": "arcee",
    "aya_vision": "aya_vision",
    "baichuan": "baichuan",
    "bamba": "bamba",
    "bart": "bart",
    "bert": "bert",
    "biogpt": "biogpt",
    "bitnet": "bitnet",
    "bloom": "bloom",
    "camembert": "roberta",
    "chatglm": "chatglm",
    "clip": "clip",
    "clip_text_model": "clip",
    "clip_vision_model": "clip",
    "codegen": "codegen",
    "cohere": "cohere",
    "cohere2": "cohere",
    "cohere2_moe": "cohere2_moe",
    "cohere2_vision": "aya_vision",
    "cwm": "cwm",
    "dbrx": "dbrx",
    "deberta-v2": "deberta_v2",
    "deepseek_v2": "deepseek_v2",
    "deepseek_v3": "deepseek_v3",
    "deepseek_v32": "deepseek_v3",
    "deepseek_v4": "deepseek_v4",
    "deepseek_vl": "deepseek_vl",
    "deepseek_vl_v2": "deepseek_ocr",
    "diffllama": "diffllama",
    "dinov2": "dinov2",
    "distilbert": "distilbert",
    "doge": "doge",
    "dots1": "sigmoid_moe",
    "dots_ocr": "dots_ocr",
    "electra": "electra",
    "ernie4_5": "ernie4_5",
    "ernie4_5_moe": "ernie4_5",
    "ernie4_5_vl_moe": "ernie4_5_vl_moe",
    "ernie4_5_vl_moe_text": "ernie4_5_vl_moe",
    "ernie4_5_vl_moe_vision": "ernie4_5_vl_moe",
    "eurobert": "eurobert",
    "exaone": "llama",
    "exaone4": "exaone4",
    "exaone_moe": "sigmoid_moe",
    "falcon": "falcon",
    "falcon_h1": "bamba",
    "falcon_mamba": "falcon_mamba",
    "flex_olmo": "olmo",
    "florence2": "florence2",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma3": "gemma3",
    "gemma3_text": "gemma",
    "gemma3n": "gemma3n_towers",
    "gemma3n_text": "gemma4",
    "gemma4": "gemma4_towers",
    "gemma4_text": "gemma4",
    "gemma4_unified": "gemma4_unified",
    "gemma4_unified_text": "gemma4_unified",
    "gemma4_vision": "gemma4_towers",
    "glm": "glm",
    "glm4": "glm",
    "glm4_moe": "glm4_moe",
    "glm4_moe_lite": "deepseek_v3",
    "glm4v": "glm4v",
    "glm4v_moe": "glm4v",
    "glm4v_moe_text": "glm4v",
    "glm4v_moe_vision": "glm4v",
    "glm4v_text": "glm4v",
    "glm4v_vision": "glm4v",
    "glm5_next": "glm5_next",
    "glm5_next_text": "glm5_next",
    "glm5_next_vision": "glm5_next",
    "glm_moe_dsa": "deepseek_v3",
    "glm_ocr": "glm_ocr",
    "glm_ocr_text": "glm_ocr",
    "glm_ocr_vision": "glm_ocr",
    "gpt2": "gpt2",
    "gpt_bigcode": "gpt_bigcode",
    "gpt_neo": "gpt_neo",
    "gpt_neox": "gpt_neox",
    "gpt_oss": "gpt_oss",
    "gptj": "gptj",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "granitemoehybrid": "bamba",
    "granitemoeshared": "granitemoe",
    "gte": "nomic_bert",
    "helium": "helium",
    "hubert": "wav2vec2",
    "hunyuan_v1_dense": "hunyuan",
    "hunyuan_v1_moe": "hunyuan",
    "hy_v3": "sigmoid_moe",
    "idefics3": "idefics3",
    "idefics3_vision": "siglip",
    "internlm": "llama",
    "internlm2": "internlm2",
    "internlm3": "llama",
    "internvl": "internvl",
    "internvl_chat": "internvl_chat",
    "internvl_vision": "internvl",
    "jais2": "jais2",
    "jamba": "jamba",
    "jetmoe": "jetmoe",
    "kimi_k2": "deepseek_v3",
    "kimi_k25": "kimi_k25",
    "kimi_k25_vision": "kimi_k25",
    "kimi_linear": "kimi_linear",
    "laguna": "laguna",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2",
    "lfm2_vl": "lfm2_vl",
    "llama": "llama",
    "llama4": "llama4_towers",
    "llama4_text": "llama4",
    "llama4_vision_model": "llama4_towers",
    "llava": "llava",
    "llava_next": "llava",
    "llava_next_video": "llava",
    "llava_onevision": "llava",
    "longcat_flash": "longcat_flash",
    "m2m_100": "bart",
    "mamba": "mamba",
    "mamba2": "mamba2",
    "marian": "bart",
    "mbart": "bart",
    "mimo_v2_flash": "mimo_v2_flash",
    "minicpm": "minicpm",
    "minicpm3": "minicpm",
    "minimax": "minimax",
    "minimax_m2": "sigmoid_moe",
    "minimax_m3_vl": "minimax_m3_vl",
    "minimax_m3_vl_text": "minimax_m3_vl",
    "minimax_m3_vl_vision": "minimax_m3_vl",
    "ministral": "ministral",
    "ministral3": "ministral",
    "mistral": "mistral",
    "mistral3": "mistral3",
    "mistral4": "deepseek_v3",
    "mixtral": "mixtral",
    "modernbert": "modernbert",
    "mpnet": "mpnet",
    "mpt": "mpt",
    "mt5": "t5",
    "nemotron": "nemotron",
    "nemotron_h": "nemotron_h",
    "new": "gte_new",
    "nomic_bert": "nomic_bert",
    "olmo": "olmo",
    "olmo2": "olmo",
    "olmo3": "olmo",
    "olmoe": "olmoe",
    "openelm": "openelm",
    "opt": "opt",
    "paligemma": "paligemma",
    "pegasus": "bart",
    "persimmon": "persimmon",
    "phi": "phi",
    "phi3": "phi3",
    "phi3_v": "phi3_v",
    "phi4_multimodal": "phi4_multimodal",
    "phi4_multimodal_vision": "siglip",
    "phimoe": "phimoe",
    "pixtral": "pixtral",
    "qwen": "qwen",
    "qwen2": "qwen2",
    "qwen2_5_vl": "qwen_vl",
    "qwen2_5_vl_text": "qwen_vl",
    "qwen2_5_vl_vision": "qwen_vision",
    "qwen2_moe": "qwen2_moe",
    "qwen2_vl": "qwen_vl",
    "qwen2_vl_text": "qwen_vl",
    "qwen2_vl_vision": "qwen_vision",
    "qwen3": "qwen2",
    "qwen3_5": "qwen_vl",
    "qwen3_5_moe": "qwen_vl",
    "qwen3_5_moe_text": "qwen3_5",
    "qwen3_5_moe_vision": "qwen_vision",
    "qwen3_5_text": "qwen3_5",
    "qwen3_5_vision": "qwen_vision",
    "qwen3_moe": "qwen3_moe",
    "qwen3_next": "qwen3_next",
    "qwen3_tts": "qwen3_tts",
    "qwen3_vl": "qwen_vl",
    "qwen3_vl_moe": "qwen_vl",
    "qwen3_vl_moe_text": "qwen_vl",
    "qwen3_vl_moe_vision": "qwen_vision",
    "qwen3_vl_text": "qwen_vl",
    "qwen3_vl_vision": "qwen_vision",
    "recurrent_gemma": "recurrent_gemma",
    "roberta": "roberta",
    "rwkv": "rwkv",
    "rwkv6": "rwkv6",
    "rwkv6qwen2": "rwkv6",
    "rwkv7": "rwkv7",
    "rwkv7_fla": "rwkv7",
    "rwkv_hybrid": "rwkv7",
    "seed_oss": "seed_oss",
    "siglip": "siglip",
    "siglip2": "siglip",
    "siglip2_text_model": "siglip",
    "siglip2_vision_model": "siglip",
    "siglip_text_model": "siglip",
    "siglip_vision_model": "siglip",
    "smollm3": "llama",
    "smolvlm": "idefics3",
    "smolvlm_vision": "siglip",
    "solar_open": "sigmoid_moe",
    "stablelm": "stablelm",
    "starcoder2": "starcoder2",
    "step3p5": "step3p7",
    "step3p5_vision": "step3p7",
    "step3p7": "step3p7",
    "t5": "t5",
    "umt5": "t5",
    "unlimited-ocr": "unlimited_ocr",
    "vaultgemma": "vaultgemma",
    "vipllava": "llava",
    "vit": "vit",
    "wav2vec2": "wav2vec2",
    "wavlm": "wav2vec2",
    "whisper": "whisper",
    "xglm": "biogpt",
    "xlm-roberta": "roberta",
    "zamba2": "zamba2",
}
MAX_TOWER = 1_000  # layers of a tower, each of which stands by itself where it is sharded; no model comes near


def build(config: Config) -> Architecture:
    """The architecture of a config; InputError where its model_type has no family."""
    model_type = config.text("model_type", "")
    if not model_type:
        raise InputError(f"{config.where}: has no model_type, so it is no model's config.json")
    if model_type not in FAMILIES:
        from estimator.families import recorded

        if described(model_type):
            return recorded.build(config)
        text = config.raw.get("text_config")
        inner = text.get("model_type") if isinstance(text, dict) else None
        wraps = isinstance(inner, str) and inner in FAMILIES
        why = recorded.left_out(model_type)
        if why:
            raise InputError(f"{config.where}: a {model_type} is not counted: {why}. {recorded.WAY_OUT}")
        hint = f"Its text_config alone is a {inner}." if wraps else "To add one: llmcalc docs extending"
        slips = [t for t in FAMILIES if _letters(t) == _letters(model_type)]
        raise unknown(f"{config.where}: model_type", model_type, slips, hint, every=False)
    module: Any = import_module(f"estimator.families.{FAMILIES[model_type]}")
    made: Architecture = module.build(config)
    named = config.items("architectures")
    if named and not str(named[0]).endswith(LANGUAGE_MODELS):
        from estimator.families.classes import as_named

        made = as_named(config, made)
    if made.max_positions == 0:
        made = made._replace(max_positions=None)
        config.notes.append("no positions are stated (0): the context is not limited")
    for tower in made.towers:
        deepest = max((w.times for w in tower.weights()), default=0)
        if deepest > MAX_TOWER:
            raise InputError(f"{config.where}: {deepest:,} layers of the {tower.kind} tower are out of range (at most "
                             f"{MAX_TOWER:,})")  # fmt: skip
    tables = rope_tables(config)
    if tables:
        made = made._replace(facts={**made.facts, "rope_tables": tables})
    shared = shared_kv_layers(config, made.num_layers)
    if shared and not any(a.reuses for a in made.attentions):  # a family that reuses them says so itself
        made = made._replace(facts={**made.facts, "kv_shared_layers": shared})
        config.notes.append(f"num_kv_shared_layers: the last {shared} layers keep no keys and values of their own")
    return made


def rope_tables(config: Config) -> int:
    """Tables of factors that a scaled rotary embedding needs: Llama 3's one, LongRoPE's two (long and short)."""
    for name in ("rope_parameters", "rope_scaling"):
        scaling = config.raw.get(name)
        if isinstance(scaling, dict):
            return ROPE_TABLES.get(str(scaling.get("rope_type", scaling.get("type"))), 0)
    return 0


def _letters(name: str) -> list[str]:
    """What a slip of the keyboard leaves: order, doubled letters and separators may differ, a version may not."""
    plain = [c for c in name.lower() if c.isalnum()]
    return sorted(c for i, c in enumerate(plain) if i == 0 or c != plain[i - 1] or c.isdigit())


def described(model_type: str) -> bool:
    """Whether a model_type has a family, or a recorded inventory of its weights."""
    if model_type in FAMILIES:
        return True
    from estimator.families import recorded

    return model_type in recorded.known()


@lru_cache(maxsize=1)
def known() -> tuple[str, ...]:
    """Every model_type with a family, sorted."""
    return tuple(sorted(FAMILIES))
