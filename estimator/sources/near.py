"""What a name of no preset may have meant: a likely typing error of one, or a variant whose base is one.

The numbers of a model's name tell models apart, so names that differ in them are no typing errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from estimator import presets

LIKELY = 0.8  # difflib's ratio of two names: one letter of ten forgotten, doubled or exchanged
WORD = 0.6  # of two words: "gtp" is 0.67 of "gpt"
PUBLISHER = re.compile(r"^meta-(?=llama)")
MIX = re.compile(r"[-_.:](?:i1-|ud-)?(i?q\d\w*|mxfp4\w*|f16|f32)$")  # at the end of a file's name or behind a colon
# ends of a repository's name that say what was trained or how the same weights are stored, not what the model is
VARIANT = re.compile(
    r"[-_.](instruct|it|chat|base|hf|pt|awq|gptq|bnb|unsloth|fp8|nvfp4|fp4|dynamic|int[48]|w4a16|[48]-?bit|gguf|mlx|bf16|"
    r"autoround|(?:thinking-)?(?:2[3-9](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])[0-3]\d))$",
)
# of a variant's name -> the option that says how its weights are stored. bnb-4bit is Unsloth's, whose config.json says
# bnb_4bit_use_double_quant
STORED = {
    "gptq-int4": "gptq", "gptq-int8": "gptq-8bit", "gptq-4bit": "gptq", "gptq-8bit": "gptq-8bit", "gptq": "gptq",
    "awq-int4": "awq", "awq-4bit": "awq", "awq": "awq", "unsloth-bnb-4bit": "nf4-dq", "bnb-4bit": "nf4-dq",
    "bnb-8bit": "int8", "fp8-dynamic": "fp8", "fp8": "fp8", "nvfp4": "nvfp4", "fp4": "nvfp4", "w4a16": "int4",
    "int4": "int4", "4bit": "int4", "int8": "int8", "8bit": "int8",
}  # fmt: skip
_STORED = re.compile(rf"[-_.]({'|'.join(STORED)})(?:-gguf|-mlx)?$")
# ends that say what was trained: the shapes are the base's. A date is YYMM or MMDD, and a model that thinks has one
TRAINED = re.compile(
    r"[-_.](?:instruct|it|chat|base|hf|pt|(?:thinking-)?(?:2[3-9](?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])[0-3]\d))$"
)
MOST = 3  # names that are told one by one
LONGEST = 200  # characters of a name that may be meant for another
LIST = "List them: llmcalc models"
TEXT_ALONE = " (text model)"  # behind the repository of a preset without the towers


def hint(text: str, repo: bool) -> str:
    """What to do with a name of no preset. repo: whether it may be one on the hub."""
    own = text.rpartition("/")[2]
    where = f"From the hub: --model hf:{text}, or the path of its config.json" if repo else LIST
    short = len(own) <= LONGEST
    base, mix = mixed(own) if short else (None, "")
    if base is not None:
        said = "There is a preset" if presets.find("models", own) else "Its base may be the preset"
        stored = mix or stored_as(own)
        return f"{where}. {said} {base!r}: --model {base}" + (f" --quantization {stored}" if stored else "")
    names = [n for n in (*presets.names("models"), "symbolic") if "/" not in n]
    like = typing_errors(own, names) if short else []
    near = _apart(like)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}? {where}"
    more = _apart(longer(own, names)) if short else []
    if len(more) > MOST:
        return f"{len(more)} presets begin so: llmcalc models {more[0][:len(_plain(own))]}"
    if more:
        return f"Did you mean {' or '.join(map(repr, more))}? {where}"
    return where if repo else f"{LIST}; any other: --model hf:ORG/NAME, or the path of its config.json"


def _apart(names: list[str]) -> list[str]:
    """The first name of each preset."""
    return list({presets.find("models", n): n for n in reversed(names)}.values())[::-1]


def stored_as(own: str) -> str:
    """``--quantization`` of a variant's name: ``awq`` of ``Qwen2.5-72B-Instruct-AWQ``; "" where it says none."""
    found = _STORED.search(own.lower())
    return STORED[found[1]] if found else ""


def trained_from(text: str) -> tuple[str, str] | None:
    """(the preset of the same shapes, a note that says so) of a name that adds to it only what was trained, or None.

    ``gemma-2-9b-it``, ``google/gemma-2-9b-it``: a publisher in front must be the preset's own.
    """
    org, _, own = text.strip().rpartition("/")
    name = own.lower()
    if len(text) > LONGEST:
        return None
    while (found := presets.find("models", name)) is None:
        shorter = PUBLISHER.sub("", TRAINED.sub("", name))
        if shorter == name:
            return None
        name = shorter
    data = presets.load_model_preset(found)[1]
    repo = str(data.get("repo", ""))
    if org and org.lower() != repo.partition("/")[0].lower():
        return None
    alone = ", its text model without the tower" if repo.endswith(TEXT_ALONE) else ""
    if "storage" in data:
        alone += f", stored as {repo} is (--quantization says otherwise)"
    better = f" (--model hf:{text.strip()} reads its own)" if org else ""
    return found, f"{text}: taken as the preset {found!r}{alone}; its longest context may be another{better}"


def base_of(own: str) -> str | None:
    """The preset that is left of a name whose variant is taken off, or None."""
    return mixed(own)[0]


def mixed(own: str) -> tuple[str | None, str]:
    """The preset that is left of a name, and the mix that was taken off it: ``Qwen3-8B-Q4_K_M.gguf``; or (None, "")."""
    name, mix = own.lower(), ""
    while True:
        found = presets.find("models", name)
        if found is not None:
            return found, mix
        shorter = VARIANT.sub("", name)
        if said := MIX.search(shorter):
            mix = said[1]
        shorter = PUBLISHER.sub("", MIX.sub("", shorter))
        if shorter == name:
            return None, ""
        name = shorter


def without(name: str) -> str:
    """What to ask where a file of this name is not here, or ""."""
    base, mix = mixed(name) if len(name) <= LONGEST else (None, "")
    return f". Without it: --model {base}" + (f" --quantization {mix}" if mix else "") if base is not None else ""


def longer(got: str, known: Iterable[str]) -> list[str]:
    """The names that go on where ``got``, without what says how it was trained or stored, ends: qwen3.5-35b-a3b."""
    begins = _plain(got) + "-"
    return [other for other in known if other.startswith(begins)]


def _plain(name: str) -> str:
    """A name without the ends of a variant."""
    own = name.lower()
    while (shorter := VARIANT.sub("", own)) != own:
        own = shorter
    return own


def typing_errors(got: str, known: Iterable[str]) -> list[str]:
    """Those of ``known`` with the numbers of ``got``, as many words and nearly their letters, the nearest first."""
    name = got.lower()
    found = []
    for other in known:
        if _digits(other) == _digits(name) and _same_words(other, name):
            same = 1.0 if sorted(other) == sorted(name) else SequenceMatcher(None, other, name).ratio()
            found.append((same, other))
    return [n for ratio, n in sorted(found, reverse=True)[:MOST] if ratio >= LIKELY]


def _digits(name: str) -> str:
    return re.sub(r"\D", "", name)


def _same_words(a: str, b: str) -> bool:
    """Whether two names have as many words beside single letters, each like the other's: no word stands for another."""
    pairs = [re.findall(r"[a-z]{2,}", name) for name in (a, b)]
    return len(pairs[0]) == len(pairs[1]) and all(
        SequenceMatcher(None, x, y).ratio() >= WORD for x, y in zip(*pairs, strict=True)
    )


__all__ = ["base_of", "hint", "stored_as", "trained_from", "typing_errors", "without"]
