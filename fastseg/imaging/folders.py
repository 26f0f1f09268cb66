"""Folders of images, and the files in them that count as images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastseg.errors import ImageError
from fastseg.images import is_image
from fastseg.imaging.reading import is_medical
from fastseg.storage.paths import is_file, is_folder, names_in

IMAGE_SUFFIXES = frozenset(
    (".bmp", ".dcm", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Suffixes, in any case, of files that a folder contributes even if they are damaged."""

_NAMED = 5


def expand_folders(sources: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Replace every folder by the images in it, in the order of their names.

    A file counts by its content, or by a suffix of images, so that a damaged one is not passed
    over. Hidden files, folders, pipes and devices do not count, and are not opened.

    Returns:
        The images, and for each folder that holds something else a line that names it.

    Raises:
        ImageError: A folder has no image in it, or cannot be read.
    """
    found: list[Path] = []
    lines = []
    for source in sources:
        if not is_folder(source, ImageError):
            found.append(source)
            continue
        names = names_in(source, ImageError)
        inside = [name for name in names if _counts(source / name)]
        if not inside:
            raise ImageError(f"{source} has no image in it. Name a folder of images, or a file.")
        found += [source / name for name in inside]
        others = [name for name in names if name not in inside]
        if others:
            named = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
            lines.append(f"{source}: {len(others)} left out, not images or hidden: {named}")
    return found, lines


def _counts(path: Path) -> bool:
    if path.name.startswith(".") or not is_file(path):
        return False
    return path.suffix.lower() in IMAGE_SUFFIXES or is_image(path) or is_medical(path)
