"""Record transformers' plans of tensor parallelism: ``python tests/data/make_tp_plans.py FOLDER_OF_TRANSFORMERS``.

Every configuration class's ``base_model_tp_plan`` as it is written, of the model types that have a family, goes into
tests/data/tp_plans.json.gz.
"""

from __future__ import annotations

import ast
import gzip
import json
import sys
from pathlib import Path

from estimator.families import FAMILIES


def plans(root: Path) -> dict[str, dict[str, str]]:
    """model_type -> plan."""
    found = {}
    for path in sorted(root.glob("models/*/configuration_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                own = dict(filter(None, map(field, node.body)))
                kind, plan = own.get("model_type"), own.get("base_model_tp_plan")
                if kind in FAMILIES and plan:
                    found[kind] = plan
    return found


def field(node: ast.stmt) -> tuple[str, object] | None:
    """A class attribute with a literal value."""
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    value = getattr(node, "value", None)
    if not isinstance(target, ast.Name) or target.id not in ("model_type", "base_model_tp_plan") or value is None:
        return None
    try:
        return target.id, ast.literal_eval(value)
    except ValueError:  # a plan made of another's
        return None


if __name__ == "__main__":
    made = {"source": "transformers 5.17.0", "plans": plans(Path(sys.argv[1]))}
    packed = gzip.compress(json.dumps(made, sort_keys=True).encode(), mtime=0)
    Path(__file__).with_name("tp_plans.json.gz").write_bytes(packed)
