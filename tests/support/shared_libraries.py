"""Shared libraries of nothing but a name and dependencies, made without a compiler."""

import platform
import struct
from collections.abc import Sequence
from pathlib import Path

MACHINES = {"x86_64": 62, "aarch64": 183}
"""ELF's numbers of processors."""


def write_library(file: Path, soname: str, needs: Sequence[str] = ()) -> None:
    """Write an ELF library that can be loaded, once what it needs is, and defines nothing."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in (soname, *needs))
    start = 64 + 3 * 56  # of the dynamic section, after the header and three program headers
    entries = 5 + len(needs) + 1
    symbols = start + 16 * entries
    strings = symbols + 24  # one symbol, the empty one that each table begins with
    end = strings + len(names)
    places = [1]
    for name in (soname, *needs):
        places.append(places[-1] + len(name) + 1)
    dynamic = [(14, places[0]), *((1, place) for place in places[1:-1])]  # DT_SONAME, DT_NEEDED
    dynamic += [(5, strings), (10, len(names)), (6, symbols), (11, 24), (0, 0)]  # DT_STRTAB ... DT_NULL
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack(
        "<HHIQQQIHHHHHH", 3, MACHINES[platform.machine()], 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0
    )
    whole = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, end, end, 4096)  # PT_LOAD, read and write
    size = 16 * entries
    found = struct.pack("<IIQQQQQQ", 2, 6, start, start, start, size, size, 8)  # PT_DYNAMIC
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not executable
    file.parent.mkdir(parents=True, exist_ok=True)
    table = b"".join(struct.pack("<QQ", *entry) for entry in dynamic)
    file.write_bytes(header + whole + found + stack + table + bytes(24) + names)
