"""The pages of what was measured and tried: accuracy, reliability, the errors by stack and their picture."""

from __future__ import annotations

import gzip
import io
import json
import statistics
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from estimator.commands.validate.figure import against, errors
from estimator.commands.validate.report import MOMENTS, peaks_of, predictions, read, summary
from estimator.render.plots_svg import svg

GIB = 2**30
TIMED = {"step_seconds": "training step", "prefill_seconds": "prefill", "decode_step_seconds": "decode step"}
HERE = Path(__file__).resolve().parent


def accuracy() -> str:
    """The error table of the measured cases."""
    data, rows = steps("gpu_memory")
    meta = data["meta"]

    def table(head: str, lines: list[tuple[str, list[Any], str]]) -> str:
        out = [f"| {head} | cases | median | 95th percentile | worst | mean |", "|:--|--:|--:|--:|--:|--:|"]
        for name, found, key in lines:
            mid, p95, worst, mean = summary(found, key)
            out.append(f"| {name} | {len(found)} | {mid:.2f}% | {p95:.2f}% | {worst:.2f}% | {mean:+.2f}% |")
        return "\n".join(out) + "\n"

    groups = sorted({r.group for r in rows})
    by_group = [(g, [r for r in rows if r.group == g and r.errors], "peak") for g in groups]
    moments = [(k, [r for r in rows if k in r.errors], k) for k in MOMENTS]
    models = sorted({c["model"] for c in data["cases"]})
    far = sorted((r for r in rows if r.errors), key=lambda r: -abs(r.errors["peak"]))[:10]
    parts = [
        "# Accuracy\n",
        "```sh\nllmcalc validate tests/accuracy/gpu_memory.json.gz\n```\n",
        f"Predicted peaks beside {len(rows)} real steps of {len(models)} models, measured on one"
        f" {meta['device']} with torch "
        f"{meta['torch']} and transformers {meta['transformers']} (random weights, real forward,"
        " backward and optimizer steps;"
        " the third step, the steady state). Nothing is fitted to a row: every allocation is simulated. The error is"
        " (predicted - measured) / measured of the allocator's peak.\n",
        "`llmcalc validate tests/accuracy/gpu_memory.json.gz` prints these tables; `python"
        " docs/build.py` writes this page."
        " `benchmarks/measure_memory.py` makes such a file on a GPU of your own.\n",
        "![Predicted against measured peaks, one mark a step](assets/peaks.svg)\n",
        "![Errors of the peaks beside their sizes](assets/errors.svg)\n",
        table("all", [("peak allocated", [r for r in rows if r.errors], "peak")]),
        "## By group\n", table("group", by_group),
        "## By moment\n", table("moment", moments),
        "`load` and `decode` of the smallest models carry the largest relative errors: how many threads"
        " have taken their"
        " 32 MiB cuBLAS workspace before (one or two) is a matter of what the process did earlier.\n",
        "## The ten largest errors\n",
        "| case | error |\n|:--|--:|\n" + "\n".join(f"| `{r.ident}` | {r.errors['peak']:+.2f}% |" for r in far) + "\n",
    ]  # fmt: skip
    more, others, families = by_family("gpu_memory_more")
    mixed, hybrids, mixers = by_family("gpu_mixers")
    parts += [
        "## Other models, sizes and methods\n",
        f"{len(others)} more steps of {len({c['model'] for c in more['cases']})} models (of large ones"
        " the first layers),"
        " measured the same way after the mechanisms above were in place"
        " (`tests/accuracy/gpu_memory_more.json.gz`). As first"
        " predicted, the median error was 0.03%, the 95th percentile 2.3% and the worst 23%; what was"
        " found wrong since was"
        " traced to an operation and corrected.\n",
        table("family", [("all", others, "peak"), *((f, found, "peak") for f, found in sorted(families.items()))]),
        "## Mixers and experts of newer classes\n",
        f"{len(hybrids)} steps of small models of {len(mixers)} classes with torch {mixed['meta']['torch']} and"
        f" transformers {mixed['meta']['transformers']} alone, so that recurrences run as written in PyTorch"
        " (`tests/accuracy/gpu_mixers.json.gz`). As first predicted the median error was 0.33%, the 95th percentile"
        " 8.1% and the worst 16%: Gemma 3n's copies of the stream, Kimi's scores chunk by chunk, LFM2's router, Zamba"
        " 2's shared block, Whisper's copied heads, experts, which autocast leaves in fp32, LongCat's loop over its"
        " experts, and the last state that RecurrentGemma's modules name, with all that a recomputed layer saved, were"
        " found and corrected. Models so small hold 10 to 40 MB in rests of segments, which `--allocator simulated`"
        " counts.\n",
        table("family", [("all", hybrids, "peak"), *((f, found, "peak") for f, found in sorted(mixers.items()))]),
    ]
    parts += [generated(), "## Seconds\n", *seconds()]
    missing = [f"- `{r.ident}`: {r.why}" for r in rows if r.why]
    if missing:
        parts += ["## Not predicted\n", "\n".join(missing) + "\n"]
    return "\n".join([*parts, *start_ups(), *held_out()])


