"""What a wheel carries: how large it gets."""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
MOST = 2_095_000  # bytes; the code alone, of 700 files, is 1.36 million of them


def test_a_wheel_does_not_grow_unseen():
    """Zipped as hatchling zips it, but for the licence and the metadata: 9 kB less than what it builds."""
    carried = {**{name: name for name in WHEEL["packages"]}, **WHEEL["force-include"]}
    record, made = [], io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        for source, at in carried.items():
            place = ROOT / source
            for path in sorted(place.rglob("*")) if place.is_dir() else (place,):
                if path.is_file() and path.suffix != ".pyc":
                    name = f"{at}/{path.relative_to(place).as_posix()}" if place.is_dir() else at
                    wheel.writestr(name, path.read_bytes())
                    digest = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
                    record.append(f"{name},sha256={digest},{path.stat().st_size}")
        wheel.writestr("llmcalc_estimator.dist-info/RECORD", "\n".join(record))
    print(f"{len(made.getvalue()):,} bytes")
    assert len(made.getvalue()) < MOST
