"""Limits of volumes, and numbers of any layout as frames, for all readers of volumes."""

from __future__ import annotations

import gzip
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fastseg.errors import ImageError
from fastseg.images import check_clip, check_size

GZIP = b"\x1f\x8b"

LPS_FROM_RAS = np.diag((-1.0, -1.0, 1.0, 1.0))
"""From axes to the right, front and head to axes to the left, back and head."""


def open_maybe_packed(path: Path) -> BinaryIO:
    """Open a file, and unpack it on the way if it is packed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    return cast("BinaryIO", gzip.open(path, "rb")) if packed else path.open("rb")


def check_volume(shape: Sequence[int], what: str, max_pixels: int | None) -> None:
    """Refuse a volume (x, y, z, t, ...) by what its header states of its size.

    Raises:
        ImageError: It has too many axes, is empty, or too large.
    """
    if not 2 <= len(shape) <= 4 and any(side != 1 for side in shape[4:]):
        raise ImageError(
            f"{what} has {len(shape)} axes, {tuple(shape)}. Images have two, volumes three, and "
            "volumes in time four: write the part that matters."
        )
    if min(shape) < 1:
        raise ImageError(f"{what} has the shape {tuple(shape)}, which is empty.")
    width, height = shape[:2]
    check_size(width, height, what, max_pixels)
    check_clip(math.prod(shape[2:]), width, height, what, max_pixels)


def as_frames(values: NDArray[Any], shape: Sequence[int]) -> tuple[NDArray[Any], int]:
    """Shape the numbers of a file, whose first axis runs fastest, as frames.

    Returns:
        (n, H, W), and how many volumes follow each other in it.
    """
    padded = (*shape, 1, 1)[: max(4, len(shape))]
    volumes = math.prod(padded[3:])
    frames = values.reshape(math.prod(padded[2:]), padded[1], padded[0])
    return frames.astype(frames.dtype.newbyteorder("="), copy=False), volumes


def flipped_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn an affine of columns, rows, slices into one of slices, rows, columns."""
    return affine[:, (2, 1, 0, 3)]


def read_exactly(file: BinaryIO, count: int, what: str) -> bytearray:
    """Read as many bytes as a header states, and no more of a packed file.

    Raises:
        ImageError: There are fewer.
    """
    content = bytearray()
    while len(content) < count:
        part = file.read(min(count - len(content), 1 << 24))
        if not part:
            raise ImageError(
                f"{what} holds {len(content):,} of the {count:,} bytes of its values: it was cut "
                "off. Copy it again."
            )
        content += part
    return content
