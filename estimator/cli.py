"""The command line: a table of commands, each imported only when it runs, and the one place that ends in exit codes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any

from estimator.errors import InputError, InternalError, LlmcalcError, unknown
from estimator.render.streams import Closed, say, write

# name -> (folder in estimator.commands, one line of help); the order is the order of `llmcalc --help`
COMMANDS: dict[str, tuple[str, str]] = {
    "memory": ("memory", "Memory of training or inference, moment by moment, and whether it fits."),
    "peft": ("peft", "Parameters and bytes of an adapter: LoRA and every other method."),
    "zero": ("zero", "Memory and communication a GPU: ZeRO, FSDP, tensor, pipeline, expert parallelism."),
    "kvcache": ("kvcache", "Bytes of the KV cache, and the longest context and largest batch that fit."),
    "flops": ("flops", "FLOPs of a forward pass, a training step or a decode step."),
    "train": ("train", "Time, money, energy and carbon of a training run."),
    "plan": ("plan", "Which card to rent, how many, how divided: hours and dollars, best first."),
    "sweep": ("sweep", "A question for lists and ranges of sizes and names: CSV, JSON, Parquet."),
    "infer": ("infer", "Latency, throughput and cost of serving, from a roofline."),
    "chinchilla": ("chinchilla", "Scaling laws: compute-optimal parameters and tokens; fit your own runs."),
    "fermi": ("fermi", "Fermi estimates: chains of quantities with units, sources and uncertainty."),
    "decode": ("decode", "Beam search, speculative decoding, tree attention."),
    "compress": ("compress", "Pruning and quantisation arithmetic."),
    "models": ("models", "The model presets: list, filter, show one."),
    "gpus": ("gpus", "The GPU presets: list, filter, show one."),
    "explain": ("explain", "What a method, recipe, optimizer, formula or letter means."),
    "completion": ("completion", "Completion for bash, zsh or fish: llmcalc completion bash."),
    "man": ("man", "The manual page: llmcalc man | man -l -."),
    "validate": ("validate", "Compare predictions with a file of your own measurements."),
    "docs": ("docs", "A page of the documentation, here in the terminal."),
}
MODEL_FIRST = ("memory", "peft", "zero", "kvcache", "flops", "train", "infer")  # whose first word may be the model
_ALONE = {"-h": "--help", "--derive": "--derive=steps", "--cpu-moe": "--cpu-moe=all", "-cmoe": "--cpu-moe=all",
          "-fa": "--flash-attn=on", "--flash-attn": "--flash-attn=on",
          "--expert-parallel": "--expert-parallel=all"}  # words that stand for others
_EXPERTS = "--expert-parallel"  # where an engine serves
_VALUED = ("--cpu-moe", "-fa", "--flash-attn", _EXPERTS)  # which do so only where no value follows
_STRAY = re.compile(r"Got unexpected extra arguments? ?(?:\(s\) )?\((\S+)")
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


# what people call what a command does
WORDS = {
    "fit": "memory", "vram": "memory", "estimate": "memory", "finetune": "memory --method lora",
    "fine-tune": "memory --method lora", "lora": "peft --method lora", "serve": "infer", "inference": "infer",
    "speed": "infer", "throughput": "infer", "latency": "infer", "kv": "kvcache", "quantize": "compress",
    "pretrain": "plan train", "cost": "train", "deepspeed": "zero", "fsdp": "zero", "scaling": "chinchilla",
    "params": "models", "parameters": "models", "model": "models", "show": "models", "info": "models",
    # other programs: what of theirs is asked about here
    "vllm": "memory --engine vllm", "sglang": "memory --engine sglang", "trtllm-serve": "memory --engine tensorrt-llm",
    "text-generation-launcher": "memory --engine tgi", "ollama": "memory --engine llama.cpp",
    "llama.cpp": "memory --engine llama.cpp", "llama-server": "memory --engine llama.cpp",
    "llama-cli": "memory --engine llama.cpp", "lms": "memory --engine llama.cpp", "trl": "memory --recipe sft",
    "axolotl": "memory --recipe axolotl", "unsloth": "memory --recipe unsloth", "tune": "memory --recipe torchtune",
    "litgpt": "memory --recipe litgpt", "megatron": "memory --recipe megatron", "accelerate": "memory --recipe trainer",
    "torchrun": "memory --recipe trainer", "transformers": "memory", "llama-bench": "memory --engine llama.cpp",
}  # fmt: skip

# typed where memory's model comes first
MODES = {"train": "training", "training": "training", "inference": "inference", "generate": "inference"}


def run(argv: list[str]) -> int:
    """Run one command line; prints one line on standard error for any error and returns its exit code."""
    from estimator.trace import forget

    forget()
    try:
        return _dispatch(argv)
    except LlmcalcError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (Closed, BrokenPipeError):
        # the reader (head, less) went away: not an error of ours; keep the interpreter from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OverflowError, RecursionError) as error:
        return _fail(f"a number or a nesting is beyond what can be computed ({type(error).__name__})", EXIT_USAGE)
    except MemoryError:
        return _fail("this needs more memory than there is: smaller numbers, or fewer of them", EXIT_USAGE)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own usage errors
            line = " ".join(error.format_message().split())
            if extra := _STRAY.match(line):
                line = _unasked(extra[1].rstrip(")"), argv[0] in MODEL_FIRST)
            return _fail(line + (f" See: llmcalc {argv[0]} --help" if line.endswith("command.") else ""), EXIT_USAGE)
        if os.environ.get("LLMCALC_TRACEBACK"):
            raise
        where = InternalError.exit_code
        return _fail(
            f"internal: {type(error).__name__}: {error}. Please report it (LLMCALC_TRACEBACK=1 shows where)",
            where,
        )


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        write(_overview() + "\n", sys.stdout)
        return 0
    name = argv[0]
    if name in ("--version", "-V"):
        from estimator._version import __version__

        write(f"llmcalc {__version__}\n", sys.stdout)
        return 0
    if name.partition("=")[0] in ("--install-completion", "--show-completion"):
        return _completion(argv)
    if name not in COMMANDS:
        raise _no_command(argv)
    words = _shown_as(_spelt_out(_without_program(name, argv[1:]), name))
    if name in MODEL_FIRST and words and not words[0].startswith("-"):
        if name == "memory" and (mode := MODES.get(words[0])):
            raise InputError(f"{words[0]} is no model. The model comes first: llmcalc memory MODEL --mode {mode}")
        _one_model(words)
        words.insert(0, "--model")
    if name == "chinchilla" and words and _is_model(words[0]):
        words.insert(0, "--model")
    if name in ("plan", "sweep") and len(words) > 1 and not words[1].startswith("-"):
        _one_model(words[1:])
        words.insert(1, "--model")
    from estimator.coerce import plain

    made = plain(typer_of(name, words), words)
    if any(word.partition("=")[0] == "--host" for word in words):  # another program's is an address
        words = _spelt_here(made, words)
    if "--help" not in words:
        try:
            code = made.main(args=words, prog_name=f"llmcalc {name}", standalone_mode=False)
        except Exception as error:
            wrong = hasattr(error, "option_name") or _STRAY.match(getattr(error, "message", ""))
            if not wrong or (own := _spelt_here(made, words)) == words:
                raise
            code = made.main(args=own, prog_name=f"llmcalc {name}", standalone_mode=False)
        return code if isinstance(code, int) else 0
    with redirect_stdout(StringIO()) as page:  # Typer prints by itself, and ends the program where a pipe is closed
        code = made.main(args=words, prog_name=f"llmcalc {name}", standalone_mode=False)
    write(page.getvalue(), sys.stdout)
    return code if isinstance(code, int) else 0


def _one_model(words: list[str]) -> None:
    """InputError where a command line whose first word is the model names another."""
    for i, word in enumerate(words[1:], 1):
        flag, eq, value = word.partition("=")
        if flag in ("--model", "-m"):
            other = value if eq else words[i + 1] if i + 1 < len(words) else ""
            if other != words[0]:
                raise InputError(f"{words[0][:60]} stands where a model does, and {flag} {other[:60]} names one")


def _unasked(word: str, of_model: bool) -> str:
    """What to do with a word that no option asks for; of_model: of a command of a model and a card."""
    from estimator.foreign import option_for

    meant = option_for(word) if of_model else ""
    return f"{word[:60]}: no option stands before it" + (f". Perhaps {meant}" if meant else "")


def _spelt_here(made: Any, words: list[str]) -> list[str]:
    """The words of a command line with an unknown option, with what other programs call options as it is here."""
    from estimator.foreign import meant
    from estimator.pasted import placed

    below = getattr(made, "commands", {}).get(words[0] if words else "", made)
    have = _options(below)
    first = 0 if below is made else 1
    own, idle = meant(words[first:], have)
    if idle:
        say(f"note: nothing here depends on {', '.join(idle)}; left out")
    return [*words[:first], *(placed(own, have) if "--model" in have else own)]


def _options(made: Any) -> dict[str, bool]:
    """The options of a command, and whether each takes a value."""
    return {flag: not p.is_flag for p in made.params if p.param_type_name == "option" for flag in p.opts}


def _without_program(name: str, words: list[str]) -> list[str]:
    """``memory vllm serve MODEL ...`` with the options that the program's name stands for."""
    if name != "memory" or not words or words[0].startswith("-") or words[0].lower() not in WORDS:
        return words
    from estimator.pasted import program

    found = program(words, WORDS)
    command = found[0].split() if found else []
    if not found or command[:1] != [name]:
        return words
    option = command[1] if len(command) > 1 else ""
    given = any(w.partition("=")[0] == option for w in found[1])
    return [*found[1], *([] if given else command[1:])]


