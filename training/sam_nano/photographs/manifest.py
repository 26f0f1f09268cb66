"""Manifest of the images that training may use: package, file, author and licence of each."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

FILE = Path(__file__).with_name("manifest.csv")

ImageKind = Literal["photograph", "texture", "drawing"]
"""Scenes with objects; surfaces; single objects before a transparent ground."""

INSIDE = "!"
"""Separates the path of a resource file from a path inside of it."""

LICENCES = frozenset({"CC0-1.0", "public-domain", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0"})
"""Licences that ask for no more than the author's name; none is share-alike."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Images of one author in a package of Debian."""

    package: str
    file: str
    """Path or pattern of paths inside the package, and perhaps in a resource file (``INSIDE``)."""
    author: str
    licence: str
    """A member of ``LICENCES``, as the package's copyright file or the image's card states it."""
    kind: ImageKind


def read(file: Path = FILE) -> tuple[Entry, ...]:
    """Read a manifest.

    Raises:
        ValueError: A licence or a kind is not one of those above.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        entries = tuple(Entry(**row) for row in csv.DictReader(lines))
    for entry in entries:
        if entry.licence not in LICENCES or entry.kind not in get_args(ImageKind):
            raise ValueError(
                f"{entry.file} of {entry.package} has licence {entry.licence!r} and kind "
                f"{entry.kind!r}; a manifest holds {sorted(LICENCES)} alone"
            )
    return entries
