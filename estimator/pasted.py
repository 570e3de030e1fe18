"""Words that no option stands before, and whole lines of other programs: what is meant by them here.

Looked at only where a command line cannot be read as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from estimator.errors import InputError
from estimator.foreign import meant

MAGNITUDES = {"thousand": "K", "million": "M", "billion": "B", "trillion": "T"}
SWITCHED = ("true", "false", "yes", "no", "1", "0")
LISTS = ("--targets", "--optim-target-modules")  # whose values other programs take with spaces between
MODEL = ("--model", "-m")
FILES = (".gguf", ".safetensors", ".json")
_NUMBER = re.compile(r"^[0-9][0-9.,_]*$")
_UNIT = re.compile(r"^[KMGT]i?B?$", re.IGNORECASE)
_SETTING = re.compile(r"^[A-Za-z_]\w*=")  # CUDA_VISIBLE_DEVICES=0 before a command
_SCRIPT = re.compile(r"\.(py|ya?ml|sh)$")
_RECIPE = re.compile(r"(?<![a-z])(sft|dpo|reward|grpo)(?![a-z])")

# words behind a program's name that only say that it runs
RUNS = ("serve", "run", "launch", "chat", "load", "train", "test", "bench", "python", "python3")
# module or script -> the program that it is of
MODULES = {
    "vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm-serve", "torch": "torchrun", "accelerate": "accelerate",
    "axolotl": "axolotl", "deepspeed": "torchrun", "trl": "trl",
}  # fmt: skip


def is_model(word: str) -> bool:
    """Whether a word can be ``--model``: a preset, another name of one, a repository, a file of weights or a config."""
    from estimator.presets import find
    from estimator.sources import ollama_mappings
    from estimator.sources.hub import REPO, TAGGED
    from estimator.sources.where import by_another_name, on_the_hub

    if word.startswith("-") or _SCRIPT.search(word):
        return False
    if find("models", word) or on_the_hub(word) or word.endswith(FILES) or REPO.match(word) or TAGGED.match(word):
        return True
    if ollama_mappings.named(word) is not None:
        return True
    try:
        return by_another_name(word) or Path(word, "config.json").is_file()
    except (OSError, ValueError):
        return False


def placed(words: Sequence[str], have: Mapping[str, bool]) -> list[str]:
    """The words with those that no option stands before where they belong; others stay as they are.

    A model is ``--model`` where none is given; a list of names, a number and its unit, a card's name of two words are
    one value; true and false behind a flag switch it.
    """
    out: list[str] = []
    taken = any(w.partition("=")[0] in MODEL for w in words)
    last = ""  # the option whose value came last
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, eq, _ = word.partition("=")
        if flag in have:
            last = flag
            out.append(word)
            if have[flag] and not eq and rest:
                out.append(rest.pop(0))
        elif word.startswith("-"):
            last = ""
            out.append(word)
        elif joined := _joined(last, out[-1].rpartition("=")[2] if out else "", word, have):
            out[-1] = f"{last}={joined}" if "=" in out[-1] else joined
        elif last in have and not have[last] and word.lower() in SWITCHED:
            out = out[:-1] if word.lower() in ("false", "no", "0") else out
            last = ""
        elif "--model" in have and not taken and is_model(word):
            out += ["--model", word]
            taken, last = True, ""
        else:
            out.append(word)
    return out


def _joined(option: str, value: str, word: str, have: Mapping[str, bool]) -> str:
    """The value that ``word`` goes on, or ""."""
    from estimator.presets import find

    if not have.get(option):
        return ""
    if option in LISTS:
        return f"{value},{word.strip(',')}"
    if _NUMBER.match(value) and (size := MAGNITUDES.get(word.lower()) or (word if _UNIT.match(word) else "")):
        return f"{value}{size}"
    if option == "--gpu" and find("gpus", f"{value}-{word}"):
        return f"{value}-{word}"
    return ""


def program(argv: Sequence[str], known: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """(the command here, the words behind it) of a line that starts another program; None for what is none.

    known: the programs' names, and the command with its options that each asks about.
    """
    words = list(argv)
    while words and _SETTING.match(words[0]):
        words.pop(0)
    if not words:
        return None
    name = Path(words.pop(0)).name.lower()
    if name in ("python", "python3"):
        if words[:1] == ["-m"] and len(words) > 1:
            name = MODULES.get(words.pop(1).partition(".")[0], "")
            words.pop(0)
        elif words and words[0].endswith(".py"):
            name = "torchrun"
    if name == "deepspeed" and any(w.endswith(".py") for w in words):
        name = "torchrun"
    command = known.get(name)
    if command is None:
        return None
    found = next((m[1] for w in words[:6] if not w.startswith("-") and (m := _RECIPE.search(w.lower()))), "")
    if "--recipe" in command and found:
        command = f"{command.partition(' --recipe')[0]} --recipe {found}"
    while words and not words[0].startswith("-") and (words[0].lower() in (*RUNS, found) or _SCRIPT.search(words[0])):
        words.pop(0)
    return command, [w for w in words if not _SCRIPT.search(w)]


def command_for(command: str, words: Sequence[str], have: Mapping[str, bool]) -> str:
    """The command to type, with the options of another program's line as they are here, and what was left out."""
    name, *fixed = command.split()
    left: list[str] = []
    rest = list(words)
    while True:  # an option that is asked for in another way is left out, and said
        try:
            own, _ = meant([*fixed, *rest], have)
            break
        except InputError as error:
            flag = str(error).partition(":")[0].split()[0]
            at = next((i for i, w in enumerate(rest) if w.partition("=")[0] == flag), None)
            if at is None:
                own = fixed
                break
            left.append(str(error))
            rest = rest[:at] + rest[at + (2 if "=" not in rest[at] and _valued(rest, at) else 1) :]
    from shlex import quote

    kept: list[str] = []
    own = placed(own, have)
    while own:
        word = own.pop(0)
        flag, eq, value = word.partition("=")
        if flag not in have:
            if flag in ("-m", "--model"):  # of a command whose argument is the model
                kept += [value] if eq else own[:1]
                own = own if eq else own[1:]
            elif word.startswith("-"):
                left.append(f"{flag} is not known here")
                own = own[1:] if own and not eq and not own[0].startswith("-") else own
            elif is_model(word):
                kept.append(word)
            else:
                left.append(f"{word[:60]} is not known here")
            continue
        kept.append(word)
        if have[flag] and not eq and own:
            kept.append(own.pop(0))
    said = "".join(f"; {x}" for x in left[:4])
    return f"Try: llmcalc {' '.join([name, *(quote(w) for w in kept)])}{said}"


def _valued(words: Sequence[str], at: int) -> bool:
    return at + 1 < len(words) and not words[at + 1].startswith("-")


__all__ = ["command_for", "is_model", "placed", "program"]