def _is_model(name: str) -> bool:
    from estimator.presets import find

    return find("models", name) is not None


def _no_command(argv: list[str]) -> InputError:
    """What to type instead of a model's name, of a word for what a command does, or of another program's line."""
    from estimator.pasted import command_for, program

    name = argv[0]
    if _is_model(name):
        return InputError(f"{name[:60]} is a model. First the command: llmcalc memory {name[:60]}")
    if len(argv) > 1 and (found := program(argv, WORDS)) is not None:
        have = _options(typer_of(found[0].split()[0]))
        return unknown("command", name, (), command_for(*found, have))
    if meant := WORDS.get(name.lower()):
        return unknown("command", name, (), f"Try: llmcalc {meant}")
    return unknown("command", name, COMMANDS, "See: llmcalc --help")


def _spelt_out(words: list[str], name: str) -> list[str]:
    """The words with those that stand alone written out; ``-fa on`` keeps its value."""
    served = name in ("kvcache", "infer") or any(w.partition("=")[0] == "--engine" for w in words)
    follows = [*words, "-"][1:]
    return [
        word
        if (word in _VALUED and not after.startswith("-")) or (word == _EXPERTS and not served)
        else _ALONE.get(word, word)
        for word, after in zip(words, follows, strict=True)
    ]


