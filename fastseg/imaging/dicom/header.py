"""Statements of a DICOM header about its pixels, checked before a pixel is decoded."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

from fastseg.errors import ImageError
from fastseg.images import check_clip

_GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PHOTOMETRIC = (*_GREY, PALETTE, *_COLOURS)
"""Photometric interpretations that are read."""

_FLOATING = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Classes of files whose pixels are labels, whatever colours their palette has."""

_MOST_FRAMES = 1_000_000


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Shape and encoding of the pixels of a file, as its header states them."""

    frames: int
    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    floating: str
    """Name of the element of floating-point pixels, empty for integers."""

    @property
    def native_bytes(self) -> int:
        """Bytes of the pixels without compression."""
        return (math.prod((self.frames, self.rows, self.columns, self.bits)) + 7) // 8

    @property
    def bits(self) -> int:
        """Bits of a pixel without compression, all channels together; chroma may be halved."""
        halved = self.photometric == "YBR_FULL_422"
        return self.allocated * (2 if halved else self.samples)

    @property
    def is_colour(self) -> bool:
        """Tell if the pixels have three channels as stored."""
        return self.samples == 3


def whole(header: Any, name: str, what: object) -> int | None:
    """Return an element that is one whole number; None if it is missing or empty.

    Raises:
        ImageError: It is another value.
    """
    try:
        value = header.get(name)
        return None if value is None or value == "" else operator.index(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError(
            f"{what} states a {name} that is not one whole number: its header is damaged. Copy "
            "the file again, or export it again."
        ) from error


def decimals(header: Any, name: str) -> tuple[float, ...]:
    """Return an element as finite numbers; empty if it is missing or no number."""
    try:
        value = header.get(name)
        if value is None or value == "":
            return ()
        many = value if hasattr(value, "__iter__") and not isinstance(value, str) else (value,)
        found = tuple(float(one) for one in many)
    except (TypeError, ValueError, OverflowError):
        return ()
    return found if all(map(math.isfinite, found)) else ()


def text(header: Any, name: str) -> str:
    """Return an element as text; empty if it is missing or several values."""
    value = header.get(name)
    return value.strip() if isinstance(value, str) else ""


def pixel_format(header: Any, what: object) -> PixelFormat:
    """Read shape and encoding of the pixels.

    Raises:
        ImageError: They are missing, contradict each other, or are none that is read.
    """
    if "Rows" not in header and "Columns" not in header:
        raise no_pixels(what)
    sizes = {}
    for name in ("Rows", "Columns", "SamplesPerPixel"):
        sizes[name] = whole(header, name, what)
        if not sizes[name]:
            raise _lacking(name, what)
    photometric = text(header, "PhotometricInterpretation")
    if not photometric:
        raise _lacking("PhotometricInterpretation", what)
    floating = next((name for name in _FLOATING if name in header), "")
    allocated = whole(header, "BitsAllocated", what) or _FLOATING.get(floating, 0)
    stored = whole(header, "BitsStored", what) or allocated
    high = whole(header, "HighBit", what)
    frames = whole(header, "NumberOfFrames", what)
    form = PixelFormat(
        frames=1 if frames in (None, 0) else frames or 1,
        rows=sizes["Rows"] or 0,
        columns=sizes["Columns"] or 0,
        samples=sizes["SamplesPerPixel"] or 0,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high=stored - 1 if high is None else high,
        signed=whole(header, "PixelRepresentation", what) == 1,
        floating=floating,
    )
    _check(form, what)
    return form


def no_pixels(what: object) -> ImageError:
    """Return the error about a file of another kind: a report, a plan, a directory."""
    return ImageError(f"{what} holds no pixels. Give a file of frames.")


def is_segmentation(header: Any) -> bool:
    """Tell if the pixels are labels of segments."""
    return text(header, "SOPClassUID") in _SEGMENTATIONS


def check_limits(form: PixelFormat, what: object, max_pixels: int | None) -> None:
    """Refuse pixels that take too much memory, by what the header states.

    Raises:
        ImageError: They do.
    """
    if max_pixels is not None and form.rows * form.columns > max_pixels:
        raise ImageError(
            f"{what} is {form.columns} x {form.rows} pixels, more than max_pixels="
            f"{max_pixels:,}. Shrink it, or lift the limit with max_pixels=None."
        )
    check_clip(form.frames, form.columns, form.rows, str(what), max_pixels)


def _check(form: PixelFormat, what: object) -> None:
    photometric, samples = form.photometric, form.samples
    if photometric not in PHOTOMETRIC:
        raise ImageError(
            f"{what} stores {photometric}. Pixels that are read are {', '.join(PHOTOMETRIC)}: "
            "convert it, for example by dcm2img of DCMTK, or give its frames as an array."
        )
    if samples != (3 if photometric in _COLOURS else 1):
        raise ImageError(
            f"{what} states {photometric} and {samples} channels, which contradict each other. "
            "Export it again, or save its frames by numpy.save."
        )
    deep = form.allocated not in (1, 8, 16, 32) and not form.floating
    if deep or (samples == 3 and form.allocated != 8):
        bits = "no stated" if not form.allocated else form.allocated
        raise ImageError(
            f"{what} stores {photometric} in {bits} bits, which are not read. Scale its frames "
            "to 8 bits of colour or 16 of grey, and give them as an array."
        )
    inside = 0 < form.stored <= form.allocated and form.stored - 1 <= form.high < form.allocated
    if not inside and not form.floating:
        raise ImageError(
            f"{what} uses {form.stored} bits of {form.allocated} up to bit {form.high}, which "
            "contradict each other. Export it again."
        )
    if not 0 < form.frames <= _MOST_FRAMES:
        raise ImageError(
            f"{what} states {form.frames} frames: its header is damaged. Export it again."
        )


def _lacking(name: str, what: object) -> ImageError:
    return ImageError(
        f"{what} lacks {name} in its header: it is damaged. Copy it again, or save its frames by "
        "numpy.save."
    )
