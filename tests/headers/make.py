"""Small safetensors and GGUF files, written by hand from the formats' descriptions."""

from __future__ import annotations

import json
import struct
from math import prod

BITS = {"F32": 32, "BF16": 16, "F16": 16, "I64": 64, "U8": 8, "F8_E4M3": 8, "F4": 4}


def safetensors(path, tensors, data=True):
    """A file of ``{name: (dtype, shape)}``; without ``data`` only the header is written."""
    entries, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    if data:
        with path.open("r+b") as file:  # sparse: takes no room on the disk
            file.truncate(8 + len(raw) + at)
    return at


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def pair(key, value):
    if isinstance(value, str):
        return string(key) + struct.pack("<I", 8) + string(value)
    if isinstance(value, list):
        kind, body = (
            (8, b"".join(map(string, value)))
            if isinstance(value[0], str)
            else (5, struct.pack(f"<{len(value)}i", *value))
        )
        return string(key) + struct.pack("<IIQ", 9, kind, len(value)) + body
    if isinstance(value, float):
        return string(key) + struct.pack("<If", 6, value)
    return string(key) + struct.pack("<II", 4, value)


def gguf(path, pairs, tensors, data=True, version=3):
    """A file of ``{name: (ggml type, shape outermost first, bytes)}``."""
    body = b"".join(pair(k, v) for k, v in pairs.items())
    at = 0
    for name, (kind, shape, size) in tensors.items():
        dims = shape[::-1]
        body += string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, at)
        at += -(-size // 32) * 32
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + body
    path.write_bytes(head)
    if data:
        with path.open("r+b") as file:
            file.truncate(-(-len(head) // 32) * 32 + at)
