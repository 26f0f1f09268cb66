"""Checks of a DICOM header against itself and against the pixels that it describes."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.echo.frames import FrameChannels, looks_like_rgb, looks_like_ycbcr
from fastseg.errors import ImageError

SQUARE = 0.01
"""Share by which two statements of one length may differ."""

Coded: TypeAlias = Literal["", "unknown", "rgb", "ycbcr", "adobe"]
"""Colours of JPEG frames: none of JPEG, not stated, as stated by their own headers, or YCbCr that
Pillow turns into RGB because an Adobe marker says so."""

_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""Transfer syntaxes of JPEG in 8 bits: baseline and extended."""


def check_geometry(header: Any, path: object) -> None:
    """Refuse pixels that are not square, and channels or bits that contradict each other.

    Raises:
        ImageError: They do.
    """
    samples, photometric = header.get("SamplesPerPixel"), header.PhotometricInterpretation
    if samples != (1 if photometric == "MONOCHROME2" else 3):
        raise ImageError(
            f"{path} states {photometric} and {samples} channels, which contradict each other. "
            "Export it again, or save its frames by numpy.save."
        )
    bits, high = header.get("BitsStored", 8), header.get("HighBit", 7)
    if (bits, high, header.get("PixelRepresentation", 0)) != (8, 7, 0):
        raise ImageError(
            f"{path} uses {bits} bits of 8 up to bit {high}, or stores signed numbers: its values "
            "are not 0..255. Scale its frames to 0..255 and save them by numpy.save."
        )
    for name in ("PixelAspectRatio", "PixelSpacing"):
        sides = [float(side) for side in header.get(name) or ()]
        if len(sides) == 2 and not math.isclose(*sides, rel_tol=SQUARE):
            raise not_square(f"{sides[0]:g} x {sides[1]:g}", name, path)


def not_square(sides: str, place: str, path: object) -> ImageError:
    """Return the error about pixels whose sides differ."""
    return ImageError(
        f"{path} has pixels of {sides} by {place}, which are not square. Resize its frames, and "
        "give them as an array with their cm_per_pixel."
    )


def check_jpeg(header: Any, path: object) -> Coded:
    """Compare the headers of JPEG frames with that of the file, and return their colours.

    Raises:
        ImageError: A frame has another size than the file states, or frames differ in colours.
    """
    if header.file_meta.TransferSyntaxUID not in _JPEG:
        return ""
    from pydicom.encaps import generate_frames

    size, coded, found = (header.Columns, header.Rows), set(), 0
    count = int(header.get("NumberOfFrames") or 1)
    for index, content in enumerate(generate_frames(header.PixelData, number_of_frames=count)):
        found += 1
        with Image.open(BytesIO(content), formats=["JPEG"]) as image:
            if image.size != size:
                raise ImageError(
                    f"{path} states frames of {size[0]} x {size[1]} pixels, and frame {index} is "
                    f"{image.width} x {image.height}. Export it again."
                )
            coded.add(_jpeg_colours(image))
    if found != count:
        raise ImageError(
            f"{path} announces {count} frames and holds {found}: it was cut off, or its header is "
            "wrong. Copy it again, or save its frames by numpy.save."
        )
    if len(coded) > 1:
        raise ImageError(
            f"{path} has JPEG frames of several colour spaces. Export it again, or save its frames "
            "by numpy.save."
        )
    return coded.pop() if coded else "unknown"


def _jpeg_colours(image: Image.Image) -> Coded:
    if image.mode != "RGB":
        return "unknown"
    transform = image.info.get("adobe_transform")
    if transform is not None:
        return "adobe" if transform == 1 else "rgb"
    return "ycbcr" if "jfif" in image.info else "unknown"


def check_pixels(stored: NDArray[Any], header: Any, path: object) -> NDArray[np.uint8]:
    """Return decoded frames if they are as many, as large and as deep as the header states.

    Raises:
        ImageError: They are not.
    """
    stated = (int(header.get("NumberOfFrames") or 1), header.Rows, header.Columns)
    if stored.shape[:3] != stated or stored.dtype != np.uint8:
        raise ImageError(
            f"{path} states {stated[0]} frames of {stated[2]} x {stated[1]} pixels in uint8, and "
            f"its pixels are {stored.dtype} {stored.shape}. Export it again."
        )
    return stored


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
