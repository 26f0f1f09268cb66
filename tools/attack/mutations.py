"""Damage to bytes and to JSON, drawn at random."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

HOSTILE: tuple[Any, ...] = (
    *(None, True, "", "x", "\0", "\ud800", "../../etc/passwd", "/etc/passwd", "a" * 300, "1e400"),
    *(0, -1, 1, 3, 2**15, 2**24, 2**31, 2**63, 10**400, -(2**63), 0.5, 1e39, 1e308, 5e-324),
    *(float("nan"), float("inf"), [], {}, [[]], [1, 2], {"x": 1}, [None] * 3, ["x"] * 4),
)
"""Values that a reader of JSON may not expect."""


def damaged(content: bytes, random: Random, *, most: int = 8) -> bytes:
    """Change a few bytes of a file, most often near its beginning."""
    made = bytearray(content)
    for _ in range(random.randint(1, most)):
        start = int(random.random() ** random.choice((1, 3)) * len(made))
        _change(made, start, random)
    if random.random() < 0.1:
        del made[int(random.random() * len(made)) :]
    return bytes(made)


def _change(made: bytearray, start: int, random: Random) -> None:
    length = random.choice((1, 1, 1, 2, 4, 8, 64))
    kind = random.randrange(6)
    if kind == 0 and made:
        place = min(start, len(made) - 1)
        made[place] ^= 1 << random.randrange(8)
    elif kind == 1:
        made[start : start + length] = random.randbytes(length)
    elif kind == 2:
        width = random.choice((1, 2, 4))
        edge = random.choice(_EDGES) & (2 ** (8 * width) - 1)
        made[start : start + width] = edge.to_bytes(width, random.choice(("little", "big")))
    elif kind == 3:
        del made[start : start + length]
    elif kind == 4:
        made[start:start] = random.randbytes(length)
    else:
        source = random.randrange(len(made) + 1)
        made[start : start + length] = made[source : source + length]


def with_hostile_values(document: Any, random: Random, *, most: int = 3) -> Any:
    """Replace, remove or double a few values of a JSON document."""
    made = copy.deepcopy(document)
    for _ in range(random.randint(1, most)):
        places = list(_places(made))
        if not places:
            break
        holder, key = random.choice(places)
        kind = random.random()
        if kind < 0.75:
            holder[key] = copy.deepcopy(random.choice(HOSTILE))
        elif kind < 0.9:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[f"{key} "] = holder.pop(key)
    return made


def _places(document: Any) -> list[tuple[Any, Any]]:
    """List every value below a document as its holder and its key."""
    found: list[tuple[Any, Any]] = []
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    for key in keys:
        found.append((document, key))
        if isinstance(document[key], dict | list):
            found += _places(document[key])
    return found
