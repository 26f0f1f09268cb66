"""AVI files of Motion-JPEG frames, as public sets of echocardiograms are kept, read by Pillow.

The layout is that of Microsoft's "AVI RIFF File Reference" and of OpenDML, whose later parts are
RIFF lists of the kind AVIX.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.errors import ImageError
from fastseg.images import check_clip, check_size

_LISTS = (b"RIFF", b"LIST")
_JPEGS = (b"MJPG", b"mjpg", b"AVRn", b"dmb1", b"JPEG", b"jpeg")
_DEEPEST = 6
_HEADER = 64 * 1024
_KILO = 1000
"""Microseconds in a millisecond."""


@dataclass(frozen=True, slots=True)
class AviHeader:
    """The facts that an AVI file states of its only video."""

    codec: bytes
    width: int
    height: int
    frame_ms: float | None
    stream: bytes
    """Number of the video's stream, two digits that begin the names of its chunks."""


def read_avi_header(file: BinaryIO) -> AviHeader | None:
    """Read what an AVI file says of its video; None if it has none, or several."""
    content = file.read(_HEADER)
    file.seek(0)
    formats = [at for at in _places(content, b"strh") if content[at + 8 : at + 12] == b"vids"]
    if len(formats) != 1:
        return None
    (start,) = formats
    number = sum(at < start for at in _places(content, b"strh"))
    described = content.find(b"strf", start)
    if described < 0 or len(content) < described + 28 or len(content) < start + 36:
        return None
    width, height = struct.unpack_from("<ii", content, described + 12)
    scale, rate = struct.unpack_from("<II", content, start + 28)
    ms = scale * _KILO / rate if scale and rate else None
    codec = content[described + 24 : described + 28]
    return AviHeader(codec, width, abs(height), ms, f"{number:02}".encode())


def is_motion_jpeg(header: AviHeader) -> bool:
    """Tell if Pillow decodes the frames of a video."""
    return header.codec in _JPEGS


def read_motion_jpeg(path: Path, header: AviHeader, *, max_pixels: int | None) -> NDArray[np.uint8]:
    """Decode every frame: uint8 (n, H, W) of grey, or (n, H, W, 3), RGB.

    A chunk without bytes stands for a frame that was dropped, and repeats the last one.

    Raises:
        ImageError: The file is cut off, is too large, or its frames contradict its header.
    """
    what = str(path)
    check_size(header.width, header.height, what, max_pixels)
    frames: list[NDArray[Any]] = []
    dropped = 0
    with path.open("rb") as file:
        end = path.stat().st_size
        for size in _chunks(file, end, header.stream, what):
            if size == 0 and frames:
                dropped += 1
                frames.append(frames[-1])
            else:
                frames.append(_frame(file.read(size), header, what, len(frames)))
            if 2 * dropped > len(frames):
                raise ImageError(
                    f"{what} has more dropped frames than frames: it is damaged. Record it again."
                )
            check_clip(len(frames), header.width, header.height, what, max_pixels)
    if not frames:
        raise ImageError(f"{what} has no frames of its video in it. Copy it again.")
    if len({frame.shape for frame in frames}) > 1:
        raise ImageError(f"{what} has grey frames and coloured ones. Convert it to one kind.")
    return np.stack(frames)


def _frame(content: bytes, header: AviHeader, what: str, number: int) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(content), formats=("JPEG",)) as image:
            size = image.size
            kept = image if image.mode == "L" else image.convert("RGB")
            pixels = np.array(kept) if size == (header.width, header.height) else None
    except Exception as error:  # Pillow's reader raises whatever damage leads it to
        raise ImageError(
            f"frame {number} of {what} is damaged: {error}. Copy the file again."
        ) from error
    if pixels is None:
        raise ImageError(
            f"frame {number} of {what} has {size[0]} x {size[1]} pixels, and its header states "
            f"{header.width} x {header.height}: it is interlaced or damaged. Convert it first."
        )
    return pixels


def _places(content: bytes, name: bytes) -> Iterator[int]:
    at = content.find(name)
    while at >= 0:
        yield at
        at = content.find(name, at + 1)


def _chunks(file: BinaryIO, end: int, stream: bytes, what: str) -> Iterator[int]:
    """Go to every chunk of a video in its order, and yield how many bytes it has."""
    names = {stream + kind for kind in (b"dc", b"db")}
    ends = [end]
    while file.tell() + 8 <= end:
        ends = [one for one in ends if file.tell() < one] or [end]
        name, size = struct.unpack("<4sI", file.read(8))
        inside = file.tell()
        if name in _LISTS and len(ends) < _DEEPEST:
            kind = file.read(4)
            if kind in (b"AVI ", b"AVIX", b"movi", b"rec "):
                ends.append(inside + size)
                continue
        if name in names:
            if inside + size > end:
                raise ImageError(f"{what} ends inside of a frame: it was cut off. Copy it again.")
            file.seek(inside)
            yield size
        # Chunks begin at even places.
        file.seek(inside + size + size % 2)
