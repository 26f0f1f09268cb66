"""Files of ultrasound frames: the view, the patient, and the frames in them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastseg.echo.dicom import (
    StudyHeader,
    begins_without_preamble,
    is_dicom,
    read_dicom,
    read_study_header,
)
from fastseg.echo.frames import FrameChannels, is_clip, looks_like_ycbcr
from fastseg.echo.views import VIEWS
from fastseg.errors import FastsegError, ImageError, MeasurementError
from fastseg.images import CLIP_SHARE, Channels, read_image, read_pages
from fastseg.images.reader_faults import reader_faults
from fastseg.imaging import Timing
from fastseg.imaging.video import is_video, read_video

ARRAY_NAME = "image"
"""Name, in an .npz file, of the array with the frame or the frames."""

ARRAY_SUFFIXES = frozenset((".npy", ".npz"))
"""Suffixes of files of arrays; every other file is an image or DICOM."""

ViewSource: TypeAlias = Literal["option", "header", "name", "networks"]
"""The origin of a file's view: --view or --model, its header, its name, or its frames."""


@dataclass(frozen=True, slots=True)
class StudyKey:
    """Identity of a study; two files belong to one study if all of it is equal."""

    patient: str
    """Patient identifier, or the path of a file that has none."""

    folder: str = ""
    """Folder of the files; empty where the patient was given for all files, or is a path."""


@dataclass(frozen=True, slots=True)
class EchoFile:
    """One file of frames."""

    path: Path
    view: str
    patient: str
    """Patient identifier in NFC; empty if neither the name nor the caller gives one."""

    folder: str = ""
    """Folder that the patient identifier holds in; empty if it holds in all."""

    group: str = ""
    """Name of the study by the header of a DICOM file, ``"study 1"``; empty if it does not say."""

    view_found_by: ViewSource = "name"

    @property
    def study(self) -> StudyKey:
        """Key of the study: that of the header, the patient in one folder, or the path."""
        if self.group:
            return StudyKey(self.group)
        return StudyKey(self.patient, self.folder) if self.patient else StudyKey(str(self.path))

    def clip(self, frames: int) -> str:
        """Return the key of the clip; single frames of a patient's view are one clip."""
        if frames > 1 or not (self.group or self.patient):
            return str(self.path)
        return f"{self.group or self.patient} {self.view} {'' if self.group else self.folder}"


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one file."""

    path: Path
    arrays: list[NDArray[Any]]  # (H, W), (H, W, 1) or (H, W, 3)
    channels: FrameChannels
    cm_per_pixel: float | None = None
    """Side of a pixel in cm, or None if the file does not say."""

    cautions: tuple[str, ...] = ()
    """Sentences about the scale and the region of the file."""

    timing: Timing = field(default_factory=Timing)
    """Time between frames, heart rate and R waves, as far as the file states them."""

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
    header: StudyHeader | None = None,
    group: str = "",
    find_view: Callable[[Path], str] | None = None,
) -> EchoFile:
    """Take the view and the patient from a file's header or name where they are not given.

    A name is read as ``<patient>_<view>_<anything>``: the first of its words that is a view, in any
    case, is the view, and the text before it, less one separator, is the patient. Patients are
    compared whole, after Unicode normalisation (NFC): neither letters nor separators are folded.
    A patient that a name gives is one in the folder of the file only.

    Args:
        path: The file; it is not opened here.
        view: View of the file, whatever its name says.
        patient: Patient of the file, whatever its name and its folder say.
        default_view: View of a file whose name has none, by the caller's network.
        header: What the header of a DICOM file says; its view comes before that of the name.
        group: Name of the study that the header says.
        find_view: Finds the view of a file that nothing else names; None refuses such a file.

    Raises:
        ImageError: ``find_view`` cannot read the file.
        MeasurementError: The name holds two views, the header another view, or nothing names the
            view and the frames do not clearly show one.
    """
    source: ViewSource = "option" if view is not None else "name"
    if view is None and header is not None:
        view = header.view
        source = "header" if view is not None else source
        if header.other_view:
            raise MeasurementError(
                f"{path} shows {header.other_view} by its header, and there are networks for "
                f"{', '.join(VIEWS)}. Leave it out, or give the right view by --view."
            )
    stem = unicodedata.normalize("NFC", path.stem)
    found = [(start, word.lower()) for start, word in _words(stem) if word.lower() in VIEWS]
    named = list(dict.fromkeys(word for _, word in found))
    if view is None and not named:
        view, source = default_view, "option"
    if view is None and not named and find_view is not None:
        view, source = _found(path, find_view), "networks"
    if view is None and len(named) != 1:
        raise _unnamed(path, f"has {' and '.join(named) or 'no view'} in its name.")
    view = view or named[0]
    if patient is not None:
        return EchoFile(path, view, unicodedata.normalize("NFC", patient), view_found_by=source)
    before = stem[: max(found[0][0] - 1, 0)] if found else ""
    return EchoFile(path, view, before, _folder(path) if before else "", group, source)


def _found(path: Path, find_view: Callable[[Path], str]) -> str:
    try:
        return find_view(path)
    except MeasurementError as error:
        raise _unnamed(path, f"has no view in its name: {error}") from error


def _unnamed(path: Path, fault: str) -> MeasurementError:
    return MeasurementError(
        f"{path} {fault} Give its view by --view {'|'.join(VIEWS)}, or name it like "
        f"patient7_a4c_1{path.suffix}."
    )


class Headers:
    """The studies that the headers of the files of one call name, numbered in their order."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def read(self, path: Path) -> tuple[StudyHeader | None, str]:
        """Return what the header of a DICOM file says, and the name of its study.

        Both are empty for other files, and for those that cannot be read: reading the frames says
        why.
        """
        if not is_dicom(path):
            return None, ""
        try:
            header = read_study_header(path)
        except FastsegError:
            return None, ""
        if not header.group:
            return header, ""
        return header, self._names.setdefault(header.group, f"study {len(self._names) + 1}")