def generated() -> str:
    """The errors of transformers' generate(), as predicted before it was measured and as now."""
    from tests.accuracy import test_generate as runs

    rows = ["## transformers' generate()\n", GENERATED, "| drawn | predicted | runs | median | 95% | worst |",
            "|:--|:--|--:|--:|--:|--:|"]  # fmt: skip
    for late, name in ((False, "first, then mended"), (True, "after that")):
        for when, found in (("then", runs.before(late)), ("now", runs.now(late))):
            far = sorted(100 * abs(e) for e in found.values())
            p95 = far[int(0.95 * len(far))]
            rows.append(
                f"| {name} | {when} | {len(far)} | {statistics.median(far):.2f}% | {p95:.2f}% | {far[-1]:.2f}% |"
            )
    return "\n".join(rows) + "\n"


GENERATED = (
    "`generate.json.gz`: models of this page and others, whole or cut, in 16 and 32 bits, NF4 and LLM.int8(), drawn by"
    " a script, on one H200 (torch 2.11, transformers 5.17, bitsandbytes 0.50). The first showed that generate()"
    " decodes with a copy of each chosen expert's weights, what fp16 and Cohere's heads do in fp32, LLM.int8()'s"
    " buffers, and small batches that multiply 4-bit weights as they lie; the second that an encoder-decoder's decoder"
    " begins with one token, the fp32 copy of the next token's logits, Falcon's alibi and CodeGen's scores. A process"
    " that never ran a backward pass has one workspace of cuBLAS less than the answer counts.\n"
)


def start_ups() -> list[str]:
    """Errors of start-up logs that were gathered after the engines' rules: from tests/engines/fresh.json.gz."""
    logs = json.loads(gzip.decompress((HERE.parent / "tests/engines/fresh.json.gz").read_bytes()))
    parts = [
        "## Start-up logs of servers, gathered later\n",
        f"{len(logs)} public logs of vLLM 0.6 to 0.31 and SGLang 0.4 and 0.5 (`tests/engines/test_fresh.py`). The first"
        " part was looked at while rules were mended, the second at the end: two rules (longer blocks, tiles of MXFP4)"
        " came of it, and one of its configs was put right. The third came later, and four rules of it (vLLM's sampler"
        " before 0.11, the tokens that it prints from 0.20.2, SGLang's share on AMD and its pool of Gemma 4). The"
        " worst: pools on a DGX Spark, whose memory the server shares; a trial run with a video before 0.11.1; weights"
        " that SGLang reads with what the driver takes; graphs of experts before 0.19.\n",
        "| figure | part | figures | median | worst |\n|:--|:--|--:|--:|--:|",
    ]
    for key, label in STARTED.items():
        for half, name in (("A", "first"), ("B", "second"), ("C", "third")):
            far = [abs(r["errors"][key]) for r in logs if r["half"] == half and key in r["errors"]]
            parts.append(f"| {label} | {name} | {len(far)} | {statistics.median(far):.2%} | {max(far):.1%} |")
    return [*parts, ""]


STARTED = {"weights_bytes": "weights of a rank", "pool_bytes": "pool", "kv_tokens": "tokens of the pool",
           "max_concurrency": "requests at once", "graphs_bytes": "CUDA graphs"}  # fmt: skip


