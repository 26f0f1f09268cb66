"""Reading of files, bytes and arrays as RGB images."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.contract import Array
from fastseg.errors import ImageError
from fastseg.images.decoding import check_size, decode, decode_file, decode_pages
from fastseg.images.reader_faults import reader_faults
from fastseg.inputs.numbers import host_array, one_of, shown, whole_number

Channels: TypeAlias = Literal["rgb", "bgr"]


class HostArray(Protocol):
    """An array of another library, a torch tensor for one, that hands its memory over."""

    def __dlpack__(self, *, stream: Any = None) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | BinaryIO
    | bytes
    | bytearray
    | memoryview
    | Image.Image
    | Array
    | HostArray
)
"""Sources that ``read_image`` takes."""

MAX_PIXELS = 100_000_000
"""Larger images are refused unless the caller lifts the limit."""

_HOST_DEVICES = (1, 3)  # kDLCPU, kDLCUDAHost


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
        source: Path, open binary file, bytes of a file, PIL image, or an array uint8 or float
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): NumPy of any strides and byte order, or
            anything with ``__dlpack__`` whose memory is the CPU's. An open file is read to its end
            and stays open.
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
    one_of(channels, get_args(Channels), "channels", ImageError)
    if max_pixels is not None:
        max_pixels = whole_number(max_pixels, "max_pixels", ImageError, least=1)
    if name is not None and not isinstance(name, str):
        raise ImageError(f"name must be text, not {shown(name)}.")
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
    """Tell if ``source`` is a file, open or not, its bytes or a PIL image, and no bare array."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(source, kinds) or _is_file(source)


def _is_file(source: object) -> TypeGuard[BinaryIO]:
    """Tell if ``source`` is an open file, ``BytesIO`` or an upload of a web framework."""
    return callable(getattr(source, "read", None)) and callable(getattr(source, "seek", None))


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
    if _is_file(source):
        return f"the image in an open {type(source).__name__}"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"the image in {len(source):,} bytes"
    if isinstance(source, Image.Image):
        return f"the PIL image of mode {source.mode}"
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    if not isinstance(shape, tuple) or dtype is None:
        return f"the {type(source).__name__}"
    return f"the image array {dtype} {shape}"


def _read_one(source: Any, what: str, max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode a file, bytes or a PIL image."""
    with reader_faults(what):
        if isinstance(source, Image.Image):
            return decode(source, what, max_pixels)
        if isinstance(source, bytes | bytearray | memoryview):
            return decode_file(BytesIO(source), what, max_pixels)
        if _is_file(source):
            return decode_file(BytesIO(_content(source, what)), what, max_pixels)
        if not stat.S_ISREG(Path(source).stat().st_mode) and not Path(source).is_dir():
            raise ImageError(
                f"{what} is a pipe or a device, which is not opened. Give a file, or its bytes."
            )
        with Path(source).open("rb") as file:
            return decode_file(file, what, max_pixels)


def _content(file: BinaryIO, what: str) -> bytes:
    """Read the rest of an open file."""
    try:
        content = file.read()
    except Exception as error:  # a closed file, or whatever a class of the user raises
        raise ImageError(f"{what} cannot be read: {error}. Give its path or its bytes.") from error
    if not isinstance(content, bytes):
        raise ImageError(
            f'{what} gives {type(content).__name__} and no bytes. Open it in binary mode, "rb".'
        )
    return content


def read_pages(
    path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS
) -> list[NDArray[np.uint8]]:
    """Read the pages of an image file, which may differ in size, if their pixels are square.

    Args:
        path: Any file that ``read_image`` takes, also with several frames or pages.
        max_pixels: Largest height x width of a page in pixels, None for no limit.

    Returns:
        uint8 (H, W, 3), RGB, for each page.

    Raises:
        ImageError: A page cannot be read, or its pixels are not square.
    """
    what = _describe(path)
    with reader_faults(what), Path(path).open("rb") as file:
        return decode_pages(file, what, max_pixels)


def _as_array(source: Any, what: str) -> Array:
    """View another library's array as NumPy, without a copy."""
    if isinstance(source, np.ma.MaskedArray):
        return host_array(source, what, ImageError)
    if isinstance(source, np.ndarray):
        return source
    if not hasattr(source, "__dlpack__"):
        raise ImageError(
            f"{what} is not an image. Give a path, a file, bytes, a PIL image or an array "
            "(H, W, 3)."
        )
    if getattr(source, "requires_grad", False):
        source = source.detach()
    try:
        if source.__dlpack_device__()[0] in _HOST_DEVICES:
            return np.from_dlpack(source)
    except ImageError:
        raise
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
            f"{what} must lie within 0..1, but {_range(array)}. Scale it to 0..1, clip it, or "
            "scale it to uint8 0..255."
        )
    wide = array.astype(np.result_type(array.dtype.newbyteorder("="), np.float32), copy=False)
    rounded: NDArray[np.uint8] = np.rint(wide * 255).astype(np.uint8)
    return rounded


def _range(array: Array) -> str:
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return "has no finite value"
    # str has as many digits as tell a number from its neighbours; :g shows 1.0000001 as 1.
    bounds = f"has values from {finite.min()!s} to {str(finite.max()).removesuffix('.0')}"
    missing = array.size - finite.size
    return f"{bounds} and {missing:,} that are not finite" if missing else bounds


def _in_order(array: NDArray[np.uint8], channels: Channels) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[..., None]
    colours = array[..., :3]
    ordered = colours if channels == "rgb" else colours[..., ::-1]
    return np.ascontiguousarray(ordered, dtype=np.uint8)
