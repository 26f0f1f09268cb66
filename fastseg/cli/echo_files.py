"""Files with ultrasound frames: what they show, whose they are, and the frames in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastseg.echo.dicom import is_dicom, read_dicom
from fastseg.echo.frames import FrameChannels, is_clip, looks_like_ycbcr
from fastseg.echo.views import VIEWS
from fastseg.errors import ImageError, MeasurementError
from fastseg.images import FORMATS, Channels, read_image

ARRAY = "image"
"""The array of an .npz file that holds the frame or the frames."""

ARRAYS = frozenset((".npy", ".npz"))
"""Files of arrays; all others are pictures."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of frames."""

    path: Path
    view: str
    patient: str
    """Whose heart it is; empty where the name does not say."""

    @property
    def study(self) -> str:
        """What belongs together: the files of a patient, or a file that names none."""
        return self.patient or str(self.path)

    def clip(self, frames: int) -> str:
        """The clip that its frames belong to; single frames of a patient's view are one clip."""
        return f"{self.patient} {self.view}" if self.patient and frames == 1 else str(self.path)


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one file."""

    path: Path
    arrays: list[NDArray[Any]]  # (H, W), (H, W, 1) or (H, W, 3)
    channels: FrameChannels
    cm_per_pixel: float | None = None
    """Side of a pixel in cm, if the file knows."""

    def stem(self, index: int) -> str:
        """What to call files that are made of one frame."""
        return self.path.stem if len(self.arrays) == 1 else f"{self.path.stem}-{index:04d}"

    def shown(self, index: int) -> NDArray[np.uint8]:
        """One frame as a picture, uint8 (H, W, 3); of luma and chroma the luma."""
        frame = self.arrays[index]
        if self.channels == "ycbcr" and frame.ndim == 3:
            frame = frame[..., :1]
        order: Channels = "bgr" if self.channels == "bgr" else "rgb"
        return read_image(frame, channels=order, max_pixels=None)


def recognise(path: Path, *, view: str | None = None, patient: str | None = None) -> Recording:
    """Tell view and patient, by the file's name where they are not given.

    A name is read as ``<patient>_<view>_<anything>``: the first of its words that is a view, in any
    case, is the view, and what stands before it is the patient.

    Raises:
        MeasurementError: The name holds no view, or two.
    """
    words = [word for word in re.split(r"[^0-9A-Za-z]+", path.stem) if word]
    places = [place for place, word in enumerate(words) if word.lower() in VIEWS]
    named = dict.fromkeys(words[place].lower() for place in places)
    if view is None and len(named) != 1:
        found = " and ".join(named) or "no view"
        raise MeasurementError(
            f"{path} has {found} in its name. Say which view it shows by --view "
            f"{'|'.join(VIEWS)}, or name it like patient7_a4c_1{path.suffix}."
        )
    before = "_".join(words[: places[0]]) if places else ""
    return Recording(path, view or next(iter(named)), before if patient is None else patient)


def read(
    path: Path,
    *,
    channels: FrameChannels | None,
    max_pixels: int | None,
    cm_per_pixel: float | None = None,
) -> Frames:
    """Read the frames of a file.

    Args:
        path: A picture, also a TIFF or GIF with many; .npy, or .npz with an array ``image``: one
            frame (H, W) or (H, W, 3), or many (n, H, W) or (n, H, W, 3). Or DICOM, by any name.
        channels: Order of the channels of arrays; pictures know theirs. None is RGB, but what looks
            like luma and chroma is refused.
        max_pixels: Largest picture that is decoded, height x width; None for any.
        cm_per_pixel: Side of a pixel in cm, if it is known better than the file knows it.

    Raises:
        BackendUnavailableError: The file is DICOM, and pydicom is not installed.
        ImageError: The file cannot be read, or has no frames.
    """
    if is_dicom(path):
        clip = read_dicom(path, cm_per_pixel=cm_per_pixel, max_pixels=max_pixels)
        return Frames(path, list(clip.frames), clip.channels, clip.cm_per_pixel)
    if path.suffix.lower() in ARRAYS:
        array = _array(path)
        frames = list(array) if is_clip(array) else [array]
        if not frames or not array.size:
            raise ImageError(f"{path} has no frames: its array is {array.shape}. Record it again.")
        if channels is None and looks_like_ycbcr(frames[0]):
            raise ImageError(
                f"{path} looks like luma and chroma, as DICOM stores frames. Say --channels ycbcr, "
                "or --channels rgb if these are colours."
            )
        return Frames(path, frames, channels or "rgb", cm_per_pixel)
    film = _film(path, max_pixels)
    pictures = [read_image(path, max_pixels=max_pixels)] if film is None else film
    return Frames(path, list(pictures), "rgb", cm_per_pixel)


def _array(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if ARRAY not in loaded:
                names = ", ".join(loaded) or "nothing"
                raise ImageError(f"{path} holds {names}. Call its array of frames {ARRAY!r}.")
            array: NDArray[Any] = loaded[ARRAY]
            return array
    except ImageError:
        raise
    except Exception as error:  # NumPy's reader raises whatever a damaged file leads it to
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{path} is no array that can be read: {reason}. Write it by numpy.save."
        ) from error


def _film(path: Path, max_pixels: int | None) -> list[NDArray[np.uint8]] | None:
    """Every frame of a TIFF or GIF that has several, None of any other file."""
    try:
        image = Image.open(path, formats=FORMATS)
    except Exception:  # read_image says what is wrong with the file
        return None
    with image:
        count = getattr(image, "n_frames", 1)
        too_large = max_pixels is not None and image.width * image.height > max_pixels
        if count == 1 or image.format == "MPO" or too_large:
            return None
        return [_page(image, place, f"{path} frame {place}", max_pixels) for place in range(count)]


def _page(image: Image.Image, place: int, name: str, max_pixels: int | None) -> NDArray[np.uint8]:
    try:
        image.seek(place)
        page = image.copy()
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise ImageError(f"{name} is damaged: {error}. Copy the file again.") from error
    return read_image(page, name=name, max_pixels=max_pixels)