def held_out() -> list[str]:
    """Errors of speeds whose machine or model no rate was fitted to: from docs/held_out.json."""
    parts = [
        "## Speeds of serving, out of sample\n",
        "Seconds that engines take rest on rates that are fitted to public figures. What the fit has not seen:"
        " `benchmarks/fit_llamacpp.py --held` and `benchmarks/fit_engines.py` write this table. `tg`: generation,"
        " `pp`: a prompt.\n",
        "| engine | rows | median | 90% within | worst |\n|:--|--:|--:|--:|--:|",
    ]
    for engine, data in json.loads((HERE / "held_out.json").read_text()).items():
        parts.append(f"| **{engine}**, {data['what']} | | | | |")
        parts += [f"| {name} | {n} | {m:.1%} | {p:.1%} | {w:.1%} |" for name, n, m, p, w in data["rows"]]
    return [*parts, ""]


def seconds() -> list[str]:
    """The errors of the timed passes, by what was timed."""
    out = ["| what | cases | median | worst |\n|:--|--:|--:|--:|"]
    for name, pairs in times().items():
        far = sorted(100 * abs(p / m - 1) for p, m in pairs)
        out.append(f"| {name} | {len(far)} | {statistics.median(far):.2f}% | {far[-1]:.2f}% |")
    said = (
        "Times on one H100 80GB (`tests/accuracy/step_times.json`), with ceilings of kernels that were fitted on part"
        " of them. Decode steps are those whose stack copies no cache, replayed from a CUDA graph.\n"
    )
    return [said, *out, "\n![Seconds, predicted against measured](assets/times.svg)\n"]


@cache
def steps(name: str) -> tuple[dict[str, Any], list[Any]]:
    """A file of tests/accuracy and the predictions of its cases."""
    data = read(str(HERE.parent / "tests" / "accuracy" / f"{name}.json.gz"))
    return data, list(predictions(data))


def by_family(name: str) -> tuple[dict[str, Any], list[Any], dict[str, list[Any]]]:
    """A file of tests/accuracy, the predictions of its cases, and these by model_type."""
    data, rows = steps(name)
    families: dict[str, list[Any]] = {}
    for r, c in zip(rows, data["cases"], strict=True):
        families.setdefault(data["configs"][c["model"]]["model_type"], []).append(r)
    return data, rows, families


def reliability() -> str:
    """What was tried to break the program, and what was found: from docs/reliability.json."""
    data = json.loads((HERE / "reliability.json").read_text())
    parts = [
        "# Reliability\n",
        f"```text\n$ llmcalc memory gtp2\n{_error('memory gtp2')}```\n",
        "What held of every input, and how many were tried. `make fuzz` tries a million inputs and evaluates a million"
        " properties, `make mutate` runs the mutants; `--record docs/reliability.json` adds to the record from which"
        " `python docs/build.py` writes this page. An input follows from its kind, seed and number, a property's"
        " examples from its task's seed.\n",
        "## Attacks\n",
        "Held of each: exit code 0, 2, 3 or 130; one line of at most 300 characters for an error, and nothing before"
        " it; no traceback, no control character, valid JSON; under 5 s of its own (a search or a fit: 60 s) and 1 GiB;"
        " no file written but `--output`, nothing started, no connection. `found` is what broke, all mended since.\n",
        "| date | seed | minutes | inputs | of which | answered | found |\n|:--|--:|--:|--:|:--|--:|--:|",
    ]  # fmt: skip
    for r in data.get("fuzz", []):
        kinds = ", ".join(f"{k} {n:,}" for k, n in r["inputs"].items())
        codes = r.get("codes", {})
        answered = f"{sum(codes.get(k, 0) for k in ('0', '3')):,}" if codes else "-"
        row = (r["date"], r["seed"], r["minutes"], f"{sum(r['inputs'].values()):,}", kinds, answered,
               sum(r["found"].values()))  # fmt: skip
        parts.append("| " + " | ".join(map(str, row)) + " |")
    tried = sum(sum(r["inputs"].values()) for r in data.get("fuzz", []))
    parts += [f"\n{tried:,} inputs in all.", "\n## Properties\n",
              "An evaluation is one property checked at one drawn point: a report, a format of it, a pair of sizes, a"
              " letter's value. Sizes that must grow are rows of `sweep`, two of which are held to the single commands;"
              " every report that a property asks is held to sums, ranges, verdicts and money.\n",
              "\n".join(f"- {r['date']}, seed {r.get('seed', '-')}: {sum(r['evaluations'].values()):,} evaluations,"
                        f" {int(r['failed'])} failed" for r in data.get("properties", [])),
              "\n| property | evaluations |\n|:--|--:|"]  # fmt: skip
    total: dict[str, int] = {}
    for r in data.get("properties", []):
        for name, n in r["evaluations"].items():
            total[name] = total.get(name, 0) + n
    parts += [f"| {name} | {n:,} |" for name, n in sorted(total.items())]
    parts += [f"| all | {sum(total.values()):,} |", *largest(), "\n## Mutants\n"]
    parts += [
        "A mutant is the program with one operator, comparison or number changed; it dies where a test fails.\n",
        *(["| part | mutants in all | run | died | share |\n|:--|--:|--:|--:|--:|"] if data.get("mutants") else []),
        *(f"| {m['part']} | {m['in_all']} | {m['mutants']} | {m['died']} | {100 * m['died'] / m['mutants']:.1f}% |"
          for m in data.get("mutants", [])),
    ]  # fmt: skip
    from tests.core.test_finds import FINDS

    parts += ["\n## Finds\n", "What broke under attack once, and the tests that hold it.\n", "| find | what it was |"
              " tests |\n|:--|:--|:--|"]  # fmt: skip
    parts += [f"| {k} | {what} | {', '.join(f'`{t}`' for t in tests)} |" for k, (what, tests) in FINDS.items()]
    parts += [f"\n{data['history']}", "\n## Open\n", *(f"- {line}" for line in data.get("open", []))]
    return "\n".join(parts) + "\n"


