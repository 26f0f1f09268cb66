"""Damaged images of every format that is read, and films through the reader of ``echo``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fastseg import read_image
from fastseg.echo import files as echo_files
from fastseg.images import FORMATS
from tools.attack.campaign import Campaign, Case, Counts, typed
from tools.attack.mutations import damaged

MAX_PIXELS = 4_000_000
"""Limit that is given to the readers."""

BOUND = 2**28
"""Bytes that a file may take: a clip of 4 times the limit in RGB, and what its decoder holds."""

_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}

_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "TIFF": (
        *({"compression": kind} for kind in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")),
        {"compression": "packbits"},
    ),
    "JPEG": ({"progressive": True}, {"subsampling": 2, "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    "WEBP": ({"lossless": True}, {"quality": 80}),
    "JPEG2000": ({"irreversible": True}, {}),
    "TGA": ({"compression": "tga_rle"}, {}),
}
_MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "LA")
_FILMS = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")


def pixels(side: int = 40) -> Image.Image:
    """Return a small RGB image with edges and noise."""
    noise = np.random.default_rng(0).integers(0, 60, (side - 9, side, 3), dtype=np.uint8)
    y, x = np.mgrid[: side - 9, :side]
    return Image.fromarray(noise + (((x // 8 + y // 8) % 2) * 180).astype(np.uint8)[..., None])


class _Files(Campaign):
    memory_bound = BOUND
    budget, short_budget = 30.0, 5.0

    def attack(self, case: Case) -> Counts:
        """Read a damaged file."""
        name, content = self.seeds[case.index % len(self.seeds)]
        path = case.folder / name
        path.write_bytes(damaged(content, case.random))
        return self.read(path)

    seeds: list[tuple[str, bytes]]

    def read(self, path: Path) -> Counts:
        """Read the file as a user would."""
        raise NotImplementedError


class Images(_Files):
    """One image a file, in every mode that each format stores."""

    name = "images"
    cases, short_cases = 40_000, 1500
    budget = 40.0

    def prepare(self, folder: Path) -> None:
        """Write an image in each format, mode and compression."""
        del folder
        self.seeds = []
        for kind in FORMATS:
            for mode in _MODES:
                for options in _OPTIONS.get(kind, ({},)):
                    content = _saved(pixels().convert(mode), kind, options)
                    if content is not None:
                        self.seeds.append((f"image{_suffix(kind)}", content))

    def read(self, path: Path) -> Counts:
        """Read the path and the bytes."""
        counts = typed(lambda: read_image(path, max_pixels=MAX_PIXELS))
        return counts + typed(lambda: read_image(path.read_bytes(), max_pixels=MAX_PIXELS))


class Films(_Files):
    """Several pages a file."""

    name = "films"
    cases, short_cases = 12_000, 800

    def prepare(self, folder: Path) -> None:
        """Write a film in each format."""
        del folder
        self.seeds = []
        pages = [pixels().rotate(90 * turn, expand=False) for turn in range(3)]
        for kind in _FILMS:
            for mode in ("RGB", "L", "P"):
                more: dict[str, Any] = {
                    "save_all": True,
                    "append_images": [page.convert(mode) for page in pages[1:]],
                }
                for options in _OPTIONS.get(kind, ({},)):
                    content = _saved(pages[0].convert(mode), kind, options | more)
                    if content is not None and kind in FORMATS:
                        self.seeds.append((f"film{_suffix(kind)}", content))

    def read(self, path: Path) -> Counts:
        """Read the film as frames."""
        return typed(lambda: echo_files.read(path, channels=None, max_pixels=MAX_PIXELS))


def _suffix(kind: str) -> str:
    return _SUFFIXES.get(kind, f".{kind.lower()}")


def _saved(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes | None:
    """Return the file, or None where the format does not store the mode."""
    stream = io.BytesIO()
    try:
        image.save(stream, kind, **options)
    except (OSError, ValueError, KeyError):
        return None
    return stream.getvalue()
