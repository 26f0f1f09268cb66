"""Check Markdown prose: lines of at most 100 characters, and at most one sentence a line.

Tables, code blocks and the targets of links are exempt. A sentence may take several lines.

Usage: python tools/check_prose.py FILE...
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 100

FENCE = re.compile(r"\s*(```|~~~)")
CODE = re.compile(r"(`+)(.+?)\1")
TARGET = re.compile(r"(?<=\])\([^)]*\)|<?https?://\S+")
# "1. ", "- ", "> " and "[1] ", then a bold lead-in such as "**Same masks.** ".
OPENING = re.compile(r"\s*(?:[-*+>]|\d+\.|\[\d+\])?\s*(?:\*\*[^*]+\*\*)?")
ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|cf|vs|et al|etc|approx|Fig|Nat|Commun|Am|Soc)\.$")
SENTENCE_END = re.compile(r"[.!?][\"')\]*_]*(?= +[\"'(\[*_]*[A-Z])")


def problems(text: str) -> Iterator[tuple[int, str]]:
    """Find the lines of a Markdown file that break a rule.

    Args:
        text: The content of the file.

    Yields:
        Line number, from 1, and the problem in words.
    """
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
            continue
        if fence or line.lstrip().startswith("|"):
            continue
        length = len(TARGET.sub("", line).rstrip())
        if length > LONGEST:
            yield number, f"{length} characters, more than {LONGEST}: break the line"
        if has_two_sentences(line):
            yield number, "two sentences in one line: start a new line for the second"


def has_two_sentences(line: str) -> bool:
    """Tell whether a sentence ends inside a line and another one follows."""
    words = OPENING.sub("", TARGET.sub("", CODE.sub("X", line)), count=1)
    return any(
        not ABBREVIATION.search(words[: end.start() + 1]) for end in SENTENCE_END.finditer(words)
    )


def main(files: list[str]) -> int:
    """Report every problem of the files; 1 if there is one."""
    found = 0
    for file in files:
        for number, problem in problems(Path(file).read_text(encoding="utf-8")):
            found += 1
            print(f"{file}:{number}: {problem}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
