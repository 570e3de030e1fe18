"""What comes from outside, kind by kind: made from real files and options, then damaged."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from collections.abc import Callable
from functools import cache
from math import prod
from pathlib import Path
from random import Random
from typing import Any

from estimator import presets
from tests.fuzz.combined import servers, steps
from tests.fuzz.surface import ODD, Surface, line, models, quick, surfaces, taking
from tests.headers import make

ROOT = Path(__file__).parents[2]
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    3,
    7,
    64,
    10**6,
    10**8,
    10**13,
    2**63,
    2**70,
    10**400,
    0.5,
    -0.5,
    1e300,
    1e-300,
    "",
    "x",
    "\x1b[31m",
    "a\nb",
    "../x",
    [],
    [1],
    [1, 2, 3],
    ["x"],
    [[]],
    {},
    {"a": 1},
    {"type": "x"},
    "silu",
    "relu",
    "float32",
    "bfloat16",
)
MODELLESS = ("chinchilla", "plan", "compress", "decode", "validate", "sweep")  # less often asked of a model's file
Input = tuple[list[str], Path | None]  # words, the file that may be written


def _damaged(rng: Random, data: bytes, most: int = 6) -> bytes:
    """``data`` with a few bytes changed, dropped, doubled, or cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        if not out:
            break
        at = rng.randrange(len(out))
        how = rng.random()
        if how < 0.5:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how < 0.65:
            del out[at : at + rng.choice((1, 4, 8, 64))]
        elif how < 0.8:
            out[at:at] = out[at : at + rng.choice((1, 8, 64))]
        elif how < 0.9:
            out[at : at + 8] = struct.pack(
                "<Q", rng.choice((0, 1, 2**31, 2**32, 2**63, 2**64 - 1, rng.randrange(2**20)))
            )
        else:
            del out[at:]
    return bytes(out)


