"""Reading of files, bytes and arrays as RGB images."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fastseg.contract import Array
from fastseg.errors import ImageError

Channels: TypeAlias = Literal["rgb", "bgr"]


class HostArray(Protocol):
    """An array of another library, a torch tensor for one, that hands its memory over."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


ImageSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | Array | HostArray
)
"""Sources that ``read_image`` takes."""

MAX_PIXELS = 100_000_000
"""Larger images are refused unless the caller lifts the limit."""

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
)
"""Files that are read: pixels only, no format that Pillow hands to an outside program."""

_DEEP_MODES = ("I", "F")
"""Pillow modes, or their beginnings, with more than 8 bits a channel."""

_HOST_DEVICES = (1, 3)  # kDLCPU, kDLCUDAHost

_ROWS_AT_ONCE = 256

_PILLOW_LIMIT = threading.Lock()


def read_image(
    source: ImageSource,
    *,
    channels: Channels = "rgb",
    max_pixels: int | None = MAX_PIXELS,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Read one image.

    Files and bytes are decoded by Pillow and turned upright by their EXIF orientation. A PIL image
    is taken as it stands. Grey is copied to three channels, palettes and CMYK become RGB, and alpha
    is dropped, not blended. Files with several frames are refused, except for the previews that
    cameras add to a JPEG. Floating-point arrays hold 0..1 and are scaled by 255 and rounded half to
    even; NaN and values outside are refused, because a wrong guess gives masks that look right.

    Args:
        source: Path, bytes of a file, PIL image, or an array uint8 or float (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4): NumPy of any strides and byte order, or anything with
            ``__dlpack__`` whose memory is the CPU's.
        channels: Order of an array's colours; files and PIL images know theirs.
        max_pixels: Largest height x width in pixels, None for no limit. It is checked before a file
            is decoded.
        name: Name of the image in errors; a path is called by its own name.

    Returns:
        uint8 (H, W, 3), RGB, C-contiguous. It shares the memory of ``source`` where that fits.

    Raises:
        ImageError: The source is no image, is damaged, empty, too large, or of a type or shape
            that could be read in more than one way. The message names it and the remedy.
    """
    pixels = read_pixels(source, channels=channels, max_pixels=max_pixels, name=name)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def read_pixels(
    source: ImageSource,
    *,
    channels: Channels = "rgb",
    max_pixels: int | None = MAX_PIXELS,
    name: str | None = None,
) -> NDArray[np.uint8]:
    """Read one image as ``read_image`` does, but leave grey arrays with their one channel.

    Returns:
        uint8 (H, W, 3), RGB, or (H, W, 1) for an array of one channel, C-contiguous.

    Raises:
        ImageError: As ``read_image``.
    """
    if channels not in get_args(Channels):
        raise ImageError(f'channels must be "rgb" or "bgr", not {channels!r}.')
    what = name or _describe(source)
    if knows_its_channels(source):
        if channels != "rgb":
            raise ImageError(f"{what} knows its own channel order. Leave channels out.")
        return _read_one(source, what, max_pixels)
    array = _as_array(source, what)
    _check_shape(array, what)
    check_size(array.shape[1], array.shape[0], what, max_pixels)
    return _in_order(_to_uint8(array, what), channels)


def knows_its_channels(source: object) -> bool:
    """Tell if ``source`` is a file, its bytes or a PIL image, and no bare array."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)


def is_stack(source: object) -> TypeGuard[Iterable[Any]]:
    """Tell if ``source`` is many images: a 4-D array, or an iterable that is no image."""
    if knows_its_channels(source):
        return False
    if hasattr(source, "ndim"):
        return bool(source.ndim == 4)
    return isinstance(source, Iterable) and not hasattr(source, "__dlpack__")


def _describe(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the image in {len(source):,} bytes"
    if isinstance(source, Image.Image):
        return f"the PIL image of mode {source.mode}"
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    if shape is None or dtype is None:
        return f"the {type(source).__name__}"
    return f"the image array {dtype} {tuple(shape)}"


def _read_one(source: Any, what: str, max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode a file, bytes or a PIL image."""
    if isinstance(source, Image.Image):
        return _decode(source, what, max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode_file(BytesIO(source), what, max_pixels)
    try:
        if not stat.S_ISREG(Path(source).stat().st_mode) and not Path(source).is_dir():
            raise ImageError(
                f"{what} is a pipe or a device, which is not opened. Give a file, or its bytes."
            )
        with Path(source).open("rb") as file:
            return _decode_file(file, what, max_pixels)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        if isinstance(error, FileNotFoundError):
            raise ImageError(f"{what}: no such file. Check the path.") from error
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{what} cannot be read: {reason}. Check the path.") from error


def is_image(path: Path) -> bool:
    """Tell whether a file begins as an image that ``read_image`` reads; it is not decoded."""
    # TGA has no signature: Pillow takes many other files for one.
    formats = [one for one in FORMATS if one != "TGA" or path.suffix.lower() == ".tga"]
    try:
        with path.open("rb") as file, _without_pillow_limit(), Image.open(file, formats=formats):
            return True
    except Exception:  # Pillow's readers raise whatever a damaged header leads them to
        return False


def _decode_file(file: BinaryIO, what: str, max_pixels: int | None) -> NDArray[np.uint8]:
    try:
        with _without_pillow_limit():
            image = Image.open(file, formats=FORMATS)
    except Exception as error:  # Pillow's readers raise whatever a damaged header leads them to
        reason = "unknown content" if isinstance(error, UnidentifiedImageError) else error
        raise ImageError(
            f"{what} is not an image that can be read: {reason}. Give a PNG, JPEG, TIFF or another "
            "file that Pillow knows, or read it yourself and give the array."
        ) from error
    with image:
        return _decode(image, what, max_pixels, upright=True)


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


def _decode(
    image: Image.Image, what: str, max_pixels: int | None, *, upright: bool = False
) -> NDArray[np.uint8]:
    check_size(*image.size, what, max_pixels)
    if image.mode.startswith(_DEEP_MODES):
        raise ImageError(
            f"{what} has more than 8 bits a channel (mode {image.mode}). Choose the window that "
            "matters, scale it to 0..255 and give a uint8 array."
        )
    try:
        _check_frames(image, what)
        if upright:
            # The file was opened here, so no one else holds the image that is turned in place.
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # as Pillow asks for, with a warning otherwise
        return _pixels(image if image.mode == "RGB" else image.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # as above: a damaged file, or a mode that has no RGB
        raise ImageError(
            f"{what} is damaged or cannot be turned into RGB: {error}. Copy the file again, or "
            "save it as an RGB PNG."
        ) from error


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image by some rows; Pillow's own conversion takes its memory three times."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _check_frames(image: Image.Image, what: str) -> None:
    # The further frames of an MPO are a camera's previews or its second eye, not a film.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
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
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"{what} is {width} x {height} = {width * height:,} pixels, more than "
            f"max_pixels={max_pixels:,}. Shrink it, or lift the limit with max_pixels=None."
        )


def _as_array(source: Any, what: str) -> Array:
    """View another library's array as NumPy, without a copy."""
    if isinstance(source, np.ndarray):
        return source
    if not hasattr(source, "__dlpack__"):
        raise ImageError(
            f"{what} is not an image. Give a path, bytes, a PIL image or an array (H, W, 3)."
        )
    try:
        if source.__dlpack_device__()[0] in _HOST_DEVICES:
            return np.from_dlpack(source)
    except Exception as error:  # each library refuses in its own way
        raise ImageError(
            f"{what} does not hand its memory over: {error}. Give it as a NumPy array."
        ) from error
    raise ImageError(f"{what} is not in the CPU's memory. Copy it there first.")


def _check_shape(array: Array, what: str) -> None:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
        return
    remedy = "Give an array (H, W), (H, W, 3) or (H, W, 4)."
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        remedy = "Its channels come first: transpose it to (H, W, channels)."
    elif array.ndim == 4:
        remedy = "It is a stack: give one image of it at a time."
    raise ImageError(f"{what} is not shaped like an image. {remedy}")


def _to_uint8(array: Array, what: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ImageError(
            f"{what} must be uint8 0..255 or floating point 0..1. Choose the window that matters "
            "and scale it to uint8; for a mask multiply by 255."
        )
    # Written so that NaN fails it too.
    if not (array.min() >= 0 and array.max() <= 1):
        raise ImageError(
            f"{what} must lie within 0..1, but {_range(array)}. Scale it to 0..1, or to "
            "uint8 0..255."
        )
    wide = array.astype(np.result_type(array.dtype.newbyteorder("="), np.float32), copy=False)
    rounded: NDArray[np.uint8] = np.rint(wide * 255).astype(np.uint8)
    return rounded


def _range(array: Array) -> str:
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return "has no finite value"
    bounds = f"has values from {finite.min():g} to {finite.max():g}"
    missing = array.size - finite.size
    return f"{bounds} and {missing:,} that are not finite" if missing else bounds


def _in_order(array: NDArray[np.uint8], channels: Channels) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[..., None]
    colours = array[..., :3]
    ordered = colours if channels == "rgb" else colours[..., ::-1]
    return np.ascontiguousarray(ordered, dtype=np.uint8)
