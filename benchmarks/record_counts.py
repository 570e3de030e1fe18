"""Record the inventories of transformers' classes: every tensor's name and shape as expressions in the config's fields.

    python benchmarks/record_counts.py [MODEL_TYPE ...] [--out presets/counts.json.gz]

A class is built on the meta device from a config whose sizes are ints that remember how they were computed
(:class:`Remembered`). Every result of an operation on them is noted under its value, so a dimension is looked up by its
value; as several expressions may give one value, the class is built at several sizes and only what explains all of them
stays. How often a layer's tensor occurs is fitted in the same way, from the fields that count layers and from lists of
layer kinds. Flags are switched one by one, and two at a time to see that they do not meddle with each other. At last
every expression is held to further sizes; a class that is not reproduced exactly is left out and named.

Needs torch and transformers 5 (the extra ``measure``). Nothing is downloaded; no weight is ever allocated.
"""

from __future__ import annotations

import argparse
import gzip
import json
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

SECONDS = 60  # of the processor: a class that takes longer is left out


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
    raise Late(f"took more than {SECONDS} s of the processor")


def held(path: Path) -> int:
    """Drop the records whose inventory, read from a config.json, is not the class's at further sizes."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from estimator.config import Config
    from estimator.families import recorded

    data = json.loads(gzip.decompress(path.read_bytes()))
    for kind, made in list(data["records"].items()):
        walk = Walk(CONFIG_MAPPING[kind], getattr(transformers, made["class"]), STARTS.get(kind))
        try:
            for raw, shapes in written(walk, made):
                got: Counter[tuple[int, ...]] = Counter()
                for w in recorded.build(Config(raw)).weights():
                    got[w.shape] += w.times
                if got != shapes:
                    raise Untraceable("its config.json does not tell its inventory")
        except Exception as error:
            data["left_out"][kind] = str(error).splitlines()[0][:120]
            del data["records"][kind]
            print(f"{kind}: left out: {data['left_out'][kind]}", flush=True)
    print(f"{len(data['records'])} held")
    write(path, data)
    return 0


def write(path: Path, data: dict[str, Any]) -> None:
    """The same bytes for the same records."""
    text = json.dumps(data, separators=(",", ":"), default=jsonable)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


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
        return held(args.hold)
    records, refused = {}, {}
    signal.signal(signal.SIGVTALRM, late)
    for model_type, config_class, model_classes in classes(args.types):
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            records[model_type] = record(model_type, config_class, model_classes)
            print(f"{model_type}: {len(records[model_type]['tensors'])} tensors", flush=True)
        except (Exception, Late) as error:
            why = str(error) if isinstance(error, Untraceable) else f"{type(error).__name__}: {error}"
            refused[model_type] = why[:120]
            print(f"{model_type}: left out: {refused[model_type]}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(f"{len(records)} recorded, {len(refused)} left out")
    if args.out:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        old = json.loads(gzip.decompress(args.out.read_bytes())) if args.types and args.out.exists() else {}
        kept, left = ({k: v for k, v in old.get(p, {}).items() if k not in args.types} for p in ("records", "left_out"))
        write(args.out, {"versions": versions, "records": {**kept, **records}, "left_out": {**left, **refused}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
