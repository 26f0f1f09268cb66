"""Image files with their full depth: one image, many pages, or a folder of frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.errors import ImageError
from fastseg.images import FORMATS, check_clip, check_size, is_image, read_pages
from fastseg.images.headers import scene_pages
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging.image import MedicalImage

_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "I;16S", "I;16BS", "F")
"""Pillow's modes of grey with more than 8 bits."""

_GREY = ("1", "L")


def read_image_file(path: Path, *, max_pixels: int | None) -> MedicalImage:
    """Read an image file: grey of 8, 16 or 32 bits as it is stored, everything else as RGB.

    Raises:
        ImageError: The file is no image, is damaged or too large.
    """
    what = str(path)
    with reader_faults(what):
        mode = _mode(path)
    if mode in _DEEP:
        with reader_faults(what):
            return plain_image(_deep_pages(path, max_pixels), what)
    pages = read_pages(path, max_pixels=max_pixels)
    frames = _stacked(pages, what)
    return plain_image(frames[..., 0] if mode in _GREY else frames, what)


def read_frame_folder(paths: Sequence[Path], what: str, *, max_pixels: int | None) -> MedicalImage:
    """Read images of one size as the frames of one clip, in the order of their numbers.

    Raises:
        ImageError: They differ in size or depth, or one of them cannot be read.
    """
    ordered = sorted(paths, key=_natural)
    first = read_image_file(ordered[0], max_pixels=max_pixels)
    height, width = first.size
    check_clip(len(ordered), width, height, what, max_pixels)
    images = [first, *(read_image_file(path, max_pixels=max_pixels) for path in ordered[1:])]
    for path, image in zip(ordered, images, strict=True):
        same = image.stored.shape == first.stored.shape and image.stored.dtype == first.stored.dtype
        if not same or len(image) > 1:
            raise ImageError(
                f"{what} is no clip: {path.name} is {image.stored.dtype} {image.stored.shape[1:]}, "
                f"and {ordered[0].name} is {first.stored.dtype} {first.stored.shape[1:]}. Keep "
                "frames of one size and depth in the folder."
            )
    return plain_image(np.concatenate([image.stored for image in images]), what)


def is_frame(path: Path) -> bool:
    """Tell if a file in a folder counts as a frame."""
    return not path.name.startswith(".") and path.is_file() and is_image(path)


def plain_image(frames: NDArray[Any], what: str, **more: Any) -> MedicalImage:
    """Make an image of frames whose numbers are their values."""
    return MedicalImage(
        stored=frames,
        slope=np.ones(len(frames)),
        intercept=np.zeros(len(frames)),
        name=what,
        **more,
    )


def _mode(path: Path) -> str:
    """Return Pillow's mode of a file; empty if it knows none."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode
    except FileNotFoundError:
        raise
    except Exception:  # what is wrong with it is said by the reader of 8 bits
        return ""


def _deep_pages(path: Path, max_pixels: int | None) -> NDArray[Any]:
    """Read the pages of a file of deep grey."""
    what = str(path)
    with Image.open(path, formats=FORMATS) as image:
        check_size(*image.size, what, max_pixels)
        indices = scene_pages(image)
        check_clip(len(indices), *image.size, what, max_pixels)
        pages = []
        for index in indices:
            if len(indices) > 1:
                image.seek(index)
            check_size(*image.size, what, max_pixels)
            pages.append(np.array(image))
    return _stacked(pages, what)


def _stacked(pages: Sequence[NDArray[Any]], what: str) -> NDArray[Any]:
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        raise ImageError(
            f"{what} has pages of several sizes or depths. Give those of one kind in a file of "
            "their own."
        )
    return pages[0][None] if len(pages) == 1 else np.stack(pages)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
