"""Text from outside, such as file names, as one line that can be printed and drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from fastseg.errors import FastsegError
from fastseg.inputs.numbers import shown

_FILE_BYTES = 200
"""Longest name of a file without suffix; a file system takes 255 bytes in all."""

_MOST_TEXTS = 1_000_000
"""Most texts of an array."""

_HIDDEN_BYTES = range(0xDC80, 0xDD00)
"""Characters that Python puts for the bytes of a file name that are not UTF-8."""


def printable(text: str) -> str:
    """Return ``text`` with escapes for line breaks, control characters and bytes outside UTF-8."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def texts(values: object, what: str, error: type[FastsegError]) -> tuple[str, ...]:
    """Return names as a tuple of plain texts.

    Args:
        values: A sequence of texts, or an array of them, as detectors return their labels; one
            text is a sequence of one.
        what: Name of the argument, for the message.
        error: The error to raise.

    Raises:
        FastsegError: ``error``: they are no sequence, or one of them is no text or shows nothing.
    """
    if isinstance(values, str):
        values = (values,)
    given = values
    # Looked at before it becomes a list: a view of one number may state any shape.
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.size <= _MOST_TEXTS:
        given = values.tolist()
    if isinstance(given, bytes) or not isinstance(given, Sequence):
        raise error(f"{what} must be a list of texts, not {shown(values)}.")
    for index, value in enumerate(given):
        if not isinstance(value, str) or not value.strip():
            raise error(
                f"{what}[{index}] must be text that shows something, not {shown(value)}. Give each "
                "a name of its own, or leave the argument out."
            )
    return tuple(map(str, given))


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
