"""Checks of a DICOM header against itself and against the pixels that it describes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.frames import FrameChannels, looks_like_rgb, looks_like_ycbcr
from fastseg.errors import ImageError
from fastseg.imaging.dicom import PALETTE, Coded, PixelFormat, decimals

SQUARE = 0.01
"""Share by which two statements of one length may differ."""


def check_geometry(header: Any, form: PixelFormat, path: object) -> None:
    """Refuse pixels that are not square, and values that are not levels of 0..255.

    Raises:
        ImageError: They do.
    """
    if form.allocated != 8 and form.photometric != PALETTE:
        raise ImageError(
            f"{path} stores {form.photometric} in {form.allocated} bits. Ultrasound frames have 8: "
            "scale them to 0..255 and save them by numpy.save."
        )
    if (form.stored, form.high, form.signed) != (form.allocated, form.allocated - 1, False):
        raise ImageError(
            f"{path} uses {form.stored} bits of {form.allocated} up to bit {form.high}, or stores "
            "signed numbers: its values are not 0..255. Scale its frames to 0..255 and save them "
            "by numpy.save."
        )
    for name in ("PixelAspectRatio", "PixelSpacing"):
        sides = decimals(header, name)
        if len(sides) == 2 and not math.isclose(*sides, rel_tol=SQUARE):
            raise not_square(f"{sides[0]:g} x {sides[1]:g}", name, path)


def not_square(sides: str, place: str, path: object) -> ImageError:
    """Return the error about pixels whose sides differ."""
    return ImageError(
        f"{path} has pixels of {sides} by {place}, which are not square. Resize its frames, and "
        "give them as an array with their cm_per_pixel."
    )


def coded_channels(
    frames: NDArray[np.uint8],
    stated: FrameChannels,
    coded: Coded,
    *,
    given: FrameChannels | None,
    path: object,
) -> FrameChannels:
    """Return the order of the channels of decoded frames.

    Args:
        frames: (n, H, W) or (n, H, W, 3).
        stated: Order by the header of the file.
        coded: Colours of JPEG frames.
        given: Order that decides where header and pixels contradict each other.
        path: The file, for errors.

    Raises:
        ImageError: They contradict each other, and ``given`` is None.
    """
    if frames.ndim == 3:
        return stated
    if coded == "adobe" and stated == "ycbcr":
        return "rgb"
    some = frames[[0, len(frames) // 2, -1]]
    if stated == "rgb":
        against = coded in ("ycbcr", "adobe") or any(map(looks_like_ycbcr, some))
    else:
        against = coded == "rgb" or any(map(looks_like_rgb, some))
    if not against:
        return stated
    if given is None:
        said, seen = ("RGB", "luma and chroma") if stated == "rgb" else ("luma and chroma", "RGB")
        raise ImageError(
            f"{path} says {said} in its header, and its pixels are {seen}: one of them is wrong. "
            'Say which channels are right, "ycbcr" or "rgb" (--channels).'
        )
    return given