def largest() -> list[str]:
    """What was asked of ``--largest``: from docs/largest.json."""
    data = json.loads((HERE / "largest.json").read_text())
    kinds: dict[str, int] = {}
    for name, n in data["checked"].items():
        kinds[name.partition(",")[0]] = kinds.get(name.partition(",")[0], 0) + n
    return [
        "\n## The largest that fits\n",
        "Random runs of all kinds, each with `--largest` of one of its sizes: the single command says that the maximum"
        " fits, that one more does not, that the sure maximum surely fits and one more no longer surely"
        " (`python -m tests.properties.largest`). An earlier 1,000 (seed 18) found ten, all"
        " one fault, mended since: llama.cpp's batch size beside `--parallel`, which decides alone.\n",
        "| date | seed | checked | of which | found |\n|:--|--:|--:|:--|--:|",
        f"| {data['date']} | {data['seed']} | {sum(kinds.values()):,} | "
        + ", ".join(f"{k} {n:,}" for k, n in sorted(kinds.items())) + f" | {data['wrong']} |",
    ]  # fmt: skip


def _error(line: str) -> str:
    """What ``llmcalc LINE`` says on standard error."""
    from estimator.cli import run

    said = io.StringIO()
    with redirect_stderr(said):
        run(line.split())
    return said.getvalue()


@cache
def stacks() -> dict[str, list[tuple[float, float]]]:
    """What ran a measured step -> (measured bytes, relative error of the peak) of each, as the tests compute them."""
    from estimator.config import Config
    from estimator.models import Model
    from tests.accuracy import test_divided as divided
    from tests.accuracy import test_pipelines as staged
    from tests.accuracy import test_sharded_stacks as sharded
    from tests.accuracy import test_stacks as one

    found: dict[str, list[tuple[float, float]]] = {}

    def add(name: str, predicted: Any, measured: int) -> None:
        found.setdefault(name, []).append((float(measured), float(predicted) / measured - 1))

    names = ("stacks", "stacks_more", "compiled", "stacks_other", "stacks_wrapped")
    for c in [c for name in names for c in one.cases(name)]:
        name = "torch.compile" if "--compile" in c["options"] else c["id"].split("/")[0]
        add(name, one.predicted(c).worst.peak, c["measured"]["peak_allocated"])
    for c in one.cases("peers"):
        source, train = c["id"].split("/")[0], "/train/" in c["id"]
        more = {"transformers": "4.57"} if source == "vramcalc" and train else {}
        add(f"{source}'s runs", one.predicted(c, **more).worst.peak, c["measured"]["peak_allocated"])
    models = {k: Model(k, "file", Config(v)).architecture for k, v in sharded.DATA["configs"].items()}
    for c in (*sharded.CASES, *sharded.DATA["drawn"]):
        if c["case"]["stack"] != "plain":
            add(c["case"]["stack"], sharded.predicted(c, models[c["case"]["model"]]).worst.peak, c["peak"])
    for c in divided.CASES:
        add("experts" if c["case"].get("plan") == "experts" else c["case"]["stack"],
            divided.predicted(c).worst.peak, c["by_rank"][0]["peak"])  # fmt: skip
    models = {k: Model(k, "file", Config(v)).architecture for k, v in staged.DATA["configs"].items()}
    for c in staged.CASES:
        for rank, m in c["by_rank"].items():
            add("pipeline", staged.predicted(c, int(rank), models[c["case"]["model"]]).worst.peak, m["peak"])
    return found


