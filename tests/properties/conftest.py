"""What the properties were evaluated on, for docs/reliability.md: ``LLMCALC_TALLY=FILE`` adds the counts to a file."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.properties.asked import MORE
from tests.properties.holds import TALLY


def pytest_sessionfinish(exitstatus: int) -> None:
    """Add the tally of this session."""
    name = os.environ.get("LLMCALC_TALLY")
    if name is None or not TALLY:
        return
    path = Path(name)
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found = {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "times": MORE, "failed": bool(exitstatus)}
    data.setdefault("properties", []).append({**found, "evaluations": dict(sorted(TALLY.items()))})
    path.write_text(json.dumps(data, indent=1) + "\n")
