"""Text from outside, such as file names, as one line that can be printed and drawn."""

from __future__ import annotations

import unicodedata

_FILE_BYTES = 200
"""Longest name of a file without suffix; a file system takes 255 bytes in all."""

_HIDDEN_BYTES = range(0xDC80, 0xDD00)
"""Characters that Python puts for the bytes of a file name that are not UTF-8."""


def printable(text: str) -> str:
    """Return ``text`` with escapes for line breaks, control characters and bytes outside UTF-8."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def file_stem(text: str) -> str:
    """Turn a name into one that any file system takes: one line, of limited length, not hidden."""
    kept = "".join(letter if letter == _escaped(letter) else "_" for letter in text)
    kept = kept.replace("/", "_").encode()[:_FILE_BYTES].decode(errors="ignore")
    visible = kept.lstrip(".")
    return visible or "image"


def _escaped(letter: str) -> str:
    if letter.isprintable() or unicodedata.category(letter) == "Zs":
        return letter
    if ord(letter) in _HIDDEN_BYTES:
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