def study_titles(
    keys: Iterable[StudyKey], patients: Mapping[StudyKey, Sequence[str]] | None = None
) -> dict[StudyKey, str]:
    """Name each study by its patient, and by its folder too where two share a patient.

    Args:
        keys: The studies.
        patients: The patients by the names of the files, of studies that headers name. One that all
            files name is the name of the study.
    """
    titles = _titles(keys)
    for key, named in (patients or {}).items():
        called = set(named)
        if key in titles and len(called) == 1 and "" not in called:
            (patient,) = called
            taken = [title for other, title in titles.items() if other != key]
            titles[key] = f"{patient} ({key.patient})" if patient in taken else patient
    return titles


def _titles(keys: Iterable[StudyKey]) -> dict[StudyKey, str]:
    known = dict.fromkeys(keys)
    counts = Counter(key.patient for key in known)
    return {
        key: str(Path(key.folder, key.patient)) if counts[key.patient] > 1 else key.patient
        for key in known
    }


def _words(stem: str) -> Iterator[tuple[int, str]]:
    """Yield the start and the text of each run of letters, digits and marks of any script."""
    start = 0
    for inside, run in groupby(stem, lambda sign: unicodedata.category(sign)[0] in "LNM"):
        text = "".join(run)
        if inside:
            yield start, text
        start += len(text)


def _folder(path: Path) -> str:
    """Return one spelling of the folder of a file."""
    try:
        return os.path.realpath(path.parent)
    except OSError:  # the working folder is gone: the spelling that was given tells folders apart
        return str(path.parent)


def read(
    path: Path,
    *,
    channels: FrameChannels | None,
    max_pixels: int | None,
    cm_per_pixel: float | None = None,
    whole_frame: bool = False,
) -> Frames:
    """Read the frames of a file.

    Args:
        path: An image, also a TIFF or GIF with many; .npy, or .npz with an array ``image``: one
            frame (H, W) or (H, W, 3), or many (n, H, W) or (n, H, W, 3). Or DICOM, by any name.
        channels: Order of the channels of arrays, and of a DICOM file that contradicts itself;
            images know theirs. None is RGB, but an array that looks like YCbCr is refused.
        max_pixels: Largest image that is decoded, height x width; None for any.
        cm_per_pixel: Side of a pixel in cm; takes precedence over the file's own.
        whole_frame: Take whole frames of DICOM, whatever region they state.

    Raises:
        BackendUnavailableError: The file is DICOM, and pydicom is not installed.
        ImageError: The file cannot be read, or has no frames.
    """
    with reader_faults(str(path)):
        if not is_dicom(path) and not begins_without_preamble(path):
            return _read(path, channels, max_pixels, cm_per_pixel)
        clip = read_dicom(
            path,
            cm_per_pixel=cm_per_pixel,
            channels=channels,
            whole_frame=whole_frame,
            max_pixels=max_pixels,
        )
        return Frames(
            path,
            list(clip.frames),
            clip.channels,
            clip.cm_per_pixel,
            clip.cautions,
            clip.timing,
        )


def _read(
    path: Path, channels: FrameChannels | None, max_pixels: int | None, cm_per_pixel: float | None
) -> Frames:
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = _array(path, max_pixels)
        frames = list(array) if is_clip(array) else [array]
        if not frames or not array.size:
            raise ImageError(f"{path} has no frames: its array is {array.shape}. Record it again.")
        if channels is None and any(map(looks_like_ycbcr, frames)):
            raise ImageError(
                f"{path} looks like luma and chroma, as DICOM stores frames. Say --channels ycbcr, "
                "or --channels rgb if these are colours."
            )
        return Frames(path, frames, channels or "rgb", cm_per_pixel)
    if is_video(path):
        return Frames(
            path, list(read_video(path, max_pixels=max_pixels).stored), "rgb", cm_per_pixel
        )
    return Frames(path, list(read_pages(path, max_pixels=max_pixels)), "rgb", cm_per_pixel)


def _array(path: Path, max_pixels: int | None) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if ARRAY_NAME not in loaded:
                names = ", ".join(loaded) or "nothing"
                raise ImageError(f"{path} holds {names}. Call its array of frames {ARRAY_NAME!r}.")
            _check_packed(loaded.zip.getinfo(f"{ARRAY_NAME}.npy").file_size, path, max_pixels)
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


def _check_packed(size: int, path: Path, max_pixels: int | None) -> None:
    """Refuse an array that unpacks to more bytes than the frames of a clip may take.

    Raises:
        ImageError: It does.
    """
    if max_pixels is not None and size > 3 * CLIP_SHARE * max_pixels:
        raise ImageError(
            f"{path} unpacks to {size:,} bytes, more than {3 * CLIP_SHARE} times max_pixels="
            f"{max_pixels:,}. Cut the clip into shorter ones, or lift the limit by --max-pixels 0."
        )
