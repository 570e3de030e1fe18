"""Work spread over processes: each piece in a child of its own, so that what dies or stalls is lost alone."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any


def apart(do: Callable[[], Any]) -> tuple[int, int]:
    """Start ``do`` in a forked child; (its pid, where the JSON of what it returns can be read)."""
    read, end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(end)
        return pid, read
    code = 1
    try:
        os.setpgid(0, 0)  # what it starts ends with it
        os.close(read)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        with os.fdopen(end, "w") as out:
            out.write(json.dumps(do()))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def spread(
    jobs: int, work: Iterator[Any], do: Callable[[Any], Any], seconds: float, end: float | None = None
) -> Iterator[tuple[Any, Any]]:
    """(item, ``do(item)``) of each item of ``work``, as they end; None where the child died or took too long.

    ``seconds``: of one item, by the clock. ``work`` is asked for an item when a process is free. end: the time
    (time.monotonic) at which what runs is ended and left out.
    """
    running: dict[int, tuple[int, Any, float, list[bytes]]] = {}
    more = True
    while more or running:
        while more and len(running) < jobs:
            item = next(work, None)
            if item is None:
                more = False
                break
            pid, read = apart(lambda item=item: do(item))  # type: ignore[misc]
            running[read] = (pid, item, min(time.monotonic() + seconds, end or 1e300), [])
        ready = select.select([*running], [], [], 1.0)[0]
        for read, (pid, item, until, parts) in list(running.items()):
            if read in ready:
                part = os.read(read, 1 << 20)
                parts.append(part)
                if part:
                    continue
            elif time.monotonic() < until:
                continue
            else:
                os.killpg(pid, signal.SIGKILL)
                parts.clear()
                if end is not None and until >= end:
                    item = None
            os.close(read)
            os.waitpid(pid, 0)
            del running[read]
            text = b"".join(parts)
            if item is not None:
                yield item, json.loads(text) if text else None
