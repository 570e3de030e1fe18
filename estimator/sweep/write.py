"""Rows of a sweep on their way out: CSV, JSON and Parquet, written chunk by chunk."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from estimator.errors import InputError, unknown
from estimator.render.streams import escaped, write

FORMATS = ("csv", "json", "parquet")
Chunks = Iterator[dict[str, Any]]


def check(format: str, output: str | None) -> None:
    """InputError for a format that there is not, or that cannot be written there."""
    if format not in FORMATS:
        raise unknown("--format", format, FORMATS)
    if output is not None and not output.strip():
        raise InputError("--output is empty: give a file's name, or leave it out")
    if format == "parquet":
        if output in (None, "-"):
            raise InputError("--format parquet is no text: add --output FILE.parquet")
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError("--format parquet needs pyarrow: pip install 'llmcalc-estimator[parquet]'") from None


def _list(values: Any) -> list[Any]:
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return found


def as_csv(header: Sequence[str], chunks: Chunks) -> Iterator[str]:
    """A header row, then the rows; what is not there is empty."""
    yield _quoted([header])
    for chunk in chunks:
        columns = [_list(chunk[k]) for k in header]
        if all(type(v) in (int, float) for column in columns for v in column[:1]) and all(
            getattr(chunk[k], "dtype", None) in ("int64", "float64") for k in header
        ):
            yield "\n".join(map(",".join, zip(*(map(repr, c) for c in columns), strict=True))) + "\n"
        else:
            yield _quoted(zip(*columns, strict=True))


def _quoted(rows: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def as_json(header: Sequence[str], chunks: Chunks, inputs: dict[str, Any]) -> Iterator[str]:
    """One object: ``schema``, ``command``, ``inputs``, ``rows``."""
    head = json.dumps({"schema": 1, "command": "sweep", "inputs": inputs}, ensure_ascii=False, default=str)
    yield head[:-1] + ', "rows": ['
    first = True
    for chunk in chunks:
        columns = [_list(chunk[k]) for k in header]
        rows = (dict(zip(header, row, strict=True)) for row in zip(*columns, strict=True))
        yield ("\n" if first else ",\n") + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        first = False
    yield "\n]}\n"


def parquet(header: Sequence[str], chunks: Chunks, output: str) -> None:
    """A Parquet file, a row group a chunk; columns of mixed kinds as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for chunk in chunks:
            table = pa.table({k: _array(pa, chunk[k]) for k in header})
            if writer is None:
                writer = pq.ParquetWriter(output, table.schema)
            writer.write_table(table.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _array(pa: Any, values: Any) -> Any:
    if getattr(values, "dtype", None) in ("int64", "float64"):
        return pa.array(values)
    found = _list(values)
    kinds = {type(v) for v in found if v is not None}
    if kinds <= {int, float} or kinds <= {str} or kinds <= {bool}:
        return pa.array(found)
    return pa.array([None if v is None else str(v) for v in found])


def emit(format: str, output: str | None, header: Sequence[str], chunks: Chunks, inputs: dict[str, Any]) -> None:
    """Write the rows to ``output`` or to standard output as they come; a file that fails half-way is taken away."""
    try:
        if format == "parquet":
            assert output is not None
            _whole(output, lambda place: parquet(header, chunks, str(place)))
            return
        texts = as_csv(header, chunks) if format == "csv" else as_json(header, chunks, inputs)
        if output is None or output == "-":
            for text in texts:
                write(text, sys.stdout)
            return

        def lines(place: Path) -> None:
            with place.open("w", encoding="utf-8", newline="") as file:
                file.writelines(texts)

        _whole(output, lines)
    except OSError as error:
        raise InputError(f"--output {escaped(str(output)[:80])}: {error.strerror or error}") from None


def _whole(output: str, fill: Callable[[Path], None]) -> None:
    """Fill a file beside ``output`` and rename it when it is whole; a device is filled itself."""
    path = Path(output).expanduser()
    if path.is_dir():
        raise InputError(f"--output {escaped(output[:80])}: is a directory")
    if path.exists() and not path.is_file():
        fill(path)
        return
    part = path.with_name(f".{path.name}.part")
    try:
        fill(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
