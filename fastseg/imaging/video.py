"""Videos as clips: Motion-JPEG by Pillow, other codecs by OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastseg.environment import needs_extra
from fastseg.errors import ImageError
from fastseg.images import check_clip, check_size
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging.avi import is_motion_jpeg, read_avi_header, read_motion_jpeg
from fastseg.imaging.image import MedicalImage, Timing
from fastseg.imaging.image_files import plain_image

_START = 16
_IMAGES = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"mif1", b"msf1")
"""Brands of files in the container of MP4 that are images."""

_SECOND = 1000.0


def is_video(path: Path) -> bool:
    """Tell if a file begins as AVI, MP4, QuickTime, Matroska or WebM."""
    with path.open("rb") as file:
        start = file.read(_START)
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    if start[4:8] == b"ftyp":
        return start[8:12] not in _IMAGES
    return start[4:8] in (b"moov", b"mdat") or start.startswith(b"\x1a\x45\xdf\xa3")


def read_video(path: Path, *, max_pixels: int | None) -> MedicalImage:
    """Read every frame of a video, with the time between them; sound is left out.

    Raises:
        BackendUnavailableError: OpenCV is needed, and not installed.
        ImageError: The file is damaged, cut off or too large.
    """
    what = str(path)
    with reader_faults(what):
        header = None
        with path.open("rb") as file:
            if file.read(4) == b"RIFF":
                file.seek(0)
                header = read_avi_header(file)
        if header is not None and is_motion_jpeg(header):
            frames = read_motion_jpeg(path, header, max_pixels=max_pixels)
            return plain_image(frames, what, timing=Timing(frame_ms=header.frame_ms))
        return _by_opencv(path, max_pixels)


def _by_opencv(path: Path, max_pixels: int | None) -> MedicalImage:
    what = str(path)
    with needs_extra("video", f"reading {what}"):
        import cv2
    video = cv2.VideoCapture(what, cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise ImageError(
                f"{what} is no video that can be decoded: it is damaged, or its codec is not "
                "known. Convert it to Motion-JPEG AVI."
            )
        width, height, count = (
            int(video.get(name))
            for name in (
                cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT
            )
        )  # fmt: skip
        check_size(width, height, what, max_pixels)
        frames = _decoded(video, what, max_pixels)
        rate = float(video.get(cv2.CAP_PROP_FPS))
    finally:
        video.release()
    if len(frames) < max(count, 1):
        raise ImageError(
            f"{what} states {count} frames, and {len(frames)} of them can be decoded: it was cut "
            "off or is damaged. Copy it again."
        )
    timing = Timing(frame_ms=_SECOND / rate if rate > 0 else None)
    return plain_image(np.stack(frames), what, timing=timing)


def _decoded(video: Any, what: str, max_pixels: int | None) -> list[NDArray[np.uint8]]:
    frames: list[NDArray[np.uint8]] = []
    while True:
        found, frame = video.read()
        if not found:
            return frames
        if frames and frame.shape != frames[0].shape:
            raise ImageError(f"{what} changes the size of its frames. Convert it to one size.")
        frames.append(np.ascontiguousarray(frame[..., ::-1]))
        check_clip(len(frames), frame.shape[1], frame.shape[0], what, max_pixels)