def typer_of(name: str, words: Sequence[str] = ()) -> Any:
    """The command as Typer has it: with ``params``, or with ``commands`` below it. words: what a sweep sweeps."""
    from typer.main import get_command

    module: Any = import_module(f"estimator.commands.{COMMANDS[name][0]}.cli")
    return get_command(module.app_of(words) if name == "sweep" else module.app)


def _completion(argv: list[str]) -> int:
    """``--show-completion`` and ``--install-completion``, of the user's shell where none is named, as in Typer."""
    from estimator.commands.completion import scripts

    flag, eq, value = argv[0].partition("=")
    shell = value if eq else argv[1] if len(argv) > 1 else None
    if flag == "--show-completion":
        write(scripts.script(shell), sys.stdout)
    else:
        say(f"wrote {scripts.install(shell)}; open a new shell to use it")
    return 0


def _shown_as(words: list[str]) -> list[str]:
    """``--standalone`` and ``--table NAME`` as the formats that they ask for; InputError beside another format."""
    if "--standalone" in words:
        kept = [w for w in words if w != "--standalone"]
        return _with_format(kept, "latex", "latex-document", "--standalone makes a document of")
    at = next((i for i, w in enumerate(words) if w.partition("=")[0] == "--table"), None)
    if at is None:
        return words
    _, eq, title = words[at].partition("=")
    if not eq and at + 1 == len(words):
        raise InputError("--table needs the title of one of the report's tables, or results")
    kept = words[:at] + words[at + (1 if eq else 2) :]
    return _with_format(kept, "csv", f"csv:{title if eq else words[at + 1]}", "--table chooses a table of")


def _with_format(words: list[str], allowed: str, made: str, what: str) -> list[str]:
    """The words with ``--format made`` in place of the ``--format allowed`` that may be among them."""
    for i, word in enumerate(words):
        name, eq, value = word.partition("=")
        if name in ("--format", "-f"):
            given = value if eq else words[i + 1] if i + 1 < len(words) else ""
            if given != allowed:
                raise InputError(f"{what} --format {allowed}, got --format {given[:40]}")
            words = words[:i] + words[i + (1 if eq else 2) :]
            break
    return [*words, "--format", made]


def _fail(message: str, code: int) -> int:
    say(f"error: {message}")
    return code


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "llmcalc: memory, FLOPs, time and money of language models, with the derivation of every number.",
        "",
        "Usage: llmcalc COMMAND [MODEL] [OPTIONS]   llmcalc COMMAND --help   llmcalc --version",
        "",
        *(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()),
        "",
        "Everywhere: --model NAME|FILE|hf:ORG/NAME|symbolic, --format table|json|csv|markdown|latex|html,",
        "--output FILE, --derive, --set FIELD=VALUE.   Start with: llmcalc peft --method lora --rank 8",
    ]
    return "\n".join(lines)
