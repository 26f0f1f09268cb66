"""Image files decoded by Pillow, page by page, and refused where their bits would be lost."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fastseg.errors import ImageError
from fastseg.images.headers import bits_per_channel, name_content, pixel_aspect, scene_pages
from fastseg.images.repairs import complete_jpeg, without_large_texts

FORMATS = (
    "PNG",
    "JPEG",
    "TIFF",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "JPEG2000",
    "PPM",
    "SGI",
    "TGA",
    # Pillow reads it by itself since version 11.3.
    *(("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()),
)
"""Files that are read: pixels only, no format that Pillow hands to an outside program."""

_SQUARE = 0.01
"""Share by which the two sides of a pixel may differ."""

CLIP_SHARE = 4
"""A clip is refused that holds more than this many times ``max_pixels`` over all its frames."""

_ROWS_AT_ONCE = 256

_NAMED_BY = 132
"""Bytes at the start of a file that name it."""

_PILLOW_LIMIT = threading.Lock()


def is_image(path: Path) -> bool:
    """Tell whether a file begins as an image that ``read_image`` reads; it is not decoded."""
    # TGA has no signature: Pillow takes many other files for one.
    formats = [one for one in FORMATS if one != "TGA" or path.suffix.lower() == ".tga"]
    try:
        with path.open("rb") as file, _without_pillow_limit(), Image.open(file, formats=formats):
            return True
    except Exception:  # Pillow's readers raise whatever a damaged header leads them to
        return False


def decode_file(file: BinaryIO, what: str, max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode a file that holds one image: uint8 (H, W) or (H, W, 3 or 4)."""
    with _open(file, what) as image:
        return _decode_single(file, image, what, max_pixels)


def _decode_single(
    file: BinaryIO, image: Image.Image, what: str, max_pixels: int | None
) -> NDArray[np.uint8]:
    """Decode the only page of a file."""
    baseline = image.format == "JPEG" and "progressive" not in image.info
    try:
        return decode(image, what, max_pixels, upright=True)
    except ImageError as error:
        if not (baseline and isinstance(error.__cause__, OSError)):
            raise

        def again(completed: BinaryIO) -> NDArray[np.uint8]:
            with _open(completed, what) as same:
                return decode(same, what, max_pixels, upright=True)

        found = complete_jpeg(file, again)
        if found is None:
            raise
        return found


def _open(file: BinaryIO, what: str) -> Image.Image:
    """Read the header of a file."""
    try:
        with _without_pillow_limit():
            return Image.open(without_large_texts(file), formats=FORMATS)
    except Exception as error:  # Pillow's readers raise whatever a damaged header leads them to
        file.seek(0)
        known = name_content(file.read(_NAMED_BY))
        reason = "unknown content" if isinstance(error, UnidentifiedImageError) else error
        remedy = (
            "Give a PNG, JPEG, TIFF or another file that Pillow knows, or read it yourself and "
            "give the array."
        )
        if known is not None:
            reason, remedy = f"it is {known[0]}", known[1]
        raise ImageError(f"{what} is not an image that can be read: {reason}. {remedy}") from error


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Let Pillow open a header of any size; only ``max_pixels`` decides what is decoded.

    Pillow's limit is one global of the process, so it is lifted for the header alone, which
    allocates nothing, and by one thread at a time.
    """
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def decode(
    image: Image.Image, what: str, max_pixels: int | None, *, upright: bool = False
) -> NDArray[np.uint8]:
    """Decode an opened image; ``upright`` turns it as its EXIF tag says."""
    try:
        _check_frames(image, what, opened_here=upright)
        check_size(*image.size, what, max_pixels)
        _check_depth(image, what)
        if upright:
            # The file was opened here, so no one else holds the image that is turned in place.
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # as Pillow asks for, with a warning otherwise
        return _pixels(image if image.mode == "RGB" else image.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # as above: a damaged file, or a mode that has no RGB
        raise _damaged(what, error) from error


def _check_depth(image: Image.Image, what: str) -> None:
    bits = bits_per_channel(image)
    if bits > 8:
        raise ImageError(
            f"{what} has more than 8 bits a channel ({bits}, mode {image.mode}). Choose the window "
            "that matters: read it by fastseg.imaging.read(path, window=...), or by --window."
        )


def decode_pages(file: BinaryIO, what: str, max_pixels: int | None) -> list[NDArray[np.uint8]]:
    """Decode every page of a file that is an image of its own."""
    with _open(file, what) as image:
        try:
            indices = scene_pages(image)
        except Exception as error:  # as in decode
            raise _damaged(what, error) from error
        if len(indices) == 1:
            _check_aspect(image, what)
            return [_decode_single(file, image, what, max_pixels)]
        check_clip(len(indices), *image.size, what, max_pixels)
        return [_decode_page(image, index, what, max_pixels) for index in indices]


def _decode_page(
    image: Image.Image, index: int, what: str, max_pixels: int | None
) -> NDArray[np.uint8]:
    name = f"{what} frame {index}"
    try:
        image.seek(index)
        _check_depth(image, name)
        _check_aspect(image, name)
        check_size(*image.size, name, max_pixels)
        page = image.copy()
    except ImageError:
        raise
    except Exception as error:  # as in decode
        raise _damaged(name, error) from error
    return decode(page, name, max_pixels, upright=True)


def _check_aspect(image: Image.Image, what: str) -> None:
    aspect = pixel_aspect(image)
    if not math.isclose(aspect, 1, rel_tol=_SQUARE):
        raise ImageError(
            f"{what} states pixels {aspect:.3g} times as wide as high: one scale does not hold for "
            "both directions. Resize it to square pixels, or save it again without a resolution if "
            "that is wrong."
        )


def _damaged(what: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ImageError(
        f"{what} is damaged or cannot be turned into RGB: {reason}. Copy the file again, or save "
        "it as an RGB PNG."
    )


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image by some rows; Pillow's own conversion takes its memory three times."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _check_frames(image: Image.Image, what: str, *, opened_here: bool) -> None:
    # Looking at pages turns them, which is not done to an image of the caller.
    own = len(scene_pages(image)) if opened_here else 0
    frames = own or (1 if image.format == "MPO" else getattr(image, "n_frames", 1))
    if frames > 1:
        raise ImageError(
            f"{what} has {frames} frames. Give them one by one, for example with "
            "PIL.ImageSequence.all_frames."
        )


def check_size(width: int, height: int, what: str, max_pixels: int | None) -> None:
    """Refuse an image that is empty, or larger than ``max_pixels``; None is no limit.

    Raises:
        ImageError: It is.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{what} is {width} x {height} pixels. Give an image that is not empty.")
    if max_pixels is not None and not width * height <= max_pixels:
        raise ImageError(
            f"{what} is {width} x {height} = {width * height:,} pixels, more than "
            f"max_pixels={max_pixels:,}. Shrink it, or lift the limit with max_pixels=None."
        )


def check_clip(frames: int, width: int, height: int, what: str, max_pixels: int | None) -> None:
    """Refuse a clip that takes too much memory, by what its header states.

    Raises:
        ImageError: It does.
    """
    total = frames * width * height
    if max_pixels is not None and total > CLIP_SHARE * max_pixels:
        raise ImageError(
            f"{what} has {frames} frames of {width} x {height} = {total:,} pixels, more than "
            f"{CLIP_SHARE} times max_pixels={max_pixels:,}. Cut the clip into shorter ones, or "
            "lift the limit by max_pixels=None (--max-pixels 0)."
        )