RAN = {
    "trainer": "transformers 5.17 Trainer; one H100, one H200",
    "sft": "TRL 1.16 SFTTrainer; one H100, one H200",
    "dpo": "TRL 1.16 DPOTrainer; one H100, one H200",
    "reward": "TRL 1.16 RewardTrainer; one H100",
    "grpo": "TRL 1.16 GRPOTrainer, completions handed over; one H100",
    "torchtune": "torchtune 0.6.1, models and losses in a loop of its recipe; one H100",
    "litgpt": "litgpt 0.5.13, models and losses in a loop of its scripts; one H100",
    "unsloth": "Unsloth 2026.10.9 under TRL 1.15's SFTTrainer; one H100",
    "axolotl": "Axolotl 0.21's kernels and loader's rules under transformers 5.17; one H100",
    "torch-mixed": "transformers 5.17 under autocast in a loop: checkpointed experts; one H100",
    "torch.compile": "PyTorch 2.11 inductor around any of them; one H100, one H200",
    "deepspeed": "DeepSpeed 0.19.8, stages 0 to 3, with and without adapters and offloading; two H100s",
    "fsdp2": "PyTorch 2.11 fully_shard, with and without adapters; two H100s or H200s",
    "fsdp1": "PyTorch 2.11 FullyShardedDataParallel, a packed base, CPU offload; two H200s",
    "tensor": "PyTorch 2.11 parallelize_module and transformers 5.17's tp_plan: plain, with sequence and loss"
    " parallelism, LoRA, experts, shared experts, MLA, fused matrices; two H200s, and first ranks alone on one H100",
    "experts": "transformers 5.17's ep_plan; two H200s",
    "context": "PyTorch 2.11 context_parallel beside fully_shard; two H200s",
    "pipeline": "PyTorch 2.11 torch.distributed.pipelining, GPipe, 1F1B, interleaved, with DDP, FSDP2 and divided"
    " layers, rank by rank; two H200s, and ranks of deeper pipelines alone on one H100",
    "ddp": "PyTorch 2.11 DistributedDataParallel; two H100s",
    "fitcheck's runs": "fp16, LoRA and QLoRA on a Tesla T4, published with fitcheck-llm",
    "vramcalc's runs": "transformers 4.57 on an RTX A6000, published with vramcalc",
}


def blind() -> str:
    """The errors of the steps that were predicted before they were measured, as predicted then and as now."""
    from tests.accuracy import test_peft_steps as adapters
    from tests.accuracy import test_sharded_blind as sharded
    from tests.accuracy import test_stacks_blind as steps
    from tests.accuracy import test_stacks_brothers as brothers

    rows = ["\n## Predicted first, measured after\n", BLIND,
            "| drawn | predicted | steps | median | worst | off by over 0.7% |",
            "|:--|:--|--:|--:|--:|--:|"]  # fmt: skip
    for late, name in ((False, "first, then mended"), (True, "held back until then")):
        for when, found in (("then", steps.before(late)), ("now", steps.found(late))):
            far = sorted(100 * abs(e) for e in found.values())
            over = sum(e > 100 * steps.FAR for e in far)
            rows.append(f"| {name} | {when} | {len(far)} | {statistics.median(far):.2f}% | {far[-1]:.2f}% | {over} |")
    was, now = adapters.before(), adapters.found()
    far = [sorted(100 * abs(e) for e in found.values()) for found in (was, {k: now[k] for k in was}, now)]
    rows.append(ADAPTERS.format(*(x for e in far for x in (len(e), statistics.median(e), e[-1]))))
    notes = ((brothers.COMPILED, ()), (brothers.COMPILED_SIDES, (brothers.NAME, brothers.BLIND, brothers.SIDES)))
    far = [sorted(100 * abs(e) for e in brothers.compiled(note, *names).values()) for note, names in notes]
    rows.append(BROTHERS.format(*(x for e in far for x in (len(e), statistics.median(e), e[-1]))))
    told = [[sharded.peaks(draw, then) for then in (True, False)] for draw in (1, 2, 3)]
    said = [
        f"{len(e)} steps, {statistics.median(e):.2%} and {sharded.nine_tenths(e):.1%},"
        f" now {statistics.median(f):.2%} and {sharded.nine_tenths(f):.1%}"
        for e, f in told
    ]
    rows.append(SHARDED.format(len({c["model"] for c in sharded.cases(sharded.NAME)}), "; ".join(said)))
    return "\n".join(rows)


