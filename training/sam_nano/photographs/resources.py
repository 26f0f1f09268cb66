"""Reader of Qt's resource files (.rcc), in which some packages keep their images."""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = b"qres"
HEADER = struct.Struct(">4s4i")
"""Magic, version, and where the tree, the contents and the names begin."""

FOLDER = 2
PACKED = 1 | 4
"""Flags of a node: a folder; contents that are deflated or in Zstandard."""


def members(file: Path) -> dict[str, bytes]:
    """Read the files inside a resource file, by their paths; packed ones are left out.

    Raises:
        ValueError: It is no resource file.
    """
    data = file.read_bytes()
    if data[:4] != MAGIC or len(data) < HEADER.size:
        raise ValueError(f"{file} is no resource file of Qt: it does not begin with {MAGIC!r}")
    _, version, tree, contents, names = HEADER.unpack_from(data)
    node_size = 14 if version < 2 else 22
    found: dict[str, bytes] = {}
    open_nodes = [(0, "")]
    while open_nodes:
        node, above = open_nodes.pop()
        at = tree + node_size * node
        name_at, flags, first, second = struct.unpack_from(">iHii", data, at)
        (length,) = struct.unpack_from(">H", data, names + name_at)
        start = names + name_at + 6  # after the length and a hash
        name = data[start : start + 2 * length].decode("utf-16-be")
        path = f"{above}/{name}" if above else name
        if flags & FOLDER:
            open_nodes += [(second + child, path if node else "") for child in range(first)]
        elif not flags & PACKED:
            (size,) = struct.unpack_from(">I", data, contents + second)
            begin = contents + second + 4
            found[path] = data[begin : begin + size]
    return found
