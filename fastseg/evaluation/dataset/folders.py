"""Datasets that are two folders, ``images`` and ``masks``, matched by the names of their files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fastseg import imaging
from fastseg.errors import FastsegError, ImageError, MaskError
from fastseg.evaluation.dataset.example import Dataset, Example, TruthSource, read_volume
from fastseg.evaluation.dataset.label_maps import LabelMap
from fastseg.evaluation.dataset.segments import DicomSegments, is_segmentation
from fastseg.images import MAX_PIXELS
from fastseg.inputs.text import printable
from fastseg.storage.paths import is_folder, names_in

IMAGES, MASKS, CLASSES = "images", "masks", "classes.csv"

_NUMBER = re.compile(r"[_-]\d+$")


@dataclass(frozen=True, slots=True)
class _MaskFile:
    path: Path
    task: str | None = None
    """Class that the name of the file gives; None for a label map of all classes."""

    name: str | None = None

    def source(self, frame: int | None, classes: Mapping[int, str] | None) -> TruthSource:
        return LabelMap(self.path, frame, classes, self.task, self.name)


def read_folders(folder: Path) -> Dataset:
    """Match the files of ``images`` and ``masks``.

    A mask belongs to the image whose name it has, or whose name it begins with: ``a_liver_2.png``
    is an object of the class ``liver`` in ``a.png``. A file of several frames makes an example of
    each frame. ``classes.csv`` in the folder may declare the labels, in columns value and name.

    Raises:
        ImageError: There is no such folder, or it has no examples.
        MaskError: ``classes.csv`` cannot be used.
    """
    for inside in (IMAGES, MASKS):
        if not is_folder(folder / inside, ImageError):
            raise ImageError(
                f"{folder} has no folder {inside}. Give a folder with {IMAGES} and {MASKS}, a COCO "
                "file, or a CSV of pairs."
            )
    images = {stem(name): folder / IMAGES / name for name in _visible(folder / IMAGES)}
    classes = read_classes(folder / CLASSES) if (folder / CLASSES).exists() else None
    masks: dict[str, list[_MaskFile]] = {}
    faults = []
    for name in _visible(folder / MASKS):
        owner = _owner(stem(name), images)
        if owner is None:
            faults.append(f"{folder / MASKS / name} has no image of its name.")
        else:
            masks.setdefault(owner, []).append(_mask_file(folder / MASKS / name, owner))
    examples: list[Example] = []
    for called, path in images.items():
        if called not in masks:
            faults.append(f"{path} has no mask of its name.")
            continue
        try:
            examples += expand(called, path, masks[called], classes)
        except FastsegError as error:
            faults.append(str(error))
    return Dataset(folder.resolve().name, tuple(examples), tuple(faults))


def expand(
    called: str, path: Path, masks: list[_MaskFile], classes: Mapping[int, str] | None
) -> Iterator[Example]:
    """Yield an example of each frame of a file.

    Raises:
        FastsegError: A file cannot be read, or a mask has another number of frames.
    """
    frames = frame_count(path)
    segments = [mask for mask in masks if is_segmentation(mask.path)]
    plain = [mask for mask in masks if mask not in segments]
    for mask in plain:
        held = frame_count(mask.path)
        if held != frames:
            raise MaskError(
                f"{mask.path} has {held or 1} frames, and {path} has {frames or 1}. Give every "
                "frame a mask."
            )
    for frame in [None] if frames is None else range(frames):
        sources: list[TruthSource] = [mask.source(frame, classes) for mask in plain]
        sources += [DicomSegments(mask.path, path, frame or 0) for mask in segments]
        name = called if frame is None else f"{called}:{frame:04d}"
        yield Example(printable(name), path, frame, tuple(sources))


def frame_count(path: Path) -> int | None:
    """Count the frames of a file or a series; None for a file that is one image."""
    if path.is_file() and not imaging.is_medical(path):
        if path.suffix.lower() not in (".tif", ".tiff"):
            return None
        count = len(read_volume(path, None, MAX_PIXELS))
        return count if count > 1 else None
    return len(read_volume(path, None, MAX_PIXELS))


def read_classes(path: Path) -> dict[int, str]:
    """Read the names of labels from a CSV with the columns value and name.

    Raises:
        MaskError: A column is missing, or a value is no whole number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(row["value"], row["name"]) for row in csv.DictReader(file)]
        return {int(value): name.strip() for value, name in rows}
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise MaskError(
            f"{path} does not declare classes: {error!r}. Write the columns value and name, a row "
            "for each label."
        ) from error


def stem(name: str) -> str:
    """Return the name of a file without its suffix, and without both of ``.nii.gz``."""
    path = Path(name)
    return Path(path.stem).stem if path.name.lower().endswith(".nii.gz") else path.stem


def _visible(folder: Path) -> list[str]:
    return [name for name in names_in(folder, ImageError) if not name.startswith(".")]


def _owner(called: str, images: Mapping[str, Path]) -> str | None:
    """Find the image that a mask belongs to: the longest name that it begins with."""
    fitting = [
        image
        for image in images
        if called == image or called.startswith((f"{image}_", f"{image}-"))
    ]
    return max(fitting, key=len, default=None)


def _mask_file(path: Path, owner: str) -> _MaskFile:
    rest = printable(stem(path.name)[len(owner) + 1 :])
    task = _NUMBER.sub("", rest)
    if not rest or rest.isdigit():
        return _MaskFile(path)
    return _MaskFile(path, task, rest)