ADAPTERS = (
    "\n`peft_steps.json.gz`: steps with adapters of peft 0.21.2 in a loop and under the Trainer, two or three draws"
    " of each method over five models, formats, targets, dropouts and checkpointing, on one H200. Of the second"
    " draw, predicted with every layer held to the allocator's record (`peft_layers.json.gz`): {} steps, median"
    " {:.2f}%, worst {:.1f}%; two mechanisms were found on them (rows of the table that train, the mask of a"
    " prefix), and now {} steps, median {:.2f}%, worst {:.2f}%. Both draws now: {} steps, median {:.2f}%, worst"
    " {:.2f}%; what is over 0.7% are rests of blocks, which `--allocator simulated` finds to 0.5%.\n"
)

BROTHERS = (
    "\n`stacks_brothers.json.gz`: steps of other models, methods and optimizers to which what was found applies,"
    " predicted first. Of 20, 18 were within 0.5%, and two showed that dropouts which are calls outlive TRL's"
    " disable_dropout and that accelerate copies an encoder's states to fp32; seven more were within 0.17%. Compiled"
    " steps of decoders, of both files: {} steps, median {:.2f}%, worst {:.2f}%. Of encoders and encoder-decoders (with"
    " `stacks_compiled.json.gz`, sixteen whose graphs were traced without a card before they were measured): {} steps,"
    " median {:.2f}%, worst {:.2f}%. Adapters in those, checkpointed ones and experts in"
    " fp32 are counted as they run without torch.compile, and the answer says how far off two were.\n"
)


SHARDED = (
    "\n`sharded_blind.json.gz`: steps of one of two GPUs under DeepSpeed (0.19.8, stages 1 to 3), FSDP1, FSDP2 and DDP,"
    " {} models, drawn by a script and predicted first, on H200s. Three draws, each made when what those before it"
    " had shown was mended; the median and nine in ten, as predicted and now: {}. They showed norms in double of one"
    " gradient after another, gradients too large for a bucket (stage 1), weights gathered in one buffer that lie"
    " twice, experts' weights that the backward pass keeps, which gradient FSDP2's last reduction still names, and"
    " FSDP1's gradients made one tensor before its weights are given back. What is off by more than 1% in a phase is"
    " named in `tests/accuracy/test_sharded_blind.py`.\n"
)


BLIND = (
    "`stacks_blind.json.gz`: models of other families, optimizers, adapters, bases of 4 and 8 bits and stacks"
    " drawn by a script, on one H200 (torch 2.11, transformers 5.17, TRL 1.16, peft 0.21, bitsandbytes 0.50)."
    " Those drawn first showed what was missing: LLM.int8()'s kernels, dropouts of encoders and encoder-decoders,"
    " TRL's disable_dropout, DoRA with dropout, towers without gradients, torchao's steps, outputs copied to"
    " fp32. The others were measured before that was mended and looked at after, which showed a slip in the new"
    " code and the loss of EuroBERT. Compiled steps are left out; what is still far off is named in"
    " `tests/accuracy/test_stacks_blind.py`.\n"
)


def measured() -> str:
    """The errors by stack."""
    lines = [
        "# What was measured, by stack\n",
        "```sh\nllmcalc validate measured.json    # your own: benchmarks/measure_memory.py --stack trainer\n```\n",
        "Predicted peaks of the allocator beside measured ones, in percent of the measured. `tests/accuracy/` holds the"
        " cases with their options and bounds the errors. The mechanisms were found on part of these steps; 49 of the"
        " first three rows and of torch.compile are of models that none was found on (`stacks_more.json.gz`), 8 of"
        " reward, grpo and torchtune were measured after the others were explained (`late` in `stacks_other.json.gz`:"
        " at most 0.39% then, and one mechanism more was found on them), 4 of unsloth's too (`stacks_wrapped.json.gz`),"
        " the runs that others published had no part in it but for what an older card or release does. Single cards"
        " without"
        " a trainer are in [Accuracy](../accuracy.md), engines on their own pages.\n",
        "| stack | what ran | steps | median | worst |\n|:--|:--|--:|--:|--:|",
    ]
    for name, rows in stacks().items():
        far = sorted(100 * abs(e) for _, e in rows)
        lines.append(f"| `{name}` | {RAN[name]} | {len(far)} | {statistics.median(far):.2f}% | {far[-1]:.2f}% |")
    lines.append(blind())
    lines.append("\n![Errors of the peak beside the measured peak, one mark a step](../assets/measured.svg)\n")
    return "\n".join(lines)


