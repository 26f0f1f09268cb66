"""Check that no retired word comes back, in prose or inside the names of the code.

Names are taken apart, so that ``run_verdict``, ``RunVerdict`` and "verdict" are one find each.
A spelling that a file format or a public name needs is kept everywhere, and only as a whole.

Usage: python tools/check_words.py FILE...
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

DICTIONARY = Path(__file__).with_name("retired_words.txt")

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Entry:
    """The term that replaces a word, and exceptions: spellings, and files that keep the word."""

    term: str
    spellings: tuple[str, ...]
    kept_in: tuple[str, ...]


def read(text: str) -> dict[str, Entry]:
    """Read a dictionary: ``word, forms of it: term; =spelling file``, one entry a line."""
    entries = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            words, _, rest = line.partition(": ")
            term, _, exceptions = rest.partition("; ")
            kept = exceptions.split()
            spellings = tuple(one[1:] for one in kept if one.startswith("="))
            files = tuple(one for one in kept if not one.startswith("="))
            entry = Entry(term, spellings, files)
            entries.update(dict.fromkeys(words.split(", "), entry))
    return entries


def problems(file: str, text: str, entries: Mapping[str, Entry]) -> Iterator[tuple[int, str]]:
    """Find retired words.

    Args:
        file: Path of the file, as the dictionary names it.
        text: Its content.
        entries: The dictionary, by word in lower case.

    Yields:
        Line number, from 1, and the problem in words.
    """
    retired = {
        word: entry
        for word, entry in entries.items()
        if not any(fnmatch(file, pattern) for pattern in entry.kept_in)
    }
    spellings = {spelling for entry in entries.values() for spelling in entry.spellings}
    kept = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in spellings) or "(?!)")
    for number, line in enumerate(kept.sub("", text).splitlines(), start=1):
        for found in WORD.findall(line):
            if (entry := retired.get(found.lower())) is not None:
                yield number, f"{found!r} is a retired word: {entry.term}"


def main(files: list[str]) -> int:
    """Report every retired word of the files; 1 if there is one."""
    entries = read(DICTIONARY.read_text(encoding="utf-8"))
    found = 0
    for file in files:
        for number, problem in problems(file, Path(file).read_text(encoding="utf-8"), entries):
            found += 1
            print(f"{file}:{number}: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
