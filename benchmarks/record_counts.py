"""Record the inventories of transformers' classes: every tensor's name and shape as expressions in the config's fields.

    python benchmarks/record_counts.py [MODEL_TYPE ...] [--out presets/counts.jsonl.gz]

A class is built on the meta device from a config whose sizes are ints that remember how they were computed
(:class:`Remembered`). Every result of an operation on them is noted under its value, so a dimension is looked up by its
value; as several expressions may give one value, the class is built at several sizes and only what explains all of them
stays. How often a layer's tensor occurs is fitted in the same way, from the fields that count layers and from lists of
layer kinds. Flags are switched one by one, and two at a time to see that they do not meddle with each other. At last
every expression is held to further sizes, and what a config.json of the class gives to these; a class that is not
reproduced exactly is left out, with a sentence that says why. The file is written after each class.

Needs torch and transformers 5 (the extra ``measure``). Nothing is downloaded; no weight is ever allocated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from class_fit import Untraceable
from class_record import STARTS, record
from class_walk import Walk, written

from estimator.families import FAMILIES

SECONDS = 120  # of the processor: a class that takes longer is left out


def classes(only: list[str]) -> Iterator[tuple[str, Any, list[Any]]]:
    """(model_type, config class, model classes): causal classes first, then masked, sequence to sequence, bare."""
    import transformers
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found: dict[str, list[Any]] = {}
    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        for model_type, name in mapping.items():
            if (only and model_type not in only) or (not only and model_type in FAMILIES):
                continue
            try:
                name = name if isinstance(name, str) else name[0]
                found.setdefault(model_type, []).append(getattr(transformers, name))
            except Exception as error:
                print(f"{model_type}: {name}: {type(error).__name__}: {str(error)[:80]}", file=sys.stderr)
    for model_type, models in found.items():
        if "text_config" in (getattr(CONFIG_MAPPING[model_type], "sub_configs", None) or {}):  # of what sees or hears
            models.sort(key=lambda m: m.__name__.endswith("ForCausalLM"))
        yield model_type, CONFIG_MAPPING[model_type], list(dict.fromkeys(models))


class Late(BaseException):
    """A class took too long: no ``except Exception`` on the way may keep it."""


def late(*_: Any) -> None:
    raise Late(f"it took more than {SECONDS} s of the processor")


def held(kind: str, made: dict[str, Any]) -> None:
    """Untraceable where the inventory, read from a config.json, is another than the class's at further sizes, or where
    none is read.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from estimator.config import Config
    from estimator.errors import InputError
    from estimator.families import recorded

    plain = json.loads(json.dumps(made, default=jsonable))
    walk = Walk(CONFIG_MAPPING[kind], getattr(transformers, made["class"]), STARTS.get(kind))
    refused, equal = "", 0
    for raw, shapes in written(walk, plain):
        got: Counter[tuple[int, ...]] = Counter()
        try:
            for w in recorded.of_record(Config(raw), plain).weights():
                got[w.shape] += w.times
        except InputError as error:
            refused = str(error).partition(": ")[2].partition(" recorded inventory")[0]
            continue
        if got != shapes:
            raise Untraceable("its config.json does not tell its inventory")
        equal += 1
    if refused and not equal:
        said = refused.removesuffix(" is not in the").removesuffix(", the")
        raise Untraceable(f"its record covers no config.json that it writes: {said}")


def hold(path: Path) -> int:
    """Drop the records of a file that are not the class's at further sizes."""
    head, records = read(path)
    for kind, made in list(records.items()):
        try:
            held(kind, made)
        except Exception as error:
            head["left_out"][kind] = why(error)
            del records[kind]
            print(f"{kind}: left out: {head['left_out'][kind]}", flush=True)
    print(f"{len(records)} held")
    write(path, head, records)
    return 0


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(versions and what is left out, the records by model_type) of a file."""
    first, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    records = [json.loads(line) for line in lines]
    return json.loads(first), {r["type"]: r for r in records}


def write(path: Path, head: dict[str, Any], records: dict[str, Any]) -> None:
    """A line of versions, of what is known and what is left out; a line a record. The same bytes every time."""
    known = {k: records[k] for k in sorted(records)}
    head = {**head, "known": list(known), "left_out": dict(sorted(head["left_out"].items()))}
    lines = (json.dumps(x, separators=(",", ":"), default=jsonable) for x in (head, *known.values()))
    path.write_bytes(gzip.compress("\n".join(lines).encode(), 9, mtime=0))


def why(error: BaseException) -> str:
    """A sentence's end on a class that is left out, which a user reads."""
    text = " ".join(str(error).split())
    needs = re.search(r"requires the (.{1,40}?) library", text)
    if needs:
        return f"it needs {needs[1]}, which was not there"
    if isinstance(error, Untraceable | Late):
        return text
    return f"it does not build from its class's own defaults ({type(error).__name__})"


def jsonable(value: Any) -> Any:
    """What JSON has no word for: sets, and the library's own objects."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path, help="the file to write; of types not named it keeps what it has")
    parser.add_argument("--hold", type=Path, help="hold the records of this file to further sizes instead")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    if args.hold:
        return hold(args.hold)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    head, records = read(args.out) if args.types and args.out and args.out.exists() else ({"left_out": {}}, {})
    head["versions"] = versions
    signal.signal(signal.SIGVTALRM, late)
    done = 0
    for model_type, config_class, model_classes in classes(args.types):
        records.pop(model_type, None)
        head["left_out"].pop(model_type, None)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            made = record(model_type, config_class, model_classes)
            held(model_type, made)
            records[model_type] = made
            print(f"{model_type}: {len(made['tensors'])} tensors", flush=True)
            done += 1
        except (Exception, Late) as error:
            head["left_out"][model_type] = why(error)
            print(f"{model_type}: left out: {head['left_out'][model_type]}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if args.out:
            write(args.out, head, records)
    print(f"{done} recorded; in all {len(records)}, {len(head['left_out'])} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