def picture() -> str:
    """The same as a picture: every step's error beside its size."""
    found = {name: [(m * (1 + e), m) for m, e in rows] for name, rows in stacks().items()}
    return svg(errors("Predicted peak beside the measured one", found, "GiB", GIB))


@cache
def peaks() -> dict[str, list[tuple[float, float]]]:
    """What a step of the accuracy page was -> (predicted, measured) peaks in bytes."""
    rows = [r for name in ("gpu_memory", "gpu_memory_more") for r in steps(name)[1]]
    found: dict[str, list[tuple[float, float]]] = {}
    for group, pairs in peaks_of(rows).items():
        found.setdefault(group.partition(",")[0], []).extend(pairs)
    return found


def peaks_picture() -> str:
    """Every step of the accuracy page: predicted against measured."""
    return svg(against(f"Peaks of {sum(map(len, peaks().values()))} steps", peaks(), "GiB", GIB))


def errors_picture() -> str:
    """The errors of the same."""
    return svg(errors("Errors of the same peaks", peaks(), "GiB", GIB))


def peers() -> str:
    """Other calculators on the same steps, and their time beside llmcalc's: what benchmarks/peers.py recorded."""
    data = json.loads((HERE / "peers.json").read_text())
    errors_of_ours = [100 * (p / m - 1) for pairs in peaks().values() for p, m in pairs]
    far = sorted(map(abs, errors_of_ours))
    ours = (len(far), statistics.median(far), far[round(0.9 * (len(far) - 1))], statistics.mean(errors_of_ours))
    lines = [
        f"The {data['steps']} steps of [Accuracy](accuracy.md), on {data['date']} by `benchmarks/peers.py`, which asks"
        " each calculator about every step that it can express, with the model's own config.json and no network. Errors"
        " in percent: of the tensors, beside the allocator's peak, and of the whole device, beside what the driver"
        " showed (with the context, and what the allocator reserved). Time: the processor's, of one answer about"
        f" llama-3-8b, as a multiple of llmcalc {data['llmcalc']}'s for the same question in the same run. llmcalc's"
        " mechanisms were found on part of these steps; what the others were fitted to are runs of their authors.\n",
        "| calculator | answers for | steps answered | tensors: median, p90, bias | device: median, p90, bias | time |",
        "|:--|:--|--:|--:|--:|--:|",
        f"| llmcalc {data['llmcalc']} | | {ours[0]} | {ours[1]:.2f}, {ours[2]:.2f}, {ours[3]:+.2f} | a range | 1 |",
    ]
    for name, row in data["peers"].items():
        tensors, whole = (_three(row[key]) if key in row else "-" for key in ("tensors", "whole"))
        lines.append(f"| {name} {row['version']} | {row['what']} | {row['tensors']['cases']} | {tensors} | {whole} |"
                     f" {row['cpu_ratio']:g} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def _three(row: dict[str, float]) -> str:
    return f"{row['median']:.1f}, {row['p90']:.1f}, {row['bias']:+.1f}"


@cache
def times() -> dict[str, list[tuple[float, float]]]:
    """What was timed -> (predicted, measured) seconds, as tests/accuracy/test_step_time.py compares them."""
    from tests.accuracy.test_step_time import CASES, model_of, timed

    found: dict[str, list[tuple[float, float]]] = {}
    with TemporaryDirectory() as folder:
        for case in CASES["cases"]:
            results, pairs = timed(case, model_of(case, Path(folder)))
            for key, seconds, same in pairs:
                if same:
                    found.setdefault(TIMED[key], []).append((float(results[key]), float(seconds)))
    return found


def times_picture() -> str:
    """Seconds, predicted against measured."""
    return svg(against("Seconds of steps, prefills and decode steps", times(), "s"))