def _places(found: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a nested object."""
    out = []
    items = found.items() if isinstance(found, dict) else enumerate(found[:20]) if isinstance(found, list) else ()
    for key, value in items:
        out += [(*path, key), *_places(value, (*path, key))]
    return out


def _changed(rng: Random, found: Any, most: int = 3) -> Any:
    """A nested object with a few values replaced, dropped, moved or swapped."""
    found = copy.deepcopy(found)
    for _ in range(rng.randint(0, most)):
        places = _places(found)
        if not places:
            break
        *way, last = rng.choice(places)
        holder = found
        for key in way:
            holder = holder[key]
        how = rng.random()
        if how < 0.15 and isinstance(holder, dict):
            del holder[last]
        elif how < 0.3:
            *other, key = rng.choice(places)
            value = found
            for step in (*other, key):
                value = value[step]
            holder[last] = copy.deepcopy(value)
        elif how < 0.4 and isinstance(holder[last], int) and not isinstance(holder[last], bool):
            holder[last] = holder[last] * rng.choice((2, 3, 1000)) + rng.choice((0, 1))
        elif how < 0.45 and isinstance(holder, dict):
            holder[rng.choice(("quantization_config", "layer_types", "rope_scaling", "\x1b[31m", "x" * 300))] = (
                copy.deepcopy(rng.choice(STRANGE))
            )
        else:
            holder[last] = copy.deepcopy(rng.choice(STRANGE))
    return found


@cache
def _configs() -> tuple[dict[str, Any], ...]:
    return tuple(presets.load_model_preset(presets.find("models", name))[1]["config"] for name in models())


def _with_model(rng: Random) -> Surface:
    few = ("chinchilla", "plan") if rng.random() < 0.15 else MODELLESS
    return rng.choice(taking("--model", without=few))


def _model_line(rng: Random, path: str) -> list[str]:
    """A command that takes a model, asked of a file."""
    if rng.random() < 0.1:
        return ["models", path]
    command = _with_model(rng)
    return [*command.words, "--model", path, *line(rng, command, 4, 0.97, ("--model", "--adapter"))]


def options(rng: Random, folder: Path) -> Input:
    """A command line of any command."""
    command = rng.choice(quick() if rng.random() < 0.995 else surfaces())
    argv = list(command.words)
    for name in command.arguments:
        if rng.random() < 0.5:
            words = ("brain", "gpt6", "lora", "h100-sxm", "gpt2", "llama*", "kv_cache_bytes") if name.isupper() else ()
            argv.append(rng.choice((*words, *ODD)))
    argv += line(rng, command)
    if argv[:2] == ["fermi", "new"]:
        argv[1] = "news"
    if rng.random() < 0.02:
        argv.append("--help")
    if rng.random() < 0.03:
        argv.insert(rng.randrange(len(argv) + 1), rng.choice(ODD))
    output = None
    if "--output" in command.flags and rng.random() < 0.05:
        output = folder / rng.choice(("o.txt", "o" * 200, "ö.json", " o"))
        argv += ["--output", str(output)]  # last: no odd word stands between the flag and its file
    return argv, output


def configs(rng: Random, folder: Path) -> Input:
    """A config.json of a real model, changed."""
    path = folder / "config.json"
    data = json.dumps(_changed(rng, rng.choice(_configs()))).encode()
    path.write_bytes(_damaged(rng, data) if rng.random() < 0.05 else data)
    return _model_line(rng, str(path)), None


def safetensors(rng: Random, folder: Path) -> Input:
    """A header of tensors, changed as an object or as bytes; sometimes with a config beside it."""
    where = folder / "st"
    where.mkdir(exist_ok=True)
    path = where / "model.safetensors"
    names = [f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(3) for p in "qkvo"]
    tensors = {
        n: (rng.choice(("F32", "BF16", "F16", "U8", "I64")), (rng.choice((1, 8, 64)), 8))
        for n in ["model.embed_tokens.weight", *rng.sample(names, rng.randint(0, 12))]
    }
    make.safetensors(path, tensors)
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    if rng.random() < 0.5:
        header = json.dumps(_changed(rng, json.loads(raw[8 : 8 + length]))).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
    else:
        path.write_bytes(_damaged(rng, raw))
    beside = where / "config.json"
    if rng.random() < 0.3:
        beside.write_text(json.dumps(_changed(rng, rng.choice(_configs()), 1)))
    else:
        beside.unlink(missing_ok=True)
    return _model_line(rng, str(path if rng.random() < 0.7 else where)), None


_COUNTS = {  # plausible values of a small model's metadata
    "embedding_length": (64, 128, 256),
    "block_count": (1, 2, 3),
    "feed_forward_length": (128, 256),
    "attention.head_count": (1, 2, 4),
    "attention.head_count_kv": (1, 2),
    "context_length": (128, 2048),
    "expert_count": (2, 8),
    "expert_used_count": (1, 2),
    "attention.key_length": (16, 64),
    "rope.dimension_count": (16, 64),
    "ssm.state_size": (8, 16),
    "ssm.inner_size": (128,),
    "ssm.conv_kernel": (4,),
    "ssm.time_step_rank": (4, 8),
    "vocab_size": (100,),
    "attention.sliding_window": (64,),
}
_GGML = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144)}  # type -> elements of a block, its bytes


def _tensor(
    rng: Random, kinds: tuple[int, ...], shapes: tuple[tuple[int, ...], ...]
) -> tuple[int, tuple[int, ...], int]:
    """A GGML type, a shape, and the bytes that they take."""
    shape = rng.choice(shapes)
    fitting = [kind for kind in kinds if not shape or shape[-1] % _GGML[kind][0] == 0]
    kind = rng.choice(fitting if rng.random() < 0.98 else kinds)
    block, size = _GGML[kind]
    return kind, shape, -(-prod(shape) // block) * size


def gguf(rng: Random, folder: Path) -> Input:
    """A GGUF header of any known architecture with any metadata, changed as bytes half of the time."""
    from estimator.headers.gguf_architectures import READERS
    from estimator.headers.gguf_newer import NEWER

    arch = rng.choice(sorted(READERS | NEWER))
    pairs: dict[str, Any] = {"general.architecture": arch}
    keys = list(_COUNTS) if rng.random() < 0.5 else rng.sample([*_COUNTS], rng.randint(2, len(_COUNTS)))
    for key in keys:
        strange = rng.random() < 0.05
        pairs[f"{arch}.{key}"] = rng.choice((0, 2**31, "x", 1.5, [1, 2], ["a"]) if strange else _COUNTS[key])
    tensors = {"token_embd.weight": _tensor(rng, (0, 1, 2, 8), ((100, 64),))}
    for i in range(rng.randint(0, 3)):
        for name in ("attn_q", "attn_k", "ffn_up", "ffn_down", "ffn_gate_exps", "attn_norm"):
            tensors[f"blk.{i}.{name}.weight"] = _tensor(
                rng, (0, 1, 8, 12), ((64, 64), (128, 64), (64,), (2, 64, 64), (64, 256), ())
            )
    path = folder / "m.gguf"
    make.gguf(path, pairs, tensors)
    if rng.random() < 0.4:
        path.write_bytes(_damaged(rng, path.read_bytes()[:4000]))
    return _model_line(rng, str(path)), None


def _damaged_text(rng: Random, text: str) -> str:
    """A text with lines dropped, doubled, swapped, or with values replaced."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        if not lines:
            break
        at, how = rng.randrange(len(lines)), rng.random()
        if how < 0.15:
            del lines[at]
        elif how < 0.3:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif how < 0.7 and "=" in lines[at]:
            head = lines[at].partition("=")[0]
            value = rng.choice(
                (
                    "0",
                    "-1",
                    "1e300",
                    "nan",
                    "inf",
                    '""',
                    '"= x"',
                    "[]",
                    "{}",
                    '"between 1 and 2 GB"',
                    '"between 1e-300 and 1e300"',
                    '"log-normal between 1e-9 and 1e9"',
                    '"= (a+b)**99 + exp(-600)"',
                    "0x" + "f" * 9000,
                    '"1e300 TFLOP/s"',
                    '"\\u001b[31m"',
                    '"= min(1, 2) ** 0.333"',
                    "true",
                    '"9 parsecs"',
                    '"= log(0)"',
                    '"= 1/0"',
                )
            )
            lines[at] = f"{head}= {value}"
        else:
            line_ = lines[at]
            cut = rng.randrange(len(line_) + 1)
            lines[at] = (
                line_[:cut] + rng.choice(("", ",", "-", "\x1b", "é", '"', "=", "9" * 50, "#", "]")) + line_[cut:]
            )
    return "\n".join(lines) + "\n"


@cache
def _shipped(kind: str) -> tuple[str, ...]:
    """The texts of all presets of a kind."""
    return tuple(p.read_text() for p in sorted((ROOT / "presets" / kind).glob("*.toml")))


def scenarios(rng: Random, folder: Path) -> Input:
    """A Fermi scenario, changed line by line."""
    path = folder / "s.toml"
    path.write_text(_damaged_text(rng, rng.choice(_shipped("fermi"))), encoding="utf-8", errors="replace")
    command = next(s for s in surfaces() if s.words == ("fermi",))
    return [
        "fermi",
        str(path),
        *line(rng, command, 3, 0.97, ("--samples",)),
        "--samples",
        rng.choice(("0", "10", "200")),
    ], None


def cards(rng: Random, folder: Path) -> Input:
    """A GPU of the user's own, changed line by line."""
    path = folder / "card.toml"
    path.write_text(_damaged_text(rng, rng.choice(_shipped("gpus"))), encoding="utf-8", errors="replace")
    command = rng.choice(taking("--gpu", "--model", without=("plan",)))
    return [*command.words, "--gpu", str(path), *line(rng, command, 2, 0.97, ("--gpu", "--model"))], None


def runs(rng: Random, folder: Path) -> Input:
    """A CSV of training runs, some lines of a real one, changed."""
    header, *rows = (ROOT / "tests/data/chinchilla_runs.csv").read_text().splitlines()
    some = rng.sample(rows, min(len(rows), rng.randint(0, 12)))
    path = folder / "runs.csv"
    text = "\n".join([header, *some]) + "\n"
    path.write_text(_damaged_text(rng, text) if rng.random() < 0.9 else text, encoding="utf-8", errors="replace")
    return ["chinchilla", "fit", str(path), "--bootstrap", "0"], None


@cache
def _logs() -> tuple[str, ...]:
    found = [p.read_text(errors="replace") for p in sorted((ROOT / "tests/engines").glob("*.log"))]
    with gzip.open(ROOT / "tests/engines/records.json.gz") as file:
        found += [json.dumps(json.load(file))[:4000]]
    return (
        *found,
        "INFO [core.py:58] Initializing a V1 LLM engine (v0.11.0) with config: model='Qwen/Qwen3-8B', "
        "dtype=torch.bfloat16, max_seq_len=32768, tensor_parallel_size=1\n"
        "INFO Available KV cache memory: 52.24 GiB\nINFO GPU KV cache size: 380,448 tokens\n"
        "INFO Maximum concurrency for 32,768 tokens per request: 11.61x\n",
    )


def logs(rng: Random, folder: Path) -> Input:
    """A start-up log, changed."""
    path = folder / "engine.log"
    text = _damaged_text(rng, rng.choice(_logs()))
    path.write_bytes(
        _damaged(rng, text.encode(errors="replace")) if rng.random() < 0.3 else text.encode(errors="replace")
    )
    return ["validate", str(path), *(["--model", "qwen3-8b"] if rng.random() < 0.3 else [])], None


@cache
def _measured() -> dict[str, Any]:
    with gzip.open(ROOT / "tests/accuracy/gpu_memory.json.gz") as file:
        data: dict[str, Any] = json.load(file)
    return data


def measurements(rng: Random, folder: Path) -> Input:
    """A file of measurements with one or two cases, changed."""
    data = _measured()
    cases = rng.sample(data["cases"], rng.randint(0, 2))
    whole = {"meta": data["meta"], "configs": {c["model"]: data["configs"][c["model"]] for c in cases}, "cases": cases}
    path = folder / "measured.json"
    text = json.dumps(_changed(rng, whole)).encode()
    path.write_bytes(gzip.compress(text) if rng.random() < 0.1 else text)
    return ["validate", str(path)], None


@cache
def _adapters() -> tuple[dict[str, Any], ...]:
    from estimator.peft import METHODS

    base = {"base_model_name_or_path": "meta-llama/Meta-Llama-3-8B", "task_type": "CAUSAL_LM", "inference_mode": True}
    lora = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    real = json.loads((ROOT / "tests/data/adapter_files.json").read_text())["cases"]
    files = [{"peft_type": c["method"].upper(), **base, "target_modules": c["targets"], **c["args"]} for c in real]
    return (
        *({"peft_type": name.upper(), **base} for name in METHODS),
        *({"peft_type": name.upper(), **base, **lora} for name in METHODS),
        *files,
    )


def adapters(rng: Random, folder: Path) -> Input:
    """An adapter_config.json of any method, changed."""
    where = folder / "adapter"
    where.mkdir(exist_ok=True)
    made = dict(rng.choice(_adapters()))
    for key in ("rank_pattern", "modules_to_save", "layers_to_transform", "target_parameters", "exclude_modules"):
        if rng.random() < 0.1:
            made[key] = rng.choice((*STRANGE, "((a+)+)+!", ["((a+)+)+!"], {"((a+)+)+!": 4}))
    (where / "adapter_config.json").write_text(json.dumps(_changed(rng, made)))
    command = rng.choice(taking("--adapter"))
    return [
        *command.words,
        "--adapter",
        str(where),
        *line(rng, command, 2, 0.97, ("--adapter", "--model", "--targets", "--method", "--arg", "--rank")),
    ], None


KINDS: dict[str, Callable[[Random, Path], Input]] = {
    "options": options,
    "configs": configs,
    "safetensors": safetensors,
    "gguf": gguf,
    "scenarios": scenarios,
    "cards": cards,
    "runs": runs,
    "logs": logs,
    "measurements": measurements,
    "adapters": adapters,
    "steps": steps,
    "servers": servers,
}
