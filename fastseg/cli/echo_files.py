"""Files of ultrasound frames: the view, the patient, and the frames in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.echo.dicom import is_dicom, read_dicom
from fastseg.echo.findings import CHAMBERS
from fastseg.echo.frames import FrameChannels, is_clip
from fastseg.errors import ImageError, MeasurementError
from fastseg.images import FORMATS, Channels, read_image

ARRAY_NAME = "image"
"""Name, in an .npz file, of the array with the frame or the frames."""

_YCBCR_SHARE = 0.9
"""Share of pixels with chroma near its middle above which an array is taken for YCbCr."""

ARRAY_SUFFIXES = frozenset((".npy", ".npz"))
"""Suffixes of files of arrays; every other file is an image or DICOM."""


@dataclass(frozen=True, slots=True)
class EchoFile:
    """One file of frames."""

    path: Path
    view: str
    patient: str
    """Patient identifier; empty if neither the name nor the caller gives one."""

    @property
    def study(self) -> str:
        """Key of the study: the patient, or the path of a file without a patient."""
        return self.patient or str(self.path)

    def clip(self, frames: int) -> str:
        """Return the key of the clip; single frames of a patient's view are one clip."""
        return f"{self.patient} {self.view}" if self.patient and frames == 1 else str(self.path)


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one file."""

    path: Path
    arrays: list[NDArray[Any]]  # (H, W), (H, W, 1) or (H, W, 3)
    channels: FrameChannels
    cm_per_pixel: float | None = None
    """Side of a pixel in cm, or None if the file does not say."""

    def stem(self, index: int) -> str:
        """Return the stem for files that are made from one frame."""
        return self.path.stem if len(self.arrays) == 1 else f"{self.path.stem}-{index:04d}"

    def as_image(self, index: int) -> NDArray[np.uint8]:
        """Return one frame as an RGB image, uint8 (H, W, 3); for YCbCr the luma alone, in grey."""
        frame = self.arrays[index]
        if self.channels == "ycbcr" and frame.ndim == 3:
            frame = frame[..., :1]
        order: Channels = "bgr" if self.channels == "bgr" else "rgb"
        return read_image(frame, channels=order, max_pixels=None)


def recognise(
    path: Path,
    *,
    view: str | None = None,
    patient: str | None = None,
    default_view: str | None = None,
) -> EchoFile:
    """Take the view and the patient from a file's name where they are not given.

    A name is read as ``<patient>_<view>_<anything>``: the first of its words that is a view, in any
    case, is the view, and the words before it are the patient.

    Args:
        path: The file; only its name is looked at.
        view: View of the file, whatever its name says.
        patient: Patient of the file, whatever its name says.
        default_view: View of a file whose name has none; None refuses such a file.

    Raises:
        MeasurementError: The name holds no view, or two.
    """
    words = [word for word in re.split(r"[^0-9A-Za-z]+", path.stem) if word]
    positions = [index for index, word in enumerate(words) if word.lower() in CHAMBERS]
    named = list(dict.fromkeys(words[index].lower() for index in positions))
    if view is None and not named:
        view = default_view
    if view is None and len(named) != 1:
        found = " and ".join(named) or "no view"
        raise MeasurementError(
            f"{path} has {found} in its name. Give its view by --view {'|'.join(CHAMBERS)}, or "
            f"name it like patient7_a4c_1{path.suffix}."
        )
    before = "_".join(words[: positions[0]]) if positions else ""
    return EchoFile(path, view or named[0], before if patient is None else patient)


def read(
    path: Path,
    *,
    channels: FrameChannels | None,
    max_pixels: int | None,
    cm_per_pixel: float | None = None,
) -> Frames:
    """Read the frames of a file.

    Args:
        path: An image, also a TIFF or GIF with many; .npy, or .npz with an array ``image``: one
            frame (H, W) or (H, W, 3), or many (n, H, W) or (n, H, W, 3). Or DICOM, by any name.
        channels: Order of the channels of arrays; images know theirs. None is RGB, but an array
            that looks like YCbCr is refused.
        max_pixels: Largest image that is decoded, height x width; None for any.
        cm_per_pixel: Side of a pixel in cm; takes precedence over the file's own.

    Raises:
        BackendUnavailableError: The file is DICOM, and pydicom is not installed.
        ImageError: The file cannot be read, or has no frames.
    """
    if is_dicom(path):
        clip = read_dicom(path, cm_per_pixel=cm_per_pixel, max_pixels=max_pixels)
        return Frames(path, list(clip.frames), clip.channels, clip.cm_per_pixel)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = _array(path)
        frames = list(array) if is_clip(array) else [array]
        if not frames or not array.size:
            raise ImageError(f"{path} has no frames: its array is {array.shape}. Record it again.")
        if channels is None and _looks_like_ycbcr(frames[0]):
            raise ImageError(
                f"{path} looks like luma and chroma, as DICOM stores frames. Say --channels ycbcr, "
                "or --channels rgb if these are colours."
            )
        return Frames(path, frames, channels or "rgb", cm_per_pixel)
    pages = _image_pages(path, max_pixels)
    images = [read_image(path, max_pixels=max_pixels)] if pages is None else pages
    return Frames(path, list(images), "rgb", cm_per_pixel)


def _looks_like_ycbcr(frame: NDArray[Any]) -> bool:
    """Return True if the last two channels stay near their middle wherever the frame is not black.

    Read as RGB such a frame gives masks that look right and are wrong. In an RGB frame of grey
    tissue all channels are as dark and as bright as the tissue.
    """
    if frame.ndim != 3 or frame.shape[2] != 3:
        return False
    middle, reach = (128, 64) if frame.dtype == np.uint8 else (0.5, 0.25)
    chroma = frame[frame.any(axis=2)][:, 1:].astype(np.float32)
    near = (np.abs(chroma - middle) <= reach).all(axis=1)
    varied = bool((frame != frame[..., :1]).any())
    return varied and bool(near.mean() >= _YCBCR_SHARE) if len(near) else False


def _array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if ARRAY_NAME not in loaded:
                names = ", ".join(loaded) or "nothing"
                raise ImageError(f"{path} holds {names}. Call its array of frames {ARRAY_NAME!r}.")
            array: NDArray[Any] = loaded[ARRAY_NAME]
            return array
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file. Check the path.") from error
    except Exception as error:  # NumPy's reader raises whatever a damaged file leads it to
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{path} is no array that can be read: {reason}. Write it by numpy.save."
        ) from error


def _image_pages(path: Path, max_pixels: int | None) -> list[NDArray[np.uint8]] | None:
    """Return the frames of a TIFF or GIF that has several, and None for any other file."""
    try:
        image = Image.open(path, formats=FORMATS)
    except Exception:  # read_image reports the fault of the file
        return None
    with image:
        count = getattr(image, "n_frames", 1)
        too_large = max_pixels is not None and image.width * image.height > max_pixels
        if count == 1 or image.format == "MPO" or too_large:
            return None
        return [_page(image, index, f"{path} frame {index}", max_pixels) for index in range(count)]


def _page(image: Image.Image, index: int, name: str, max_pixels: int | None) -> NDArray[np.uint8]:
    try:
        image.seek(index)
        page = image.copy()
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise ImageError(f"{name} is damaged: {error}. Copy the file again.") from error
    return read_image(page, name=name, max_pixels=max_pixels)
